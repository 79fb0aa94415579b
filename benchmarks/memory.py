"""Whether memory stays flat: peak memory of extraction and of training, for TESS and for a corpus 20 times its size.

    python benchmarks/memory.py --data_dir data/tess --work_dir /tmp/memory

The large corpus is made of perturbed copies: another gain, start and noise. It takes 4 GB of disk for the clips, 4 GB for
the features, and some ten minutes. Writes benchmarks/results/memory.json.
"""
import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import soundfile as sf
from joblib import Parallel, delayed
from tqdm import tqdm

from ser_nb.data import load_audio, load_corpus, replace_file

from features import machine


def perturbed(y, draw):
    "A clip with another gain, another start and some noise."
    y = y[draw.integers(0, 800) :] * 10 ** (draw.uniform(-12, 0) / 20)
    return y + 1e-4 * draw.standard_normal(len(y)).astype(np.float32)


def copies(row, times, folder):
    "Write the copies of one clip, and return their rows."
    y, sr = load_audio(row["path"], 16000)
    rows = []
    for k in range(times):
        path = folder / f"{k:02}" / f"{row['clip']}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, perturbed(y, np.random.default_rng([k, len(y)])), sr)
        rows.append({**{name: row[name] for name in ("emotion", "speaker", "text")}, "path": str(path)})
    return rows


def large_corpus(corpus, times, folder):
    "A csv of `times` perturbed copies of each clip."
    made = Parallel(n_jobs=-1, return_as="generator")(delayed(copies)(row, times, folder)
                                                       for row in corpus.to_dict("records"))
    rows = [row for rows in tqdm(made, total=len(corpus), desc="copies", disable=None) for row in rows]
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


def peak(command):
    "Seconds, and the peak of the memory in MB of a command's processes together (proportional set size)."
    start, most = time.perf_counter(), 0
    process = psutil.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        used = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                used += one.memory_full_info().pss
            except psutil.Error:
                pass
        most = max(most, used)
        time.sleep(0.2)
    if process.returncode:
        sys.exit(process.stderr.read())
    return {"peak MB": most / 2**20, "seconds": time.perf_counter() - start}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data/tess", help="recordings, as load_corpus takes them")
    parser.add_argument("--work_dir", default="runs/memory", help="folder for the copies and features; removed at the end")
    parser.add_argument("--times", type=int, default=20, help="how often each clip is repeated")
    parser.add_argument("--out", default="benchmarks/results/memory.json", help="json file to write")
    args = parser.parse_args()
    work, corpus, found = Path(args.work_dir), load_corpus(args.data_dir), {}
    sources = {"once": args.data_dir, f"{args.times} times": str(large_corpus(corpus, args.times, work / "clips"))}
    for name, source in sources.items():
        features = str(work / name.replace(" ", "_"))
        found[name] = {
            "clips": len(load_corpus(source)),
            "extraction": peak(["ser_nb.features", "--data_dir", source, "--out_dir", features, "--jobs", "2"]),
            "training, one epoch": peak(["ser_nb.train", "--features", features, "--epochs", "1",
                                         "--model_out", f"{features}_run"])}
        print(name, json.dumps(found[name], indent=1), flush=True)
    once, many = found.values()
    found["ratios"] = {step: many[step]["peak MB"] / once[step]["peak MB"] for step in ("extraction", "training, one epoch")}
    found["machine"] = machine()
    print(json.dumps(found["ratios"], indent=1))
    with replace_file(Path(args.out)) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
