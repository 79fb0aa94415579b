"use strict";
// The confusion matrix of a report: a cell leads to its clips, to what is seen, heard and said of them.
{
  const { labels, clips, counts } = JSON.parse(document.getElementById("clips").textContent);
  const room = document.getElementById("chosen");
  const button = (i, j) => document.getElementById(`${i}-${j}`);
  const make = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
  let media; // pictures and sounds, from a script: a page opened from a folder may load nothing else

  const arrived = () => (media ??= new Promise(done => {
    window.hear = done;
    document.head.append(make("script", "", { src: "clips.js", onerror: () => done({}) }));
  }));

  // The probability of each emotion, the likeliest first.
  function odds({ p, meant }) {
    const table = make("table", "", { className: "odds" });
    table.append(make("caption", "Probability of each emotion"));
    for (const k of [...labels.keys()].sort((a, b) => p[b] - p[a])) {
      const row = table.insertRow(), bar = make("span", "", { className: "bar" });
      bar.style.width = `${p[k] / 10}%`;
      row.append(make("th", labels[k] + (k === meant ? ", meant" : ""), { scope: "row" }));
      row.insertCell().append(bar);
      row.insertCell().textContent = `${(p[k] / 10).toFixed(1)} %`;
    }
    return table;
  }

  // A player, or what became of the recording.
  function player(name, sound) {
    if (!sound) return make("p", "There was no recording when this report was written.");
    const audio = make("audio", "", { controls: true, preload: "none", src: sound });
    audio.setAttribute("aria-label", name);
    audio.onerror = () => audio.replaceWith(make("p", "The recording isn't where it was when this report was written."));
    return audio;
  }

  function shown(clip, [picture, seconds, sound] = ["", 0, ""]) {
    const item = make("li"), facts = [clip.speaker && `speaker ${clip.speaker}`, clip.text && `“${clip.text}”`];
    item.append(make("h4", clip.name), make("p", facts.filter(Boolean).join(", ")));
    if (picture) item.append(make("img", "", { src: picture, className: "seen", alt: `Spectrogram of ${seconds} s, up to 5 kHz` }));
    item.append(player(clip.name, sound), odds(clip));
    return item;
  }

  async function choose(i, j) {
    document.querySelectorAll(".matrix button").forEach(b => b.setAttribute("aria-pressed", b === button(i, j)));
    const own = [...clips.keys()].filter(k => clips[k].meant === i && clips[k].said === j), all = counts[i][j];
    const title = i === j ? `${labels[i]}, understood` : `${labels[i]}, taken for ${labels[j]}`;
    const heading = make("h3", `${title}: ${all} clip${all === 1 ? "" : "s"}`, { tabIndex: -1 });
    const some = own.length < all ? `The ${own.length} surest; all are in predictions.csv. ` : "";
    const list = make("ul", "", { className: "clips" });
    room.replaceChildren(heading, make("p", `${some}Escape leads back to the matrix.`), list);
    room.dataset.from = `${i}-${j}`;
    heading.focus();
    history.replaceState(null, "", `#${i}-${j}`);
    const had = await arrived();
    list.replaceChildren(...own.map(k => shown(clips[k], had[k])));
  }

  // The next cell with clips in a direction, if there is one.
  function beside(at, [down, right]) {
    let [i, j] = at.split("-").map(Number);
    do [i, j] = [i + down, j + right];
    while (i in labels && j in labels && !button(i, j));
    return i in labels && j in labels && button(i, j);
  }

  const WAYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  document.querySelector(".matrix").addEventListener("keydown", event => {
    const next = event.target.id && WAYS[event.key] && beside(event.target.id, WAYS[event.key]);
    if (next) next.focus(), event.preventDefault();
  });
  document.querySelector(".matrix").addEventListener("click", event => {
    if (event.target.id) choose(...event.target.id.split("-").map(Number));
  });
  room.addEventListener("keydown", event => {
    if (event.key === "Escape") document.getElementById(room.dataset.from)?.focus();
  });
  const asked = location.hash.match(/^#(\d+)-(\d+)$/);
  if (asked && button(asked[1], asked[2])) choose(Number(asked[1]), Number(asked[2]));
}
