"use strict";
// The network, layer by layer, as lib/onnx writes it: gates i, o, f, c, kernels with one row a gate.

const fround = Math.fround;

const sigmoid = x => 1 / (1 + Math.exp(-x));

// One direction of an LSTM layer: X [T, n] to states [T, u], written at `column` of rows of `width`.
function lstm(X, T, { W, R, bias, u }, out, width, column, backwards, math) {
  const heard = Float32Array.from(math.times(X, T, W)), c = new Float32Array(u), h = new Float32Array(u);
  for (let t = 0; t < T; t++) for (let j = 0; j < 4 * u; j++) heard[t * 4 * u + j] += bias[j];
  for (let step = 0; step < T; step++) {
    const t = backwards ? T - 1 - step : step, g = math.times(h, 1, R), x = t * 4 * u;
    for (let k = 0; k < u; k++) {
      const i = sigmoid(g[k] + heard[x + k]), o = sigmoid(g[u + k] + heard[x + u + k]);
      const f = sigmoid(g[2 * u + k] + heard[x + 2 * u + k]);
      c[k] = f * c[k] + i * Math.tanh(g[3 * u + k] + heard[x + 3 * u + k]);
      h[k] = o * Math.tanh(c[k]);
    }
    out.set(h, t * width + column);
  }
  return h;
}

// The weights of an LSTM layer, made ready for products, one set a direction.
function lstmWeights(w, name, math) {
  const [both, rows, n] = w[`${name}.W`].shape, u = rows / 4;
  const part = (p, k) => w[`${name}.${p}`].data.subarray(...[k, k + 1].map(i => (i * w[`${name}.${p}`].data.length) / both));
  return Array.from({ length: both }, (_, k) => {
    const B = part("B", k), bias = Float32Array.from({ length: rows }, (_, j) => B[j] + B[rows + j]);
    return { W: math.ready(part("W", k), rows, n), R: math.ready(part("R", k), rows, u), bias, u };
  });
}

// An LSTM layer in one direction or both: states [T, d], and the last ones [d].
function lstmLayer(X, T, n, w, name, math) {
  const ways = (w[`${name}.ready`] ??= lstmWeights(w, name, math)), u = ways[0].u, d = ways.length * u;
  const out = new Float32Array(T * d), last = new Float32Array(d);
  ways.forEach((way, k) => last.set(lstm(X, T, way, out, d, k * u, k === 1, math), k * u));
  return { X: out, T, n: d, last };
}

// A dense layer whose kernel is [n, m].
function dense(X, T, n, kernel, bias, act = x => x) {
  const m = kernel.shape[1], K = kernel.data, out = new Float32Array(T * m);
  for (let t = 0; t < T; t++)
    for (let j = 0; j < m; j++) {
      let sum = bias ? bias.data[j] : 0;
      for (let k = 0; k < n; k++) sum += X[t * n + k] * K[k * m + j];
      out[t * m + j] = act(sum);
    }
  return out;
}

// Log-mel bands summed to wide ones, the other columns as they are.
function wideBands({ X, T, n }, s, kernel, power) {
  const m = kernel.shape[1], rest = n - s.n_mels, width = m + rest, out = new Float32Array(T * width), p = new Float64Array(m);
  for (let t = 0; t < T; t++) {
    p.fill(0);
    for (let k = 0; k < s.n_mels; k++) {
      const e = Math.exp(X[t * n + k] * power);
      for (let j = 0; j < m; j++) p[j] += e * kernel.data[k * m + j];
    }
    for (let j = 0; j < m; j++) out[t * width + j] = Math.log(p[j] + 1e-9) / power;
    out.set(X.subarray(t * n + s.n_mels, (t + 1) * n), t * width + m);
  }
  return { X: out, T, n: width };
}

// The convolution in front: kernel [filters, n, size].
function convolution({ X, T, n }, s, kernel, bias) {
  const [filters, , size] = kernel.shape, half = size >> 1, steps = Math.ceil(T / s.conv_stride), out = new Float32Array(steps * filters);
  const taps = new Float32Array(size * filters * n); // [size, filters, n]
  for (let f = 0; f < filters; f++)
    for (let k = 0; k < n; k++) for (let q = 0; q < size; q++) taps[(q * filters + f) * n + k] = kernel.data[(f * n + k) * size + q];
  for (let t = 0; t < steps; t++)
    for (let f = 0; f < filters; f++) {
      let sum = bias.data[f];
      for (let q = 0; q < size; q++) {
        const at = t * s.conv_stride + q - half, row = (q * filters + f) * n;
        if (at >= 0 && at < T) for (let k = 0; k < n; k++) sum += X[at * n + k] * taps[row + k];
      }
      out[t * filters + f] = Math.max(0, sum);
    }
  return { X: out, T: steps, n: filters };
}

// The pretrained encoder in front: frames of one hop lie side by side.
function encoderFront({ X, T, n }, s, w, bands, math) {
  let h = { X, T: (T * n) / bands, n: bands };
  const found = [];
  for (let k = 0; k < Math.max(...s.encoder_layers); k++) found.push((h = lstmLayer(h.X, h.T, h.n, w, `encoder_${k}`, math)));
  return beside(s.encoder_layers.map(k => found[k - 1]));
}

// States of several layers in one row.
function beside(parts) {
  const { T } = parts[0], n = parts.reduce((sum, p) => sum + p.n, 0), X = new Float32Array(T * n);
  if (parts.length === 1) return parts[0];
  for (let t = 0; t < T; t++) parts.reduce((at, p) => (X.set(p.X.subarray(t * p.n, (t + 1) * p.n), at), at + p.n), t * n);
  return { X, T, n };
}

// How much each frame counts: learnt weights that sum to 1, even ones where nothing was learnt.
function attentionOf({ X, T, n }, w) {
  const score = w["attention_score.kernel"];
  if (!score || score.data.every(x => x === 0)) return new Float64Array(T).fill(1 / T);
  const hidden = dense(X, T, n, w["attention.kernel"], w["attention.bias"], Math.tanh);
  return softmax(dense(hidden, T, w["attention.kernel"].shape[1], score));
}

function softmax(x) {
  const top = x.reduce((a, b) => Math.max(a, b), -Infinity), e = Float64Array.from(x, v => Math.exp(v - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map(v => v / sum);
}

// All frames as one vector.
function pooled(h, s, w) {
  if (s.pooling === "last") return h.last;
  const { X, T, n } = h, even = s.pooling === "mean" || s.pooling === "change";
  const a = even ? new Float64Array(T).fill(1 / T) : attentionOf(h, w);
  const mean = new Float64Array(n), square = new Float64Array(n), change = new Float64Array(n);
  for (let t = 0; t < T; t++) for (let k = 0; k < n; k++) mean[k] += a[t] * X[t * n + k];
  if (s.pooling === "mean" || s.pooling === "attention") return mean;
  for (let t = 0; t < T; t++) for (let k = 0; k < n; k++) square[k] += a[t] * (X[t * n + k] - mean[k]) ** 2;
  const spread = square.map(x => Math.sqrt(Math.max(x, 1e-6)));
  if (s.pooling === "deviation") return Float64Array.of(...mean, ...spread);
  for (let i = n; i < T * n; i++) change[i % n] += Math.abs(X[i] - X[i - n]) / Math.max(T - 1, 1);
  return Float64Array.of(...mean, ...spread, ...change);
}

function batchNorm(x, w, name, epsilon) {
  const [gamma, beta, mean, variance] = ["gamma", "beta", "mean", "variance"].map(part => w[`${name}.${part}`].data);
  return x.map((v, k) => ((v - mean[k]) / Math.sqrt(variance[k] + epsilon)) * gamma[k] + beta[k]);
}

// Some columns of X [T, n].
function someColumns({ X, T, n }, columns) {
  if (!columns.length) return { X, T, n };
  const [from, to] = columns, out = new Float32Array(T * (to - from));
  for (let t = 0; t < T; t++) out.set(X.subarray(t * n + from, t * n + to), t * (to - from));
  return { X: out, T, n: to - from };
}

// What one network makes of scaled frames before its last layers: one vector.
function vectorOf(frames, s, w, D, math) {
  let h = someColumns(frames, s.columns);
  if (s.wide) h = wideBands(h, s, w.wide, D.power);
  if (s.encoder !== "none") h = encoderFront(h, s, w, D.tables.encoder.bands.start.length, math);
  else if (s.conv) h = convolution(h, s, w["conv.kernel"], w["conv.bias"]);
  s.units.forEach((_, i) => (h = lstmLayer(h.X, h.T, h.n, w, s.bidirectional ? `bilstm_${i}` : `lstm_${i}`, math)));
  return pooled(h, s, w);
}

// One network: scaled frames to probabilities.
function networkAnswer(frames, s, w, D, math) {
  let v = vectorOf(frames, s, w, D, math);
  if (s.speaker_norm) v = batchNorm(v, w, "speaker_norm", s.speaker_epsilon);
  if (s.dense) v = dense(v, 1, v.length, w["dense.kernel"], w["dense.bias"], x => Math.max(0, x));
  if (s.batch_norm) v = batchNorm(v, w, "batch_norm", D.epsilon);
  return softmax(dense(v, 1, v.length, w["emotion.kernel"], w["emotion.bias"]));
}
