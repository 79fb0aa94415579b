"use strict";
// A run, as Python's Recognizer: samples to calibrated probabilities, what is odd about a clip, and answers along time.

// Numbers that lie in the page as base64.
function unpacked(text) {
  const plain = atob(text), bytes = new Uint8Array(plain.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = plain.charCodeAt(i);
  return bytes;
}

// The numbers that 16 bits stand for.
function halves(words) {
  const table = new Float32Array(65536), out = new Float32Array(words.length);
  for (let b = 0; b < 65536; b++) {
    const e = (b >> 10) & 31, m = b & 1023, size = e === 0 ? m * 2 ** -24 : (1 + m / 1024) * 2 ** (e - 15);
    table[b] = b & 32768 ? -size : size;
  }
  for (let i = 0; i < out.length; i++) out[i] = table[words[i]];
  return out;
}

// The tensors of a description {name: [kind, shape, first byte]}.
function tensorsOf(index, bytes) {
  const found = {}, size = shape => shape.reduce((a, b) => a * b, 1);
  for (const [name, [kind, shape, at]] of Object.entries(index)) {
    const from = bytes.byteOffset + at, n = size(shape);
    const data = kind === "float16" ? halves(new Uint16Array(bytes.buffer, from, n)) : new Float32Array(bytes.buffer, from, n);
    found[name] = { shape, data };
  }
  return found;
}

// Puts tensors in place of their names, {"tensor": name}.
function filledIn(value, tensors) {
  if (value === null || typeof value !== "object") return value;
  if (value.tensor) return tensors[value.tensor].data;
  if (Array.isArray(value)) return value.map(v => filledIn(v, tensors));
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filledIn(v, tensors)]));
}

class Recognizer {
  // `description` as Python writes it, `bytes` its numbers.
  constructor(description, bytes, math = bestMath()) {
    const tensors = tensorsOf(description.tensors, bytes);
    this.D = { ...description, tables: filledIn(description.tables, tensors) };
    this.math = math;
    this.members = description.members.map((settings, i) => {
      const prefix = description.members.length > 1 || `member_0/emotion.kernel` in tensors ? `member_${i}/` : "";
      const own = Object.entries(tensors).filter(([name]) => name.startsWith(prefix)).map(([name, t]) => [name.slice(prefix.length), t]);
      return { settings, weights: Object.fromEntries(own), share: description.shares[i] ?? 1 / description.members.length };
    });
    if (this.D.tables.voices) this.listensTo();
  }

  // Gets ready to learn a voice; a run may know one already.
  listensTo() {
    const { temperature, threshold } = this.D, { "emotion.kernel": kernel, "emotion.bias": bias } = this.members[0].weights;
    this.voice = new Voice(this.D.tables.voices);
    Object.assign(this, { clips: [...this.voice.clips], untaught: { temperature, threshold, kernel, bias } });
  }

  // The few numbers of a clip that a voice is learnt from.
  numbersOf(y, rate) {
    checkSound(y, rate, this.D.limits);
    const { X, T } = clipFrames(resample(y, rate, this.D.settings.sr), this.D), { settings, weights } = this.members[0];
    const vector = vectorOf({ X, T, n: this.D.n_features }, settings, weights, this.D, this.math);
    return this.voice.reduced(Float64Array.from(vector).slice(0, this.voice.F));
  }

  // One more clip of the person, with its emotion.
  teach(y, rate, label) {
    try {
      return this.taught([...this.clips, { z: this.numbersOf(y, rate), label }]);
    } catch (e) {
      if (!(e instanceof SoundError)) throw e;
      return { error: e.message };
    }
  }

  // Answers from now on as these clips teach; the run's own clips alone: as before.
  taught(clips = this.voice.clips) {
    const { voice, D } = this, own = this.members[0].weights, known = clips.some(c => c.label >= 0);
    const { temperature, threshold, kernel, bias } = this.untaught, more = clips.length > voice.clips.length;
    this.clips = [...clips];
    Object.assign(D, more && known ? { temperature: 1, threshold: voice.sure } : { temperature, threshold });
    const layer = more ? voice.lastLayer(clips) : null;
    own["emotion.kernel"] = layer ? { shape: kernel.shape, data: layer.kernel } : kernel;
    own["emotion.bias"] = layer ? { shape: bias.shape, data: layer.bias } : bias;
    const counts = D.labels.map((_, k) => clips.filter(c => c.label === k).length);
    return { counts, threshold: D.threshold, clips: clips.slice(voice.clips.length), judged: more ? voice.judged(clips) : null };
  }

  // Frames of one clip on the scale that the networks know.
  scaled(X, T) {
    const { mode, mean, deviation, bands, f0 } = this.D.normaliser, F = this.D.n_features, out = new Float32Array(X);
    if (mode === "none") return out;
    if (mode === "level") for (const columns of [bands, f0].filter(Boolean)) withoutLevel(out, T, F, columns);
    const [m, d] = mode === "utterance" ? ownScale(X, T, F) : [mean, deviation];
    for (let i = 0; i < out.length; i++) out[i] = (out[i] - fround(m[i % F])) / fround(d[i % F]);
    return out;
  }

  // What the networks say of frames X [T, features], before calibration; long ones go piece by piece.
  probabilities(X, T) {
    const F = this.D.n_features, length = this.D.max_frames, hop = Math.max(length >> 1, 1), K = this.D.labels.length;
    const pieces = Math.ceil(Math.max(T - length, 0) / hop) + 1, total = new Float64Array(K);
    let weight = 0;
    for (let i = 0; i < pieces; i++) {
      const start = Math.min(i * hop, Math.max(T - length, 0)), stop = Math.min(start + length, T), n = stop - start;
      const frames = { X: this.scaled(X.slice(start * F, stop * F), n), T: n, n: F };
      for (const { settings, weights, share } of this.members)
        networkAnswer(frames, settings, weights, this.D, this.math).forEach((p, k) => (total[k] += p * n * share));
      weight += n;
    }
    return total.map(p => p / weight);
  }

  // Samples at the run's rate to an answer, with what was seen on the way.
  answer(y) {
    const frames = clipFrames(y, this.D), p = calibrated(this.probabilities(frames.X, frames.T), this.D.temperature);
    return { ...labelled(p, this.D), warnings: this.warnings(frames), frames };
  }

  // Any samples at any rate; an answer, or {error}.
  predict(y, rate) {
    try {
      checkSound(y, rate, this.D.limits);
      return this.answer(resample(y, rate, this.D.settings.sr));
    } catch (e) {
      if (!(e instanceof SoundError)) throw e;
      return { error: e.message, warnings: [] };
    }
  }

  // Answers to windows along samples at any rate, one at a time, with where they start and stop in seconds.
  *timeline(y, rate, span = this.D.window) {
    const sr = this.D.settings.sr, total = Math.round((y.length * sr) / rate), length = Math.round(span * sr), hop = Math.round((span / 2) * sr);
    for (let start = 0, done = 0; done < total; start += hop) {
      if (start + length > total) start = Math.max(0, total - length);
      done = Math.min(start + length, total);
      yield { ...this.window(resample(y, rate, sr, start, done)), start: start / sr, stop: done / sr };
    }
  }

  window(y) {
    try {
      checkSound(y, this.D.settings.sr, this.D.limits);
      return this.answer(y);
    } catch (e) {
      if (!(e instanceof SoundError)) throw e;
      return { error: e.message.startsWith("silent") ? "silent" : e.message, warnings: [] };
    }
  }

  // In what a clip is unlike the training clips.
  warnings({ X, T }) {
    const facts = this.facts(X, T), said = [];
    for (const [name, [low, high]] of Object.entries(this.D.reference.known)) {
      if (low <= facts[name] && facts[name] <= high) continue;
      const [unit, digits] = this.D.units[name], say = x => thousands(x, digits);
      said.push(`${name} ${say(facts[name])} ${unit}, known are ${say(low)} to ${say(high)}`);
    }
    return said;
  }

  facts(X, T) {
    const { families, n_features: F, settings: s, reference } = this.D, facts = {}, mean = new Float64Array(F);
    for (let i = 0; i < X.length; i++) mean[i % F] += X[i] / T;
    if (families.rms) {
      let power = 0;
      for (let t = 0; t < T; t++) power += X[t * F + families.rms[0]] ** 2 / T;
      facts.level = 10 * Math.log10(Math.max(power, 1e-12));
    }
    if (families.logmel) {
      const [from, to] = families.logmel, power = new Float64Array(to - from);
      for (let t = 0; t < T; t++) for (let k = from; k < to; k++) power[k - from] += 10 ** (X[t * F + k] / 10) / T;
      const top = power.reduce((a, b) => Math.max(a, b)) * 1e-6;
      facts.level ??= 10 * Math.log10(power.reduce((a, b) => a + b, 0));
      facts.bandwidth = this.D.middles[power.findLastIndex(p => p >= top)];
    }
    facts.duration = (T * s.hop_length) / s.sr;
    facts.distance = Math.sqrt(mean.reduce((sum, m, k) => sum + ((m - reference.mean[k]) / reference.deviation[k]) ** 2, 0) / F);
    return facts;
  }
}

// Takes the common mean of some columns away.
function withoutLevel(X, T, F, [from, to]) {
  let mean = 0;
  for (let t = 0; t < T; t++) for (let k = from; k < to; k++) mean += X[t * F + k] / (T * (to - from));
  for (let t = 0; t < T; t++) for (let k = from; k < to; k++) X[t * F + k] -= mean;
}

// Mean and deviation of each column, 1 where it is constant.
function ownScale(X, T, F) {
  const mean = new Float64Array(F), deviation = new Float64Array(F);
  for (let i = 0; i < X.length; i++) mean[i % F] += X[i] / T;
  for (let i = 0; i < X.length; i++) deviation[i % F] += (X[i] - mean[i % F]) ** 2 / T;
  return [mean, deviation.map((v, k) => (Math.sqrt(v) <= 1e-6 * Math.max(Math.abs(mean[k]), 1e-3) ? 1 : Math.sqrt(v)))];
}

const calibrated = (p, temperature) => softmax(Array.from(p, x => Math.log(Math.max(x, 1e-12)) / temperature));

// Probabilities by name, and what is said: the likeliest emotion, or that it is unsure.
function labelled(p, { labels, threshold, unsure }) {
  const at = p.indexOf(p.reduce((a, b) => Math.max(a, b)));
  const label = p[at] >= threshold ? labels[at] : unsure;
  return { probabilities: Object.fromEntries(labels.map((name, k) => [name, p[k]])), best: labels[at], confidence: p[at], label };
}
