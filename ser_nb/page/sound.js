"use strict";
// From the bytes of a recording to one channel of samples at the recogniser's rate.

class SoundError extends Error {}

const utter = (problem, detail) => new SoundError(`${problem}: ${detail}`);
const thousands = (value, digits = 0) => value.toFixed(digits).replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ",");
const textAt = (bytes, at, n) => String.fromCharCode(...bytes.subarray(at, at + n));

// ---- wav --------------------------------------------------------------------------------------------------------------

// The chunks of a wav: {fmt, data}, each where its content begins and how many bytes it has.
function wavChunks(bytes, view) {
  const found = {}, little = textAt(bytes, 0, 4) !== "RIFX";
  let long = null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const name = textAt(bytes, at, 4);
    let size = view.getUint32(at + 4, little);
    at += 8;
    if (name === "ds64") long = Number(view.getBigUint64(at + 8, true));
    if (name === "data") {
      if (size === 0xffffffff && long !== null) size = long;
      else if (size >= 0x7ffff000 || size === 0) size = bytes.length - at; // written to a pipe
      if (bytes.length <= at) throw utter("no samples", "it has a header and no sound; copy or record it again");
      if (size > bytes.length - at)
        throw utter("truncated", `${thousands(bytes.length - at)} of ${thousands(size)} bytes of sound are there; copy it again`);
    }
    found[name] = { at, size };
    if (name === "data" && found["fmt "]) break;
    at += size + (size % 2);
  }
  return { fmt: found["fmt "], data: found.data, little };
}

// One sample of A-law or mu-law.
function companded(byte, law) {
  const b = law === 6 ? byte ^ 0x55 : ~byte & 0xff, sign = (b & 0x80) !== 0, exponent = (b >> 4) & 7, mantissa = b & 15;
  if (law === 6) return ((sign ? 1 : -1) * (exponent ? (mantissa * 16 + 264) << (exponent - 1) : mantissa * 16 + 8)) / 32768;
  return ((sign ? -1 : 1) * (((mantissa * 8 + 132) << exponent) - 132)) / 32768;
}

// How a sample is read, by format (1 whole numbers, 3 floats, 6 and 7 the laws of telephones) and bits.
function wavReader(view, format, bits, little) {
  return {
    "1/8": at => (view.getUint8(at) - 128) / 128,
    "1/16": at => view.getInt16(at, little) / 32768,
    "1/24": little ? at => ((view.getInt8(at + 2) << 16) | (view.getUint8(at + 1) << 8) | view.getUint8(at)) / 8388608
      : at => ((view.getInt8(at) << 16) | (view.getUint8(at + 1) << 8) | view.getUint8(at + 2)) / 8388608,
    "1/32": at => view.getInt32(at, little) / 2147483648,
    "3/32": at => view.getFloat32(at, little),
    "3/64": at => view.getFloat64(at, little),
    "6/8": at => companded(view.getUint8(at), 6),
    "7/8": at => companded(view.getUint8(at), 7),
  }[`${format}/${bits}`];
}

const isWav = bytes => /^RIF[FX]$|^RF64$/.test(textAt(bytes, 0, 4)) && textAt(bytes, 8, 4) === "WAVE";

// A wav as {rate, channels: Float32Array each}; null where its codec is one that only the browser may know.
function readWav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), { fmt, data, little } = wavChunks(bytes, view);
  if (!fmt || fmt.size < 16) return null;
  let format = view.getUint16(fmt.at, little);
  const n = view.getUint16(fmt.at + 2, little), rate = view.getUint32(fmt.at + 4, little);
  const width = view.getUint16(fmt.at + 12, little), bits = view.getUint16(fmt.at + 14, little);
  if (format === 0xfffe && fmt.size >= 40) format = view.getUint16(fmt.at + 24, little);
  const read = wavReader(view, format, bits, little);
  if (!read || !n || width !== (n * bits) / 8) return null;
  const frames = data ? Math.floor(data.size / width) : 0;
  if (!frames) throw utter("no samples", "it has a header and no sound; copy or record it again");
  const channels = Array.from({ length: n }, (_, c) => {
    const y = new Float32Array(frames);
    for (let i = 0, at = data.at + (c * bits) / 8; i < frames; i++, at += width) y[i] = read(at);
    return y;
  });
  return { rate, channels };
}

// The rate that another format's header names, so that the browser decodes without changing it; 48 kHz where none does.
function namedRate(bytes) {
  const head = textAt(bytes, 0, Math.min(bytes.length, 4096)), view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const mp3 = head.startsWith("ID3") ? 10 + [6, 7, 8, 9].reduce((n, i) => n * 128 + bytes[i], 0) : 0;
  const vorbis = head.indexOf("\x01vorbis"), half = Math.max(0, bytes.length - 2 ** 20);
  if (head.startsWith("fLaC")) return view.getUint32(18) >> 12 >>> 0;
  if (head.startsWith("OggS") && vorbis > 0) return view.getUint32(vorbis + 12, true);
  if (bytes[mp3] === 0xff && (bytes[mp3 + 1] & 0xe6) === 0xe2)
    return [44100, 48000, 32000][(bytes[mp3 + 2] >> 2) & 3] / [4, 0, 2, 1][(bytes[mp3 + 1] >> 3) & 3] || 48000;
  for (const from of head.slice(4, 8) === "ftyp" ? [0, half] : [])
    for (let i = from; i < Math.min(from + 2 ** 20, bytes.length - 32); i++)
      if (bytes[i] === 0x6d && bytes[i + 1] === 0x70 && bytes[i + 2] === 0x34 && bytes[i + 3] === 0x61) return view.getUint16(i + 28) || 48000;
  return 48000;
}

// ---- one channel ------------------------------------------------------------------------------------------------------

// The mean of the channels; where they cancel one another, that is said.
function mono(channels, limits) {
  if (channels.length === 1) return channels[0];
  const n = channels[0].length, mean = new Float32Array(n), sums = channels.map(() => 0);
  let own = 0, whole = 0;
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let c = 0; c < channels.length; c++) {
      const x = channels[c][i];
      sum += x;
      sums[c] += x;
      own += x * x;
    }
    whole += sum * sum;
    mean[i] = sum / channels.length;
  }
  const total = sums.reduce((a, b) => a + b, 0);
  own = own / n - sums.reduce((a, b) => a + (b / n) ** 2, 0);
  whole = whole / n - (total / n) ** 2;
  if (own > 1e-9 && whole < limits.kept * own)
    throw utter("opposite channels", "their mean is hushed; keep one channel of it, for example with ffmpeg");
  return mean;
}

// Refuses samples that hold no usable sound.
function checkSound(y, rate, limits, least = 0.1) {
  let low = Infinity, high = -Infinity, bad = 0;
  for (let i = 0; i < y.length; i++) {
    const x = y[i];
    if (!Number.isFinite(x)) bad++;
    if (x < low) low = x;
    if (x > high) high = x;
  }
  if (!y.length) throw utter("no samples", "it has a header and no sound; copy or record it again");
  if (y.length < least * rate) throw utter("too short", `${(y.length / rate).toFixed(3)} s; at least ${least} s are needed`);
  if (bad) throw utter("not finite", `${thousands(bad)} of ${thousands(y.length)} samples are NaN or infinite; export it again`);
  if (Math.max(-low, high) > limits.loudest)
    throw utter("absurd values", `samples up to ${Math.max(-low, high).toPrecision(5)}; export it within -1 to 1`);
  if (high - low < 1e-4) throw utter("silent", "its samples hardly move; record it again or leave it out");
}

// ---- another rate -----------------------------------------------------------------------------------------------------

// Chosen so that the filter falls off as that of soxr in Python does.
const ZEROS = 96, ROLL_OFF = 0.957, BETA = 13.5, PHASES = 640; // crossings on either side; of the lower half rate; of Kaiser

// The modified Bessel function of order 0.
function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k++) sum += term *= (x / 2 / k) ** 2;
  return sum;
}

// A low-pass filter at `phases` places between two samples, and one past the last.
function filterBank(scale, phases) {
  const half = Math.ceil(ZEROS / scale), taps = 2 * half + 1, bank = new Float32Array((phases + 1) * taps), norm = bessel(BETA);
  for (let p = 0; p <= phases; p++)
    for (let k = 0; k < taps; k++) {
      const x = (k - half - p / phases) * scale, inside = 1 - (x / ZEROS) ** 2;
      if (inside <= 0) continue;
      const a = Math.PI * x, sinc = a === 0 ? 1 : Math.sin(a) / a;
      bank[p * taps + k] = scale * sinc * (bessel(BETA * Math.sqrt(inside)) / norm);
    }
  return { half, taps, bank };
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);
const filterBanks = new Map();

function filterFor(rate, sr) {
  const key = `${rate} ${sr}`;
  if (!filterBanks.has(key)) {
    const phases = Math.min(PHASES, sr / divisor(Math.round(rate), sr));
    filterBanks.set(key, { ...filterBank(ROLL_OFF * Math.min(1, sr / rate), phases), phases });
  }
  return filterBanks.get(key);
}

// Samples `from` to `to` of the signal at rate `sr`, of which `y` is the one at `rate`.
function resample(y, rate, sr, from = 0, to = Math.round((y.length * sr) / rate)) {
  if (rate === sr) return y.subarray(from, to);
  const { half, taps, bank, phases } = filterFor(rate, sr), out = new Float32Array(to - from), n = y.length;
  for (let i = from; i < to; i++) {
    const place = (i * rate) / sr, base = Math.floor(place + 1e-9), between = Math.max(0, place - base) * phases;
    const p = Math.floor(between + 1e-6), rest = between - p > 1e-6 ? between - p : 0, row = p * taps;
    const first = base - half, k0 = Math.max(0, -first), k1 = Math.min(taps, n - first);
    let sum = 0;
    if (rest) for (let k = k0; k < k1; k++) sum += y[first + k] * (bank[row + k] * (1 - rest) + bank[row + taps + k] * rest);
    else for (let k = k0; k < k1; k++) sum += y[first + k] * bank[row + k];
    out[i - from] = sum;
  }
  return out;
}
