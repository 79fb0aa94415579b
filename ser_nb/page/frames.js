"use strict";
// From samples to the frames that a network looks at: trim, bands, and each family of features.

// How many frames a clip of n samples has.
const frameCount = (n, s) => 1 + Math.floor((n + (s.center ? 2 * (s.n_fft >> 1) : 0) - s.n_fft) / s.hop_length);

// Sum of squares of each frame's samples, with `beyond` zeros at each end.
function energies(y, n, hop, beyond) {
  const total = new Float64Array(y.length + 1), T = 1 + Math.floor((y.length + 2 * beyond - n) / hop), out = new Float64Array(Math.max(T, 0));
  for (let i = 0; i < y.length; i++) total[i + 1] = total[i] + y[i] * y[i];
  const upTo = i => total[Math.min(Math.max(i, 0), y.length)];
  for (let t = 0; t < T; t++) out[t] = Math.max(0, upTo(t * hop - beyond + n) - upTo(t * hop - beyond));
  return out;
}

// Where a clip is within top_db of its loudest frame: first sample, and one past the last.
function loudSpan(y, s) {
  const power = energies(y, s.n_fft, s.hop_length, s.n_fft >> 1).map(e => 10 * Math.log10(Math.max(e / s.n_fft, 1e-10)));
  const least = power.reduce((a, b) => Math.max(a, b), -Infinity) - s.top_db, loud = p => p > least;
  return [power.findIndex(loud) * s.hop_length, Math.min(y.length, (power.findLastIndex(loud) + 1) * s.hop_length)];
}

// Decibels of a power, none more than `range` below the highest.
function decibels(power, range) {
  const db = new Float32Array(power.length);
  let top = -Infinity;
  for (let i = 0; i < db.length; i++) top = Math.max(top, (db[i] = 10 * Math.log10(Math.max(power[i], 1e-10))));
  if (range !== null) for (let i = 0; i < db.length; i++) if (db[i] < top - range) db[i] = top - range;
  return db;
}

// Sparse bands times spectra S [T, bins]: energies [T, bands].
function inBands(S, bins, bands, T) {
  const B = bands.start.length, out = new Float32Array(T * B);
  for (let t = 0; t < T; t++)
    for (let b = 0, w = 0; b < B; b++) {
      const from = t * bins + bands.start[b];
      let sum = 0;
      for (let k = 0; k < bands.width[b]; k++) sum += S[from + k] * bands.weights[w++];
      out[t * B + b] = sum;
    }
  return out;
}

// X [T, n] times the transpose of W [m, n].
function times(X, W, T, n) {
  const m = W.length / n, out = new Float32Array(T * m);
  for (let t = 0; t < T; t++)
    for (let j = 0; j < m; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += X[t * n + k] * W[j * n + k];
      out[t * m + j] = sum;
    }
  return out;
}

// Rows of X [T, n] divided by their size, left alone where that is zero.
function rowsBy(X, T, n, size) {
  const out = new Float32Array(X);
  for (let t = 0; t < T; t++) {
    const by = size(X.subarray(t * n, t * n + n));
    if (by >= 1.1754944e-38) for (let k = 0; k < n; k++) out[t * n + k] /= by;
  }
  return out;
}

// Local derivative of each column of X [T, n]: a weighted sum of the frames around each frame, the ends held.
function slopes(X, T, n, w) {
  const half = w.length >> 1, out = new Float32Array(T * n), short = T < w.length;
  for (let t = 0; t < T; t++) {
    const middle = short ? t : Math.min(Math.max(t, half), T - 1 - half);
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let k = 0; k < w.length; k++) sum += w[k] * X[Math.min(Math.max(middle + k - half, 0), T - 1) * n + j];
      out[t * n + j] = sum;
    }
  }
  return out;
}

// How far, in each band, the strongest bins stand above the weakest.
function contrast(S, bins, bands, range, T) {
  const B = bands.length, parts = [new Float32Array(T * B), new Float32Array(T * B)];
  for (let t = 0; t < T; t++)
    bands.forEach(([start, stop, count], b) => {
      const sorted = S.slice(t * bins + start, t * bins + stop).sort(), n = sorted.length;
      for (let k = 0; k < count; k++) {
        parts[0][t * B + b] += Math.sqrt(sorted[n - 1 - k]) / count;
        parts[1][t * B + b] += Math.sqrt(sorted[k]) / count;
      }
    });
  const [high, low] = parts.map(part => decibels(part, range));
  return high.map((x, i) => x - low[i]);
}

// Share of the samples at which the sign changes.
function crossings(y, s, T) {
  const out = new Float32Array(T), total = new Int32Array(y.length), beyond = s.center ? s.n_fft >> 1 : 0;
  for (let i = 1; i < y.length; i++) total[i] = total[i - 1] + (y[i] < -1e-10 !== y[i - 1] < -1e-10 ? 1 : 0);
  const upTo = i => (i < 0 ? 0 : total[Math.min(i, y.length - 1)]);
  for (let t = 0; t < T; t++) {
    const at = t * s.hop_length - beyond;
    out[t] = (upTo(at + s.n_fft - 1) - upTo(at)) / s.n_fft;
  }
  return out;
}

// What the pretrained encoder looks at: mel powers [T, columns] of a clip that is loud enough.
function encoderRows(y, E, T) {
  let sum = 0;
  for (let i = 0; i < y.length; i++) sum += y[i] * y[i];
  const level = Math.sqrt(sum / y.length), gain = level > 1e-9 ? Math.max(1, 10 ** (E.loudness / 20) / level) : 1, n = T * E.each;
  const S = powers(gain === 1 ? y : y.map(x => x * gain), E.window, -(E.window.length >> 1), E.hop, n);
  return inBands(S, (E.window.length >> 1) + 1, E.bands, n);
}

// Each family that is on, by name: values [T, columns].
function familiesOf(y, D, T) {
  const { settings: s, tables: A } = D, on = name => name in D.families, found = {}, bins = (s.n_fft >> 1) + 1;
  const beyond = s.center ? s.n_fft >> 1 : 0, S = A.bands || A.chroma || A.contrast ? powers(y, A.window, -beyond, s.hop_length, T) : null;
  if (A.bands) found.logmel = decibels(inBands(S, bins, A.bands, T), s.db_range);
  if (on("mfcc")) {
    found.mfcc = times(found.logmel, A.dct, T, s.n_mels);
    if (on("delta")) found.delta = slopes(found.mfcc, T, s.n_mfcc, A.delta);
    if (on("delta2")) found.delta2 = slopes(found.mfcc, T, s.n_mfcc, A.delta2);
  }
  if (on("chroma")) {
    const n = s.n_chroma;
    found.chroma = rowsBy(times(S, A.chroma, T, bins), T, n, row => row.reduce((a, b) => Math.max(a, b)));
    if (on("tonnetz")) found.tonnetz = times(rowsBy(found.chroma, T, n, row => row.reduce((a, b) => a + b)), A.tonnetz, T, n);
  }
  if (on("contrast")) found.contrast = contrast(S, bins, A.contrast, s.db_range, T);
  if (on("rms")) found.rms = energies(y, s.n_fft, s.hop_length, beyond).map(e => Math.sqrt(e / s.n_fft));
  if (on("zcr")) found.zcr = crossings(y, s, T);
  if (on("pitch")) {
    const heard = (found.heard = pitchOf(y, A.pitch, s.sr, s.hop_length, T)), line = pitchLine(heard.f0, A.pitch);
    found.pitch = new Float32Array(3 * T);
    for (let t = 0; t < T; t++) found.pitch.set([12 * (line[t] - Math.log2(27.5)), heard.voicing[t], heard.hnr[t]], 3 * t);
  }
  if (on("encoder")) found.encoder = encoderRows(y, A.encoder, T);
  return found;
}

// All features of a clip: {start, stop} of what is left after trimming, T, and X [T, features].
function clipFrames(samples, D) {
  const s = D.settings, [start, stop] = s.top_db === null ? [0, samples.length] : loudSpan(samples, s);
  const y = samples.subarray(start, stop), T = frameCount(y.length, s), F = D.n_features;
  if (T < 1) throw utter("too short", `${y.length} samples, a frame takes ${s.n_fft}`);
  const found = familiesOf(y, D, T), X = new Float32Array(T * F);
  for (const [name, [from, to]] of Object.entries(D.families))
    for (let t = 0, n = to - from; t < T; t++) X.set(found[name].subarray(t * n, t * n + n), t * F + from);
  return { start, stop, T, X, logmel: found.logmel, f0: found.heard && found.heard.f0 };
}
