"use strict";
// Matrix products. Four numbers at a time by WebAssembly, whose few instructions are written out here; else by JavaScript.

// X [T, n] times the transpose of W [m, n], in plain JavaScript.
const plainMath = {
  ready: (W, m, n) => ({ W, m, n }),
  times(X, T, { W, m, n }) {
    const out = new Float32Array(T * m);
    for (let t = 0; t < T; t++)
      for (let j = 0, x = t * n; j < m; j += 4) {
        const w0 = j * n, w1 = w0 + n, w2 = w1 + n, w3 = w2 + n;
        let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (let k = 0; k < n; k++) {
          const v = X[x + k];
          s0 += v * W[w0 + k];
          s1 += v * W[w1 + k];
          s2 += v * W[w2 + k];
          s3 += v * W[w3 + k];
        }
        const o = t * m + j;
        [out[o], out[o + 1], out[o + 2], out[o + 3]] = [s0, s1, s2, s3];
      }
    return out;
  },
};

// ---- an assembler as small as its one function ------------------------------------------------------------------------

const leb = n => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >> 7)]);
const signed = n => (n < 64 ? [n] : [(n & 127) | 128, ...signed(n >> 7)]);
const simd = (code, ...rest) => [0xfd, ...leb(code), ...rest];
const section = (id, ...items) => [id, ...leb(leb(items.length).length + items.flat().length), ...leb(items.length), ...items.flat()];
const get = i => [0x20, i], set = i => [0x21, i], number = n => [0x41, ...signed(n)];
const add = [0x6a], mul = [0x6c], less = [0x49], end = [0x0b];
const load = at => simd(0, 4, ...leb(at)), loadOne = simd(9, 2, 0), store = at => simd(11, 4, ...leb(at));
const addFour = simd(0xe4), mulFour = simd(0xe6), zeros = simd(12, ...new Array(16).fill(0));
const raise = (i, ...by) => [...get(i), ...by.flat(), ...add, ...set(i)];
const again = (a, b) => [...get(a), ...get(b), ...less, 0x0d, 0]; // while a < b
const repeat = (...body) => [0x03, 0x40, ...body.flat(), ...end];

// times(x, w, out, T, n, m): w lies in blocks of sixteen rows, [m / 16, n, 16]; all places are in bytes.
function kernelCode() {
  const [x, w, out, T, n, m, t, px, pw, stop, po, last, v, acc] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
  const four = [0, 1, 2, 3], inFloats = [...number(2), 0x74]; // shifted left: four bytes each
  const body = [
    get(w), get(m), get(n), mul, inFloats, add, set(last),
    repeat( // block by block
      number(0), set(t), get(x), set(px), get(out), set(po),
      repeat( // frame by frame
        get(w), set(pw), get(px), get(n), inFloats, add, set(stop), four.map(i => [...zeros, ...set(acc + i)]),
        repeat( // number by number
          get(px), loadOne, set(v),
          four.map(i => [...get(acc + i), ...get(v), ...get(pw), ...load(16 * i), ...mulFour, ...addFour, ...set(acc + i)]),
          raise(pw, number(64)), raise(px, number(4)), again(px, stop)),
        four.map(i => [...get(po), ...get(acc + i), ...store(16 * i)]),
        raise(po, get(m), inFloats), raise(t, number(1)), again(t, T)),
      get(pw), set(w), raise(out, number(64)), again(w, last)),
    end,
  ].flat(3);
  const code = [2, 6, 0x7f, 5, 0x7b, ...body]; // locals: six whole numbers, five times four floats
  const name = text => [text.length, ...new TextEncoder().encode(text)];
  return Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [0x60, 6, ...new Array(6).fill(0x7f), 0]),
    ...section(2, [...name("js"), ...name("memory"), 2, 0, 1]),
    ...section(3, [0]),
    ...section(7, [...name("times"), 0, 0]),
    ...section(10, [...leb(code.length), ...code]),
  ]);
}

// ---- the same products by that function -------------------------------------------------------------------------------

class FastMath {
  constructor() {
    this.memory = new WebAssembly.Memory({ initial: 64 });
    const module = new WebAssembly.Module(kernelCode());
    this.run = new WebAssembly.Instance(module, { js: { memory: this.memory } }).exports.times;
    this.used = 0;
  }

  // Room for n floats, for good or `from` a place on.
  room(n, from = this.used) {
    const lacking = from + 4 * n - this.memory.buffer.byteLength;
    if (lacking > 0) this.memory.grow(Math.ceil(lacking / 65536) + 16);
    return new Float32Array(this.memory.buffer, from, n);
  }

  // Weights [m, n] in blocks of sixteen rows.
  ready(W, m, n) {
    const rows = Math.ceil(m / 16) * 16, at = this.used, into = this.room(rows * n);
    for (let j = 0; j < rows; j++)
      for (let k = 0; k < n; k++) into[((j >> 4) * n + k) * 16 + (j & 15)] = j < m ? W[j * n + k] : 0;
    this.used += 4 * rows * n;
    return { at, m, n, rows };
  }

  // Read the result before the next call.
  times(X, T, { at, m, n, rows }) {
    const x = this.used, out = x + 4 * Math.ceil((T * n) / 4) * 4;
    this.room(T * rows, out);
    new Float32Array(this.memory.buffer, x, T * n).set(X.length === T * n ? X : X.subarray(0, T * n));
    this.run(x, at, out, T, n, rows);
    const found = new Float32Array(this.memory.buffer, out, T * rows);
    if (rows === m) return found;
    const narrow = new Float32Array(T * m);
    for (let t = 0; t < T; t++) narrow.set(found.subarray(t * rows, t * rows + m), t * m);
    return narrow;
  }
}

// The faster way, where the browser has it.
function bestMath() {
  try {
    return new FastMath();
  } catch {
    return plainMath;
  }
}
