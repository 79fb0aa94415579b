"""How much surer a trained network is of strangers than it may be: `KNOWN` of lib/strangers.

    python benchmarks/sure_trained.py --data data --features FOLDER

One network of the default kind learns from some people of a corpus. The temperature that its validation clips ask for,
of people it knows, is held against the one that everybody else's clips ask for. The result goes to results/sure_trained.json.
"""
from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from fastcore.script import call_parse

from ser_nb.data import load_corpus
from ser_nb.dataset import label_ids, part_rows, split_speakers
from ser_nb.features import VOICE_FRAMES, extract
from ser_nb.lib.calibration import calibrated, ece, fit_temperature
from ser_nb.lib.runs import Run
from ser_nb.train import VOICE_NETWORK, VOICE_TRAINING, train

LEARNT = {"emodb": ["08 09 10 11 12 13 14 15 16"], "ravdess": ["01", "02 03"], "emovo": ["F1", "F1 F2 F3 M1 M2"]}


def temperatures(features, learnt):
    "What known people and strangers ask for."
    others = sorted(set(features.index["speaker"]) - set(learnt))
    split = split_speakers(features.index, test=others, seed=0)
    with tempfile.TemporaryDirectory() as home:
        run = Run.open(train(features, split, Path(home) / "run", VOICE_NETWORK, VOICE_TRAINING))
        said = {}
        for part in ("val", "test"):
            rows = part_rows(features, split, part)
            said[part] = run.probabilities(features, rows), label_ids(features.index["emotion"].iloc[rows], run.labels)
    known, strangers = (fit_temperature(*said[part]) for part in ("val", "test"))
    p, y = said["test"]
    return {"learnt from": learnt, "known": known, "strangers": strangers, "ratio": strangers / known,
            "ece at known": ece(calibrated(p, known), y), "ece at twice that": ece(calibrated(p, 2 * known), y)}


@call_parse
def main(
    data: str = "data",      # folder of the corpora
    features: str = "/tmp/ser_nb-sure",  # where their frames are kept
    out: str = str(Path(__file__).resolve().parent / "results/sure_trained.json"),
):
    "Measure how temperatures of strangers and of known people differ."
    found = []
    for corpus, groups in LEARNT.items():
        frames = extract(load_corpus(f"{data}/{corpus}"), f"{features}/{corpus}", VOICE_FRAMES)
        found += [{"corpus": corpus, **temperatures(frames, learnt.split())} for learnt in groups]
        print(json.dumps(found[-1]), flush=True)
    mean = float(np.exp(np.mean([np.log(row["ratio"]) for row in found])))
    Path(out).write_text(json.dumps({"geometric mean of the ratios": mean, "runs": found}, indent=1) + "\n")
