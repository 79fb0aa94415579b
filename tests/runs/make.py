"""How the run folders beside this file were made, and what they said: kept to be loaded by every later version.

    git worktree add ../before 4035acd && cp tests/runs/make.py ../before && cd ../before && python make.py OUT

Synthetic speech of `ser_nb.data.demo`, and tiny networks, so that all of it is small: a folder with its model file, and
two zips that `export` made. Untrained members have 256 units, and get 6 here. `test_old_runs.py` makes the same three
clips and wants the same answers.
"""
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ser_nb import train as training
from ser_nb.data import demo, say
from ser_nb.evaluate import predictions, scores
from ser_nb.features import FeatureSettings, extract, only_voice
from ser_nb.model import ModelSettings
from ser_nb.predict import Recognizer, export
from ser_nb.train import TrainSettings, load_run, make_split, predict_rows, save_model_file, train

VOICE = only_voice(FeatureSettings(n_mels=24))
NETWORK = ModelSettings(conv=8, units=(6,), bidirectional=True, pooling="deviation", dense=0, label_smoothing=0.1)
SHOWN = TrainSettings(epochs=4, schedule="cosine", warmup=1, monitor="last", normalise="level", voices=None, crop=200)
RUNS = {
    "4035acd-classic": (FeatureSettings(pitch=False), "words", ModelSettings(units=(8,), dense=8),
                        TrainSettings(epochs=5)),
    "4035acd-ensemble": (VOICE, "random", NETWORK, replace(SHOWN, members=2)),
    "4035acd-adapted": (VOICE, "speakers", replace(NETWORK, speaker_norm=True),
                        replace(SHOWN, normalise="speaker", sampling="speaker")),
}


def three_clips() -> list:
    "A voice of the corpus, a new one, and the same hushed: int16 samples at 16 kHz."
    return [say("bar", "SF1", "angry"), say("mood", "SM7", "sad"), say("mood", "SM7", "happy") // 64]


def answers(folder) -> dict:
    "What a run says of the three clips, as a recogniser and as a keras network."
    clips, recognizer = three_clips(), Recognizer.load(folder)
    model, _, normaliser = load_run(folder)
    if normaliser.mode == "speaker":
        recognizer = recognizer.adapt(clips)
        normaliser = normaliser.adapt("", [recognizer.frames(y) for y in clips])
    p = predict_rows(model, [recognizer.frames(y) for y in clips], np.arange(len(clips)), normaliser)
    told = [recognizer.predict(y) for y in clips]
    return {"labels": [t.label for t in told], "probabilities": [t.probabilities for t in told],
            "outside": [[w.split()[0] for w in t.warnings] for t in told], "network": p.round(7).tolist()}


def main(out):
    out, found = Path(out), {}
    training.READOUT_NETWORK = replace(training.READOUT_NETWORK, units=(6,))
    with tempfile.TemporaryDirectory() as tmp:
        corpus = demo(Path(tmp) / "demo", n_speakers=4, n_words=3)
        for name, (settings, protocol, network, how) in RUNS.items():
            features = extract(corpus, Path(tmp) / f"{name} features", settings, jobs=1)
            folder = (out if name == "4035acd-classic" else Path(tmp)) / name
            train(features, make_split(features.index, protocol), folder, network, how, progress=False)
            if folder.parent == out:
                save_model_file(folder, out / f"{name}.h5")
            else:
                export(folder, out / f"{name}.zip")
            judged = predictions(folder, features)
            found[name] = {**answers(folder), "predicted": judged["predicted"].tolist(), "UAR": scores(judged)["UAR"]}
    text = ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in found.items())
    (out / "4035acd.json").write_text("{\n" + text + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
