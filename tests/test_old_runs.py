"""Runs that an earlier version made go on loading, and say what they said; `runs/make.py` tells how they were made."""
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from ser_nb.data import DEMO_SR, demo, say
from ser_nb.evaluate import predictions, scores, ser_evaluate
from ser_nb.features import FeatureSettings, extract
from ser_nb.predict import Recognizer
from ser_nb.train import load_run, predict_rows, read_run, run_features

KEPT = Path(__file__).parent / "runs"
SAID = json.loads((KEPT / "4035acd.json").read_text(encoding="utf-8"))
BIN = Path(sys.executable).parent
CLIPS = (("bar", "SF1", "angry", 1), ("mood", "SM7", "sad", 1), ("mood", "SM7", "happy", 64))  # the last one hushed
NEAR = 1e-5

each_run = pytest.mark.parametrize("name", SAID)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "The runs, unpacked, where nothing can happen to those that are kept."
    home = tmp_path_factory.mktemp("old") / "runs"
    shutil.copytree(KEPT, home)
    for path in home.glob("*.zip"):
        zipfile.ZipFile(path).extractall(home)
    return home


@pytest.fixture(scope="module")
def clips(home):
    "The three clips, made on the spot."
    paths = [home / f"clip {i}.wav" for i in range(len(CLIPS))]
    for path, (word, speaker, label, hush) in zip(paths, CLIPS):
        sf.write(path, say(word, speaker, label) // hush, DEMO_SR)
    return paths


@pytest.fixture(scope="module")
def corpus(home):
    return demo(home / "demo", n_speakers=4, n_words=3)


def ready(run, clips):
    "A recogniser, which knows the voice if it needs to."
    recognizer = Recognizer.load(run)
    return recognizer.adapt(clips) if recognizer.normaliser.mode == "speaker" else recognizer


def probabilities(answers):
    return np.array([list(answer.probabilities.values()) for answer in answers])


def forms(home):
    "Each form of each run: its name and path."
    return [(path.stem, path) for path in sorted(home.glob("4035acd-*"))]


def test_all_forms_are_there(home):
    assert {path.suffix for _, path in forms(home)} == {"", ".h5", ".zip"}
    assert {name for name, _ in forms(home)} == set(SAID)
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < 300_000


@each_run
def test_recognizer_says_the_same(name, home, clips):
    said = SAID[name]
    for _, path in [form for form in forms(home) if form[0] == name]:
        recognizer = ready(path, clips)
        found = recognizer.predict_many(clips, jobs=1)
        wanted = np.array([list(p.values()) for p in said["probabilities"]])
        assert list(recognizer.labels) == list(said["probabilities"][0]), path
        np.testing.assert_allclose(probabilities(found), wanted, rtol=0, atol=NEAR, err_msg=str(path))
        assert [answer.label for answer in found] == said["labels"], path
        assert [[text.split()[0] for text in answer.warnings] for answer in found] == said["outside"], path
        samples = [recognizer.predict(sf.read(clip, dtype="int16")[0]) for clip in clips]
        np.testing.assert_allclose(probabilities(samples), wanted, rtol=0, atol=NEAR, err_msg=str(path))


@each_run
def test_network_says_the_same(name, home, clips):
    for path in [path for of, path in forms(home) if of == name and path.suffix != ".zip"]:
        model, run, normaliser = load_run(path)
        frames = [Recognizer.load(path).frames(clip) for clip in clips]
        if normaliser.mode == "speaker":
            normaliser = normaliser.adapt("", frames)
        p = predict_rows(model, frames, np.arange(len(frames)), normaliser)
        np.testing.assert_allclose(p, SAID[name]["network"], rtol=0, atol=NEAR, err_msg=str(path))
        assert run["labels"] == list(SAID[name]["probabilities"][0])


@each_run
def test_judged_the_same(name, home, corpus):
    settings = FeatureSettings.from_json(json.dumps(read_run(home / name)["features"]))
    extract(corpus, home / "features" / name, settings, jobs=1)
    judged = predictions(home / name, run_features(home / name, home / "features" / name))
    assert judged["predicted"].tolist() == SAID[name]["predicted"]
    assert scores(judged)["UAR"] == pytest.approx(SAID[name]["UAR"])


def test_commands_take_it(home, clips, corpus):
    name = "4035acd-classic"
    done = subprocess.run([BIN / "ser_predict", clips[0], "--run", home / name, "--format", "json"], cwd=home,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["label"] == SAID[name]["labels"][0]
    extract(corpus, home / "features" / name, FeatureSettings(pitch=False), jobs=1)
    ser_evaluate(str(home / f"{name}.h5"), str(home / "features" / name), str(home / "report"))
    report = json.loads((home / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["UAR"] == pytest.approx(SAID[name]["UAR"])
