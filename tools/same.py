"""Say whether the code still gives the results that it gave before: features, splits, training, judging, prediction.

    python tools/same.py --record before.json           # with the code as it was
    python tools/same.py --check before.json            # with the code as it is

The recorded results of 4035acd lie in tools/same.json. Bytes that depend on the processor or on a library's version
(frames, weights, predictions) can be compared only where these are the same. Elsewhere record anew with the old code:

    git worktree add ../before 4035acd
    python tools/same.py --code ../before --record before.json && python tools/same.py --check before.json

Everything runs on one thread. The demo corpus is made on the spot; TESS is looked at where it lies in data/tess.
"""
import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NPROC": "1",
              "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
              "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "2"}
PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "soundfile", "soxr", "keras", "jax", "jaxlib", "h5py", "onnx",
            "onnxruntime")
SETTINGS = ("corpus", "synthetic", "protocol", "fold", "labels", "clips", "test_speakers", "audit", "features", "model",
            "train")  # of run.json: what no processor has a say in
WORDS = 80  # of TESS


class Record:
    "Results under readable names: those that hold anywhere, and those of one processor and one set of versions."

    def __init__(self):
        self.anywhere, self.here, self.start = {}, {}, time.perf_counter()

    def put(self, name, here=None, anywhere=None):
        "Note a result, or the two halves of one."
        for kind, value in ((self.here, here), (self.anywhere, anywhere)):
            if value is not None:
                assert name not in kind, f"{name} twice"
                kind[name] = brief(value)
        print(f"{time.perf_counter() - self.start:6.1f} s  {name}", file=sys.stderr)


def digest(value) -> str:
    "A short hash of bytes, text, arrays, or whatever json can hold."
    import numpy as np

    if isinstance(value, np.ndarray):
        value = f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if not isinstance(value, (bytes, str)):
        value = json.dumps(value, sort_keys=True)
    return "sha256:" + hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()[:32]


def brief(value):
    "A value as it is recorded: dicts key by key, since they may get further keys; what is long as its hash."
    if isinstance(value, dict):
        return {str(k): brief(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, dict) for v in value):
        return [brief(v) for v in value]
    plain = isinstance(value, (str, int, float, bool, list, tuple, type(None)))
    return value if plain and len(json.dumps(value)) <= 300 else digest(value)


def differences(old, new, name="") -> list:
    "Where a recorded value is another one now; what is new is no difference."
    if isinstance(old, dict) and isinstance(new, dict):
        inner = {k: f"{name}.{k}" if name else k for k in old}
        return [d for k, v in old.items() for d in differences(v, new.get(k, "(missing)"), inner[k])]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and old and isinstance(old[0], dict):
        return [d for i, v in enumerate(old) for d in differences(v, new[i], f"{name}.{i}")]
    change = " -> ".join(json.dumps(value)[:200] for value in (old, new))
    return [] if json.dumps(old) == json.dumps(new) else [f"{name}: {change}" if name else change]


def made_with() -> dict:
    "The processor and the versions that bytes depend on."
    import soundfile

    facts = dict(line.split(":", 1) for line in _lines("/proc/cpuinfo") if ":" in line)
    facts = {k.strip(): v.strip() for k, v in facts.items()}
    cpu = [facts.get(k, "?") for k in ("model name", "cpu family", "model", "stepping")]
    found = {"cpu": " ".join(cpu), "cpu flags": digest(facts.get("flags", "?"))[:15], "system": platform.system(),
             "libc": "-".join(platform.libc_ver()), "python": platform.python_version(),
             "libsndfile": soundfile.__libsndfile_version__}
    return found | {name: _version(name) for name in PACKAGES}


def _version(name):
    "The version of a package, or none."
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _lines(path):
    "The lines of a file, none where it is not there."
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def commit(code) -> str:
    "The commit of the code that is looked at, with a + where it was changed since."
    told = [subprocess.run(["git", "-C", str(code), *words], capture_output=True, text=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "ser_nb"])]
    return (told[0] or "no commit") + "+" * bool(told[1])


def corpora(names, data, folder) -> dict:
    "The corpora that there are: name -> table."
    from ser_nb.data import demo, load_corpus

    found = {"demo": demo(folder / "demo", n_speakers=4, n_words=6)} if "demo" in names else {}
    if "tess" in names and (data / "tess").is_dir():
        tess = load_corpus(data / "tess")
        words = sorted(set(tess["text"]))[:WORDS]
        found["tess"] = tess[tess["text"].isin(words)].reset_index(drop=True)
    return found


def look_at_table(record, name, corpus):
    "What the importer and the check say of the recordings."
    from ser_nb.data import check, file_sha256

    told = corpus[["clip", "emotion", "speaker", "text", "corpus"]].to_csv(index=False)
    hashes = [file_sha256(path) for path in corpus["path"]]
    record.put(f"{name}: corpus", anywhere={"clips": len(corpus), "table": digest(told)})
    record.put(f"{name}: recordings", **{"here" if name == "demo" else "anywhere": digest(hashes)})
    if name == "demo":
        record.put(f"{name}: check", here=check(corpus, jobs=1).to_csv(index=False))


def look_at_features(record, name, corpus, folder) -> dict:
    "Frames and index of both kinds of features."
    import numpy as np
    from ser_nb.features import VOICE_FRAMES, FeatureSettings, extract

    found = {}
    for kind, settings in (("voice", VOICE_FRAMES), ("all", FeatureSettings())):
        features = found[kind] = extract(corpus, folder / f"features-{name}-{kind}", settings, jobs=1)
        index = features.index
        told = index[["clip", "emotion", "speaker", "text", "corpus"]].to_csv(index=False)
        sizes = index[["clip", "sha256", "duration", "n_frames", "shard", "start"]].to_csv(index=False)
        record.put(f"{name}: {kind} features", here={"index": digest(sizes), "data_hash": features.data_hash},
                   anywhere={"settings": json.loads(settings.to_json()), "hash": settings.hash,
                             "names": digest(settings.names),
                             "families": {k: [c.start, c.stop] for k, c in settings.families.items()},
                             "index": digest(told), "rejected": len(features.rejected)})
        record.put(f"{name}: {kind} frames", here=digest(np.concatenate([features[i] for i in range(len(features))])))
    return found


def look_at_splits(record, name, table) -> dict:
    "The splits of each protocol, and the folds, with what the audit says."
    from ser_nb.dataset import audit, kfold, leave_one_speaker_out, split_hash, verdict
    from ser_nb.train import make_split

    found = {protocol: make_split(table, protocol) for protocol in ("random", "words", "speakers")}
    for protocol, split in found.items():
        whole, parts, told = (t.to_csv(index=False) for t in (split, split.drop(columns="sha256"), audit(split)))
        record.put(f"{name}: {protocol} split", here={"csv": digest(whole), "hash": split_hash(split)},
                   anywhere={"csv": digest(parts), "verdict": verdict(split), "audit": digest(told)})
    folds = {"folds": kfold(table, 3), "folds by text": kfold(table, 3, by="text"),
             "folds by speaker": kfold(table, 2, by="speaker"), "one speaker out": leave_one_speaker_out(table)}
    for kind, splits in folds.items():
        texts = [split.drop(columns="sha256").to_csv(index=False) for split in splits]
        record.put(f"{name}: {kind}", anywhere=digest(texts))
    return found


def look_at_batches(record, features, split):
    "Scales of each mode, and what an epoch of training is shown."
    from dataclasses import replace

    from ser_nb.dataset import MODES, Normaliser, class_names, label_ids, part_rows, train_batches
    from ser_nb.train import TrainSettings, change_clips, train_buckets

    rows, labels = part_rows(features, split, "train"), class_names(split)
    y = label_ids(features.index["emotion"].iloc[rows], labels)
    scales = {mode: Normaliser.fit(features, rows, mode) for mode in MODES}
    for mode, scale in scales.items():
        record.put(f"demo: scale {mode}", here={"json": digest(scale.to_json()), "note": scale.note})
    plain = TrainSettings(normalise="level")
    for kind, s in {"masked": plain, "of other voices": replace(plain, voices=0.5, crop=100),
                    "of one speaker each": replace(plain, sampling="speaker", normalise="speaker", voices=0.5),
                    "balanced": replace(plain, sampling="balanced", time_masks=0, feature_masks=0)}.items():
        batches = train_batches(features, rows, y, scales[s.normalise], batch_size=16, seed=1, epoch=2,
                                buckets=train_buckets(features, rows, s), sampling=s.sampling,
                                augment=change_clips(features, s))
        record.put(f"demo: batches {kind}", here=digest([[digest(part) for part in batch] for batch in batches]))


def look_at_sound(record, corpus):
    "A clip, spoilt in every way that the model card knows."
    import numpy as np
    from ser_nb.data import load_audio
    from ser_nb.trust import DEGRADATIONS, can_do

    (y, sr), *others = [load_audio(path, 16000) for path in corpus["path"].iloc[:9]]
    for name in sorted(set(DEGRADATIONS) & set(can_do())):
        d, voices = DEGRADATIONS[name], [x for x, _ in others]
        spoilt = [d.apply(y, sr, level, np.random.default_rng(1), voices) for level in d.levels]
        record.put(f"demo: spoilt by {name}", here=digest([digest(x) for x in spoilt]))


def plans(name, features, splits) -> dict:
    "The runs that are trained: name -> features, split, network and training."
    from ser_nb.features import pick_families
    from ser_nb.train import command_settings

    small = {"units": (12, 8), "dense": 8}
    asked = {"classic": ("all", "words", True, small, {"epochs": 2}),
             "ensemble": ("voice", "random" if name == "demo" else "speakers", False, {}, {"epochs": 2})}
    if name == "demo":
        asked["adapted"] = ("voice", "speakers", False, {"speaker_norm": True, "units": (8,), "conv": 8},
                            {"epochs": 2, "normalise": "speaker", "sampling": "speaker", "members": 1})
    found = {}
    for kind, (frames, protocol, classic, network, training) in asked.items():
        settings, *how = command_settings(features[frames].settings, classic, network, training)
        found[kind] = (pick_families(features[frames], settings), splits[protocol], *how)
    return found


def look_at_run(record, name, features, split, network, training, folder):
    "Train, and look at all that training leaves."
    import numpy as np
    from ser_nb.model import named_weights
    from ser_nb.train import load_run, train

    train(features, split, folder, network, training, progress=False)
    run = json.loads((folder / "run.json").read_text())
    record.put(f"{name}: run.json", here={k: v for k, v in run.items() if k not in ("versions", *SETTINGS)},
               anywhere={k: run[k] for k in SETTINGS})
    for file in ("normaliser.json", "reference.json", "calibration.json"):
        value = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        record.put(f"{name}: {file}", here={k: v for k, v in value.items() if k != "weights"})  # of the hdf5's bytes
    histories = {path.parent.name: digest(path.read_bytes()) for path in sorted(folder.glob("members/*/history.csv"))}
    record.put(f"{name}: history.csv", here={"run": digest((folder / "history.csv").read_bytes()), **histories})
    weights = named_weights(load_run(folder)[0])
    weights = {layer: [digest(np.asarray(w)) for w in of] for layer, of in weights.items()}
    record.put(f"{name}: best weights", here={"layers": len(weights), "all": digest(weights)})
    record.put(f"{name}: model.onnx", here=digest(graph_of(folder / "model.onnx")))
    record.put(f"{name}: split.csv", here=digest((folder / "split.csv").read_bytes()))


def graph_of(path) -> bytes:
    "A network for onnxruntime without the facts beside it, which name versions."
    from onnx import ModelProto

    model = ModelProto.FromString(Path(path).read_bytes())
    model.ClearField("metadata_props")
    return model.SerializeToString()


def look_at_answers(record, name, features, folder):
    "What the run says: its report, and as a recogniser."
    from ser_nb.evaluate import read_predictions, report
    from ser_nb.predict import Recognizer

    found = report(folder, features)
    single = {k: v for k, v in found.items() if isinstance(v, (int, float, str))}
    tables = {k: digest(found[k]) for k in ("interval", "per_class", "per_speaker", "confusion")}
    clips = digest(read_predictions(folder).drop(columns="path").to_csv(index=False))
    record.put(f"{name}: report", here={**single, **tables, "clips": clips})
    paths = features.index["path"].tolist()
    paths = paths[::len(paths) // 10][:10]
    recognizer = Recognizer.load(folder)
    if recognizer.normaliser.mode == "speaker":
        recognizer = recognizer.adapt(paths)
    rows = [{**row, "name": Path(row["name"]).name} for row in recognizer.predict_many(paths, jobs=1).rows()]
    record.put(f"{name}: predictions", here={"clips": digest(rows), "labels": [row["label"] for row in rows],
                                             "warnings": sum(bool(row["warnings"]) for row in rows)})
    return recognizer, paths


def look_at_more(record, features, folder, recognizer, paths, temporary):
    "A timeline along several clips, and the figures of the model card."
    import numpy as np
    import soundfile as sf
    from ser_nb.data import load_audio
    from ser_nb.trust import gather

    sf.write(temporary / "long.wav", np.concatenate([load_audio(path, 16000)[0] for path in paths]), 16000)
    rows = recognizer.timeline(temporary / "long.wav", 1.5, 0.5).rows()
    record.put("demo: timeline", here={"windows": len(rows), "rows": digest([{**row, "name": ""} for row in rows])})
    facts, tables, _ = gather(folder, features, max_clips=7)
    for name, table in tables.items():
        record.put(f"demo: card, {name}", here=digest(table.to_csv(index=False)))
    record.put("demo: card, facts", here={k: digest(facts[k]) for k in ("figures", "on_part", "gaps", "licences")})


def look(names, data) -> Record:
    "Everything, once."
    record = Record()
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        for name, corpus in corpora(names, data, temporary).items():
            look_at_table(record, name, corpus)
            features = look_at_features(record, name, corpus, temporary)
            splits = look_at_splits(record, name, features["voice"].index)
            if name == "demo":
                look_at_batches(record, features["voice"], splits["random"])
                look_at_sound(record, corpus)
            for kind, (frames, split, *how) in plans(name, features, splits).items():
                run, folder = f"{name}, {kind}", temporary / f"{name}-{kind}"
                look_at_run(record, run, frames, split, *how, folder)
                recognizer, paths = look_at_answers(record, run, frames, folder)
                if run == "demo, classic":
                    look_at_more(record, frames, folder, recognizer, paths, temporary)
    return record


def corpus_of(name) -> str:
    "The corpus that a result belongs to."
    return name.split(":")[0].split(",")[0]


def write(path, told: dict):
    "Write the record, one line a name."
    lines = [f' "{key}": ' + (json.dumps(value) if not isinstance(value, dict) else
             "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }")
             for key, value in told.items()]
    Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def compare(old: dict, new: dict) -> int:
    "Say of each name whether it is the same; 1 if any is not."
    odd = differences(old["made_with"], new["made_with"])
    if odd:
        print("\n".join(["Recorded on another processor or with other versions:", *(f"  {line}" for line in odd),
                         "Bytes of sound, frames, weights and predictions can't be expected to be the same, and are "
                         "not compared; the rest is. To compare all, record anew with the old code (see --help)."]))
    names = [name for name in {**old["anywhere"], **old["here"]} if corpus_of(name) in new["corpora"]]
    kinds = ["anywhere"] if odd else ["anywhere", "here"]
    names = [name for name in names if any(name in old[kind] for kind in kinds)]
    wrong = 0
    for name in names:
        found = [line for kind in kinds if name in old[kind]
                 for line in differences(old[kind][name], new[kind].get(name, "(missing)"))]
        wrong += bool(found)
        print("\n".join([f"{'DIFFERENT' if found else 'same':<9}  {name}", *(f"{'':11}{line}" for line in found)]))
    left = [name for name in old["corpora"] if name not in new["corpora"]]
    print(f"{old['commit']} and {new['commit']}: {len(names) - wrong} of {len(names)} results are the same"
          + (f"; {', '.join(left)} not looked at" if left else ""))
    return int(wrong > 0 or not names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", metavar="FILE", help="write the results of the code as it is")
    what.add_argument("--check", metavar="FILE", help="compare with a record; exit code 1 where something differs")
    parser.add_argument("--corpora", default="demo,tess", help="demo, tess or both with a comma between")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder that has tess in it")
    parser.add_argument("--code", type=Path, default=ROOT, help="folder whose ser_nb is looked at")
    args = parser.parse_args()
    names = args.corpora.split(",")
    if set(names) - {"demo", "tess"}:
        parser.error(f"--corpora {args.corpora}: must be demo, tess or both")
    old = json.loads(Path(args.check).read_text(encoding="utf-8")) if args.check else None
    os.environ.update(ONE_THREAD)
    sys.path.insert(0, str(args.code.resolve()))
    warnings.simplefilter("ignore")
    record = look(names, args.data)
    done = sorted({corpus_of(name) for name in record.anywhere})
    new = {"commit": commit(args.code), "corpora": done, "made_with": made_with(),
           "anywhere": record.anywhere, "here": record.here}
    if args.record:
        write(args.record, new)
    else:
        sys.exit(compare(old, json.loads(json.dumps(new))))


if __name__ == "__main__":
    main()
