"""Prediction against what users and networks throw at it: broken sound, forged runs, other runtimes, small machines."""
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ser_nb.data import AudioError, demo
from ser_nb.dataset import split_words
from ser_nb.features import FeatureError, extract, open_features
from ser_nb.model import ModelSettings, OnnxNetwork, build_model, check_onnx, named_weights, onnx_model
from ser_nb.predict import PredictError, Recognizer, export
from ser_nb.train import TrainSettings, train

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


options = st.fixed_dictionaries({
    "units": st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), "bidirectional": st.booleans(),
    "pooling": st.sampled_from(["last", "mean", "attention", "deviation"]), "dense": st.integers(0, 5), "batch_norm": st.booleans(),
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
        from ser_nb.predict import _litert, _samples, _saved_model
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
from ser_nb.predict import _predict_command
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
