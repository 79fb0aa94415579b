"""Prediction against what users and networks throw at it: broken sound, forged runs, other runtimes, small machines."""
import _thread
import copy
import hashlib
import importlib.util
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import types
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ser_nb.data import AudioError, demo
from ser_nb.dataset import part_rows, split_words
from ser_nb.evaluate import predictions
from ser_nb.features import FeatureError, extract, open_features
from ser_nb.model import ModelSettings, OnnxNetwork, build_model, check_onnx, named_weights, onnx_model
from ser_nb.lib import artefact
from ser_nb.lib.audio import file_blocks, load_audio
from ser_nb.predict import NoAnswer, PredictError, Recognizer, export
from ser_nb.train import TrainSettings, calibrated, load_run, predict_rows, train

PEAK = "int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]) // 1024"  # MB, of this process alone
NAMED = (AudioError, FeatureError, PredictError)
BIN = Path(sys.executable).parent
few = settings(max_examples=60, deadline=None, database=None, derandomize=True,
               suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def run(home):
    features = extract(demo(home / "demo", n_speakers=2, n_words=6), home / "features")
    return train(features, split_words(features.index, val=0.2, test=0.2), home / "run",
                 ModelSettings(units=(12,), pooling="attention", dense=8), TrainSettings(epochs=1, n_buckets=1), progress=False)


@pytest.fixture(scope="module")
def recognizer(run):
    return Recognizer.load(run)


@pytest.fixture(scope="module")
def clip(home, run):
    return sorted((home / "demo").rglob("*.wav"))[0]


def as_file(y, sr=16000, **kwargs):
    out = io.BytesIO()
    sf.write(out, y, sr, **{"format": "WAV", **kwargs})
    return out.getvalue()


def check(prediction):
    "Probabilities that sum to one, or a reason."
    p = np.array(list(prediction.probabilities.values()))
    assert bool(prediction.error) != bool(len(p))
    assert not len(p) or np.isfinite(p).all() and (p >= 0).all() and abs(p.sum() - 1) < 1e-6


def broken(clip):
    "One broken file of each kind, as in 00_data."
    y, sr = sf.read(clip)
    y = y[:16000]
    wav, flac = as_file(y), as_file(y, format="FLAC")
    ogg, mp3, aiff = as_file(y, format="OGG"), as_file(y, format="MP3"), as_file(y, format="AIFF")
    at = np.arange(len(y)) == len(y) // 2
    return {"empty.wav": b"", "header.wav": wav[:44], "cut.wav": wav[:9000], "cut.aiff": aiff[:9000], "cut.flac": flac[:3000],
            "cut.ogg": ogg[: len(ogg) // 2], "cut.mp3": mp3[: len(mp3) // 2], "garbage.wav": np.random.default_rng(0).bytes(5000),
            "piped.flac": flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:], "text.wav": b"Dear diary.\n" * 100,
            "page.wav": b"<!DOCTYPE html><title>404 Not Found</title>", "nan.wav": as_file(np.where(at, np.nan, y), subtype="FLOAT"),
            "infinite.wav": as_file(np.where(at, np.inf, y), subtype="FLOAT"), "absurd.wav": as_file(y * 1e30, subtype="FLOAT"),
            "silent.wav": as_file(0 * y), "flat.wav": as_file(0 * y + 0.25), "short.wav": as_file(y[:800]),
            "rate.wav": as_file(y, sr=100)}


def test_bad_audio_everywhere(recognizer, run, clip, tmp_path):
    files = broken(clip)
    for name, data in files.items(): (tmp_path / name).write_bytes(data)
    for name, data in files.items():
        for sound in (tmp_path / name, str(tmp_path / name), io.BytesIO(data)):
            with pytest.raises(AudioError): recognizer.predict(sound)
        try: windows = recognizer.timeline(tmp_path / name)
        except AudioError: continue
        assert name in ("silent.wav", "flat.wav") and all(w.error == "silent" for w in windows)
    table = recognizer.predict_many([*(tmp_path / n for n in files), tmp_path, tmp_path / "nowhere.wav", clip])
    assert len(table.failed) == len(files) + 2 and table[-1].label
    done = subprocess.run([BIN / "python", "-m", "ser_nb.predict", tmp_path, clip, "--run", run, "--format", "csv"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and len(done.stdout.splitlines()) == len(files) + 2
    for data in (files["garbage.wav"], files["nan.wav"], b""):
        done = subprocess.run([BIN / "python", "-m", "ser_nb.predict", "-", "--run", run, "--format", "json"], input=data,
                              capture_output=True)
        assert done.returncode == 1 and b"Traceback" not in done.stderr and json.loads(done.stdout)[0]["error"]


@pytest.mark.parametrize("y", [np.zeros(0), np.zeros(100), np.full(16000, np.nan), np.full(16000, 0.5), np.zeros((3, 4, 5)),
                               np.array(["a"]), None, "nowhere.wav", [[1, 2], [3]], np.full(16000, 1e300), b"RIFF", 3.0])
def test_bad_arrays(recognizer, y):
    with pytest.raises(AudioError): recognizer.predict(y)
    (answer,) = recognizer.predict_many([y])
    check(answer)
    assert answer.error


def seeds():
    t = np.arange(4000) / 16000
    y = np.sin(2 * np.pi * 200 * t) * t
    return [as_file(y), as_file(y, subtype="FLOAT"), as_file(np.stack([y, y], 1), sr=8000), as_file(y, format="FLAC"),
            as_file(y, format="OGG"), as_file(y, format="MP3"), as_file(y, format="AIFF"), as_file(y, format="AU"),
            as_file(y, format="CAF"), as_file(y, format="W64")]


@st.composite
def mutilated(draw):
    "A sound file with bytes changed, cut, doubled or put in; sometimes bytes of no file at all."
    data = bytearray(draw(st.sampled_from([*seeds(), b""])))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)) | st.integers(0, 60))
        what, extra = draw(st.integers(0, 3)), draw(st.binary(min_size=1, max_size=8))
        if what == 0: data[at : at + len(extra)] = extra
        elif what == 1: data[at:at] = extra
        elif what == 2: del data[at : at + draw(st.integers(1, 4000))]
        else: data += data[at : at + 200]
    return bytes(data)


@few
@given(mutilated())
@example(b"")
def test_fuzz_bytes(recognizer, home, data):
    path = home / "fuzz.wav"
    path.write_bytes(data)
    for use in (lambda: [recognizer.predict(io.BytesIO(data))], lambda: [recognizer.predict(path)],
                lambda: recognizer.timeline(path, window=0.5), lambda: recognizer.predict_many([path])):
        try: found = use()
        except NAMED as e:
            assert str(e)
            continue
        for p in found: check(p)


numbers = hnp.arrays(st.sampled_from([np.float64, np.float32, np.float16, np.int16, np.int64, np.uint8, np.bool_, np.complex64]),
                     st.sampled_from([(), (0,), (3,), (1600,), (4000,), (2, 3000), (3000, 2), (0, 2), (50, 50), (1600, 1), (2, 2, 800)]))


@few
@given(numbers, st.sampled_from([None, 16000, 8000, 44100, 0, -1, 4000, 384_000, 11025.5, 1e12, float("nan"), "16000"]))
def test_fuzz_arrays(recognizer, y, sr):
    for use in (lambda: [recognizer.predict(y, sr)], lambda: list(recognizer.stream([y, y], sr, window=0.2)),
                lambda: recognizer.predict_many([y])):
        try: found = use()
        except NAMED as e:
            assert str(e)
            continue
        for p in found: check(p)


@few
@given(st.lists(st.integers(1, 30_000), max_size=12), st.sampled_from([(0.4, 0.1), (0.5, 0.5), (1.0, 0.3)]),
       st.sampled_from([16000, 22050, 48000]))
def test_chunks_do_not_matter(recognizer, home, sizes, window, sr):
    rng = np.random.default_rng(sum(sizes))
    y = (rng.normal(size=40_000) * np.sin(np.arange(40_000) / 3000) * 0.1).astype("float32")
    sf.write(home / "chunks.wav", y, sr, subtype="FLOAT")
    ends = [0, *np.minimum(np.cumsum(sizes, dtype=int), len(y)).tolist(), len(y)]
    live = list(recognizer.stream((y[a:z] for a, z in zip(ends, ends[1:])), sr, *window))
    whole = recognizer.timeline(home / "chunks.wav", *window)
    assert [(p.start, p.stop) for p in live] == [(p.start, p.stop) for p in whole]
    for a, b in zip(live, whole):
        assert np.abs(np.subtract(list(a.probabilities.values()), list(b.probabilities.values()))).max() < 1e-5


@few
@given(st.sampled_from(["run.json", "normaliser.json", "reference.json", "hashes.json", "model.onnx", "calibration.json"]),
       st.integers(0, 10**6), st.binary(min_size=0, max_size=12), st.integers(0, 40), st.booleans())
def test_forged_runs(run, home, clip, name, at, extra, drop, honest):
    "Any change of any file, with the hashes made to fit: an error of ours, or a recognizer that gives probabilities."
    copy = shutil.copytree(run, home / "forged", dirs_exist_ok=True)
    hashes = json.loads((copy / "hashes.json").read_text())
    (copy / "calibration.json").write_text(json.dumps({"temperature": 1.5, "threshold": 0.5, "weights": hashes["best.weights.h5"]}))
    hashes["calibration.json"] = hashlib.sha256((copy / "calibration.json").read_bytes()).hexdigest()
    data = (copy / name).read_bytes()
    at %= len(data)
    (copy / name).write_bytes(data[:at] + extra + data[at + drop :])
    if name in hashes and not honest: hashes[name] = hashlib.sha256((copy / name).read_bytes()).hexdigest()
    if name != "hashes.json": (copy / "hashes.json").write_text(json.dumps(hashes))
    try: check(Recognizer.load(copy).predict(clip))
    except PredictError as e: assert str(copy) in str(e) and "\n" not in str(e)


@pytest.mark.parametrize("change", [
    {"labels": ["a"] * 7}, {"labels": "abcdefg"}, {"labels": [1, 2, 3, 4, 5, 6, 7]}, {"model": {"units": ["x"]}}, {"model": []},
    {"model": {"units": [10**30]}}, {"features": {}}, {"features": None}, {"labels": []}, {"model": {"pooling": 3}},
    {"model": {"units": [1, 1, 1, 1]}}, {"labels": [str(i) for i in range(2000)]}, {"finished": 0}])
def test_odd_settings(run, home, change):
    copy = shutil.copytree(run, home / "odd", dirs_exist_ok=True)
    described = json.loads((run / "run.json").read_text())
    described |= {k: {**described[k], **v} if isinstance(v, dict) and v else v for k, v in change.items()}
    data = json.dumps(described).encode()
    (copy / "run.json").write_bytes(data)
    hashes = {**json.loads((run / "hashes.json").read_text()), "run.json": hashlib.sha256(data).hexdigest()}
    (copy / "hashes.json").write_text(json.dumps(hashes))
    with pytest.raises(PredictError): Recognizer.load(copy)


def test_moved_zip(run, home, recognizer, clip):
    packed = export(run, home / "elsewhere/run.zip")
    assert Recognizer.load(packed).predict(clip).probabilities == recognizer.predict(clip).probabilities
    data = packed.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 5):
        packed.write_bytes(data[:cut])
        with pytest.raises(PredictError): Recognizer.load(packed)
    with zipfile.ZipFile(packed, "w") as z: z.writestr("../../run.json", "{}")
    with pytest.raises(PredictError): Recognizer.load(packed)
    assert not (home.parent / "run.json").exists()


def command(*words, **how):
    "A finished `ser_predict`."
    return subprocess.run([BIN / "ser_predict", *map(str, words)], capture_output=True, **how)


def reseal(folder, name, data):
    "Put a file into a run, and its hash, as a forger would."
    hashes = json.loads((folder / "hashes.json").read_text())
    (folder / name).write_bytes(data)
    (folder / "hashes.json").write_text(json.dumps({**hashes, name: hashlib.sha256(data).hexdigest()}))


@few
@given(st.integers(0, 10**6), st.binary(max_size=12), st.integers(0, 40), st.booleans())
def test_forged_zips(run, home, clip, recognizer, at, extra, drop, at_end):
    "A zip with bytes changed: an error of ours, or the same answers."
    packed = home / "forged.zip"
    if not (home / "good.zip").exists(): export(run, home / "good.zip")
    data = (home / "good.zip").read_bytes()
    at = max(0, len(data) - 1 - at % 2000) if at_end else at % len(data)
    packed.write_bytes(data[:at] + extra + data[at + drop :])
    try: assert Recognizer.load(packed).predict(clip).probabilities == recognizer.predict(clip).probabilities
    except PredictError as e: assert str(packed) in str(e) and "\n" not in str(e)


def bombs(run, home):
    "Small zips that ask for much: by files that unpack to much, by texts that grow when they are read, by many runs."
    for name, data in {"model.onnx": bytes(2**28), "normaliser.json": b"[" + b"[]," * 2**24, "run.json": b"[" * 2**22,
                       "reference.json": b'{"a": [' + b"1," * 2**21 + b"1]}"}.items():
        folder = shutil.copytree(run, home / "bomb", dirs_exist_ok=True)
        reseal(folder, name, data)
        yield Path(shutil.make_archive(home / f"bomb-{name}", "zip", home, "bomb"))
    with zipfile.ZipFile(home / "runs.zip", "w") as z:
        for i in range(12_000): z.writestr(f"{'a/' * (i % 50)}{i}/run.json", "{}")
    yield home / "runs.zip"


def test_bombs(run, home, monkeypatch):
    "Each is refused in little memory, and little of it is read."
    read = []
    short = artefact._ShortReads.read
    monkeypatch.setattr(artefact._ShortReads, "read", lambda self, n=-1: read.append(short(self, n)) or read[-1])
    for path in bombs(run, home):
        read.clear()
        with pytest.raises(PredictError): Recognizer.load(path)
        assert sum(map(len, read)) < 2 * path.stat().st_size + 200_000
        code = ("import sys; from ser_nb.predict import PredictError, Recognizer\ntry: Recognizer.load(sys.argv[1])\n"
                f"except PredictError as e: print(str(e)[:200], {PEAK}, sep=chr(10))")
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert str(path) in done.stdout and int(done.stdout.split()[-1]) < 250, (path, done.stdout)


def test_deep_and_wide_texts_in_a_folder(run, home):
    "What no zip's limits see."
    for name, data in {"normaliser.json": b'{"mode": "train", "stats": ' + b"[" * 10**6, "hashes.json": b'{"a":' * 10**5,
                       "reference.json": b'{"known": {' + b'"a": 1e400,' * 10**5 + b'"b": 1}}'}.items():
        folder = shutil.copytree(run, home / "deep", dirs_exist_ok=True)
        reseal(folder, name, data) if name != "hashes.json" else (folder / name).write_bytes(data)
        with pytest.raises(PredictError): Recognizer.load(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("row, value", [(1, 0.0), (1, 1e-300), (1, 1e-42), (1, -1.0), (1, 1e300), (0, 1e300)])
def test_scales_that_give_no_number(run, home, row, value):
    folder = shutil.copytree(run, home / "scale", dirs_exist_ok=True)
    normaliser = json.loads((run / "normaliser.json").read_text())
    normaliser["stats"][""][row][0] = value
    reseal(folder, "normaliser.json", json.dumps(normaliser).encode())
    with pytest.raises(PredictError, match="scale: "): Recognizer.load(folder)
    shutil.rmtree(folder)


def test_weights_that_give_no_number(run, home, clip):
    import onnx
    model = onnx.ModelProto.FromString((run / "model.onnx").read_bytes())
    for w in model.graph.initializer:
        if not w.name.startswith("const"): w.raw_data = np.full(len(w.raw_data) // 4, 3e38, "<f4").tobytes()
    folder = shutil.copytree(run, home / "huge")
    reseal(folder, "model.onnx", model.SerializeToString())
    for words in ([], ["--timeline"], ["--format", "json"]):
        done = command(clip, clip.parent, "--run", folder, *words, text=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "no number" in done.stderr
        assert str(folder) in done.stderr


def test_copies(recognizer, clip, home):
    "In other processes, which start anew, and in threads."
    clips = sorted((home / "demo").rglob("*.wav"))[:12]
    serial = [recognizer.predict(c).probabilities for c in clips]
    for again in (pickle.loads(pickle.dumps(recognizer)), copy.copy(recognizer), copy.deepcopy(recognizer)):
        assert [again.predict(c).probabilities for c in clips] == serial and repr(again) == repr(recognizer)
    with ThreadPoolExecutor(4) as pool:
        assert [p.probabilities for p in pool.map(recognizer.predict, clips * 3)] == serial * 3
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert [p.probabilities for p in pool.map(recognizer.predict, clips)] == serial
    assert len(repr(recognizer)) < 600 and repr(recognizer).count("\n") == 0


def test_names_that_nobody_obeys(run, home, clip):
    "Escape characters, formulas, bytes that are no text: in a table, json and csv, and the exit code is right."
    folder = home / "names"
    folder.mkdir()
    names = [b"\x1b[31mred.wav", b"=cmd|' .wav", b"-x.wav", b"two\nlines.wav", b"caf\xe9.wav", "é\u202e.wav".encode()]
    for name in names: shutil.copy(clip, os.path.join(os.fsencode(folder), name))
    words = [os.path.join(".", os.fsdecode(name)) for name in names]
    for format in ("table", "json", "csv"):
        for words in ([os.path.join(os.fsencode(folder), name) for name in names], [folder]):
            done = subprocess.run([BIN / "ser_predict", *words, "--run", run, "--format", format], capture_output=True)
            text = (done.stdout + done.stderr).decode()
            assert done.returncode == (len(words) == 1)  # one that is no UTF-8 is only taken if it is named
            assert not any(c in text for c in "\x1b\u202e\udce9") and "é" in text
            if format == "json": assert len(json.loads(done.stdout)) == len(names)
            if format == "csv": assert len(done.stdout.decode().splitlines()) == len(names) + 1
    shutil.copy(clip, folder / "=1+1.wav")
    assert "\n'=1+1.wav," in command("=1+1.wav", "--run", run, "--format", "csv", cwd=folder, text=True).stdout


def test_what_is_no_file(run, home, clip):
    "A pipe, an endless device, a folder of nothing, and an endless standard input end in a row each."
    folder = home / "odd files"
    (folder / "empty").mkdir(parents=True)
    os.mkfifo(folder / "fifo.wav")
    shutil.copy(clip, folder / "good.wav")
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(900))
    with open("/dev/zero", "rb") as endless:
        done = command("/dev/zero", folder / "fifo.wav", folder / "empty", folder, "-", "--run", run, "--format", "json",
                       stdin=endless)
    rows = {Path(row["name"]).name: row["error"] for row in json.loads(done.stdout)}
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert {"zero", "fifo.wav", "empty", "phone.m4a", "standard input", "good.wav"} <= set(rows)
    assert [name for name, error in rows.items() if not error] == ["good.wav"]


def test_channels(run, home, clip):
    y, sr = sf.read(clip)
    other = sf.read(sorted((home / "demo").rglob("*.wav"))[40])[0]
    n = min(len(y), len(other))
    sf.write(home / "call.wav", np.stack([y[:n], other[:n]], 1), sr, subtype="FLOAT")
    (row,) = json.loads(command(home / "call.wav", "--run", run, "--format", "json").stdout)
    assert "--channel" in row["warnings"]
    for channel, code in (("0", 0), ("1", 0), ("2", 1), ("-1", 1), ("x", 2)):
        for words in ([], ["--timeline"]):
            done = command(home / "call.wav", "--run", run, "--channel", channel, *words)
            assert done.returncode == code and b"Traceback" not in done.stderr
    assert "channel" not in json.loads(command(home / "call.wav", "--run", run, "--channel", "1", "--format", "json").stdout)[0]["warnings"]


def test_where_the_answers_go(run, clip, tmp_path):
    "A full disk, a reader that leaves, no output at all, a terminal of few letters; and standard input that is closed."
    def shell(line, **env):
        line = f"set -o pipefail; {line.replace('ser_predict', f'{BIN}/ser_predict')} "
        return subprocess.run(["bash", "-c", line, "bash", clip, run], capture_output=True, cwd=tmp_path,
                              env={**os.environ, **env})
    for line, code, lines in [('ser_predict "$1" --run "$2" > /dev/full', 2, 1), ('ser_predict "$1" --run "$2" >&-', 2, 1),
                              ('ser_predict "$1" --run "$2" | true', 0, 0), ('ser_predict - --run "$2" <&-', 1, 1),
                              ('ser_predict "$1" no.wav --run "$2" | true', 1, 1), ('ser_predict "$1" --run "$2" 2>&-', 0, 0)]:
        done = shell(line)
        assert (done.returncode, done.stderr.count(b"\n")) == (code, lines), (line, done)
    named = shell('cp "$1" é.wav; ser_predict é.wav --run "$2" --format json; rm é.wav', PYTHONIOENCODING="ascii")
    assert json.loads(named.stdout)[0]["name"] == "é.wav"


def test_long_work_is_told(run, home, clip):
    "In a log, lines say what is planned and done; of a few recordings nothing is said."
    many = command(*[clip] * 120, "--run", run, text=True).stderr
    assert many.splitlines()[0] == "answers: 120 recordings" and "in" in many.splitlines()[-1]
    sf.write(home / "hour.wav", np.tile(sf.read(clip)[0], 120), 16000)
    assert "timeline: " in command(home / "hour.wav", "--run", run, "--timeline", text=True).stderr
    assert command(*[clip] * 3, "--run", run, text=True).stderr == ""


options = st.fixed_dictionaries({
    "units": st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), "bidirectional": st.booleans(),
    "pooling": st.sampled_from(["last", "mean", "attention", "deviation", "change"]), "dense": st.integers(0, 5), "batch_norm": st.booleans(),
    "conv": st.sampled_from([0, 0, 6]), "conv_kernel": st.sampled_from([1, 3, 5]), "conv_stride": st.integers(1, 3)})


@settings(few, max_examples=25)
@given(options, st.integers(0, 99))
def test_onnx_is_the_network(request, chosen, seed):
    "Any settings, uneven weights, clips of many lengths and junk in the padding; 03_model has some of each."
    if not request.config.getoption("--slow"): pytest.skip("a compilation each: run with --slow")
    s, rng = ModelSettings(**chosen), np.random.default_rng(seed)
    model = build_model(s, 11, 4)
    model.set_weights([w + rng.uniform(0.05, 0.3, w.shape).astype(w.dtype) for w in model.get_weights()])
    network = OnnxNetwork(check_onnx(onnx_model(s, 11, 4, named_weights(model)).SerializeToString(), s, 11, 4))
    lengths = np.array([1, 2, 3, 5, 16, 31])
    mask = np.arange(31) < lengths[:, None]
    x = np.where(mask[..., None], rng.normal(size=(6, 31, 11)), np.nan).astype("float32")
    assert np.abs(network.predict_on_batch({"frames": x, "mask": mask})
                  - model.predict_on_batch({"frames": x, "mask": mask})).max() < 1e-5


needs_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="the tensorflow extra is not installed")


@needs_tensorflow
def test_tensorflow_exports(home, run, recognizer):
    "SavedModel and LiteRT answer as ONNX does, on real frames of many lengths."
    import tensorflow as tf
    features, longest = open_features(home / "features"), recognizer.reference["max_frames"]
    saved = tf.saved_model.load(export(run, home / "saved"))
    lite = tf.lite.Interpreter(str(export(run, home / "run.tflite"))).get_signature_runner()
    for i, n in enumerate([1, 2, 3, 5, 9, 17, 33, longest] * 4):
        x = recognizer.normaliser.apply(features[i][:n])[None]
        want = recognizer.network.predict_on_batch({"frames": x, "mask": np.ones(x.shape[:2], bool)})
        padded, mask = np.zeros((1, longest, x.shape[2]), np.float32), np.arange(longest)[None] < x.shape[1]
        padded[:, : x.shape[1]] = x
        assert np.abs(np.asarray(saved.serve({"frames": padded, "mask": mask})) - want).max() < 1e-4
        assert np.abs(next(iter(lite(frames=padded, mask=mask).values())) - want).max() < 1e-4


@needs_tensorflow
def test_tensorflow_takes_every_setting(tmp_path):
    "Both exports of networks that use all there is, on keras' tensorflow backend, beside ONNX."
    code = """if True:
        import sys, numpy as np
        from ser_nb.model import ModelSettings, OnnxNetwork, build_model, named_weights, onnx_model
        from ser_nb.more.export import _litert, _samples, _saved_model
        for i, s in enumerate([ModelSettings(units=(7, 5), bidirectional=True, pooling="deviation", batch_norm=True, conv=6),
                               ModelSettings(units=(6, 5, 4), pooling="mean", dense=0), ModelSettings(units=(8,), pooling="attention")]):
            model, batch = build_model(s, 11, 4), _samples(11, [1, 2, 3, 7, 40])
            want = OnnxNetwork(onnx_model(s, 11, 4, named_weights(model)).SerializeToString()).predict_on_batch(batch)
            for export in (_saved_model, _litert):
                assert np.abs(export(model, f"{sys.argv[1]}/{i}{export.__name__}", batch) - want).max() < 1e-4, (s, export)"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=Path(__file__).parent.parent,
                          env={**os.environ, "KERAS_BACKEND": "tensorflow"})
    assert done.returncode == 0, done.stderr[-2000:]


def test_command_is_light(run, clip):
    "In a process of its own: nothing heavy is loaded, and little memory is used."
    heavy = ["keras", "jax", "librosa", "numba", "matplotlib", "pandas.core", "sklearn", "scipy", "joblib"]
    code = f"""import sys
sys.argv = ["ser_predict", {str(clip)!r}, "--run", {str(run)!r}]
from ser_nb.more.answering import _predict_command
code = _predict_command([{str(clip)!r}], {str(run)!r}, "table", False)
print(code, {PEAK}, *[m for m in {heavy!r} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code, megabytes, *loaded = done.stdout.splitlines()[-1].split()
    assert code == "0" and not loaded and int(megabytes) < 200


def test_long_recording_in_bounded_memory(run, home):
    "Ten minutes take hardly more memory than one."
    rng, peaks = np.random.default_rng(0), []
    for minutes in (1, 10):
        path = home / f"{minutes}.wav"
        with sf.SoundFile(path, "w", 22050, 2, "PCM_16") as f:
            for _ in range(minutes): f.write(rng.normal(size=(22050 * 60, 2)) * 0.05)
        code = ("import sys; from ser_nb.predict import Recognizer; n = len(Recognizer.load(sys.argv[1])"
                f".timeline(sys.argv[2])); print(n, {PEAK})")
        done = subprocess.run([sys.executable, "-c", code, run, path], capture_output=True, text=True, check=True)
        n, peak = map(int, done.stdout.split())
        assert n > 30 * minutes
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20


@pytest.fixture(scope="module")
def features(home, run):
    return open_features(home / "features")


@pytest.fixture(scope="module")
def split(features):
    return split_words(features.index, val=0.2, test=0.2)


@pytest.fixture(scope="module")
def held_out(features, split):
    "Files of the validation part."
    return [Path(p) for p in features.index["path"].iloc[part_rows(features, split, "val")]]


def said(*answers):
    return np.array([list(p.probabilities.values()) for p in answers])


def test_the_proof_of_one_path_can_fail(run, features, recognizer, held_out):
    "A scale that is off by a thousandth of a deviation is seen, where the right one gives the figures of the judge."
    judged = predictions(run, features, "val")
    judged = calibrated(judged[[f"p_{label}" for label in recognizer.labels]].to_numpy(), recognizer.temperature)
    normaliser = recognizer.normaliser
    shifted = replace(recognizer, normaliser=replace(normaliser, stats={"": normaliser.stats[""] + [[1e-3], [0]]}))
    apart = [np.abs(said(*map(r.predict, held_out)) - judged).max() for r in (recognizer, shifted)]
    assert apart[0] < 1e-5 < apart[1]


def test_grouping_moves_nothing(recognizer, held_out):
    several = recognizer.predict_many([load_audio(p)[0] for p in held_out])
    assert np.abs(said(*several) - said(*map(recognizer.predict, held_out))).max() < 1e-5
    assert list(pd.DataFrame(several.rows())["label"]) == [p.label for p in several]


@pytest.fixture(scope="module")
def talk(home, held_out):
    "Nine clips with pauses between."
    pieces = [x for p in held_out[:9] for x in (load_audio(p, 44100)[0], np.zeros(22050, "float32"))]
    sound = np.concatenate(pieces) * 0.9
    sf.write(home / "talk.wav", np.stack([sound, sound], axis=1), 44100, subtype="FLOAT")
    return home / "talk.wav"


def test_window_is_a_clip(recognizer, talk):
    "A window of a timeline has the answer that its samples alone have."
    window, y = recognizer.timeline(talk)[3], load_audio(talk)[0]
    alone = recognizer.predict(y[round(window.start * 16000) : round(window.stop * 16000)])
    assert np.abs(said(alone) - said(window)).max() < 1e-5


def test_microphone(recognizer, talk, monkeypatch):
    "One that plays a file has the file's answers; where the library lacks, the error names what to install."
    y = load_audio(talk)[0]

    class InputStream:
        def __init__(self, callback, **_):
            for i in range(0, len(y), 1600):
                callback(y[i : i + 1600, None], 1600, None, None)
        def __enter__(self): return self
        def __exit__(self, *_): pass

    played = types.SimpleNamespace(InputStream=InputStream, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", played)
    heard, windows = list(recognizer.listen(seconds=len(y) / 16000)), recognizer.timeline(talk)
    assert [p.error for p in heard] == [p.error for p in windows]
    for a, b in zip(heard, windows):
        assert np.abs(said(a) - said(b)).max(initial=0) < 1e-5
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(PredictError, match=r"ser_nb\[mic\]"):
        list(recognizer.listen(1))


def edited(**values):
    "A change of a json file: these values are put in."
    return lambda data: json.dumps({**json.loads(data), **values}).encode()


def forged(run, home, name, change, honest=False):
    "What loading says of a copy of the run in which one file was changed, and, as a forger would, its hash."
    copy = shutil.copytree(run, home / "forgery", dirs_exist_ok=True)
    data = change((copy / name).read_bytes())
    if data is None:
        (copy / name).unlink()
    elif honest or name == "hashes.json":
        (copy / name).write_bytes(data)
    else:
        reseal(copy, name, data)
    with pytest.raises(PredictError) as e:
        Recognizer.load(copy)
    return str(e.value).removeprefix(f"{copy}: ")


def test_forged_run_is_told_in_one_line(run, home):
    described = json.loads((run / "run.json").read_text())
    model, settings = described["model"], described["features"]
    for name, change in [
            ("model.onnx", lambda d: d[:-300]), ("model.onnx", lambda d: None), ("model.onnx", lambda d: b"PK" + d),
            ("run.json", edited(model={**model, "units": [10**9]})),
            ("run.json", edited(model={**model, "code": "import os"})),
            ("run.json", edited(features={**settings, "n_fft": 65536, "n_mels": 30000})),
            ("run.json", edited(labels=described["labels"][1:])), ("run.json", edited(finished=False)),
            ("normaliser.json", edited(stats={"": [[0.0], [1.0]]})),
            ("reference.json", lambda d: d.replace(b'"mean": [', b'"mean": [NaN, ')),
            ("reference.json", edited(max_frames=10**12)), ("hashes.json", lambda d: d[:-5]),
            ("run.json", lambda d: b"[" * 10**5)]:
        assert "\n" not in forged(run, home, name, change), name
    flipped = forged(run, home, "model.onnx", lambda d: d[:9000] + b"\0\0\0\0" + d[9004:], honest=True)
    assert "hash differs" in flipped
    assert "not the network" in forged(run, home, "run.json", edited(model={**model, "pooling": "mean"}))


def test_foreign_folders_and_zips(run, home):
    (home / "foreign").mkdir()
    (home / "foreign/run.json").write_text('{"name": "of another project"}')
    packed = Path(shutil.make_archive(home / "whole", "zip", home, "run"))
    (home / "cut.zip").write_bytes(packed.read_bytes()[:3000])
    with zipfile.ZipFile(home / "two.zip", "w") as z:
        for name in ("a", "b"):
            z.writestr(f"{name}/run.json", "{}")
    with zipfile.ZipFile(home / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("run.json", " " * 2**24)
    for name, why in {"foreign": "not one of ser_nb", "cut.zip": "not a whole zip", "two.zip": "holds 2 runs",
                      "bomb.zip": "at most were expected", "cut.h5": "run.json is missing"}.items():
        with pytest.raises(PredictError, match=why):
            Recognizer.load(home / name)


def test_calibration_of_a_run(run, home, clip, recognizer):
    "A good one is used; of other weights, out of range or lost it is refused."
    other = shutil.copytree(run, home / "calibrated")
    hashes, answer = json.loads((run / "hashes.json").read_text()), recognizer.predict(clip)
    calibration = {"temperature": 2.0, "threshold": 0.9, "weights": hashes["best.weights.h5"]}
    reseal(other, "calibration.json", json.dumps(calibration).encode())
    careful = Recognizer.load(other).predict(clip)
    assert np.abs(said(careful) - calibrated(said(answer), 2 / recognizer.temperature)).max() < 1e-5
    assert (careful.best, careful.label) == (answer.best, answer.best if careful.confidence >= 0.9 else "unsure")
    for change, why in [({"weights": "0" * 64}, "another training"), ({"temperature": 0}, "out of range"),
                        ({"threshold": float("nan")}, "is no number"), ({"threshold": "high"}, "are needed")]:
        reseal(other, "calibration.json", json.dumps({**calibration, **change}).encode())
        with pytest.raises(PredictError, match=why):
            Recognizer.load(other)
    (other / "calibration.json").write_text(json.dumps(calibration))
    with pytest.raises(PredictError, match="its hash differs\\): run ser_card again"):
        Recognizer.load(other)
    (other / "calibration.json").unlink()
    with pytest.raises(PredictError, match="calibration.json is missing"):
        Recognizer.load(other)


def test_weights_too_large_are_seen_at_loading(run, home):
    import onnx

    def larger(data):
        model = onnx.ModelProto.FromString(data)
        for w in model.graph.initializer:
            if not w.name.startswith("const"):
                x = np.clip(np.frombuffer(w.raw_data, "<f4") * np.float64(1e45), -3e38, 3e38)
                w.raw_data = x.astype("<f4").tobytes()
        return model.SerializeToString()
    assert "is no number" in forged(run, home, "model.onnx", larger)


def test_no_answer_names_the_run(run, recognizer, features, clip):
    "A scale may make frames infinite: then there is no answer."
    tiny = {"": np.full((2, features[0].shape[1]), 1e-42)}
    odd = replace(recognizer, normaliser=replace(recognizer.normaliser, stats=tiny))
    for use in (odd.predict, lambda path: odd.predict_many([path, path]), odd.timeline,
                lambda path: list(odd.stream([load_audio(path)[0]])), lambda path: odd.probabilities([features[0]])):
        with pytest.raises(NoAnswer) as e:
            use(clip)
        assert str(run) in str(e.value)


def test_one_without_an_answer(recognizer, home):
    "The others of its group have theirs."
    paths = sorted((home / "demo").rglob("*.wav"))[:20]
    heard = [recognizer.normaliser.apply(recognizer.frames(p))[0, 0] for p in paths]
    first = sorted(heard)[-2]

    class Choosy:
        "A network that has no answer to clips whose first number is large."
        def predict_on_batch(self, batch):
            p = np.full((len(batch["mask"]), len(recognizer.labels)), 1 / len(recognizer.labels), np.float32)
            p[batch["frames"][:, 0, 0] > first] = np.nan
            return p
    some = replace(recognizer, network=Choosy()).predict_many(paths)
    assert [bool(p.error) for p in some] == [x > first for x in heard] and len(some.failed) == 1


def test_stopped_in_the_midst(recognizer, home):
    "Ctrl-C ends the threads after the recording that each is at; long clips don't wait in memory for one another."
    paths = sorted((home / "demo").rglob("*.wav"))[:32] * 20
    whole, heard, before = recognizer.predict_many(paths[:20]), [], threading.active_count()

    class Stopped:
        def predict_on_batch(self, batch):
            heard.append(len(batch["mask"]))
            if len(heard) == 3:
                _thread.interrupt_main()
            return recognizer.network.predict_on_batch(batch)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have it ignored
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ser_nb.predict.HELD", 0)
        assert recognizer.predict_many(paths[:20]) == whole
        try:
            with pytest.raises(KeyboardInterrupt):
                replace(recognizer, network=Stopped()).predict_many(paths, jobs=2)
        finally:
            signal.signal(signal.SIGINT, usual)
    assert len(heard) < 40 and set(heard) == {1} and threading.active_count() == before


def test_ensemble_is_the_mean_of_its_members(home, features, split, recognizer):
    "Of each, divided by the shares of the emotions that it has learnt; in a zip too."
    ensemble = train(features, split, home / "ensemble", ModelSettings(units=(8,)), TrainSettings(epochs=1, members=2),
                     progress=False)
    shown = [features[int(i)] for i in part_rows(features, split, "val")[:5]]
    learnt = split["emotion"][split["part"] == "train"].value_counts()[list(recognizer.labels)].to_numpy()
    members = sorted((ensemble / "members").iterdir())
    each = np.stack([Recognizer.load(f).probabilities(shown) for f in members]) / learnt
    whole = Recognizer.load(ensemble).probabilities(shown)
    assert np.abs(whole - (each / each.sum(-1, keepdims=True)).mean(0)).max() < 1e-5
    packed = Path(shutil.make_archive(home / "packed", "zip", home, "ensemble"))
    assert (Recognizer.load(packed).probabilities(shown) == whole).all()


def test_long_clips_are_cut_as_in_training(run, features, split, recognizer):
    model, _, normaliser = load_run(run)
    longest = recognizer.reference["max_frames"]
    long = np.concatenate([features[int(i)] for i in part_rows(features, split, "val")[:3]])
    assert len(long) > longest
    assert np.abs(recognizer.probabilities([long]) - predict_rows(model, [long], [0], normaliser, (longest,))).max() < 1e-5


def test_what_is_no_sound(recognizer, clip, talk):
    "Refused by name, one recording or many; windows that make no sense too."
    y, sr = sf.read(clip)
    for odd in (None, 3, {}, object(), (sr, y), ["a"], [None] * 9000, open, b"", iter(y)):
        with pytest.raises(AudioError):
            recognizer.predict(odd)
    for odd in (y, b"RIFF", pd.DataFrame({"path": [clip]}), 3, {}):
        with pytest.raises(PredictError, match="predict takes one"):
            recognizer.predict_many(odd)
    assert len(recognizer.predict_many(clip)) == 1
    with pytest.raises(PredictError, match="jobs=0"):
        recognizer.predict_many([clip], jobs=0)
    assert [bool(p.error) for p in recognizer.predict_many([clip, None, y * np.nan])] == [False, True, True]
    for window, hop in [(0, None), (1, 2), (float("nan"), None), ("1", None), (61, 1)]:
        with pytest.raises(PredictError, match="are needed"):
            recognizer.timeline(talk, window, hop)
    with pytest.raises(PredictError, match="stream takes samples"):
        recognizer.timeline(y)
    assert recognizer.timeline(talk.read_bytes()).rows() == [{**row, "name": "bytes"}
                                                             for row in recognizer.timeline(talk).rows()]


def test_blocks_of_a_file_are_the_file(held_out):
    for p in held_out[:4]:
        assert (np.concatenate(list(file_blocks(p, seconds=0.13))) == load_audio(p)[0]).all()


def test_samples_in_any_form(recognizer, clip):
    y, sr = sf.read(clip)
    exact = recognizer.predict(clip).probabilities

    class Tensor:
        "What a tensor of torch answers."
        def detach(self): return self
        def cpu(self): return self
        def __array__(self, dtype=None, copy=None): return y
    for samples in (y, y.tolist(), tuple(y), memoryview(y), pd.Series(y), Tensor()):
        assert recognizer.predict(samples, sr).probabilities == exact


def test_one_person_a_channel(recognizer, home, held_out):
    one, other = (load_audio(p)[0][:12000] for p in (held_out[0], held_out[-1]))
    call = np.stack([one, other], axis=1)
    sf.write(home / "two.wav", call, 16000, subtype="FLOAT")
    mixed = recognizer.predict(home / "two.wav")
    for sound in ((home / "two.wav").read_bytes(), call, call.T):
        assert recognizer.predict(sound).warnings == mixed.warnings
        assert np.abs(said(recognizer.predict(sound, channel=1)) - said(recognizer.predict(other))).max() < 1e-6
        with pytest.raises(AudioError, match="no such channel"):
            recognizer.predict(sound, channel=2)
    assert not any("hold different sound" in w for w in recognizer.predict(call, channel=1).warnings)


def test_exit_codes(run, home, clip):
    packed = export(run, home / "codes.zip")
    folder = home / "mixed"
    folder.mkdir()
    shutil.copy(clip, folder)
    (folder / "empty.wav").touch()
    (folder / "page.wav").write_text("<!DOCTYPE html>")
    done = command(folder, "-", "--run", run, "--format", "json", input=packed.read_bytes())
    rows = json.loads(done.stdout)
    assert (done.returncode, len(rows)) == (1, 4)
    assert [Path(r["name"]).name for r in rows if r["error"]] == ["empty.wav", "page.wav", "standard input"]
    done = command("-", "--run", packed, "--format", "csv", input=clip.read_bytes())
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, b"", 2)
    for words, code in [((clip, "--run", "nowhere"), 2), ((clip, "--format", "xml"), 2), (("no.wav", "--run", run), 1),
                        ((), 2), ((home / "nofolder", "--run", run), 1)]:
        done = command(*words)
        assert done.returncode == code and b"Traceback" not in done.stderr and done.stderr
    assert command("--help").returncode == 0


def test_speaker_folder_that_is_not_there(home, features, split, clip):
    scaled = train(features, split, home / "scaled", ModelSettings(units=(8,)),
                   TrainSettings(epochs=1, normalise="speaker"), progress=False)
    done = command(clip, "--run", scaled, "--speaker", home / "nofolder", text=True)
    assert (done.returncode, "no such folder" in done.stderr, done.stderr.count("\n")) == (2, True, 1)


@pytest.mark.parametrize("module", ["ser_nb.predict", "ser_nb.more.answering"])
def test_module_is_light(run, clip, module):
    "As a command by its module, too."
    heavy = ["keras", "jax", "tensorflow", "torch", "librosa", "numba", "matplotlib", "sklearn", "scipy", "pandas.core",
             "joblib", "IPython", "requests"]
    code = f"""import sys, runpy
sys.argv = ["ser_predict", {str(clip)!r}, "--run", {str(run)!r}]
try: runpy.run_module({module!r}, run_name="__main__")
except SystemExit as e: assert e.code == 0, e.code
print([m for m in {heavy!r} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
