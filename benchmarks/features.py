"""How long features take: this project, librosa, openSMILE and the bare Fourier transforms, in turns on the same
clips.

    python benchmarks/features.py --data_dir data/tess

Needs the bench extra. Prints tables, writes benchmarks/results/features.json, and takes some three minutes on two idle
cores.
"""
import os

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
os.environ.update({name: "1" for name in THREADS})

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import librosa
import numpy as np
import opensmile
import parselmouth
import scipy.fft

from ser_nb.data import load_audio, load_corpus, replace_file
from ser_nb.features import FeatureSettings, batch_features, clip_features, extract, frame, hann, pitch, trim

SETTINGS = FeatureSettings()
TEN_MS = FeatureSettings(hop_length=160)
STFT = dict(n_fft=SETTINGS.n_fft, hop_length=SETTINGS.hop_length)
SR = SETTINGS.sr


def librosa_trim(y):
    return librosa.effects.trim(y, top_db=SETTINGS.top_db, frame_length=SETTINGS.n_fft, hop_length=SETTINGS.hop_length)[0]


def librosa_common(y, mfcc):
    "What both recipes have in common."
    frames = dict(frame_length=SETTINGS.n_fft, hop_length=SETTINGS.hop_length)
    return [mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2),
            librosa.feature.rms(y=y, **frames), librosa.feature.zero_crossing_rate(y, **frames)]


def librosa_separate(y):
    "The recipe that is copied most: a call for each family, and tonnetz of the harmonic part."
    y = librosa_trim(y)
    mels = dict(y=y, sr=SR, n_mels=SETTINGS.n_mels, **STFT)
    return [*librosa_common(y, librosa.feature.mfcc(n_mfcc=SETTINGS.n_mfcc, **mels)),
            librosa.power_to_db(librosa.feature.melspectrogram(**mels)),
            librosa.feature.chroma_stft(y=y, sr=SR, **STFT), librosa.feature.spectral_contrast(y=y, sr=SR, **STFT),
            librosa.feature.tonnetz(y=librosa.effects.harmonic(y), sr=SR)]


def librosa_shared(y):
    "The best that librosa can do: one transform, no estimate of tuning, tonnetz from the chroma."
    y = librosa_trim(y)
    S = np.abs(librosa.stft(y, **STFT))
    power = S**2
    mel = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=SR, n_mels=SETTINGS.n_mels))
    chroma = librosa.feature.chroma_stft(S=power, sr=SR, tuning=0.0, n_fft=SETTINGS.n_fft)
    return [*librosa_common(y, librosa.feature.mfcc(S=mel, n_mfcc=SETTINGS.n_mfcc)), mel, chroma,
            librosa.feature.spectral_contrast(S=S, sr=SR), librosa.feature.tonnetz(chroma=chroma, sr=SR)]


def smile(feature_set):
    extractor = opensmile.Smile(feature_set=feature_set, feature_level=opensmile.FeatureLevel.LowLevelDescriptors)
    return lambda y: extractor.process_signal(y, SR)


def floor(y, transform, dtype):
    "The Fourier transforms that any of it is built on, and nothing else."
    frames = (frame(trim(y, SETTINGS), SETTINGS) * hann(SETTINGS.n_fft)).astype(dtype)
    start = time.perf_counter()
    transform(frames)
    return time.perf_counter() - start


def praat_pitch(y):
    parselmouth.Sound(y.astype(float), SR).to_pitch_ac(
        time_step=SETTINGS.hop_length / SR, pitch_floor=SETTINGS.f0_min, pitch_ceiling=SETTINGS.f0_max)


def pyin(y):
    librosa.pyin(y, sr=SR, fmin=SETTINGS.f0_min, fmax=SETTINGS.f0_max, frame_length=SETTINGS.n_fft,
                 hop_length=SETTINGS.hop_length)


METHODS = {
    "ser_nb": lambda y: clip_features(y, SETTINGS),
    "ser_nb, a frame every 10 ms": lambda y: clip_features(y, TEN_MS),
    "librosa, separate calls, tonnetz(harmonic(y))": librosa_separate,
    "librosa, one shared STFT": librosa_shared,
    "openSMILE eGeMAPSv02 LLDs (10 ms)": smile(opensmile.FeatureSet.eGeMAPSv02),
    "openSMILE ComParE_2016 LLDs (10 ms)": smile(opensmile.FeatureSet.ComParE_2016),
    "pitch: ser_nb": lambda y: pitch(trim(y, SETTINGS), SETTINGS),
    "pitch: Praat": lambda y: praat_pitch(trim(y, SETTINGS)),
    "pitch: librosa.pyin": lambda y: pyin(trim(y, SETTINGS)),
}
BY_EIGHT = "ser_nb, eight clips at a time"
FLOORS = {
    "bare FFTs, float64 (numpy)": lambda y: floor(y, np.fft.rfft, np.float64),
    "bare FFTs, float32 (numpy)": lambda y: floor(y, np.fft.rfft, np.float32),
    "bare FFTs, float32 (scipy)": lambda y: floor(y, scipy.fft.rfft, np.float32),
}


def one_by_one(method):
    "A method that takes a clip, as one that takes several and returns their seconds."
    def several(clips):
        start = time.perf_counter()
        for y in clips:
            method(y)
        return time.perf_counter() - start
    return several


def clip_times(clips, rounds, slow_rounds):
    "Milliseconds a clip: in each round every method takes its turn at all clips; its best round counts."
    slow = ("librosa, sep", "openSMILE", "pitch: librosa")
    methods = {"ser_nb": one_by_one(METHODS["ser_nb"]),
               BY_EIGHT: lambda clips: one_by_one(lambda some: batch_features(some, SETTINGS))(
                   [clips[i : i + 8] for i in range(0, len(clips), 8)]),
               **{name: one_by_one(method) for name, method in METHODS.items()},
               **{name: lambda clips, method=method: sum(map(method, clips)) for name, method in FLOORS.items()}}
    best = dict.fromkeys(methods, np.inf)
    for turn in range(rounds):
        for name, method in methods.items():
            if turn < slow_rounds or not name.startswith(slow):
                best[name] = min(best[name], method(clips))
    return {name: 1e3 * seconds / len(clips) for name, seconds in best.items()}


def batch_times(clips, rounds):
    "Milliseconds a clip, one by one and eight at a time, with and without pitch."
    found = {}
    for name, s in {"all families but pitch": SETTINGS, "with pitch": FeatureSettings(pitch=True)}.items():
        best = {1: np.inf, 8: np.inf}
        for _ in range(rounds):
            for size in best:
                start = time.perf_counter()
                for i in range(0, len(clips), size):
                    batch_features(clips[i : i + size], s)
                best[size] = min(best[size], time.perf_counter() - start)
        found[name] = {"one by one": 1e3 * best[1] / len(clips), "by eight": 1e3 * best[8] / len(clips),
                       "ratio": best[1] / best[8]}
    return found


COLD_OURS = "from ser_nb.features import file_features; file_features({path!r})"
COLD_LIBROSA = ("import librosa; y, sr = librosa.load({path!r}, sr=16000); librosa.feature.mfcc(y=y, sr=sr); "
                "librosa.feature.chroma_stft(y=y, sr=sr)")


def cold(code, path, compiled):
    "Seconds from starting Python to the first clip's features; `compiled`: whether Python and numba keep their caches."
    with tempfile.TemporaryDirectory() as empty:
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        if not compiled:
            env.update(PYTHONPYCACHEPREFIX=empty, NUMBA_CACHE_DIR=empty)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code.format(path=str(path))], env=env, check=True, capture_output=True)
        return time.perf_counter() - start


def cold_times(path, rounds):
    "Best seconds of some rounds."
    return {name: min(cold(code, path, compiled) for _ in range(rounds))
            for name, code, compiled, rounds in (("ser_nb", COLD_OURS, True, rounds),
                                                 ("ser_nb, nothing compiled yet", COLD_OURS, False, rounds),
                                                 ("librosa", COLD_LIBROSA, True, rounds),
                                                 ("librosa, nothing compiled yet", COLD_LIBROSA, False, 1))}


def corpus_times(corpus, rounds):
    "Best seconds from wav files to a feature folder, on one process and on two."
    best = {1: np.inf, 2: np.inf}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for jobs in best:
                shutil.rmtree(Path(folder) / "features", ignore_errors=True)
                start = time.perf_counter()
                extract(corpus, Path(folder) / "features", SETTINGS, jobs=jobs)
                best[jobs] = min(best[jobs], time.perf_counter() - start)
    return {"clips": len(corpus), "one process": best[1], "two processes": best[2], "ratio": best[1] / best[2]}


def command_time(data_dir, *options):
    "Seconds of the whole command, from its start to its exit."
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ser_nb.features", "--data_dir", data_dir, "--out_dir", f"{folder}/f",
                        *options], check=True, capture_output=True)
        return time.perf_counter() - start


def machine():
    "What the figures were measured on."
    cpu = "unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    packages = ("ser_nb", "numpy", "scipy", "librosa", "opensmile", "praat-parselmouth", "soxr", "soundfile", "joblib")
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version(),
            **{name: version(name) for name in packages}}


def ratios(ms):
    "How many times as long as ours the others take."
    ours, ten = ms["ser_nb"], ms["ser_nb, a frame every 10 ms"]
    found = {"librosa separate / ser_nb": ms["librosa, separate calls, tonnetz(harmonic(y))"] / ours,
             "librosa shared STFT / ser_nb": ms["librosa, one shared STFT"] / ours,
             "librosa shared STFT / ser_nb by eight": ms["librosa, one shared STFT"] / ms[BY_EIGHT],
             "openSMILE eGeMAPS / ser_nb": ms["openSMILE eGeMAPSv02 LLDs (10 ms)"] / ours,
             "openSMILE eGeMAPS / ser_nb at 10 ms": ms["openSMILE eGeMAPSv02 LLDs (10 ms)"] / ten,
             "openSMILE ComParE / ser_nb": ms["openSMILE ComParE_2016 LLDs (10 ms)"] / ours,
             "librosa.pyin / pitch": ms["pitch: librosa.pyin"] / ms["pitch: ser_nb"],
             "Praat / pitch": ms["pitch: Praat"] / ms["pitch: ser_nb"]}
    return {**found, **{f"ser_nb / {name}": ours / ms[name] for name in FLOORS}}


def table(title, values, unit):
    print(f"\n{title}")
    for name, value in values.items():
        print(f"  {name:48}{value:10.2f} {unit}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data/tess", help="recordings, as load_corpus takes them")
    parser.add_argument("--clips", type=int, default=56, help="clips that the methods are timed on, evenly spread")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of which each clip's best counts")
    parser.add_argument("--slow_rounds", type=int, default=2, help="rounds of the methods that take over 20 ms")
    parser.add_argument("--out", default="benchmarks/results/features.json", help="json file to write")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    corpus = load_corpus(args.data_dir)
    paths = corpus["path"].tolist()[:: max(1, len(corpus) // args.clips)][: args.clips]
    clips = [load_audio(path, SR)[0] for path in paths]
    for method in METHODS.values():
        method(clips[0])
    ms = clip_times(clips, args.rounds, args.slow_rounds)
    result = {"corpus": corpus["corpus"].iloc[0], "clips": len(clips),
              "seconds a clip": float(np.mean([len(y) for y in clips]) / SR),
              "ms a clip, one thread": ms, "ratios": ratios(ms), "batch": batch_times(clips, args.rounds),
              "cold start, s": cold_times(paths[0], 3), "whole corpus, s": corpus_times(corpus, 3),
              "whole corpus by the command, s": {"with pitch": command_time(args.data_dir),
                                                 "without pitch": command_time(args.data_dir, "--pitch", "0")},
              "machine": machine()}
    table(f"ms a clip, one thread, {len(clips)} clips of {result['corpus']}", ms, "ms")
    table("Ratios", result["ratios"], "")
    for name, values in result["batch"].items():
        table(f"A batch, {name}", values, "")
    table("Cold start: from starting Python to the first clip's features", result["cold start, s"], "s")
    table("From wav files to a feature folder", result["whole corpus, s"], "")
    table("The same by the command", result["whole corpus by the command, s"], "s")
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    with replace_file(Path(args.out)) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
