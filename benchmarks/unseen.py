"""How well a new voice is understood: the figures of 07_unseen_voices, made again.

    python benchmarks/unseen.py --tess data/tess [--emodb data/emodb] [--tasks tess-blind,tess-adapted] [--seeds 5]
    python benchmarks/unseen.py --tasks emodb-adapted --speakers 03,08,09,10,11 --variant no-voices
    python benchmarks/unseen.py --tasks own-blind,own-adapted --own data/ravdess --folds 5
    python benchmarks/unseen.py --tasks tess-known --seeds 1
    python benchmarks/unseen.py --default --tasks ravdess-blind,emovo-blind,emodb-blind,foreign-emovo

With --default it asks what commands train by default, a pretrained encoder beside untrained networks, and the results
go to TASK-default.json; without it the networks are trained as --encoder none trains them. One seed is the mean of several members, and where speakers are many of as many again of the other kind. Each test is
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
from ser_nb.unseen import kinds_for, member_probabilities, self_train, shares_of, train_default, train_ensemble

HERE = Path(__file__).parent
TASKS = {"tess-blind": ("tess", "blind"), "tess-adapted": ("tess", "adapted"), "tess-scaled": ("tess", "scaled"),
         "both-blind": ("both", "blind"), "both-adapted": ("both", "adapted"),
         "emodb-blind": ("emodb", "blind"), "emodb-adapted": ("emodb", "adapted"),
         "own-blind": ("own", "blind"), "own-adapted": ("own", "adapted"),
         "ravdess-blind": ("ravdess", "blind"), "ravdess-adapted": ("ravdess", "adapted"),
         "emovo-blind": ("emovo", "blind"), "emovo-adapted": ("emovo", "adapted"),
         "all-blind": ("tess+emodb+ravdess", "blind"),
         "foreign-tess": ("emodb+ravdess+tess", "blind"), "foreign-emovo": ("emodb+ravdess+emovo", "blind"),
         "tess-known": ("tess", "blind")}  # no new speaker: a random split, and unseen words
KNOWN = ("random", "words")
FOLDS = {"ravdess": 5}
VARIANTS = {"no-voices": {"training": {"voices": 0.0, "n_buckets": 4}}, "full-voices": {"training": {"voices": 1.0}},
            "no-readout": {"kinds": ("voices",)}, "readout": {"kinds": ("readout",)},
            "no-wide-bands": {"readout": {"wide": 0}}, "wide-bands": {"network": {"wide": 8}},
            "no-pitch": {"frames": {"pitch": False}},
            "mean-pooling": {"network": {"pooling": "mean"}},
            "no-convolution": {"network": {"conv": 0}}}


def features_of(name, options):
    "The features of a task. Of several corpora the emotions stay that are in the one that is asked about."
    names = {"both": "tess+emodb"}.get(name, name).split("+")
    corpus = load_corpus([getattr(options, n) for n in names] if len(names) > 1 else getattr(options, name))
    if len(names) > 1:
        asked = names[-1] if names[0] != "tess" else "tess"
        corpus = corpus[corpus["emotion"].isin(set(corpus["emotion"][corpus["corpus"] == asked]))]
    used = replace(VOICE_FRAMES, **VARIANTS.get(options.variant, {}).get("frames", {}))
    used = replace(used, encoder="ge2e") if options.default else used
    folder = f"voices_{name}{'' if replace(used, encoder='none') == VOICE_FRAMES else '_' + options.variant}"
    return extract(corpus.reset_index(drop=True), Path(options.features) / f"{folder}{'_heard' * options.default}", used,
                   jobs=options.jobs)


def split_of(features, speakers, seed):
    "Train on all speakers but these. Where texts are few, losing one to watch the training would cost too much."
    if speakers[0] in KNOWN: return make_split(features.index, *speakers, seed=seed)
    many = features.index["text"].nunique() >= 50
    return split_speakers(features.index, speakers, val=0.05, seed=0, val_by="text" if many else "clip")


def tests_of(features, task, options):
    "The speakers who are asked in turn, one by one or in groups."
    if task == "tess-known": return list(KNOWN)
    name, folds = TASKS[task][0], options.folds or FOLDS.get(TASKS[task][0], 0)
    first, *others = name.replace("both", "tess+emodb").split("+")
    asked = np.ones(len(features), bool)
    if others: asked = features.index["corpus"] == (first if first == "tess" else others[-1])
    who = sorted(set(features.index["speaker"][asked]))
    if task.startswith("foreign"): folds = 1
    if folds: who = ["+".join(who[i::folds]) for i in range(folds)]
    return who


def trained(features, split, track, seed, options, folder):
    "Members by kind."
    change, seeds = VARIANTS.get(options.variant, {}), range(seed * options.members, (seed + 1) * options.members)
    if options.default:
        members = train_default(features, split, folder, track, seed)
        kinds = [m.name.split("-")[0] for m in members]
        return {kind: [m for m in members if m.name.startswith(kind)] for kind in dict.fromkeys(kinds)}
    kinds = change.get("kinds") or kinds_for(split["speaker"][split["part"] == "train"])
    networks = {"voices": change.get("network", {}), "readout": change.get("readout", {})}
    members = train_ensemble(features, split, folder, track, seeds, kinds, networks, change.get("training", {}))
    return {kind: members[i * len(seeds):(i + 1) * len(seeds)] for i, kind in enumerate(kinds)}


def one(features, speaker, track, seed, options, folder):
    "Train on the others, ask about this speaker, or those with a + between."
    start = time.perf_counter()
    split = split_of(features, speaker.split("+"), seed)
    rows, classes = part_rows(features, split, "test"), class_names(split)
    truth = label_ids(features.index["emotion"].iloc[rows], classes)
    by_kind = trained(features, split, track, seed, options, folder)
    members = [m for same in by_kind.values() for m in same]
    said = member_probabilities(members, features, rows)
    kinds = np.repeat(list(by_kind), [len(same) for same in by_kind.values()])
    mean = np.average(said, 0, shares_of(members))
    learns = track != "blind" and not options.variant
    stages = self_train(members, features, split) if learns else mean[None]
    run = read_run(members[0])
    return {"speaker": speaker, "seed": seed, "members": options.members, "classes": list(classes),
            "kinds": {kind: len(same) for kind, same in by_kind.items()},
            "shares": learnt_shares(members[0]).round(4).tolist(), "truth": truth.tolist(),
            "members_uar": [val_scores(p, truth)["val_uar"] for p in said],
            "averaged": val_scores(mean, truth)["val_uar"],
            "by_kind": {kind: said[kinds == kind].mean(0).argmax(1).tolist() for kind in by_kind},
            "stages": [val_scores(p, truth)["val_uar"] for p in stages],
            "answer": mean.argmax(1).tolist(), "final": stages[-1].argmax(1).tolist(),
            "self_training": {k: v.default for k, v in inspect.signature(self_train).parameters.items()
                              if v.default is not v.empty},
            "seconds": round(time.perf_counter() - start, 1),
            "readout": read_run(members[-1])["model"] if "readout" in by_kind else {},
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
    p.add_argument("--ravdess", default="data/ravdess")
    p.add_argument("--emovo", default="data/emovo")
    p.add_argument("--default", action="store_true", help="what commands train by default, with the encoder")
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
        path = Path(options.out) / f"{task}{'-default' * options.default}{'--' * bool(options.variant)}{options.variant}.json"
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
