"use strict";
// The page itself: it takes recordings, asks the recogniser, and shows what is said.

const by = id => document.getElementById(id);
const percent = p => `${(100 * p).toFixed(0)} %`;
const LONGEST = 60; // seconds that are heard as one clip; what is longer is heard along time alone
const run = JSON.parse(by("run").textContent);

// ---- the recogniser, beside the page ----------------------------------------------------------------------------------

// Asks a worker; where the browser has none, the page itself answers.
function openEngine() {
  const waiting = new Map();
  let last = 0, send, ready;
  const opened = new Promise(done => (ready = done));
  const receive = message => {
    if (message.ready) return ready();
    const asked = waiting.get(message.id);
    if (!asked) return;
    if (message.part) asked.onPart(message.part);
    if (message.done) asked.resolve(message.answer), waiting.delete(message.id);
  };
  const here = () => {
    const answer = server(message => setTimeout(() => receive(message)));
    send = message => setTimeout(() => answer(message));
  };
  try {
    const code = `${by("engine").textContent}\n${by("worker").textContent}`;
    const worker = new Worker(`data:text/javascript;charset=utf-8,${encodeURIComponent(code)}`);
    const open = { task: "open", description: run, bytes: unpacked(by("numbers").textContent.trim()) };
    worker.onmessage = ({ data }) => receive(data);
    worker.onerror = () => (here(), send(open));
    send = message => worker.postMessage(message);
    send(open);
  } catch {
    here();
    send({ task: "open", description: run, bytes: unpacked(by("numbers").textContent.trim()) });
  }
  // One question; a new one ends what is still being answered.
  const ask = (task, content, onPart = () => {}) =>
    new Promise(resolve => {
      for (const old of waiting.values()) old.resolve(null);
      waiting.clear();
      waiting.set(++last, { resolve, onPart });
      send({ id: last, task, ...content });
    });
  return { ask, opened };
}

const engine = openEngine();

// ---- recordings -------------------------------------------------------------------------------------------------------

// A file as one channel of samples: wav by our own reader, all else by the browser's, at the rate that it has.
async function decoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!bytes.length) throw utter("empty", "it has 0 bytes; copy or download it again");
  const own = isWav(bytes) ? readWav(bytes) : null;
  if (own) return { samples: mono(own.channels, run.limits), rate: own.rate };
  try {
    const rate = Math.min(Math.max(namedRate(bytes), 8000), 96000);
    const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.buffer);
    const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
    return { samples: mono(channels, run.limits), rate: sound.sampleRate };
  } catch (e) {
    if (e instanceof SoundError) throw e;
    throw utter("not audio", "this browser can't read it; convert it to wav, for example with ffmpeg");
  }
}

// Samples as a wav, to be heard again.
function wavOf(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length)), text = (at, s) => [...s].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  [[16, 4, 16], [20, 2, 1], [22, 2, 1], [24, 4, rate], [28, 4, 2 * rate], [32, 2, 2], [34, 2, 16]].forEach(([at, size, value]) => view[`setUint${8 * size}`](at, value, true));
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.min(Math.max(x, -1), 1) * 32767, true));
  return new Blob([view.buffer], { type: "audio/wav" });
}

// The microphone: blocks of samples as they come, until `stop`.
const COLLECTOR = `registerProcessor("collector", class extends AudioWorkletProcessor {
  process([[block]]) { if (block) this.port.postMessage(block.slice()); return true; }
});`;

async function openMicrophone(onBlock) {
  if (!navigator.mediaDevices) throw utter("no microphone", "this browser gives it to pages from https:// or from a file only");
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  const context = new AudioContext();
  await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(COLLECTOR)}`);
  const node = new AudioWorkletNode(context, "collector", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => onBlock(data);
  context.createMediaStreamSource(stream).connect(node);
  await context.resume();
  return {
    rate: context.sampleRate,
    stop: () => {
      stream.getTracks().forEach(track => track.stop());
      return context.close();
    },
  };
}

// Blocks as one array.
function joined(blocks) {
  const out = new Float32Array(blocks.reduce((n, b) => n + b.length, 0));
  blocks.reduce((at, b) => (out.set(b, at), at + b.length), 0);
  return out;
}

// ---- what is said -----------------------------------------------------------------------------------------------------

const shown = {}; // what the pictures show, to be drawn again when the window changes

function say(text, bad = false) {
  by("status").textContent = text;
  by("status").classList.toggle("bad", bad);
}

function showBars(probabilities) {
  const ranked = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  by("bars").replaceChildren(...ranked.map(([name, p]) => {
    const row = document.createElement("li"), parts = ["name", "bar", "share"].map(kind => Object.assign(document.createElement("span"), { className: kind }));
    const fill = document.createElement("i");
    fill.style.width = percent(p).replace(" ", "");
    fill.style.background = colourOf(run.labels.indexOf(name));
    parts[0].textContent = name;
    parts[1].append(fill);
    parts[2].textContent = percent(p);
    row.append(...parts);
    return row;
  }));
}

function showWarnings(warnings) {
  by("warnings").replaceChildren(...warnings.map(text => Object.assign(document.createElement("li"), { textContent: `Unlike what it has learnt from: ${text}.` })));
}

// The answer to a clip, in words and bars.
function showAnswer(answer, name) {
  by("result").hidden = false;
  const sure = answer.label === answer.best;
  by("answer").textContent = answer.label;
  const who = learnt.clips.length ? `, taught by ${plural(learnt.clips.length, "clip")} of you` : "";
  by("said").textContent = sure ? `${percent(answer.confidence)} sure of ${name}${who}.`
    : `Most like ${answer.best}, with ${percent(answer.confidence)}, which is less than the ${percent(run.threshold)} from which on it is sure.`;
  showBars(answer.probabilities);
  showWarnings(answer.warnings);
}

// Answers along a long recording.
function showAlong(parts, seconds, name, finished) {
  by("result").hidden = by("along-figure").hidden = false;
  Object.assign(shown, { parts, seconds });
  drawAlong(by("along"), parts, run.labels, seconds);
  const counts = {}, known = parts.filter(p => p.label);
  known.forEach(p => (counts[p.label] = (counts[p.label] ?? 0) + 1));
  const [[most, n] = ["no answer", 0]] = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  if (finished || known.length) {
    by("along").setAttribute("aria-label", `Probabilities along time: ${Object.entries(counts).map(([l, c]) => `${l} ${c} times`).join(", ")}`);
    by("along-figure").querySelector("tbody").replaceChildren(...parts.map(rowOf));
  }
  return { most, n, of: known.length, name };
}

function rowOf(p) {
  const cells = [`${p.start.toFixed(1)} to ${p.stop.toFixed(1)}`, p.label ?? p.error, ...run.labels.map(l => (p.probabilities ? percent(p.probabilities[l]) : ""))];
  const row = document.createElement("tr");
  row.append(...cells.map(text => Object.assign(document.createElement("td"), { textContent: text })));
  return row;
}

function prepareAlong() {
  const head = document.createElement("tr");
  head.append(...["seconds", "said", ...run.labels].map(text => Object.assign(document.createElement("th"), { textContent: text, scope: "col" })));
  by("along-figure").querySelector("thead").replaceChildren(head);
  by("legend").replaceChildren(...run.labels.map((name, i) => {
    const item = document.createElement("span"), patch = document.createElement("i");
    patch.style.background = colourOf(i);
    item.append(patch, name);
    return item;
  }));
}

function drawAll() {
  const { samples, rate, frames, parts, seconds } = shown, sr = run.settings.sr;
  if (!samples) return;
  const kept = frames && [frames.start / sr, frames.stop / sr];
  drawWave(by("wave"), samples, rate, kept);
  by("wave").setAttribute("aria-label", `Waveform of ${(samples.length / rate).toFixed(1)} seconds${kept ? `, kept from ${kept[0].toFixed(2)} to ${kept[1].toFixed(2)}` : ""}`);
  by("bands-figure").hidden = !frames;
  if (frames) {
    drawBands(by("bands"), { ...frames, from: kept[0], to: kept[1], seconds: samples.length / rate, middles: run.middles });
    const voiced = frames.f0 ? frames.f0.filter(f => f > 0).sort() : [];
    by("melody").hidden = !voiced.length;
    by("bands").setAttribute("aria-label", `Mel spectrogram${voiced.length ? `; pitch ${voiced[0].toFixed(0)} to ${voiced[voiced.length - 1].toFixed(0)} Hz` : ""}`);
  }
  if (parts) drawAlong(by("along"), parts, run.labels, seconds);
}

// ---- from a recording to what is said ---------------------------------------------------------------------------------

function play(samples, rate) {
  const player = by("player");
  if (player.src) URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(wavOf(samples, rate));
}

// Answers along time, as they come.
async function along(samples, rate, name) {
  const parts = [], seconds = samples.length / rate;
  const done = await engine.ask("along", { samples, rate }, part => {
    parts.push(part);
    const { most, n, of } = showAlong(parts, seconds, name, false);
    if (seconds > LONGEST) headline(most, n, of, name, part);
  });
  if (done === null) return parts;
  showAlong(parts, seconds, name, true);
  return parts;
}

function headline(most, n, of, name, part) {
  by("answer").textContent = `mostly ${most}`;
  by("said").textContent = `${n} of ${of} windows of ${run.window.toFixed(1)} s of ${name}.`;
  if (part.probabilities) showBars(part.probabilities);
  showWarnings([]);
}

// Everything that is said of a recording.
async function hear(samples, rate, name) {
  const seconds = samples.length / rate, began = performance.now();
  say(`Listening to ${name} …`);
  Object.assign(shown, { samples, rate, name, frames: null, parts: null });
  by("along-figure").hidden = true;
  let answer = null;
  if (seconds <= LONGEST) {
    answer = await engine.ask("clip", { samples, rate });
    if (answer === null) return null;
    if (answer.error) return refuse(name, answer.error);
    showAnswer(answer, name);
    shown.frames = answer.frames;
  } else by("result").hidden = false;
  play(samples, rate);
  drawAll();
  const parts = seconds > 2 * run.window ? await along(samples, rate, name) : [];
  say(`${name}: ${seconds.toFixed(1)} s, answered in ${((performance.now() - began) / 1000).toFixed(2)} s.`);
  return { answer, parts };
}

function refuse(name, why) {
  by("result").hidden = true;
  say(`${name}: ${why}`, true);
  return { error: why };
}

async function hearFile(file) {
  say(`Reading ${file.name} …`);
  try {
    const { samples, rate } = await decoded(file);
    return await hear(samples, rate, file.name);
  } catch (e) {
    if (!(e instanceof SoundError)) throw e;
    return refuse(file.name, e.message);
  }
}

// ---- speaking ---------------------------------------------------------------------------------------------------------

const NO_MICROPHONE = {
  NotAllowedError: "the microphone is not allowed; allow it beside the page's address, and press again",
  NotFoundError: "no microphone was found; plug one in, or choose a recording",
  NotReadableError: "another program holds the microphone; close it, and press again",
};

let microphone = null;

function showLevel(block) {
  const canvas = by("level"), pen = canvas.getContext("2d"), loud = Math.sqrt(block.reduce((s, x) => s + x * x, 0) / block.length);
  const share = Math.min(Math.max(1 + Math.log10(Math.max(loud, 1e-4)) / 3, 0), 1);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = styleOf("--accent");
  pen.fillRect(0, 0, canvas.width * share, canvas.height);
}

// Collects what is said; each time that a window is full, it is answered.
function recorder(name, live) {
  const blocks = [];
  let n = 0, next = 0, busy = false;
  return {
    blocks,
    take: async (block, rate) => {
      blocks.push(block);
      n += block.length;
      if (blocks.length % 8 === 0) showLevel(block);
      if (blocks.length % 40 === 0) say(`${name}: ${(n / rate).toFixed(1)} s. Press again, or the space bar, when you have spoken.`);
      const size = Math.round(run.window * rate);
      if (!live || busy || !microphone || n < next + size) return; // what comes late would end the last question
      busy = true;
      const all = joined(blocks), answer = await engine.ask("clip", { samples: all.subarray(all.length - size), rate });
      next = all.length - size / 2;
      busy = false;
      if (answer && !answer.error && microphone) showAnswer(answer, "the last seconds");
    },
  };
}

async function startSpeaking(name = "your voice", live = true) {
  const kept = recorder(name, live);
  let rate = 48000;
  microphone = { kept };
  try {
    const opened = await openMicrophone(block => kept.take(block, rate));
    rate = opened.rate;
    microphone = { kept, ...opened };
  } catch (e) {
    microphone = null;
    say(e instanceof SoundError ? e.message : NO_MICROPHONE[e.name] ?? `the microphone: ${e.message}`, true);
    return false;
  }
  by("level").hidden = false;
  return true;
}

// Ends the recording: {samples, rate}.
async function stopSpeaking() {
  const { kept, rate, stop } = microphone;
  microphone = null;
  by("level").hidden = true;
  await stop();
  return { samples: joined(kept.blocks), rate };
}

function showSpeaking(on) {
  by("speak").classList.toggle("on", on);
  by("speak").setAttribute("aria-pressed", String(on));
  by("speak-text").textContent = on ? "Stop" : "Speak";
}

async function toggleSpeaking() {
  if (microphone?.label !== undefined) return say("A clip of you is being recorded below: stop it first.", true);
  if (microphone?.stop) {
    showSpeaking(false);
    const { samples, rate } = await stopSpeaking();
    await hear(samples, rate, "your voice");
  } else if (!microphone) {
    showSpeaking(true);
    if (await startSpeaking()) say("Speak now. Press again, or the space bar, when you have spoken.");
    else showSpeaking(false);
  }
}

// ---- the start --------------------------------------------------------------------------------------------------------

function listenToDrops() {
  let depth = 0;
  const over = on => (by("dropping").hidden = !on);
  addEventListener("dragenter", e => (e.preventDefault(), over(++depth > 0)));
  addEventListener("dragleave", () => over(--depth > 0));
  addEventListener("dragover", e => e.preventDefault());
  addEventListener("drop", e => {
    e.preventDefault();
    over((depth = 0) > 0);
    const files = [...e.dataTransfer.files], row = e.target.closest?.("[data-label]");
    if (files.length) row ? teachFiles(files, Number(row.dataset.label)) : hearFile(files[0]);
  });
}

function start() {
  by("labels").textContent = run.labels.join(", ");
  prepareAlong();
  prepareTeaching();
  listenToDrops();
  by("speak").addEventListener("click", toggleSpeaking);
  by("choose").addEventListener("click", () => by("file").click());
  by("file").addEventListener("change", e => e.target.files.length && hearFile(e.target.files[0]).then(() => (e.target.value = "")));
  let redraw;
  addEventListener("resize", () => (clearTimeout(redraw), (redraw = setTimeout(drawAll, 150))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  engine.opened.then(() => {
    document.querySelectorAll("#speak, #choose, #emotions button, #load").forEach(button => (button.disabled = false));
    say("Ready.");
    document.documentElement.dataset.ready = "yes";
  });
}

start();
// For the browser's console, and for tests: hear(samples, rate, name), hearFile(file), teachFiles(files, label) and so on.
window.ser_nb = { run, engine, hear, hearFile, decoded, teachFiles, voiceText, loadVoice, forgetVoice };
