"use strict";
// Pictures: the waveform with its trim, the mel spectrogram with the melody, probabilities along time.

const HEAT = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]; // dark to bright
const COLOURS = ["#3b78c4", "#d9631e", "#2e8b57", "#c23b3b", "#8a63c9", "#8c5a3c", "#c75ba8", "#7a7a7a", "#8f8f1f", "#1f97a8"];
const MARGIN = { left: 44, right: 8, top: 6, bottom: 22 };

const styleOf = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colourOf = i => COLOURS[i % COLOURS.length];

// A canvas of the width that it has on the page, in the screen's own pixels.
function paper(canvas, height) {
  const dense = window.devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  [canvas.width, canvas.height] = [width * dense, height * dense];
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = pen.strokeStyle = styleOf("--quiet");
  const box = { x: MARGIN.left, y: MARGIN.top, w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  return { pen, box };
}

// A round step that parts a length into a few.
function roundStep(length, parts) {
  const rough = length / parts, power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find(f => f * power >= rough);
}

function timeAxis(pen, box, seconds) {
  const step = roundStep(seconds, Math.max(2, box.w / 90)), digits = step < 1 ? 1 : 0;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (let t = 0; t <= seconds * 0.97; t += step) pen.fillText(t.toFixed(digits), box.x + (t / seconds) * box.w, box.y + box.h + 5);
  pen.textAlign = "right";
  pen.fillText("s", box.x + box.w, box.y + box.h + 5);
}

function sideAxis(pen, box, ticks) {
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const [share, text] of ticks) pen.fillText(text, box.x - 6, box.y + box.h * (1 - share));
}

// The waveform; what was cut off lies in shade.
function drawWave(canvas, y, rate, kept) {
  const { pen, box } = paper(canvas, 110), middle = box.y + box.h / 2, seconds = y.length / rate;
  const most = y.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-3), per = y.length / box.w;
  timeAxis(pen, box, seconds);
  sideAxis(pen, box, [[1, most.toPrecision(1)], [0.5, "0"], [0, `−${most.toPrecision(1)}`]].map(([s, t]) => [s * 0.86 + 0.07, t]));
  pen.fillStyle = styleOf("--accent");
  for (let x = 0; x < box.w; x++) {
    let low = 0, high = 0;
    for (let i = Math.floor(x * per); i < (x + 1) * per && i < y.length; i++) {
      if (y[i] < low) low = y[i];
      if (y[i] > high) high = y[i];
    }
    const up = (high / most) * box.h * 0.46, down = (low / most) * box.h * 0.46;
    pen.fillRect(box.x + x, middle - up, 1, Math.max(1, up - down));
  }
  if (!kept) return;
  pen.fillStyle = styleOf("--shade");
  const [from, to] = kept.map(t => box.x + (t / seconds) * box.w);
  pen.fillRect(box.x, box.y, from - box.x, box.h);
  pen.fillRect(to, box.y, box.x + box.w - to, box.h);
}

function heat(share) {
  const at = Math.min(Math.max(share, 0), 0.9999) * (HEAT.length - 1), i = Math.floor(at), rest = at - i;
  return HEAT[i].map((v, k) => v + (HEAT[i + 1][k] - v) * rest);
}

// The mel bands over time, as loud as they are, and the melody where there is a voice.
function drawBands(canvas, { logmel, f0, T, from, to, seconds, middles }) {
  const { pen, box } = paper(canvas, 170), bands = middles.length, image = new ImageData(T, bands);
  const sorted = Float32Array.from(logmel).sort(), low = sorted[Math.floor(sorted.length * 0.02)], high = sorted[Math.floor(sorted.length * 0.995)];
  for (let t = 0; t < T; t++)
    for (let b = 0; b < bands; b++) {
      const colour = heat((logmel[t * bands + b] - low) / Math.max(high - low, 1));
      image.data.set([...colour, 255], 4 * ((bands - 1 - b) * T + t));
    }
  const small = document.createElement("canvas");
  [small.width, small.height] = [T, bands];
  small.getContext("2d").putImageData(image, 0, 0);
  timeAxis(pen, box, seconds);
  const x = box.x + (from / seconds) * box.w, width = ((to - from) / seconds) * box.w;
  pen.drawImage(small, x, box.y, width, box.h);
  const height = hz => {
    const above = middles.findIndex(m => m >= hz), b = above < 1 ? 0 : above - 1 + (hz - middles[above - 1]) / (middles[above] - middles[above - 1]);
    return (b + 0.5) / bands;
  };
  sideAxis(pen, box, [250, 1000, 2000, 4000].filter(hz => hz < middles[bands - 1]).map(hz => [height(hz), hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`]));
  if (!f0) return;
  for (const [colour, size] of [["#000", 4], ["#7ef7ff", 2]]) {
    pen.fillStyle = colour;
    for (let t = 0; t < T; t++)
      if (f0[t] > 0) pen.fillRect(x + ((t + 0.5) / T) * width - size / 2, box.y + box.h * (1 - height(f0[t])) - size / 2, Math.max(size, width / T), size);
  }
}

// Probabilities of windows along a recording, and below what each stretch is called.
function drawAlong(canvas, parts, labels, seconds) {
  const { pen, box } = paper(canvas, 210), chart = { ...box, h: box.h - 26 }, known = parts.filter(p => p.probabilities);
  timeAxis(pen, box, seconds);
  sideAxis(pen, chart, [[1, "100 %"], [0.5, "50 %"], [0, "0"]]);
  const x = p => box.x + ((p.start + p.stop) / 2 / seconds) * box.w;
  labels.forEach((name, i) => {
    pen.strokeStyle = pen.fillStyle = colourOf(i);
    pen.lineWidth = 2;
    pen.beginPath();
    known.forEach((p, k) => pen[k ? "lineTo" : "moveTo"](x(p), chart.y + chart.h * (1 - p.probabilities[name])));
    pen.stroke();
    for (const p of known) pen.fillRect(x(p) - 2, chart.y + chart.h * (1 - p.probabilities[name]) - 2, 4, 4);
  });
  parts.forEach((p, k) => {
    const edge = other => (other ? (x(p) + x(other)) / 2 : null);
    const from = edge(parts[k - 1]) ?? box.x, to = edge(parts[k + 1]) ?? box.x + (p.stop / seconds) * box.w, i = labels.indexOf(p.label);
    pen.fillStyle = i >= 0 ? colourOf(i) : styleOf("--shade");
    pen.fillRect(from, box.y + box.h - 14, Math.max(1, to - from), 12);
  });
}
