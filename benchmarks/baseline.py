"""The baseline of 07_unseen_voices: openSMILE's ComParE statistics of a whole clip and a linear SVM.

    python benchmarks/baseline.py [--tess data/tess] [--emodb data/emodb] [--tasks tess-blind,emodb-blind]

Needs the bench extra. Blind, the 6,373 statistics are scaled by the training clips; adapted, by the clips of each
speaker, those of the new one included. Nothing is drawn by chance, so there are no seeds. Writes
benchmarks/results/unseen/baseline.json; the statistics, which take some minutes, are kept in the folder --features.
"""
import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.svm import LinearSVC

from ser_nb.data import file_sha256, load_audio, load_corpus, replace_file
from ser_nb.dataset import frame_stats
from ser_nb.train import val_scores

HERE = Path(__file__).parent
TASKS = {"tess-blind": ("tess",), "tess-adapted": ("tess",), "both-blind": ("tess", "emodb"),
         "both-adapted": ("tess", "emodb"), "emodb-blind": ("emodb",), "emodb-adapted": ("emodb",)}
C = 1e-3  # of the SVM: strong, since there are more statistics than clips


def statistics(paths):
    "ComParE 2016 of some files, [clips, 6373]."
    import opensmile
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    return np.stack([smile.process_signal(load_audio(path, 16000)[0], 16000).to_numpy()[0] for path in paths])


def statistics_of(name, options):
    "The corpus, its statistics, from the folder if they are there, and the hash of its recordings."
    corpus = load_corpus([getattr(options, name)])
    data = hashlib.sha256("".join(file_sha256(path) for path in corpus["path"]).encode()).hexdigest()
    kept = Path(options.features) / f"compare_{name}_{data[:12]}.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = Parallel(n_jobs=options.jobs, verbose=1)(delayed(statistics)(p) for p in
                                                         np.array_split(corpus["path"].to_numpy(), 64))
        with replace_file(kept) as f:
            with open(f, "wb") as file: np.save(file, np.concatenate(found))
    return corpus, np.load(kept, allow_pickle=False), data


def scaled(x, speaker, train, track):
    "Statistics without unit: by the training clips, or by each speaker's own."
    if track == "blind": groups = [(train, slice(None))]
    else: groups = [(own, own) for own in (np.flatnonzero(speaker == s) for s in np.unique(speaker))]
    y = np.empty_like(x, dtype=np.float64)
    for rows, changed in groups:
        mean, std = frame_stats([x[rows]])
        y[changed] = (x[changed] - mean) / std
    return y


def judge(x, table, speaker, track):
    "Answers to one speaker's clips after learning from all others'."
    who, emotion = table["speaker"].to_numpy(str), table["emotion"].to_numpy(str)
    test, train = np.flatnonzero(who == speaker), np.flatnonzero(who != speaker)
    y, classes = scaled(x, who, train, track), sorted(set(emotion))
    label = np.array([classes.index(e) for e in emotion])
    svm = LinearSVC(C=C, class_weight="balanced", random_state=0, max_iter=20_000).fit(y[train], label[train])
    answer = svm.predict(y[test])
    return {"speaker": speaker, "seed": 0, "classes": classes, "truth": label[test].tolist(), "final": answer.tolist(),
            "averaged": val_scores(np.eye(len(classes))[answer], label[test])["val_uar"]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tess", default="data/tess")
    p.add_argument("--emodb", default="data/emodb")
    p.add_argument("--tasks", default=",".join(TASKS))
    p.add_argument("--features", default="data", help="folder for the statistics")
    p.add_argument("--jobs", type=int, default=-1)
    p.add_argument("--out", default=str(HERE / "results" / "unseen" / "baseline.json"))
    options = p.parse_args()
    results = {"C": C, "versions": {n: version(n) for n in ("opensmile", "scikit-learn", "numpy")},
               "data_hash": {}, "tasks": {}}
    for task in options.tasks.split(","):
        parts = [statistics_of(name, options) for name in TASKS[task]]
        results["data_hash"].update({name: data for name, (*_, data) in zip(TASKS[task], parts)})
        table, x = pd.concat([p[0] for p in parts], ignore_index=True), np.concatenate([p[1] for p in parts])
        keep = table["emotion"].isin(set(parts[0][0]["emotion"])).to_numpy()
        table, x = table[keep].reset_index(drop=True), x[keep]
        asked = sorted(set(table["speaker"][table["corpus"] == TASKS[task][0]]))
        found = [judge(x, table, speaker, task.split("-")[1]) for speaker in asked]
        results["tasks"][task] = found
        print(task, {r["speaker"]: round(r["averaged"], 3) for r in found},
              round(float(np.mean([r["averaged"] for r in found])), 3), flush=True)
        with replace_file(options.out) as f: Path(f).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
