"""A GRU, a transformer and a small CNN beside the LSTM: one network each, the same frames, folds and training.

    python benchmarks/parts.py --corpus data/emodb --out runs/parts

Each speaker of EmoDB is judged once, by a network that has heard eight others (five folds of two speakers). The settings
are those of `ser_train` but for one network and fewer epochs; none was tuned for any of the four. What comes out is
benchmarks/results/parts.json, which 10_extend shows.
"""
import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from ser_nb.dataset import kfold
from ser_nb.evaluate import read_predictions, report
from ser_nb.features import VOICE_FRAMES, extract
from ser_nb.lib.backend import import_keras, versions
from ser_nb.lib.finding import load_corpus
from ser_nb.lib.parts import network
from ser_nb.lib.stats import interval
from ser_nb.model import masked_mean
from ser_nb.train import VOICE_NETWORK, VOICE_TRAINING, load_run, train

ROOT = Path(__file__).resolve().parent.parent
K, EPOCHS = 5, 24
keras = import_keras()
L = keras.layers


def inputs(n_features):
    "Frames and mask."
    return {"frames": keras.Input((None, n_features), name="frames"),
            "mask": keras.Input((None,), dtype="bool", name="mask")}


def answer(x, h, settings, n_classes, name):
    "Dropout, softmax, and the model."
    p = L.Dense(n_classes, activation="softmax", name="emotion")(L.Dropout(settings.dropout)(h))
    return keras.Model(x, p, name=name)


@network
def gru(settings, n_features, n_classes):
    "Two directions of 64 units, and the mean over time."
    x = inputs(n_features)
    h = L.Bidirectional(L.GRU(64, return_sequences=True))(x["frames"], mask=x["mask"])
    return answer(x, masked_mean(h, x["mask"]), settings, n_classes, "gru")


@network
def transformer(settings, n_features, n_classes):
    "Two layers of four heads over 64 values, which know nothing of order but what a convolution tells them."
    x = inputs(n_features)
    real = keras.ops.cast(x["mask"], "float32")[..., None]
    h = L.Conv1D(64, 5, padding="same", activation="relu")(x["frames"] * real)
    for _ in range(2):
        a = L.MultiHeadAttention(4, 16)(h, h, attention_mask=x["mask"][:, None, :])
        h = L.LayerNormalization()(h + L.Dropout(settings.dropout)(a))
        h = L.LayerNormalization()(h + L.Dense(64)(L.Dense(128, activation="relu")(h)))
    return answer(x, masked_mean(h, x["mask"]), settings, n_classes, "transformer")


@network
def cnn(settings, n_features, n_classes):
    "Three convolutions over time, and the mean."
    x = inputs(n_features)
    real = keras.ops.cast(x["mask"], "float32")[..., None]
    h = x["frames"]
    for _ in range(3):
        h = L.Conv1D(64, 5, padding="same", activation="relu")(h * real)
    return answer(x, masked_mean(h, x["mask"]), settings, n_classes, "cnn")


def judge(features, name, build, out, epochs):
    "Train on each fold, and judge all folds as one."
    how, start, runs = replace(VOICE_TRAINING, epochs=epochs), time.perf_counter(), []
    for i, split in enumerate(kfold(features.index, K, by="speaker", seed=0)):
        runs.append(train(features, split, out / name / f"fold_{i}", VOICE_NETWORK, how, progress=False, build=build))
        report(runs[-1], features)
    found = interval(read_predictions(runs))
    weights = int(sum(w.size for w in load_run(runs[0], build)[0].get_weights()))
    return {"name": name, "weights": weights, "seconds": round(time.perf_counter() - start), **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=str(ROOT / "data/emodb"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs/parts")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    corpus = load_corpus(args.corpus)
    features = extract(corpus, args.out / "features", VOICE_FRAMES)
    rows = []
    for name, build in (("lstm", None), ("gru", gru), ("transformer", transformer), ("cnn", cnn)):
        rows.append(judge(features, name, build, args.out, args.epochs))
        print(rows[-1], flush=True)
        value = {"corpus": Path(args.corpus).name, "clips": len(features), "folds": K, "by": "speaker",
                 "epochs": args.epochs, "networks": rows, "versions": versions()}
        (ROOT / "benchmarks/results/parts.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
