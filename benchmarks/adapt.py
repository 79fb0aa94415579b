"""How well a few clips of one's own teach a recogniser a voice: `python benchmarks/adapt.py --out_dir benchmarks/results/adapt`.

Learnt from some corpora, judged on each speaker of another (or on speakers left out), whose clips are drawn at random and
given with labels (k of each emotion) or without; the other clips are judged. Pooled values are kept in --cache."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fastcore.script import call_parse

from ser_nb.lib.adapting import measure, person, scores

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
FOREIGN = {"tess": ("emodb", "ravdess"), "emovo": ("emodb", "ravdess")}
OWN = ("emodb", "ravdess")


def pooled(name, data, cache):
    "Mean and deviation of the encoder's second layer, for each clip of a corpus."
    path = Path(cache) / f"pool_{name}.npz"
    if not path.is_file():
        from ser_nb.data import load_audio, load_corpus
        from ser_nb.features import FeatureSettings, trim
        from ser_nb.lib.encoder import encode, encoder_frames, encoder_weights

        table, s, found = load_corpus(f"{data}/{name}"), FeatureSettings(), []
        for at in range(0, len(table), 64):
            clips = [trim(load_audio(p, 16000)[0], s) for p in table["path"].iloc[at : at + 64]]
            clips = [encoder_frames(y, 2 * (1 + len(y) // 320)) for y in clips]
            found += [np.stack([h.mean(0), h.std(0)])
                      for h in encode(clips, encoder_weights(), (2,))]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, P=np.float32(found), **{c: np.array(table[c], str) for c in ("emotion", "speaker")})
    with np.load(path) as file:
        x = file["P"].reshape(len(file["P"]), 2, -1).reshape(-1, 512).astype(float)
        emotion, speaker = np.where(file["emotion"] == "calm", "neutral", file["emotion"]), file["speaker"]
    keep = np.isin(emotion, EMOTIONS)
    y = np.array([EMOTIONS.index(e) for e in emotion[keep]])
    return x[keep], y, np.char.add(f"{name}/", speaker[keep]), np.full(keep.sum(), name)


def together(parts):
    "Several corpora as one."
    return [np.concatenate(p) for p in zip(*parts)]


def uar(y, guess):
    "Mean recall of the emotions that are there."
    return float(np.mean([(guess[y == k] == k).mean() for k in np.unique(y)]))


def given(y, how, rng):
    "Which clips are given: k of each emotion, n of any, or n of one; and whether with labels."
    kind, n = how
    if kind == "labelled":
        return np.concatenate([rng.permutation(np.flatnonzero(y == k))[: min(n, (y == k).sum() - 1)] for k in np.unique(y)])
    if kind == "one":
        n, k = n
        own = np.flatnonzero(y == k)
        return rng.permutation(own)[: min(n, max(len(own) - 1, 0))]
    return rng.permutation(len(y))[: min(n, len(y))]


def judged(voices, x, y, how, draws):
    "Mean UAR of one speaker, over draws."
    z, found = voices.reduced(x), []
    for draw in range(draws):
        g = given(y, how, np.random.default_rng([draw, 7]))
        rest = np.arange(len(y)) if len(g) == len(y) else np.setdiff1d(np.arange(len(y)), g)
        labels = y[g] if how[0] == "labelled" else np.full(len(g), -1)
        found.append(uar(y[rest], scores(z[rest], *person(voices, z[g], labels)).argmax(1)))
    return float(np.mean(found))


ASKED = {f"labelled {k}": ("labelled", k) for k in (0, 1, 2, 3, 5)} | {
    f"unlabelled {n}": ("any", n) for n in (5, 10, 50)} | {"unlabelled all": ("any", 10**9)}


def speaker_figures(voices, x, y, draws):
    "UAR of one speaker for each kind of clips given; ten of one emotion is the mean over emotions."
    found = {name: judged(voices, x, y, how, draws) for name, how in ASKED.items()}
    ones = [judged(voices, x, y, ("one", (10, k)), 1) for k in np.unique(y)]
    return {**found, "ten of one emotion": float(np.mean(ones))}


def summary(speakers):
    "Mean over speakers with an interval, a speaker being drawn as a whole."
    names, rng = list(next(iter(speakers.values()))), np.random.default_rng(0)
    table = np.array([[v[n] for n in names] for v in speakers.values()])
    ends = np.quantile(table[rng.integers(0, len(table), (2000, len(table)))].mean(1), (.025, .975), axis=0)
    return {n: {"uar": round(table[:, i].mean(), 3), "low": round(ends[0, i], 3), "high": round(ends[1, i], 3)}
            for i, n in enumerate(names)}


@call_parse
def main(
    data: str = "data",                           # folder of the corpora
    out_dir: str = "benchmarks/results/adapt",    # where the figures are written
    cache: str = "/tmp/ser_nb-adapt",             # where pooled values are kept
    only: str = "emovo,own,tess",                 # what is judged; tess is a look
    draws: int = 3,
):
    "Write the figures of each corpus as json."
    corpora = {n: pooled(n, data, cache) for n in {*OWN, *(t for t in FOREIGN if t in only)}}
    for target in only.split(","):
        speakers = {}
        if target in FOREIGN:
            x, y, who, _ = corpora[target]
            voices = measure(*together([corpora[n] for n in FOREIGN[target]]))
            speakers = {p: speaker_figures(voices, x[who == p], y[who == p], draws) for p in np.unique(who)}
        else:
            x, y, who, home = together([corpora[n] for n in OWN])
            for p in np.unique(who):
                voices = measure(x[who != p], y[who != p], who[who != p], home[who != p])
                speakers[p] = speaker_figures(voices, x[who == p], y[who == p], draws)
        found = {"learnt from": FOREIGN.get(target, OWN), "draws": draws, "mean": summary(speakers)}
        for part in OWN if target == "own" else ():
            found[part] = summary({p: v for p, v in speakers.items() if p.startswith(part)})
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        text = json.dumps({**found, "speakers": speakers}, indent=1)
        (Path(out_dir) / f"{target}.json").write_text(text + "\n")
        print(target, {k: (v["uar"], v["low"], v["high"]) for k, v in found["mean"].items()}, flush=True)
