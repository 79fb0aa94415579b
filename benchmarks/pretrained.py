"""Is an LSTM of our own worth keeping that was trained beforehand on other corpora? One corpus is left out at a time.

    python benchmarks/pretrained.py --corpora data/emodb,data/ravdess,data/emovo

A network as `ser_train` trains it learns the emotions, or the speakers, of the other corpora. What it pools of each clip
of the corpus left out is read by discriminants, a group of its speakers asked at a time. Beside it stand the readouts that
there are: of the GE2E encoder, and of three untrained networks. TESS is not among the corpora. Results are added to
results/pretrained.json; what is there already is not made again.
"""
import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ser_nb.data import load_corpus, replace_file
from ser_nb.dataset import Normaliser, label_ids, split_random
from ser_nb.features import VOICE_FRAMES, extract, pick_families
from ser_nb.lib.backend import seed_everything
from ser_nb.lib.encoder import BANDS, encode, encoder_weights, pooled
from ser_nb.lib.untrained import before_readout, discriminant, draw_bands, draw_memory, even_weights, for_frames
from ser_nb.model import build_model
from ser_nb.train import READOUT_NETWORK, READOUT_TRAINING, VOICE_NETWORK, VOICE_TRAINING, load_run, predict_rows, train

HERE = Path(__file__).parent
TASKS = {"emotions": "emotion", "speakers": "speaker"}
BUCKETS = (64, 128, 192, 256, 384, 512, 1024)  # frames that clips are padded to


class Joined(list):
    "Frames of several corpora in memory, as `train` takes them; speakers are called after their corpus."

    def __init__(self, features):
        super().__init__(x for own in features for x in (own[i] for i in range(len(own))))
        self.settings = features[0].settings
        tables = [own.index.assign(clip=own.index["corpus"] + "/" + own.index["clip"],
                                   speaker=own.index["corpus"] + "-" + own.index["speaker"]) for own in features]
        self.index = pd.concat(tables, ignore_index=True)

    def learning(self, column):
        "The same with another column as what is learnt."
        self.index["emotion"] = self.index[column]
        self.data_hash = hashlib.sha256(self.index[["clip", "sha256", "emotion"]].to_csv().encode()).hexdigest()
        return self


def groups_of(speakers, n=10):
    "Speakers who are asked together: one by one up to ten, else in five groups."
    who = sorted(set(speakers))
    return [[name] for name in who] if len(who) <= n else [who[i::5] for i in range(5)]


def odds(e, y, speakers, shrink):
    "Log probabilities [n, K] of each clip by discriminants that haven't heard its speaker's group."
    found = np.zeros((len(e), y.max() + 1))
    for names in groups_of(speakers):
        out = np.isin(speakers, names)
        mean, std = e[~out].mean(0), e[~out].std(0) + 1e-9
        known, w, b = discriminant((e[~out] - mean) / std, y[~out], even_weights(speakers[~out], y[~out]), shrink)
        z = np.full((out.sum(), found.shape[1]), -1e4)
        z[:, known] = ((e[out] - mean) / std @ w + b) / 4  # cooled alike, as discriminants are too sure
        z -= z.max(1, keepdims=True)
        found[out] = z - np.log(np.exp(z).sum(1, keepdims=True))
    return found


def recalls(p, y, speakers):
    "UAR of each group of speakers."
    found = []
    for names in groups_of(speakers):
        own = np.isin(speakers, names)
        found.append(float(np.mean([(p[own].argmax(1) == k)[y[own] == k].mean() for k in np.unique(y[own])])))
    return found


def untrained(features, seed):
    "What an untrained network pools of each clip."
    settings = for_frames(READOUT_NETWORK, features.settings, READOUT_TRAINING)
    seed_everything(seed)
    model = build_model(settings, features.settings.n_features, 2)
    draw_bands(model, seed)
    draw_memory(model, seed)
    rows = np.arange(len(features))
    return predict_rows(before_readout(model), features, rows, Normaliser.fit(features, rows, "level"), BUCKETS)


def pretrained(others, features, task, seed, options):
    "What a network that learnt from other corpora pools of each clip."
    learnt = Joined(others).learning(TASKS[task])
    folder = Path(options.runs) / f"{features.index['corpus'].iloc[0]}-{task}-{seed}"
    how = replace(VOICE_TRAINING, members=1, seed=seed, epochs=options.epochs)
    train(learnt, split_random(learnt.index, .05, .05, seed=seed), folder, VOICE_NETWORK, how, progress=False)
    model, _, normaliser = load_run(folder)
    return predict_rows(before_readout(model), features, np.arange(len(features)), normaliser, BUCKETS)


def judge(name, corpora, seed, options):
    "UAR of each readout on a corpus that was left out, and of several together."
    whole = corpora[name]
    features, powers = pick_families(whole, VOICE_FRAMES), whole.settings.families["encoder"]
    speakers, classes = whole.index["speaker"].to_numpy(), sorted(set(whole.index["emotion"]))
    y = label_ids(whole.index["emotion"], classes)
    states = encode([whole[i][:, powers].reshape(-1, BANDS) for i in range(len(whole))], encoder_weights())
    said = {"encoder": odds(pooled(states), y, speakers, .4),
            "untrained": np.mean([np.exp(odds(untrained(features, 3 * seed + k), y, speakers, .2)) for k in range(3)], 0)}
    said["encoder"] = np.exp(said["encoder"])
    others = [pick_families(corpora[other], VOICE_FRAMES) for other in corpora if other != name]
    for task in options.tasks.split(","):
        said[task] = np.exp(odds(pretrained(others, features, task, seed, options), y, speakers, .2))
    kinds = [("encoder",), ("untrained",), ("encoder", "untrained")]
    for task in options.tasks.split(","):
        kinds += [(task,), ("encoder", task), ("encoder", "untrained", task)]
    return {" + ".join(kind): recalls(np.mean([said[k] for k in kind], 0), y, speakers) for kind in kinds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", default="data/emodb,data/ravdess,data/emovo")
    parser.add_argument("--features", default="data/pretrained")
    parser.add_argument("--runs", default="data/pretrained/runs")
    parser.add_argument("--held_out", default="", help="corpora to be asked, with commas between; empty: each")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", default=str(HERE / "results" / "pretrained.json"))
    options = parser.parse_args()
    frames, corpora = replace(VOICE_FRAMES, encoder="ge2e"), {}
    for path in options.corpora.split(","):
        corpora[Path(path).name] = extract(load_corpus(path), Path(options.features) / Path(path).name, frames)
    out = Path(options.out)
    for seed in range(options.seeds):
        for name in options.held_out.split(",") if options.held_out else corpora:
            done = json.loads(out.read_text()) if out.is_file() else {}
            key = f"{name}, seed {seed}"
            if key in done:
                continue
            done[key] = judge(name, corpora, seed, options)
            with replace_file(out) as temporary:
                temporary.write_text(json.dumps(done, indent=1) + "\n")
            print(key, {kind: round(float(np.mean(found)), 3) for kind, found in done[key].items()}, flush=True)


if __name__ == "__main__":
    main()
