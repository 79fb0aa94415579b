"""How sure a readout may be of people it has not heard: figures of 08_trust and constants of lib/strangers.

    ser_features --data_dir data/emodb --out_dir FOLDER/emodb --new_voices --encoder ge2e      (and the other corpora)
    python benchmarks/sure.py --features FOLDER [--corpora emodb,ravdess,emovo] [--look]

A pretrained encoder and three untrained LSTMs give each clip a vector, once. Then readouts are fitted to all people but
some, in up to ten groups, and asked about these. Within, each group is left out once more; temperature, threshold and
promise come from there, and are held against what the people who were left out got. `before` takes them from other
clips of known voices instead. With one to five people to learn from it finds which temperature strangers would have
asked for. TESS, where one actress is learnt from, is asked only with --look, which counts. The result goes to
results/sure.json.
"""
import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

from heard import remembered
from ser_nb.features import open_features
from ser_nb.lib.augment import stretched
from ser_nb.lib.calibration import best_temperature, calibrated, ece, fit_calibration, fit_strangers, relief
from ser_nb.lib.encoder import BANDS, encode, encoder_weights
from ser_nb.lib.files import json_bytes, write_file
from ser_nb.lib.splits import speakers_of
from ser_nb.lib.strangers import FEW, MOST, NEVER, cooled, left_out, readout_heat, usual_heat
from ser_nb.lib.untrained import discriminant, even_weights
from ser_nb.beside.recipe import voices_for

HERE = Path(__file__).resolve().parent / "results"


def another(x, rng):
    "Mel powers as another voice in another room might have given them."
    rate = rng.uniform(0.8, 1.25)
    y = stretched(np.log(x + 1e-10), rate, max(int(round(len(x) / rate)), 2))
    y = stretched(y.T, np.exp(rng.uniform(np.log(0.82), np.log(1.2))), BANDS).T
    y = y + 0.7 * rng.normal() + 0.7 * np.linspace(-1, 1, BANDS) * rng.normal()
    return np.exp(y).astype(np.float32)


def pooled(clips):
    "Mean, deviation and mean change of the encoder's second layer."
    states = [h for k in range(0, len(clips), 256) for h in encode(clips[k : k + 256], encoder_weights(), (2,))]
    return np.float32([np.r_[h.mean(0), h.std(0), np.abs(np.diff(h, axis=0)).mean(0)] for h in states])


class Corpus:
    "Vectors of all clips, made once and kept beside the features."

    def __init__(self, folder):
        features, kept = open_features(folder), Path(folder) / "sure.npz"
        table = features.index
        self.y = np.unique(table["emotion"], return_inverse=True)[1]
        self.who, self.text, self.K = speakers_of(features), table["text"].to_numpy(str), self.y.max() + 1
        if not kept.is_file():
            columns, rng = features.settings.families["encoder"], np.random.default_rng(0)
            clips = [np.asarray(features[i])[:, columns].reshape(-1, BANDS) for i in range(len(features))]
            heard = [pooled(clips), *(pooled([another(x, rng) for x in clips]) for _ in range(2))]
            np.savez(kept, *heard, *(remembered(features, seed, "level") for seed in range(3)))
        arrays = [np.load(kept)[f"arr_{k}"] for k in range(6)]
        self.heard, self.memories = arrays[:3], arrays[3:]

    def odds(self, kind, learnt, asked):
        "Log odds of a readout: encoder, or the number of a memory."
        y, who = self.y[learnt], self.who[learnt]
        if kind == "encoder":
            e, v = np.concatenate([x[learnt] for x in self.heard]), voices_for(who) ** 2
            w = np.repeat([1, v, v], len(y)) * even_weights(np.tile(who, 3), np.tile(y, 3))
            values, y, shrink = self.heard[0][asked], np.tile(y, 3), 0.4
        else:
            e, w, values, shrink = self.memories[kind][learnt], even_weights(who, y), self.memories[kind][asked], 0.2
        mean, std = e.mean(0), e.std(0) + 1e-9
        known, kernel, bias = discriminant((e - mean) / std, y, w, shrink)
        z = np.full((len(values), self.K), NEVER)
        z[:, known] = (values - mean) / std @ kernel + bias
        return z


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def kinds_of(n):
    return ["encoder", 0, 1, 2] if n > 1 else ["encoder"]


def mean_of(answers):
    "An encoder counts as much as the untrained networks together."
    return answers[0] if len(answers) == 1 else 0.5 * answers[0] + 0.5 * np.mean(answers[1:], 0)


def learn(c, train, test):
    "What is said of the test clips, and of training clips of people left out; all tempered."
    who, said, inner = c.who[train], [], []
    for kind in kinds_of(len(set(who))):
        z = left_out(who, len(train), lambda some, out: c.odds(kind, train[some], train[out]), c.K)
        heat = readout_heat(z, c.y[train], who, "encoder" if kind == "encoder" else "untrained")
        said.append(softmax(cooled(c.odds(kind, train, test), heat)))
        inner.append(softmax(cooled(z, heat)))
    return mean_of(said), mean_of(inner)


def calibration(c, train, inner):
    "As `lib.strangers.calibration_of` decides it."
    n = len(set(c.who[train]))
    if n < 3:
        return {"people": 0, **FEW[n - 1]}
    some = np.isfinite(inner).all(1)
    return fit_strangers(inner[some], c.y[train][some], c.who[train][some], relieved=relief(n - n / min(n, MOST), n))


def from_known(c, train, test):
    "Temperature and threshold from clips of known voices, as fitted without people left out."
    out = np.random.default_rng(0).permutation(len(train)) % 5 == 0
    def said(learnt, asked):
        return mean_of([softmax(c.odds(kind, learnt, asked)) for kind in kinds_of(len(set(c.who[train])))])
    return said(train, test), fit_calibration(said(train[~out], train[out]), c.y[train[out]])


def judged(c, test, p, found):
    "What each person got, against what was promised."
    q = calibrated(p, found["temperature"])
    answered, right = q.max(1) >= found["threshold"], q.argmax(1) == c.y[test]
    promised = {k: found.get(k) for k in ("temperature", "threshold", "risk", "risk_low", "risk_high")}
    rows = []
    for name in sorted(set(c.who[test])):
        own = c.who[test] == name
        mine = own & answered
        rows.append({"person": name, "clips": int(own.sum()), "accuracy": right[own].mean(),
                     "confidence": q.max(1)[own].mean(), "coverage": answered[own].mean(),
                     "kept": (~right[mine]).mean() if mine.any() else None, **promised})
    return rows, q


def whole(c, tests, ways):
    "All people of a corpus together."
    rows, q = [r for w in ways for r in w[0]], np.concatenate([w[1] for w in ways])
    y, n = np.concatenate([c.y[t] for t in tests]), np.array([r["clips"] for r in rows])
    answered = n * [r["coverage"] for r in rows]
    within = [r["risk_low"] <= r["kept"] <= r["risk_high"] for r in rows if r["risk_low"] is not None]
    def mean(key, w):
        return float(np.average([r[key] or 0 for r in rows], weights=w))
    return {"ece": ece(q, y), "accuracy": mean("accuracy", n), "confidence": mean("confidence", n),
            "coverage": mean("coverage", n), "promised": mean("risk", n), "kept": mean("kept", answered),
            "uar": float(np.mean([(q.argmax(1) == y)[y == k].mean() for k in range(c.K)])),
            "within": float(np.mean(within)) if within else None, "people": rows}


def look(c):
    "Each group of people left out once."
    names = sorted(set(c.who))
    groups = [names[k :: min(MOST, len(names))] for k in range(min(MOST, len(names)))]
    tests, after, before = [], [], []
    for group in groups:
        test, train = np.flatnonzero(np.isin(c.who, group)), np.flatnonzero(~np.isin(c.who, group))
        p, inner = learn(c, train, test)
        after.append(judged(c, test, p, calibration(c, train, inner)))
        before.append(judged(c, test, *from_known(c, train, test)))
        tests.append(test)
        print(group, {k: round(after[-1][0][0][k], 3) for k in ("risk", "kept", "coverage", "accuracy")}, flush=True)
    return {"after": whole(c, tests, after), "before": whole(c, tests, before)}


def few(c, draws=5):
    "Temperatures that strangers ask for, by how many people were learnt from."
    rng, names, found = np.random.default_rng(0), sorted(set(c.who)), {}
    for n in range(1, min(6, len(names))):
        rows = []
        for _ in range(draws):
            train = np.isin(c.who, rng.choice(names, n, replace=False))
            test = np.flatnonzero(~train & np.isin(c.y, c.y[train]))
            test, train = rng.choice(test, min(400, len(test)), replace=False), np.flatnonzero(train)
            kinds = kinds_of(2)
            heat = [best_temperature(c.odds(k, train, test), c.y[test], most=1000) for k in kinds]
            p = mean_of([softmax(c.odds(k, train, test) / usual_heat(c.who[train], "encoder" if k == "encoder" else
                                                                     "untrained")) for k in kinds_of(n)])
            answered = calibrated(p, FEW[min(n, 2) - 1]["temperature"]).max(1) >= FEW[0]["threshold"]
            right = p.argmax(1) == c.y[test]
            rows.append([len(train) / n, heat[0], np.exp(np.log(heat[1:]).mean()), right.mean(), answered.mean(),
                         (~right[answered]).mean()])
        rows = np.array(rows)
        found[n] = dict(zip(("clips", "encoder", "untrained"), np.exp(np.log(rows[:, :3]).mean(0)).tolist()),
                        **dict(zip(("accuracy", "coverage", "risk"), rows[:, 3:].mean(0).tolist())))
    return found


def rounded(value):
    "Numbers with four decimals."
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(float(value), 4) if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="folder of feature folders, one a corpus")
    parser.add_argument("--corpora", default="emodb,ravdess,emovo", help="names with commas between")
    parser.add_argument("--look", action="store_true", help="ask TESS too, and count it")
    args = parser.parse_args()
    path = HERE / "sure.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    for name in [*filter(None, args.corpora.split(",")), *["tess"] * args.look]:
        c = Corpus(Path(args.features) / name)
        found[name] = {**look(c), **({} if name == "tess" else {"few": few(c)})}
        told = {k: round(v, 3) for k, v in found[name]["after"].items() if isinstance(v, float)}
        print(name, told, "before:", round(found[name]["before"]["ece"], 3), flush=True)
        write_file(path, json_bytes(rounded(found)))
    if args.look:
        looks = json.loads((HERE / "unseen/looks.json").read_text())
        looks["tess-sure"] = looks.get("tess-sure", 0) + 1
        write_file(HERE / "unseen/looks.json", json.dumps(looks).encode())


if __name__ == "__main__":
    main()
