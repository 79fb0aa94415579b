"use strict";
// Fourier transforms of any length, and what is made of them: powers of frames.

class Fourier {
  // A transform of n points, in steps of the prime factors of n, and of four.
  constructor(n) {
    this.n = n;
    this.factors = [];
    for (let rest = n, p = 4; rest > 1; ) {
      if (rest % p === 0) this.factors.push(p), (rest /= p);
      else p = p === 4 ? 2 : p === 2 ? 3 : p + 2;
    }
    this.cos = Float64Array.from({ length: n }, (_, t) => Math.cos((2 * Math.PI * t) / n));
    this.sin = Float64Array.from({ length: n }, (_, t) => -Math.sin((2 * Math.PI * t) / n));
    [this.re, this.im, this.re2, this.im2] = [0, 0, 0, 0].map(() => new Float64Array(n));
    const most = Math.max(...this.factors);
    [this.vr, this.vi] = [new Float64Array(most), new Float64Array(most)];
  }

  // Transforms this.re and this.im where they are (Stockham's order).
  run() {
    const { n, cos, sin, vr, vi } = this;
    let done = 1;
    for (const p of this.factors) {
      const { re, im, re2, im2 } = this, apart = n / p, turn = n / (done * p);
      for (let j = 0; j < apart; j++) {
        const k = j % done, to = (j - k) * p + k;
        for (let q = 0; q < p; q++) {
          const at = j + q * apart, w = q * k * turn;
          vr[q] = re[at] * cos[w] - im[at] * sin[w];
          vi[q] = re[at] * sin[w] + im[at] * cos[w];
        }
        if (p === 4) this.four(to, done);
        else if (p === 2) {
          re2[to] = vr[0] + vr[1];
          im2[to] = vi[0] + vi[1];
          re2[to + done] = vr[0] - vr[1];
          im2[to + done] = vi[0] - vi[1];
        } else this.some(p, to, done);
      }
      [this.re, this.re2, this.im, this.im2] = [re2, re, im2, im];
      done *= p;
    }
  }

  four(to, step) {
    const { re2, im2, vr, vi } = this;
    const ar = vr[0] + vr[2], ai = vi[0] + vi[2], br = vr[0] - vr[2], bi = vi[0] - vi[2];
    const cr = vr[1] + vr[3], ci = vi[1] + vi[3], dr = vr[1] - vr[3], di = vi[1] - vi[3];
    re2[to] = ar + cr;
    im2[to] = ai + ci;
    re2[to + step] = br + di;
    im2[to + step] = bi - dr;
    re2[to + 2 * step] = ar - cr;
    im2[to + 2 * step] = ai - ci;
    re2[to + 3 * step] = br - di;
    im2[to + 3 * step] = bi + dr;
  }

  some(p, to, step) {
    const { re2, im2, vr, vi, cos, sin } = this, turn = this.n / p;
    for (let a = 0; a < p; a++) {
      let sr = 0, si = 0;
      for (let b = 0; b < p; b++) {
        const w = ((a * b) % p) * turn;
        sr += vr[b] * cos[w] - vi[b] * sin[w];
        si += vr[b] * sin[w] + vi[b] * cos[w];
      }
      re2[to + a * step] = sr;
      im2[to + a * step] = si;
    }
  }
}

const fouriers = new Map();

function fourier(n) {
  if (!fouriers.has(n)) fouriers.set(n, new Fourier(n));
  return fouriers.get(n);
}

// Squared magnitudes [T, n / 2 + 1] of windowed frames, two at a time; frame t begins at sample first + t hop.
function powers(y, window, first, hop, T) {
  const n = window.length, bins = (n >> 1) + 1, out = new Float32Array(T * bins), F = fourier(n);
  for (let t = 0; t < T; t += 2) {
    for (let i = 0, a = first + t * hop, b = a + hop; i < n; i++, a++, b++) {
      F.re[i] = a >= 0 && a < y.length ? y[a] * window[i] : 0;
      F.im[i] = t + 1 < T && b >= 0 && b < y.length ? y[b] * window[i] : 0;
    }
    F.run();
    for (let k = 0; k < bins; k++) {
      const m = (n - k) % n, re = F.re[k], im = F.im[k], rm = F.re[m], jm = F.im[m];
      out[t * bins + k] = ((re + rm) ** 2 + (im - jm) ** 2) / 4;
      if (t + 1 < T) out[(t + 1) * bins + k] = ((im + jm) ** 2 + (rm - re) ** 2) / 4;
    }
  }
  return out;
}
