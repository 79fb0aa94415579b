"""How well the recogniser in the package understands corpora it has not heard: `python benchmarks/bundled.py`.

Each clip is asked as `ser_predict` would. Each run on TESS is a look at it."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fastcore.script import call_parse

from ser_nb.data import load_corpus
from ser_nb.predict import Recognizer


def judged(truth, said) -> dict:
    "UAR of the best emotions; share answered, and how many of these answers are wrong."
    names = sorted(set(truth))
    best = np.array([p.best for p in said])
    sure, right = np.array([p.label == p.best for p in said]), best == truth
    return {"clips": len(truth), "UAR": round(float(np.mean([right[truth == n].mean() for n in names])), 3),
            "answered": round(float(sure.mean()), 3), "wrong among the answered": round(float(1 - right[sure].mean()), 3) if sure.any() else None,
            "recall": {str(n): round(float(right[truth == n].mean()), 3) for n in names}}


@call_parse
def main(
    data: str = "data",                                # folder of the corpora
    out: str = "benchmarks/results/adapt/bundled.json",
    only: str = "emovo,tess",                          # corpora; tess is a look
):
    "Write how well the bundled recogniser understands other corpora."
    recogniser, found = Recognizer.load(), {}
    for name in only.split(","):
        table = load_corpus(f"{data}/{name}")
        said = recogniser.predict_many([str(p) for p in table["path"]])
        truth, speaker = np.array(table["emotion"], str), np.array(table["speaker"], str)
        found[name] = {**judged(truth, list(said)), "speakers": {
            str(s): judged(truth[speaker == s], [p for p, own in zip(said, speaker == s) if own])["UAR"] for s in np.unique(speaker)}}
        print(name, found[name])
    Path(out).write_text(json.dumps(found, indent=1) + "\n")
