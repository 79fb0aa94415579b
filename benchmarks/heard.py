"""How well a new voice is understood by what commands train by default, kind by kind: rungs of 07_unseen_voices.

    ser_features --data_dir data/emodb --out_dir FOLDER/emodb --new_voices --encoder ge2e      (and the other corpora)
    python benchmarks/heard.py --features FOLDER [--corpora emodb,ravdess,emovo] [--seeds 5]

Each clip becomes a vector of the encoder, as recorded and as two other voices, and one of each of three untrained
LSTMs; then readouts are fitted to all people but some, as training fits them. Nothing is trained, so this takes minutes
where `unseen.py --default` takes hours; but the untrained LSTMs get frames scaled by the deviations of all clips of the
corpus, not of training clips alone. Speakers are left out one by one, those of RAVDESS in five groups. TESS, where an
actress alone is learnt from, is asked only when named, which counts as a look. Results: results/unseen/heard.json.
"""
import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

from ser_nb.beside.recipe import BESIDE, MEMBERS, READOUT_NETWORK, READOUT_TRAINING, many_speakers, voices_for
from ser_nb.dataset import Normaliser
from ser_nb.features import only_voice, open_features, pick_families
from ser_nb.lib.backend import seed_everything
from ser_nb.lib.batches import eval_batches, train_buckets
from ser_nb.lib.calibration import ece
from ser_nb.lib.files import json_bytes, write_file
from ser_nb.lib.heard import heard
from ser_nb.lib.splits import speakers_of
from ser_nb.lib.strangers import NEVER, cooled, left_out, readout_heat
from ser_nb.lib.untrained import (before_readout, discriminant, draw_bands, draw_memory, even_weights, for_frames,
                                  seen_by)
from ser_nb.model import build_model
from ser_nb.unseen import pseudo_labels

OUT = Path(__file__).resolve().parent / "results" / "unseen" / "heard.json"
GROUPS = {"ravdess": 5}
ROUNDS, FEW = 2, 200  # of self-training, and the clips of a speaker that it needs


def remembered(features, seed, mode):
    "What an untrained network makes of each clip."
    frames = pick_families(features, replace(only_voice(features.settings, True), encoder="none"))
    settings, rows = for_frames(READOUT_NETWORK, frames.settings, READOUT_TRAINING), np.arange(len(frames))
    seed_everything(seed)
    model = build_model(settings, frames.settings.n_features, 7)
    draw_bands(model, seed)
    draw_memory(model, seed)
    shown = eval_batches(frames, rows, 0 * rows, Normaliser.fit(frames, rows, mode), batch_size=64,
                         buckets=train_buckets(frames, rows, READOUT_TRAINING))
    e, _, _, row = seen_by(before_readout(model), shown)
    return e[np.argsort(row)]


def by_person(e, who):
    "Values less each speaker's own mean, over their deviation."
    e = e.copy()
    for name in np.unique(who):
        own = who == name
        e[own] = (e[own] - e[own].mean(0)) / np.sqrt(e[own].var(0) + 1e-5)
    return e


class Corpus:
    "Vectors of all clips, for one seed."

    def __init__(self, features, seed, track):
        self.y = np.unique(features.index["emotion"], return_inverse=True)[1]
        self.who, self.K, rows = speakers_of(features), self.y.max() + 1, np.arange(len(features))
        self.vectors = {"encoder": [heard(features, rows, copy, seed * MEMBERS) for copy in range(3)]}
        if len(set(self.who)) > 2:
            mode = "level" if track == "blind" else "speaker"
            for k in range(seed * MEMBERS, (seed + 1) * MEMBERS):
                self.vectors[f"untrained-{k}"] = [remembered(features, k, mode)]
        if track == "adapted":
            self.vectors = {kind: [by_person(e, self.who) for e in es] for kind, es in self.vectors.items()}

    def odds(self, kind, learnt, asked, y=None, w=None):
        "Log odds of a readout."
        es, who = self.vectors[kind], self.who[learnt]
        y, w, n = self.y[learnt] if y is None else y, np.ones(len(learnt)) if w is None else w, len(es)
        counts = np.repeat([1] + [voices_for(who) ** 2] * (n - 1), len(y)) * np.tile(w, n)
        e, y, who = np.concatenate([x[learnt] for x in es]), np.tile(y, n), np.tile(who, n)
        mean, std = e.mean(0), e.std(0) + 1e-9
        known, kernel, bias = discriminant((e - mean) / std, y, counts * even_weights(who, y), 0.4 if n > 1 else 0.2)
        z = np.full((len(asked), self.K), NEVER)
        z[:, known] = (es[0][asked] - mean) / std @ kernel + bias
        return z

    def answers(self, train, test, y=None, w=None):
        "What each kind says of the test clips, no surer than people left out let it be."
        y, who, found = self.y[train] if y is None else y, self.who[train], {}
        kinds = list(self.vectors) if many_speakers(who, BESIDE) else ["encoder"]
        for kind in kinds:
            z = left_out(who, len(train), lambda some, out: self.odds(
                kind, train[some], train[out], y[some], None if w is None else w[some]), self.K)
            z = cooled(self.odds(kind, train, test, y, w), readout_heat(z, y, who, kind.split("-")[0]))
            p = np.exp(z - z.max(1, keepdims=True))
            found.setdefault(kind.split("-")[0], []).append(p / p.sum(1, keepdims=True))
        return {kind: np.mean(ps, 0) for kind, ps in found.items()}

    def self_trained(self, train, test, p):
        "Answers after learning the test clips from the answers."
        shares = np.bincount(self.y[train], minlength=self.K) / len(train)
        for _ in range(ROUNDS if np.unique(self.who[test], return_counts=True)[1].max() >= FEW else 0):
            label, weight = pseudo_labels(p, self.who[test], shares, FEW)
            w = np.concatenate([np.ones(len(train)), weight * min(1, len(train) / len(test))])
            said = self.answers(np.concatenate([train, test]), test, np.concatenate([self.y[train], label]), w)
            p = np.mean(list(said.values()), 0)
        return p


def uar(p, y):
    "Mean recall of the emotions that are there."
    return float(np.mean([(p[y == k].argmax(1) == k).mean() for k in np.unique(y)]))


def asked(c, name, track):
    "What each rung says of people left out: UAR of all answers, of each person, and how far confidence is off."
    names, n = sorted(set(c.who)), GROUPS.get(name, len(set(c.who)))
    said = {}
    for out in (names[k::n] for k in range(n)):
        test = np.flatnonzero(np.isin(c.who, out))
        train = np.setdiff1d(np.arange(len(c.y)), test)
        found = c.answers(train, test)
        found["together"] = np.mean(list(found.values()), 0)
        if track == "adapted":
            found["self-trained"] = c.self_trained(train, test, found["together"])
        for kind, p in found.items():
            said.setdefault(kind, np.zeros((len(c.y), c.K)))[test] = p
    people = {kind: {who: uar(p[c.who == who], c.y[c.who == who]) for who in names} for kind, p in said.items()}
    means = {kind: np.mean(list(of.values())) if name == "tess" else uar(said[kind], c.y) for kind, of in people.items()}
    return {"uar": means, "ece": {kind: float(ece(p, c.y)) for kind, p in said.items()}, "people": people}


def rounded(value):
    "Four digits are enough."
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return round(float(value), 4)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--features", required=True, help="folder of the feature folders")
    p.add_argument("--corpora", default="emodb,ravdess,emovo")
    p.add_argument("--tracks", default="blind,adapted")
    p.add_argument("--seeds", type=int, default=5)
    options = p.parse_args()
    found = json.loads(OUT.read_text()) if OUT.is_file() else {}
    for seed in range(options.seeds):
        for name in options.corpora.split(","):
            features = open_features(Path(options.features) / name)
            for track in options.tracks.split(","):
                of = found.setdefault(f"{name}-{track}", {})
                if str(seed) in of:
                    continue
                of[str(seed)] = rounded(asked(Corpus(features, seed, track), name, track))
                write_file(OUT, json_bytes(found))
                print(name, track, seed, of[str(seed)]["uar"], of[str(seed)]["ece"], flush=True)


if __name__ == "__main__":
    main()
