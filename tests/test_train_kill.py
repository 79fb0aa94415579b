"""Training killed at random moments ends as if nothing had happened."""
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ser_nb.data import demo, load_corpus
from ser_nb.features import extract

KILLS = 4


def train(features, out):
    return [sys.executable, "-m", "ser_nb.train", "--features", str(features), "--model_out", str(out), "--epochs", "6",
            "--units", "16", "--split", "words", "--members", "2"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    corpus = demo(root / "demo")
    speakers = sorted(set(corpus["speaker"]))[:2]
    extract(corpus[corpus["speaker"].isin(speakers)].reset_index(drop=True), root / "features", jobs=1)
    return root / "features"


def test_killed_training_ends_the_same(features, tmp_path):
    started = time.time()
    subprocess.run(train(features, tmp_path / "whole.h5"), check=True, capture_output=True)
    whole, rng, kills = time.time() - started, random.Random(0), 0
    for _ in range(KILLS):
        work = subprocess.Popen(train(features, tmp_path / "killed.h5"), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(rng.uniform(0.4, 0.95) * whole)
        kills += work.poll() is None
        if work.poll() is None: os.killpg(work.pid, signal.SIGKILL)
        work.wait()
    assert kills, "it was never killed, so nothing was tested"
    subprocess.run(train(features, tmp_path / "killed.h5"), check=True, capture_output=True)
    for name in ("history.csv", "normaliser.json", "split.csv", "run.json", "model.onnx"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())
