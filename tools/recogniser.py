"""The recogniser in the package, made anew: `python tools/recogniser.py` (needs data/emodb and data/ravdess).

Its weights are under CC BY-NC-SA 4.0, as RAVDESS is; the code that makes them is under the Apache License 2.0."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from fastcore.script import call_parse

from ser_nb.data import load_audio, load_corpus
from ser_nb.dataset import Normaliser
from ser_nb.features import clip_features
from ser_nb.lib.adapting import last_layer, measure, pack, person, scores
from ser_nb.lib.backend import versions
from ser_nb.lib.calibration import fit_strangers
from ser_nb.lib.encoder import ABOUT
from ser_nb.lib.files import json_bytes
from ser_nb.lib.reference import make_reference
from ser_nb.lib.runs import sha256
from ser_nb.model import as_values
from ser_nb.more.adapting import FRAMES, NETWORK, leave_run, pooled_values, readout_bytes

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
RISK = 1 / 3  # of answers to a stranger that may be wrong; of a corpus left out
LICENCE = "weights: CC BY-NC-SA 4.0, because of RAVDESS (Livingstone and Russo 2018); EmoDB (Burkhardt et al. 2005)"


class Clips(list):
    "Frames of clips, with their settings."
    settings = FRAMES


def softmax(q):
    "Scores as probabilities."
    e = np.exp(q - q.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def strangers(x, y, speakers, homes):
    "Answers to the clips of each corpus, learnt from the other one, whose emotions alone are asked for; and whose they are."
    p, truth, who = np.zeros((0, len(EMOTIONS))), np.zeros(0, int), np.zeros(0, str)
    for home in np.unique(homes):
        out = homes == home
        known = np.unique(y[~out])
        v = measure(x[~out], np.searchsorted(known, y[~out]), speakers[~out], homes[~out])
        asked = out & np.isin(y, known)
        answers = np.full((asked.sum(), len(EMOTIONS)), 1e-9)
        answers[:, known] = softmax(scores(v.reduced(x[asked]), *person(v, v.reduced(x[:0]), np.zeros(0, int))))
        p, truth, who = np.concatenate([p, answers]), np.append(truth, y[asked]), np.append(who, speakers[asked])
    return p, truth, who


@call_parse
def main(
    data: str = "data",                  # folder of emodb and ravdess
    out_dir: str = "ser_nb/recogniser",  # the run folder
):
    "Train the bundled recogniser."
    parts = [(name, load_corpus(f"{data}/{name}")) for name in ("emodb", "ravdess")]
    frames, y, speakers, homes, data_hash = Clips(), [], [], [], hashlib.sha256()
    for name, table in parts:
        for path, emotion, speaker in zip(table["path"], table["emotion"], table["speaker"]):
            emotion = "neutral" if emotion == "calm" else emotion
            if emotion in EMOTIONS:
                data_hash.update(f"{name}/{Path(path).name} {sha256(Path(path).read_bytes())}\n".encode())
                frames.append(clip_features(load_audio(path, FRAMES.sr)[0], FRAMES))
                y.append(EMOTIONS.index(emotion))
                speakers.append(f"{name}/{speaker}")
                homes.append(name)
    y, speakers, homes, x = np.array(y), np.array(speakers), np.array(homes), pooled_values(frames)
    v = measure(x, y, speakers, homes)
    kernel, bias = last_layer(v, *person(v, v.reduced(x[:0]), np.zeros(0, int)))
    found = fit_strangers(*strangers(x, y, speakers, homes), risk=RISK)
    calibration = {**found, "weights": None, "part": "a corpus left out, learnt from the other"}
    described = {"corpus": ["emodb", "ravdess"], "synthetic": False, "protocol": "all", "fold": 0,
                 "labels": list(EMOTIONS), "clips": {"train": len(y), "val": 0, "test": 0}, "test_speakers": [],
                 "audit": "every clip was learnt from", "features": json.loads(FRAMES.to_json()),
                 "model": as_values(NETWORK), "train": {}, "data_hash": data_hash.hexdigest(),
                 "split_hash": "", "versions": versions(),
                 "encoder": ABOUT, "licence": LICENCE, "finished": True, "epochs_run": 0, "best_epoch": 0,
                 "normaliser": "blind: frames are not normalised"}
    leave_run(Path(out_dir), {
        "model.onnx": readout_bytes(kernel, bias), "statistics.npz": pack(v),
        "normaliser.json": Normaliser().to_json().encode(), "calibration.json": json_bytes(calibration),
        "reference.json": json_bytes(make_reference(frames, np.arange(len(y)), 1000)), "run.json": json_bytes(described)})
    print(calibration)
