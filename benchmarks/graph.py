"""One graph from sound to answer beside `Recognizer`: 1,000 real clips, time, and memory.

    python benchmarks/graph.py --data data/emodb data/ravdess [--run RUN ...] [--out benchmarks/results/graph.json]

Each run (without --run the recogniser in the box) becomes a graph. Both answer the same clips, in turns; times are seconds of one
core, of the process alone. Memory is the peak of a process that loads the graph and hears so many minutes, in one call or in
windows of 2.5 s. Takes two minutes for each run on a free core.
"""
import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

from ser_nb.lib.audio import audio_files, load_audio  # noqa: E402
from ser_nb.lib.graph import drawn_voice, sound_graph  # noqa: E402
from ser_nb.predict import BUNDLED, Recognizer  # noqa: E402


def session_of(data):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def timed(function, *args):
    began = time.process_time()
    return function(*args), time.process_time() - began


def clips_of(folders, n, rate):
    "Samples of about n clips, as many of each folder."
    for folder in folders:
        paths, each = sorted(audio_files(folder)), n // len(folders)
        for k in np.linspace(0, len(paths) - 1, min(each, len(paths))).astype(int):
            yield load_audio(paths[k], rate)[0]


def compared(run, folders, n):
    "How far a graph is from Python, and how long both take."
    r = Recognizer.load(run)
    model = sound_graph(r)
    data = model.SerializeToString()
    session, opening = timed(session_of, data)
    off, flips, seconds, lengths = [], 0, [], []
    for y in clips_of(folders, n, r.settings.sr):
        p, by_python = timed(lambda: np.array(list(r.predict(y).probabilities.values())))
        q, by_graph = timed(lambda: session.run(None, {"samples": y})[0])
        off.append(float(np.abs(p - q).max()))
        flips += int(p.argmax() != q.argmax())
        seconds.append((by_python, by_graph))
        lengths.append(len(y) / r.settings.sr)
    python, graph = np.median(seconds, axis=0)
    return {"run": Path(run).name, "families": list(r.settings.families), "clips": len(off), "seconds_a_clip": float(np.median(lengths)),
            "worst": max(off), "99_%": float(np.quantile(off, 0.99)), "other_best": flips, "ms_python": 1e3 * float(python),
            "ms_graph": 1e3 * float(graph), "ms_opening": 1e3 * opening, "nodes": len(model.graph.node), "bytes": len(data)}


def hear(path, minutes, window):
    "Peak memory in MB of this process after hearing so many minutes."
    session, rate, piece = session_of(Path(path).read_bytes()), 16000, drawn_voice(10, 16000)
    if window:
        size = round(window * rate)
        for k in range(0, int(minutes * 60 * rate) - size + 1, size // 2):
            session.run(None, {"samples": np.roll(piece, -k % len(piece))[:size]})
    else:
        session.run(None, {"samples": np.resize(piece, round(60 * minutes * rate))})
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(run, folder):
    "Peak memory in MB, of several lengths."
    path = Path(folder) / "graph.onnx"
    path.write_bytes(sound_graph(Recognizer.load(run)).SerializeToString())
    found = {}
    for name, minutes, window in (("2.5 s", 1 / 24, 0), ("1 min, one call", 1, 0), ("5 min, one call", 5, 0), ("an hour in windows of 2.5 s", 60, 2.5)):
        words = [sys.executable, __file__, "--hear", str(path), str(minutes), str(window)]
        found[name] = round(float(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+")
    parser.add_argument("--run", nargs="+", default=[BUNDLED])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "graph.json"))
    parser.add_argument("--hear", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hear:
        return hear(args.hear[0], *map(float, args.hear[1:]))
    with tempfile.TemporaryDirectory() as folder:
        peaks = memory(args.run[0], folder)
    found = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "onnxruntime": ort.__version__, "data": [Path(d).name for d in args.data],
             "runs": [compared(run, args.data, args.clips) for run in args.run], "peak_mb": peaks}
    Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
