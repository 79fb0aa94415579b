"""How well a new voice is understood: the figures of 07_unseen_voices, made again.

    python benchmarks/unseen.py --tess data/tess [--emodb data/emodb] [--tasks tess-blind,tess-adapted] [--seeds 5]
    python benchmarks/unseen.py --tasks emodb-adapted --speakers 03,08,09,10,11 --variant no-voices
    python benchmarks/unseen.py --tasks own-blind,own-adapted --own data/ravdess --folds 5
    python benchmarks/unseen.py --tasks tess-known --seeds 1

One seed is the mean of several members, and where speakers are many of as many again of the other kind. Each test is
added to results/unseen/TASK.json as soon as it is done, and what is there already is not made again, so a killed run
goes on.
"""
import argparse
import inspect
import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ser_nb.data import load_corpus, replace_file
from ser_nb.dataset import class_names, label_ids, part_rows, split_speakers
from ser_nb.features import VOICE_FRAMES, extract
from ser_nb.model import ModelSettings, from_json
from ser_nb.train import learnt_shares, make_split, read_run, val_scores
from ser_nb.unseen import kinds_for, member_probabilities, self_train, train_ensemble

HERE = Path(__file__).parent
TASKS = {"tess-blind": ("tess", "blind"), "tess-adapted": ("tess", "adapted"), "tess-scaled": ("tess", "scaled"),
         "both-blind": ("both", "blind"), "both-adapted": ("both", "adapted"),
         "emodb-blind": ("emodb", "blind"), "emodb-adapted": ("emodb", "adapted"),
         "own-blind": ("own", "blind"), "own-adapted": ("own", "adapted"),
         "tess-known": ("tess", "blind")}  # no new speaker: a random split, and unseen words
KNOWN = ("random", "words")
VARIANTS = {"no-voices": {"training": {"voices": 0.0, "n_buckets": 4}}, "full-voices": {"training": {"voices": 1.0}},
            "no-readout": {"kinds": ("voices",)}, "readout": {"kinds": ("readout",)},
            "no-wide-bands": {"readout": {"wide": 0}}, "wide-bands": {"network": {"wide": 8}},
            "no-pitch": {"frames": {"pitch": False}},
            "mean-pooling": {"network": {"pooling": "mean"}},
            "no-convolution": {"network": {"conv": 0}}}


def features_of(name, options):
    "The features of a task, of one corpus or of both."
    corpus = load_corpus([options.tess, options.emodb] if name == "both" else getattr(options, name))
    if name == "both": corpus = corpus[corpus["emotion"].isin(set(corpus["emotion"][corpus["corpus"] == "tess"]))]
    used = replace(VOICE_FRAMES, **VARIANTS.get(options.variant, {}).get("frames", {}))
    folder = f"voices_{name}{'' if used == VOICE_FRAMES else '_' + options.variant}"
    return extract(corpus.reset_index(drop=True), Path(options.features) / folder, used, jobs=options.jobs)


def split_of(features, speakers, seed):
    "Train on all speakers but these. Where texts are few, losing one to watch the training would cost too much."
    if speakers[0] in KNOWN: return make_split(features.index, *speakers, seed=seed)
    many = features.index["text"].nunique() >= 50
    return split_speakers(features.index, speakers, val=0.05, seed=0, val_by="text" if many else "clip")


def tests_of(features, task, options):
    "The speakers who are asked in turn, one by one or in groups."
    if task == "tess-known": return list(KNOWN)
    name = TASKS[task][0]
    asked = features.index["corpus"] == "tess" if name == "both" else np.ones(len(features), bool)
    who = sorted(set(features.index["speaker"][asked]))
    if options.folds: who = ["+".join(who[i::options.folds]) for i in range(options.folds)]
    return who


def one(features, speaker, track, seed, options, folder):
    "Train on the others, ask about this speaker, or those with a + between."
    start, change = time.perf_counter(), VARIANTS.get(options.variant, {})
    split = split_of(features, speaker.split("+"), seed)
    rows, classes = part_rows(features, split, "test"), class_names(split)
    truth = label_ids(features.index["emotion"].iloc[rows], classes)
    seeds = range(seed * options.members, (seed + 1) * options.members)
    kinds = change.get("kinds") or kinds_for(split["speaker"][split["part"] == "train"])
    networks = {"voices": change.get("network", {}), "readout": change.get("readout", {})}
    members = train_ensemble(features, split, folder, track, seeds, kinds, networks, change.get("training", {}))
    said = member_probabilities(members, features, rows)
    learns = track != "blind" and not options.variant
    stages = self_train(members, features, split) if learns else said.mean(0)[None]
    run = read_run(members[0])
    return {"speaker": speaker, "seed": seed, "members": options.members, "classes": list(classes),
            "kinds": dict.fromkeys(kinds, options.members),
            "shares": learnt_shares(members[0]).round(4).tolist(), "truth": truth.tolist(),
            "members_uar": [val_scores(p, truth)["val_uar"] for p in said],
            "averaged": val_scores(said.mean(0), truth)["val_uar"],
            "by_kind": {kind: said[i * len(seeds):(i + 1) * len(seeds)].mean(0).argmax(1).tolist()
                        for i, kind in enumerate(kinds)},
            "stages": [val_scores(p, truth)["val_uar"] for p in stages],
            "answer": said.mean(0).argmax(1).tolist(), "final": stages[-1].argmax(1).tolist(),
            "self_training": {k: v.default for k, v in inspect.signature(self_train).parameters.items()
                              if v.default is not v.empty},
            "seconds": round(time.perf_counter() - start, 1),
            "readout": read_run(members[-1])["model"] if "readout" in kinds else {},
            **{k: run[k] for k in ("model", "train", "data_hash", "split_hash", "versions", "normaliser")}}


def refuse_others(path, results, new):
    "Don't mix results of two settings, or of two splits for one test, in one file."
    def kind(r):
        uneven = np.ptp(r.get("shares", [0])) > 0.01  # older results are of probabilities that nothing was divided by
        return (uneven, from_json(ModelSettings, json.dumps(r["model"])), r["train"]["normalise"],
                r["train"].get("crop", 0), r["self_training"], r.get("kinds", {"voices": r["members"]}),
                r.get("readout", {}))
    for r in results:
        if kind(r) != kind(new) or r["speaker"] == new["speaker"] not in KNOWN and r["split_hash"] != new["split_hash"]:
            raise SystemExit(f"{path} holds results of other settings or another split: move it away, or give --out")


def write(path, results):
    "All results, whole or not at all."
    with replace_file(path) as f: Path(f).write_text(json.dumps(results))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tess", default="data/tess")
    p.add_argument("--emodb", default="data/emodb")
    p.add_argument("--own", default="data/own", help="another corpus, for the tasks own-blind and own-adapted")
    p.add_argument("--folds", type=int, default=0, help="test on so many groups of speakers; 0: on each by itself")
    p.add_argument("--tasks", default="tess-blind,tess-adapted")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--members", type=int, default=3)
    p.add_argument("--variant", default="", choices=["", *VARIANTS], help="one thing changed, without self-training")
    p.add_argument("--speakers", default="", help="only these are tested, with commas between")
    p.add_argument("--features", default="data", help="folder for the feature folders")
    p.add_argument("--jobs", type=int, default=-1)
    p.add_argument("--out", default=str(HERE / "results" / "unseen"))
    options = p.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    for task in options.tasks.split(","):
        name, track = TASKS[task]
        features = features_of(name, options)
        path = Path(options.out) / f"{task}{'--' * bool(options.variant)}{options.variant}.json"
        results = json.loads(path.read_text()) if path.exists() else []
        tests = tests_of(features, task, options)
        for seed in range(options.seeds):
            for speaker in tests:
                if options.speakers and speaker not in options.speakers.split(","): continue
                if any((r["speaker"], r["seed"]) == (speaker, seed) for r in results): continue
                with TemporaryDirectory() as folder: new = one(features, speaker, track, seed, options, folder)
                refuse_others(path, results, new)
                results.append({**new, "tests": len(tests)})
                write(path, results)
                print(task, speaker, seed, "seconds", results[-1]["seconds"], flush=True)


if __name__ == "__main__":
    main()
