"""One clip cold and warm, a folder, and memory: ser_nb beside keras with librosa's features, and beside pyAudioAnalysis.

    python benchmarks/predict.py --data data/tess [--run RUN] [--peer PYTHON] [--out benchmarks/results/predict.json]

All sides answer from the same files, in turns, in one run. RUN is a run folder; without one a network of the default size is
trained for one epoch, which is enough to measure time. PYTHON is an interpreter that has pyAudioAnalysis (pip install
pyAudioAnalysis imbalanced-learn hmmlearn eyed3 pydub plotly simplejson): its own SVM is trained on some of the clips with its own
function. Without it that side is left out. Takes under 3 minutes on 2 cores.

    python benchmarks/predict.py --many 10000 --data data/tess [--out benchmarks/results/many.json]

The bundled recogniser on many short files: one thread against two, in turns, on the same files; then the command on a folder of
that many links to them, from its start to its last line.
"""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDES = {"ser_nb": "ser_nb", "keras": "keras.predict + librosa", "peer": "pyAudioAnalysis"}


def peak():
    "Largest memory of this process in MB."
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024


def ser_nb_side(run, _):
    from ser_nb.predict import Recognizer
    recognizer = Recognizer.load(run)
    return recognizer.predict, lambda clips: recognizer.predict_many(clips, progress=False)


def keras_side(run, _):
    "What a user writes: librosa's own functions, then keras' predict."
    import json as j

    import librosa
    import numpy as np

    from ser_nb.dataset import pad_clips
    from ser_nb.train import load_run
    model, described, _ = load_run(run)
    s, width = described["features"], {i.name: i.shape[-1] for i in model.inputs}["frames"]
    longest = j.loads((Path(run) / "reference.json").read_text())["max_frames"]

    def frames(path):
        y, sr = librosa.load(path, sr=s["sr"])
        y, _ = librosa.effects.trim(y, top_db=s["top_db"])
        same = {"n_fft": s["n_fft"], "hop_length": s["hop_length"]}
        mel = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr, n_mels=s["n_mels"], **same))
        mfcc = librosa.feature.mfcc(y=y, sr=sr, n_mfcc=s["n_mfcc"], n_mels=s["n_mels"], **same)
        chroma = librosa.feature.chroma_stft(y=y, sr=sr, tuning=0.0, **same)
        parts = [mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2), mel, chroma,
                 librosa.feature.spectral_contrast(y=y, sr=sr, **same), librosa.feature.tonnetz(chroma=chroma),
                 librosa.feature.rms(y=y, frame_length=s["n_fft"], hop_length=s["hop_length"]),
                 librosa.feature.zero_crossing_rate(y, frame_length=s["n_fft"], hop_length=s["hop_length"])]
        x = np.concatenate(parts).T
        return np.pad(x, ((0, 0), (0, max(0, width - x.shape[1]))))[:longest, :width].astype("float32")

    def many(clips):
        x, mask = pad_clips([frames(c) for c in clips], longest)
        return model.predict({"frames": x, "mask": mask}, batch_size=32, verbose=0)

    return lambda clip: many([clip]), many


def peer_side(_, model):
    from pyAudioAnalysis import audioTrainTest as tool

    def one(clip): return tool.file_classification(str(clip), model, "svm_rbf")
    return one, lambda clips: [one(c) for c in clips]


def train_peer(clips, out):
    "pyAudioAnalysis' own training: a folder a class, mid-term statistics of 34 short-term features, an SVM."
    import shutil

    from pyAudioAnalysis import audioTrainTest as tool
    folders = {}
    for c in clips:
        folder = Path(out) / "classes" / Path(c).stem.split("_")[-1]
        folder.mkdir(parents=True, exist_ok=True)
        folders[str(folder)] = shutil.copy(c, folder)
    tool.extract_features_and_train(sorted(folders), 1.0, 1.0, 0.05, 0.05, "svm_rbf", str(Path(out) / "svm"))


def side(name, run, model, clips, job):
    "Run in a process of its own; prints what was measured as json on the last line."
    one, many = {"ser_nb": ser_nb_side, "keras": keras_side, "peer": peer_side}[name](run, model)
    found = {}
    if job == "cold": one(clips[0])
    else:
        many(clips[: 32 + len(clips) % 32]), one(clips[0])  # every shape of batch once, so that nothing is compiled below
        laps = []
        for c in clips[:40]:
            start = time.perf_counter()
            one(c)
            laps.append(time.perf_counter() - start)
        start = time.perf_counter()
        many(clips)
        found = {"warm_ms": 1e3 * statistics.median(laps), "clips_per_s": len(clips) / (time.perf_counter() - start)}
    print(json.dumps({**found, "megabytes": peak()}))


def measure(name, job, run, model, clips, python):
    command = [python, __file__, "--side", name, "--job", job, "--run", str(run), "--model", str(model), "--list", clips]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode: raise SystemExit(f"{name}: {done.stderr[-1500:]}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "seconds": seconds}


def trained(clips, folder):
    "A run of the default network."
    import pandas as pd

    from ser_nb.dataset import split_random
    from ser_nb.features import extract
    from ser_nb.model import ModelSettings
    from ser_nb.train import TrainSettings, train
    table = pd.DataFrame({"clip": [Path(c).stem for c in clips], "path": clips, "corpus": "benchmark", "text": "", "sex": "",
                          "emotion": [Path(c).stem.split("_")[-1] for c in clips], "speaker": "", "label": ""})
    features = extract(table, folder / "features")
    return train(features, split_random(features.index), folder / "run", ModelSettings(), TrainSettings(epochs=1), progress=False)


def facts():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    from importlib.metadata import version
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version(),
            "system": platform.platform(), "versions": {n: version(n) for n in ("numpy", "onnxruntime", "keras", "jax", "librosa")}}


def in_turns(recognizer, clips, rounds):
    "Clips a second by one thread and by two, and how many times faster the two are, in each round; the answers are the same."
    found = {1: [], 2: []}
    answers = {jobs: recognizer.predict_many(clips, jobs=jobs, progress=False) for jobs in found}  # warm
    assert answers[1] == answers[2]
    for k in range(rounds):
        for jobs in sorted(found, reverse=k % 2):
            start = time.perf_counter()
            recognizer.predict_many(clips, jobs=jobs, progress=False)
            found[jobs].append(len(clips) / (time.perf_counter() - start))
    return {"jobs_1": found[1], "jobs_2": found[2], "ratios": [b / a for a, b in zip(found[1], found[2])]}


def where_time_goes(recognizer, clips):
    "Milliseconds of one core for each clip: to read it, to compute its frames, to ask the network, and all the rest."
    from ser_nb.features import clip_features
    from ser_nb.lib.audio import load_audio
    spent = {"all": -time.process_time()}
    recognizer.predict_many(clips, jobs=1, progress=False)
    spent["all"] += time.process_time()
    for what, work, over in [("read", lambda c: load_audio(c, recognizer.settings.sr)[0], clips),
                             ("frames", lambda y: clip_features(y, recognizer.settings), None),
                             ("network", lambda x: recognizer.probabilities(x), None)]:
        if what != "read": over = made
        if what == "network": over = [made[i : i + 16] for i in range(0, len(made), 16)]
        start = time.process_time()
        made = [work(x) for x in over]
        spent[what] = time.process_time() - start
    spent["rest"] = spent["all"] - spent["read"] - spent["frames"] - spent["network"]
    return {what: 1e3 * seconds / len(clips) for what, seconds in spent.items()}


def many(a):
    from ser_nb.predict import BUNDLED, Recognizer
    clips = sorted(map(str, Path(a.data).resolve().rglob("*.wav")))
    if not clips: raise SystemExit(f"{a.data}: no wav files")
    some, recognizer = clips[:: max(1, len(clips) // a.clips)][: a.clips], Recognizer.load(a.run or BUNDLED)
    before = os.getloadavg()
    found = {"parts_ms": where_time_goes(recognizer, some), "clips": len(some), **in_turns(recognizer, some, a.rounds)}
    with tempfile.TemporaryDirectory() as tmp:
        for k in range(a.many): os.symlink(clips[k % len(clips)], Path(tmp, f"{k:06}.wav"))
        start = time.perf_counter()
        command = Path(sys.executable).parent / "ser_predict"
        done = subprocess.run([command, tmp, "--format", "csv", *(["--run", a.run] if a.run else [])], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode or len(done.stdout.splitlines()) != a.many + 1: raise SystemExit(done.stderr[-1500:])
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {**found, "ratio": statistics.median(found["ratios"]), "files": a.many, "seconds": seconds, "megabytes": peak_mb,
            "run": "the bundled recogniser" if not a.run else a.run, "machine": {**facts(), "load_before": before}}


def say_many(found):
    parts = ", ".join(f"{what} {ms:.1f}" for what, ms in found["parts_ms"].items())
    print(f"ms of a core for each clip: {parts}")
    print(f"one thread {statistics.median(found['jobs_1']):.0f} clips a second, two {statistics.median(found['jobs_2']):.0f}: "
          f"{found['ratio']:.2f} times ({min(found['ratios']):.2f} to {max(found['ratios']):.2f}), {found['clips']} clips")
    print(f"ser_predict on {found['files']:,} files: {found['seconds']:.1f} s, {found['megabytes']:.0f} MB")


def main(a):
    clips = sorted(map(str, Path(a.data).rglob("*.wav")))
    clips = clips[:: max(1, len(clips) // a.clips)][: a.clips]
    if not clips: raise SystemExit(f"{a.data}: no wav files")
    with tempfile.TemporaryDirectory() as tmp:
        tmp, before = Path(tmp), os.getloadavg()
        (tmp / "clips.json").write_text(json.dumps(clips))
        run = Path(a.run) if a.run else trained(clips, tmp)
        pythons = {"ser_nb": sys.executable, "keras": sys.executable}
        if a.peer:
            pythons["peer"] = a.peer
            done = subprocess.run([a.peer, __file__, "--train_peer", str(tmp), "--list", str(tmp / "clips.json")], capture_output=True, text=True)
            if done.returncode: raise SystemExit(f"peer: {done.stderr[-1500:]}")
        args = (run, tmp / "svm", str(tmp / "clips.json"))
        cold = {name: [measure(name, "cold", *args, python) for _ in range(1)] for name, python in pythons.items()}
        for _ in range(a.rounds):
            for name, python in pythons.items(): cold[name].append(measure(name, "cold", *args, python))
        command = [sys.executable, "-m", "ser_nb.predict", clips[0], "--run", str(run)]
        walls = []
        for _ in range(a.rounds):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            walls.append(time.perf_counter() - start)
        warm = {name: measure(name, "warm", *args, python) for name, python in pythons.items()}
    rows = {SIDES[n]: {"cold, s": statistics.median(r["seconds"] for r in cold[n][1:]), "cold, MB": cold[n][-1]["megabytes"],
                       "warm, ms": warm[n]["warm_ms"], "clips a second": warm[n]["clips_per_s"], "folder, MB": warm[n]["megabytes"]}
            for n in pythons}
    return {"clips": len(clips), "command_cold_s": statistics.median(walls), "sides": rows, "machine": {**facts(), "load_before": before}}


def show(found):
    rows = found["sides"]
    ours, columns = rows[SIDES["ser_nb"]], list(rows[SIDES["ser_nb"]])
    print(f"{'':26}" + "".join(f"{c:>24}" for c in columns))
    for name, row in rows.items():
        ratio = {c: ours[c] / row[c] if c == "clips a second" else row[c] / ours[c] for c in columns}
        print(f"{name:26}" + "".join(f"{row[c]:>14.2f} ({ratio[c]:6.1f}x)" for c in columns))
    print(f"ser_predict on one clip, cold: {found['command_cold_s']:.2f} s. (x: how many times better ser_nb is.) {found['clips']} clips, "
          f"{found['machine']['cpu']}, {found['machine']['cores']} cores, load {found['machine']['load'][0]:.1f}")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="data/tess")
    p.add_argument("--run", default="")
    p.add_argument("--peer", default="")
    p.add_argument("--clips", type=int, default=280)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--many", type=int, default=0)
    p.add_argument("--out", default="")
    for hidden in ("--side", "--job", "--model", "--list", "--train_peer"): p.add_argument(hidden, default="", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.side: side(a.side, a.run, a.model, json.loads(Path(a.list).read_text()), a.job)
    elif a.train_peer: train_peer(json.loads(Path(a.list).read_text()), a.train_peer)
    else:
        found = many(a) if a.many else main(a)
        (say_many if a.many else show)(found)
        out = Path(a.out or f"benchmarks/results/{'many' if a.many else 'predict'}.json")
        out.write_text(json.dumps(found, indent=1))
