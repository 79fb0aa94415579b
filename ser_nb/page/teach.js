"use strict";
// Learning a voice on the page: clips of each emotion, what they win, and their few numbers as a file.

const KIND = "a voice, as numbers";
const plural = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;
const learnt = { clips: [], counts: [] }; // of this person, as the recogniser has them

function tellTaught(text, bad = false) {
  by("taught").textContent = text;
  by("taught").classList.toggle("bad", bad);
}

// ---- what it has learnt -----------------------------------------------------------------------------------------------

function wordsOf({ clips, judged }) {
  if (!clips.length) return "It knows nobody's voice better than others'.";
  if (!judged) return `It has learnt ${plural(clips.length, "clip")} of you. With two clips of each of two emotions it can tell what that wins.`;
  const doubts = judged.doubtful.map(i => i - learnt.known).filter(i => i >= 0).map(i => `clip ${i + 1} (${run.labels[clips[i].label]})`);
  const doubt = doubts.length ? ` Unlike your others of the same emotion: ${doubts.join(", ")}. Was it the right button?` : "";
  return `Of ${plural(judged.of, "clip")} of yours it understands ${percent(judged.after)}, each judged by the others; before it was ${percent(judged.before)}.${doubt}`;
}

function showTaught(summary) {
  Object.assign(learnt, summary);
  run.threshold = summary.threshold;
  by("emotions").querySelectorAll(".count").forEach((cell, k) => (cell.textContent = plural(summary.counts[k], "clip")));
  by("keep").disabled = by("unlearn").disabled = !summary.clips.length;
  by("won").hidden = !summary.judged;
  if (summary.judged)
    for (const when of ["before", "after"]) {
      by(`won-${when}`).querySelector("i").style.width = `${100 * summary.judged[when]}%`;
      by(`won-${when}`).querySelector(".share").textContent = percent(summary.judged[when]);
    }
  tellTaught(wordsOf(summary));
}

// Asks, shows, and answers anew what was heard last.
async function learn(task, content, name) {
  tellTaught(`Learning ${name} …`);
  const summary = await engine.ask(task, content);
  if (summary === null) return null;
  if (summary.error) return tellTaught(`${name}: ${summary.error}`, true), summary;
  showTaught(summary);
  return summary;
}

const hearAgain = () => (shown.samples ? hear(shown.samples, shown.rate, shown.name) : null);

async function teachFiles(files, label) {
  for (const file of files)
    try {
      const done = await learn("teach", { ...(await decoded(file)), label }, file.name);
      if (!done || done.error) return done;
    } catch (e) {
      if (!(e instanceof SoundError)) throw e;
      return tellTaught(`${file.name}: ${e.message}`, true);
    }
  await hearAgain();
  return learnt;
}

// ---- recording --------------------------------------------------------------------------------------------------------

async function toggleRecording(label, button) {
  const name = run.labels[label], show = on => {
    button.classList.toggle("on", on);
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Stop" : "Record";
  };
  if (microphone && microphone.label !== label) return tellTaught("Another recording goes on: stop it first.", true);
  if (!microphone) {
    show(true);
    if (!(await startSpeaking(name, false))) return show(false), tellTaught(by("status").textContent, true);
    microphone.label = label;
    return tellTaught(`Say a sentence that sounds ${name}. Press Stop when you have spoken.`);
  }
  if (!microphone.stop) return null;
  show(false);
  const { samples, rate } = await stopSpeaking();
  say("Ready.");
  const done = await learn("teach", { samples, rate, label }, `what sounds ${name}`);
  return done && !done.error ? hearAgain() : null;
}

// ---- the numbers as a file --------------------------------------------------------------------------------------------

function voiceText() {
  const clips = learnt.clips.map(c => ({ emotion: run.labels[c.label] ?? "", numbers: c.z.map(x => Number(x.toPrecision(7))) }));
  return JSON.stringify({ kind: KIND, made_for: run.voices, clips });
}

function keepVoice() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([voiceText()], { type: "application/json" }));
  link.download = "my_voice.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  tellTaught("Saved as my_voice.json, wherever your browser puts downloads.");
}

// Clips of a file, or what is wrong with it.
function clipsIn(text) {
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    return { error: "no voice: it is no json text; choose a file that this page has saved" };
  }
  const clips = said?.clips, [d] = run.tensors["voices/own"][1];
  if (said?.kind !== KIND || !Array.isArray(clips)) return { error: "no voice: choose a file that this page has saved" };
  if (said.made_for !== run.voices) return { error: "it was learnt by another recogniser: record the clips here once more" };
  const whole = c => Array.isArray(c?.numbers) && c.numbers.length === d && c.numbers.every(Number.isFinite) && (c.emotion === "" || run.labels.includes(c.emotion));
  if (clips.length > 1000 || !clips.every(whole)) return { error: "damaged: save it again from the page that made it" };
  return { clips: clips.map(c => ({ z: c.numbers, label: run.labels.indexOf(c.emotion) })) };
}

async function loadVoice(file) {
  const { clips, error } = clipsIn(await file.text());
  if (error) return tellTaught(`${file.name}: ${error}`, true);
  const done = await learn("restore", { clips }, file.name);
  await hearAgain();
  return done;
}

async function forgetVoice() {
  await learn("restore", { clips: [] }, "nothing");
  return hearAgain();
}

// ---- the section ------------------------------------------------------------------------------------------------------

function smallButton(text, label, onClick) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "small", textContent: text });
  button.setAttribute("aria-label", `${text}: ${label}`);
  button.addEventListener("click", () => onClick(button));
  return button;
}

function rowOfEmotion(name, label) {
  const row = document.createElement("li"), [title, count] = ["name", "count"].map(kind => Object.assign(document.createElement("span"), { className: kind }));
  title.textContent = name;
  count.textContent = "0 clips";
  row.dataset.label = label;
  const choose = () => {
    by("voice-file").dataset.label = label;
    by("voice-file").click();
  };
  const record = smallButton("Record", name, button => toggleRecording(label, button));
  record.setAttribute("aria-pressed", "false");
  row.append(title, count, record, smallButton("Choose", name, choose));
  return row;
}

function prepareTeaching() {
  if (!run.voices) return;
  learnt.known = run.tables.voices.clips.length;
  by("teach").hidden = false;
  by("emotions").replaceChildren(...run.labels.map(rowOfEmotion));
  const onFiles = (input, take) => by(input).addEventListener("change", e => e.target.files.length && take([...e.target.files]).then(() => (e.target.value = "")));
  onFiles("voice-file", files => teachFiles(files, Number(by("voice-file").dataset.label)));
  onFiles("numbers-file", files => loadVoice(files[0]));
  by("keep").addEventListener("click", keepVoice);
  by("load").addEventListener("click", () => by("numbers-file").click());
  by("unlearn").addEventListener("click", forgetVoice);
}
