"use strict";
// A few clips of one person, as lib/adapting: where their emotions lie, and the last layer that follows from it.

// Solves A x = B for A [n, n] and B [n, m]: elimination with the largest pivot of each column.
function solved(A, B, n, m) {
  const a = Float64Array.from(A), x = Float64Array.from(B);
  const swap = (v, width, i, j) => {
    for (let k = 0; k < width; k++) [v[i * width + k], v[j * width + k]] = [v[j * width + k], v[i * width + k]];
  };
  for (let c = 0; c < n; c++) {
    let top = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(a[r * n + c]) > Math.abs(a[top * n + c])) top = r;
    if (top !== c) (swap(a, n, c, top), swap(x, m, c, top));
    for (let r = c + 1; r < n; r++) {
      const f = a[r * n + c] / a[c * n + c];
      if (f === 0) continue;
      for (let k = c; k < n; k++) a[r * n + k] -= f * a[c * n + k];
      for (let k = 0; k < m; k++) x[r * m + k] -= f * x[c * m + k];
    }
  }
  for (let c = n - 1; c >= 0; c--)
    for (let k = 0; k < m; k++) {
      let sum = x[c * m + k];
      for (let j = c + 1; j < n; j++) sum -= a[c * n + j] * x[j * m + k];
      x[c * m + k] = sum / a[c * n + c];
    }
  return x;
}

// A [n, l] times B [l, m].
function multiplied(A, B, n, l, m) {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < l; j++) {
      const f = A[i * l + j];
      if (f !== 0) for (let k = 0; k < m; k++) out[i * m + k] += f * B[j * m + k];
    }
  return out;
}

// A matrix [d, d] with something added along its diagonal.
const raised = (A, d, by) => Float64Array.from(A, (x, i) => (Math.floor(i / d) === i % d ? x + by(i % d) : x));

const meanOf = (rows, d) => rows.reduce((sum, z) => sum.map((s, k) => s + z[k] / rows.length), new Float64Array(d));

class Voice {
  // `tables`: centre [F], basis [F, d], means [K, d], own [d] and between [d, d]; and a few constants.
  constructor(tables) {
    Object.assign(this, tables);
    [this.d, this.F] = [this.own.length, this.centre.length];
    this.K = this.means.length / this.d;
    this.rows = Array.from({ length: this.K }, (_, k) => this.means.subarray(k * this.d, (k + 1) * this.d));
  }

  // Pooled values [F] of a clip, where a person's emotion is a ball [d].
  reduced(x) {
    return Array.from(multiplied(x.map((v, k) => v - this.centre[k]), this.basis, 1, this.F, this.d));
  }

  // What clips without a label say of a person's offset [d], and how sure that is [d, d].
  offset(clips) {
    const { d, between } = this;
    if (!clips.length) return [new Float64Array(d), Float64Array.from(between)];
    const m = meanOf(this.rows, d), scatter = new Float64Array(d * d);
    for (const row of this.rows) for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) scatter[i * d + j] += ((row[i] - m[i]) * (row[j] - m[j])) / this.K;
    const noise = raised(scatter, d, k => this.own[k] + 1).map((x, i) => between[i] + x / clips.length);
    const turned = solved(noise, between, d, d), gain = Float64Array.from(turned, (_, i) => turned[(i % d) * d + Math.floor(i / d)]);
    const b = multiplied(gain, meanOf(clips.map(c => c.z), d).map((x, k) => x - m[k]), d, d, 1);
    return [b, multiplied(gain, between, d, d, d).map((x, i) => between[i] - x)];
  }

  // Where a person's emotions lie [K, d], and how clips scatter around them [d, d]. A clip is {z, label}; label -1: none.
  person(clips) {
    const { d, K, own, rows } = this, labelled = clips.filter(c => c.label >= 0);
    let [b, c] = this.offset(clips.filter(c => c.label < 0));
    const n = rows.map((_, k) => labelled.filter(c => c.label === k).length);
    const r = rows.map((row, k) => (n[k] ? meanOf(labelled.filter(c => c.label === k).map(c => c.z), d).map((x, i) => x - row[i]) : new Float64Array(d)));
    const w = rows.map((_, k) => Float64Array.from(own, v => (n[k] ? 1 / (v + 1 / n[k]) : 0)));
    if (labelled.length) {
      const total = meanOf(w, d).map(x => x * K);
      const fitted = solved(raised(c, d, k => 1 / total[k]), c, d, d), was = b;
      c = multiplied(c, fitted, d, d, d).map((x, i) => c[i] - x);
      const pull = new Float64Array(d).map((_, i) => w.reduce((sum, x, k) => sum + x[i] * (r[k][i] - was[i]), 0));
      b = multiplied(c, pull, d, d, 1).map((x, i) => x + was[i]);
    }
    const mu = rows.map((row, k) => Float64Array.from(row, (m, i) => m + b[i] + own[i] * w[k][i] * (r[k][i] - b[i])));
    return [mu, this.scatter(labelled, mu, w, c)];
  }

  scatter(labelled, mu, w, c) {
    const { d, K, own, known } = this, S = new Float64Array(d * d);
    for (const { z, label } of labelled) {
      const off = mu[label].map((m, i) => z[i] - m);
      for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) S[i * d + j] += off[i] * off[j];
    }
    const left = Float64Array.from(own, (v, i) => 1 - w.reduce((sum, x) => sum + (v * x[i]) / K, 0));
    const ball = raised(S, d, () => known).map(x => x / (known + labelled.length));
    return raised(ball, d, k => own[k] * left[k]).map((x, i) => x + left[Math.floor(i / d)] * c[i] * left[i % d]);
  }

  // Kernel [d, K] and bias [K] for reduced clips.
  plane(clips) {
    const { d, K, hot } = this, [mu, S] = this.person(clips), turned = new Float64Array(d * K);
    mu.forEach((row, k) => row.forEach((x, i) => (turned[i * K + k] = x)));
    const kernel = solved(S, turned, d, K).map(x => x / hot);
    const bias = Float64Array.from(mu, (row, k) => -0.5 * row.reduce((sum, x, i) => sum + x * kernel[i * K + k], 0));
    return { kernel, bias };
  }

  scores(z, { kernel, bias }) {
    return multiplied(z, kernel, 1, this.d, this.K).map((x, k) => x + bias[k]);
  }

  // The last layer of a network that answers for a person: kernel [F, K] and bias [K].
  lastLayer(clips) {
    const { d, K, F } = this, plane = this.plane(clips), kernel = multiplied(this.basis, plane.kernel, F, d, K);
    const away = multiplied(this.centre, kernel, 1, F, K);
    return { kernel: Float32Array.from(kernel), bias: Float32Array.from(plane.bias, (x, k) => x - away[k]) };
  }

  // What a person's other clips say of each clip with a label: [{clip, scores}].
  leftOut(clips) {
    const labelled = clips.filter(c => c.label >= 0).sort((a, b) => a.label - b.label), found = [];
    const groups = Math.min(labelled.length, this.groups);
    for (let j = 0; j < groups; j++) {
      const out = labelled.filter((_, i) => i % groups === j), plane = this.plane(clips.filter(c => !out.includes(c)));
      out.forEach(clip => found.push({ clip, scores: this.scores(clip.z, plane) }));
    }
    return found;
  }

  // How much is understood of clips that have others of their emotion, before and after, each judged by the others; and
  // clips whose label they contradict. Nothing where fewer than two emotions have two clips.
  judged(clips) {
    const asked = clips.filter(c => c.label >= 0 && clips.filter(other => other.label === c.label).length > 1);
    if (new Set(asked.map(c => c.label)).size < 2) return null;
    const best = scores => scores.indexOf(scores.reduce((a, b) => Math.max(a, b))), everybody = this.plane([]);
    const share = right => right.filter(Boolean).length / asked.length, others = this.leftOut(clips);
    return {
      of: asked.length,
      before: share(asked.map(c => best(this.scores(c.z, everybody)) === c.label)),
      after: share(others.map(({ clip, scores }) => asked.includes(clip) && best(scores) === clip.label)),
      doubtful: others.filter(({ clip, scores }) => softmax(scores)[clip.label] < this.doubt).map(({ clip }) => clips.indexOf(clip)),
    };
  }
}
