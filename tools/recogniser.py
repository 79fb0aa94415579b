"""The recogniser in the package, made anew: `python tools/recogniser.py` (needs data/emodb and data/ravdess).

Its weights are under CC BY-NC-SA 4.0, as RAVDESS is; the code that makes them is under the Apache License 2.0."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fastcore.script import call_parse

from ser_nb.data import join_corpora, load_audio, load_corpus
from ser_nb.dataset import Normaliser
from ser_nb.features import clip_features
from ser_nb.lib.adapting import last_layer, measure, pack, person, scores
from ser_nb.lib.confidence import fit_calibration
from ser_nb.lib.encoder import ABOUT
from ser_nb.lib.files import json_bytes
from ser_nb.lib.reference import make_reference
from ser_nb.model import as_values
from ser_nb.more.adapting import FRAMES, NETWORK, leave_run, pooled_values, readout_bytes

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
LICENCE = "weights: CC BY-NC-SA 4.0, because of RAVDESS (Livingstone and Russo 2018); EmoDB (Burkhardt et al. 2005)"


class Clips(list):
    "Frames of clips, with their settings."
    settings = FRAMES


def softmax(q):
    "Scores as probabilities."
    e = np.exp(q - q.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def strangers(x, y, speakers, homes):
    "Answers to each speaker, learnt from the others, and to each corpus, learnt from the other if that has all emotions; as many of both kinds."
    p, truth, none = [], [], (np.zeros((0, 1)), np.zeros(0, int))
    groups = [speakers == s for s in np.unique(speakers)] + [homes == "emodb"] * 4
    for out in groups:
        v = measure(x[~out], y[~out], speakers[~out], homes[~out])
        empty = v.reduced(x[:0])
        p.append(softmax(scores(v.reduced(x[out]), *person(v, empty, none[1]))))
        truth.append(y[out])
    return np.concatenate(p), np.concatenate(truth)


@call_parse
def main(
    data: str = "data",                  # folder of emodb and ravdess
    out_dir: str = "ser_nb/recogniser",  # the run folder
):
    "Train the bundled recogniser."
    parts = [(name, load_corpus(f"{data}/{name}")) for name in ("emodb", "ravdess")]
    frames, y, speakers, homes = Clips(), [], [], []
    for name, table in parts:
        for path, emotion, speaker in zip(table["path"], table["emotion"], table["speaker"]):
            emotion = "neutral" if emotion == "calm" else emotion
            if emotion in EMOTIONS:
                frames.append(clip_features(load_audio(path, FRAMES.sr)[0], FRAMES))
                y.append(EMOTIONS.index(emotion))
                speakers.append(f"{name}/{speaker}")
                homes.append(name)
    y, speakers, homes, x = np.array(y), np.array(speakers), np.array(homes), pooled_values(frames)
    v = measure(x, y, speakers, homes)
    kernel, bias = last_layer(v, *person(v, v.reduced(x[:0]), np.zeros(0, int)))
    p, truth = strangers(x, y, speakers, homes)
    calibration = {**fit_calibration(p, truth, coverage=0.7), "weights": None, "part": "speakers and a corpus left out"}
    described = {"corpus": ["emodb", "ravdess"], "synthetic": False, "protocol": "all", "fold": 0,
                 "labels": list(EMOTIONS), "clips": {"train": len(y), "val": 0, "test": 0}, "test_speakers": [],
                 "audit": "every clip was learnt from", "features": json.loads(FRAMES.to_json()),
                 "model": as_values(NETWORK), "train": {}, "data_hash": "", "split_hash": "", "versions": {},
                 "encoder": ABOUT, "licence": LICENCE, "finished": True, "epochs_run": 0, "best_epoch": 0,
                 "normaliser": "blind: frames are not normalised"}
    leave_run(Path(out_dir), {
        "model.onnx": readout_bytes(kernel, bias), "statistics.npz": pack(v),
        "normaliser.json": Normaliser().to_json().encode(), "calibration.json": json_bytes(calibration),
        "reference.json": json_bytes(make_reference(frames, np.arange(len(y)), 1000)), "run.json": json_bytes(described)})
    print(calibration)
