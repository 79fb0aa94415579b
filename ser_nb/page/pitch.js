"use strict";
// The melody of a voice: candidates from the autocorrelation, the best path through them, and how probable a voice is.

// Autocorrelation [T, width] of each frame, freed from the window's, and how far its samples reach from low to high.
function autocorrelations(y, P, hop, T) {
  const { size, transform: n, width } = P, F = fourier(n), r = new Float32Array(T * width), loud = new Float64Array(T);
  const power = [new Float64Array(n), new Float64Array(n)];
  const fill = (into, t) => {
    const at = P.first + t * hop - (size >> 1);
    let sum = 0, low = Infinity, high = -Infinity;
    for (let i = 0; i < size; i++) {
      const x = at + i >= 0 && at + i < y.length ? y[at + i] : 0;
      sum += x;
      if (x < low) low = x;
      if (x > high) high = x;
      into[i] = x;
    }
    for (let i = 0; i < size; i++) into[i] = (into[i] - sum / size) * P.window[i];
    into.fill(0, size);
    loud[t] = high - low;
  };
  for (let t = 0; t < T; t += 2) {
    fill(F.re, t);
    if (t + 1 < T) fill(F.im, t + 1);
    else F.im.fill(0);
    F.run();
    for (let k = 0; k < n; k++) {
      const m = (n - k) % n, re = F.re[k], im = F.im[k], rm = F.re[m], jm = F.im[m];
      power[0][k] = (re + rm) ** 2 + (im - jm) ** 2;
      power[1][k] = (im + jm) ** 2 + (rm - re) ** 2;
    }
    F.re.set(power[0]);
    F.im.set(power[1]);
    F.run(); // of even values, so each keeps to its own part
    for (let lag = 0; lag < width; lag++) {
      r[t * width + lag] = (F.re[lag] / Math.max(F.re[0], 4e-20 * n)) * P.undo[lag];
      if (t + 1 < T) r[(t + 1) * width + lag] = (F.im[lag] / Math.max(F.im[0], 4e-20 * n)) * P.undo[lag];
    }
  }
  return { r, loud };
}

// Place and height of the peak near a lag, from values between samples.
function finer(r, at, lag, P) {
  const { depth, fine, sinc } = P, points = 2 * fine + 1, curve = new Float64Array(points);
  for (let d = -depth; d <= depth; d++) {
    const value = r[at + Math.abs(lag + d)], row = (d + depth) * points;
    for (let j = 0; j < points; j++) curve[j] += value * sinc[row + j];
  }
  let k = 0;
  for (let j = 1; j < points; j++) if (curve[j] > curve[k]) k = j;
  k = Math.min(Math.max(k, 1), points - 2);
  const [a, b, c] = [curve[k - 1], curve[k], curve[k + 1]];
  const shift = Math.min(Math.max((a - c) / 2 / Math.min(a - 2 * b + c, -1e-9), -1), 1);
  const height = Math.max(b - ((a - c) * shift) / 4, 0);
  return [lag + (k - fine + shift) / fine, height > 1 ? 1 / height : height];
}

// What may be the pitch of each frame: f [T, candidates] in Hz, and height, 0 for none.
function pitchCandidates(r, P, sr, T) {
  const { width, lags, candidates: C } = P, f = new Float64Array(T * C), height = new Float64Array(T * C);
  for (let t = 0; t < T; t++) {
    const at = t * width, peaks = [];
    for (let lag = lags[0]; lag < lags[1]; lag++) {
      const here = r[at + lag];
      if (here > r[at + lag - 1] && here >= r[at + lag + 1] && here > P.voicing / 2)
        peaks.push([here - P.octave * Math.log2((P.f0_min * lag) / sr), lag]);
    }
    peaks.sort((a, b) => b[0] - a[0]);
    for (let c = 0; c < C; c++) {
      f[t * C + c] = P.f0_min;
      if (c >= peaks.length || peaks[c][0] <= 0) continue;
      const [place, high] = finer(r, at, peaks[c][1], P);
      f[t * C + c] = sr / place;
      if (sr / P.f0_max <= place && place <= sr / P.f0_min) height[t * C + c] = high;
    }
  }
  return { f, height };
}

// Worth [T, states] of no voice and of each candidate; `step(t, a, b)` is the cost from state a at t to b at t + 1.
function pitchLattice({ f, height }, loud, P, T, scale) {
  const C = P.candidates, S = C + 1, worth = new Float64Array(T * S), octave = f.map(Math.log2);
  const loudest = Math.max(loud.reduce((a, b) => Math.max(a, b), 0), 1e-20);
  for (let t = 0; t < T; t++) {
    worth[t * S] = P.voicing + Math.max(0, 2 - (loud[t] / loudest / P.silence) * (1 + P.voicing));
    for (let c = 0; c < C; c++) {
      const i = t * C + c;
      worth[t * S + 1 + c] = height[i] > 0 ? height[i] - P.octave * Math.log2(P.f0_min / f[i]) : -9;
    }
  }
  const step = (t, a, b) => {
    if (!a || !b) return a === b ? 0 : P.change * scale;
    return P.jump * scale * Math.abs(octave[t * C + a - 1] - octave[(t + 1) * C + b - 1]);
  };
  return { worth, step, S };
}

// The path of states whose worth, less the cost of its steps, is highest (Viterbi).
function bestPath({ worth, step, S }, T) {
  const back = new Uint8Array(T * S), path = new Uint8Array(T);
  let total = worth.slice(0, S);
  for (let t = 1; t < T; t++) {
    const next = new Float64Array(S).fill(-Infinity);
    for (let b = 0; b < S; b++) {
      for (let a = 0; a < S; a++) {
        const reached = total[a] - step(t - 1, a, b);
        if (reached > next[b]) [next[b], back[t * S + b]] = [reached, a];
      }
      next[b] += worth[t * S + b];
    }
    total = next;
  }
  path[T - 1] = total.indexOf(Math.max(...total));
  for (let t = T - 1; t > 0; t--) path[t - 1] = back[t * S + path[t]];
  return path;
}

// How probable a voice is in each frame, over all paths (forward-backward).
function voicingOf({ worth, step, S }, T, sharpness) {
  const E = new Float64Array(T * S), A = new Float64Array(T * S), M = new Float64Array(T * S * S), voicing = new Float64Array(T);
  const even = row => {
    const sum = row.reduce((a, b) => a + b, 0);
    for (let i = 0; i < S; i++) row[i] /= sum;
  };
  for (let t = 0; t < T; t++) {
    const top = Math.max(...worth.subarray(t * S, t * S + S));
    for (let a = 0; a < S; a++) {
      E[t * S + a] = Math.exp(sharpness * (worth[t * S + a] - top));
      if (t + 1 < T) for (let b = 0; b < S; b++) M[(t * S + a) * S + b] = Math.exp(-sharpness * step(t, a, b));
    }
    for (let b = 0; b < S; b++) {
      let reached = t ? 0 : 1;
      if (t) for (let a = 0; a < S; a++) reached += A[(t - 1) * S + a] * M[((t - 1) * S + a) * S + b];
      A[t * S + b] = E[t * S + b] * reached;
    }
    even(A.subarray(t * S, t * S + S));
  }
  let B = new Float64Array(S).fill(1);
  for (let t = T - 1; t >= 0; t--) {
    let sum = 0;
    for (let a = 0; a < S; a++) sum += A[t * S + a] * B[a];
    voicing[t] = 1 - (A[t * S] * B[0]) / sum;
    if (!t) break;
    const before = new Float64Array(S);
    for (let a = 0; a < S; a++)
      for (let b = 0; b < S; b++) before[a] += M[((t - 1) * S + a) * S + b] * E[t * S + b] * B[b];
    even(before);
    B = before;
  }
  return voicing;
}

// f0 [T] in Hz (NaN: no voice), voicing [T] and hnr [T] in dB.
function pitchOf(y, P, sr, hop, T) {
  const { r, loud } = autocorrelations(y, P, hop, T), found = pitchCandidates(r, P, sr, T), C = P.candidates;
  const lattice = pitchLattice(found, loud, P, T, (0.01 * sr) / hop), path = bestPath(lattice, T);
  const f0 = new Float64Array(T).fill(NaN), hnr = new Float64Array(T), voicing = voicingOf(lattice, T, P.sharpness);
  for (let t = 0; t < T; t++) {
    const heights = found.height.subarray(t * C, t * C + C);
    if (path[t]) f0[t] = found.f[t * C + path[t] - 1];
    const high = Math.min(Math.max(path[t] ? heights[path[t] - 1] : Math.max(...heights), 0.01), 1 - 1e-6);
    hnr[t] = 10 * Math.log10(high / (1 - high));
  }
  return { f0, voicing, hnr };
}

// log2 of the pitch [T], a straight line where there is no voice, the ends held.
function pitchLine(f0, P) {
  const T = f0.length, line = new Float64Array(T), voiced = [];
  for (let t = 0; t < T; t++) if (!Number.isNaN(f0[t])) voiced.push(t);
  if (!voiced.length) return line.fill(Math.log2(Math.sqrt(P.f0_min * P.f0_max)));
  for (let t = 0, i = 0; t < T; t++) {
    while (i + 1 < voiced.length && voiced[i + 1] <= t) i++;
    const a = voiced[i], b = voiced[Math.min(i + 1, voiced.length - 1)], share = b > a ? Math.min(Math.max((t - a) / (b - a), 0), 1) : 0;
    line[t] = Math.log2(f0[a]) * (1 - share) + Math.log2(f0[b]) * share;
  }
  return line;
}
