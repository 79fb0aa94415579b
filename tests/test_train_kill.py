"""Training killed at random moments ends as if nothing had happened."""
import random
import sys

import pytest
from killing import finish, kill

from ser_nb.features import extract
from ser_nb.more.demo import demo

KILLS, EPOCHS, MEMBERS = 4, 12, 2


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    return extract(demo(root / "demo", n_speakers=2), root / "features", jobs=1).folder


def train(features, out):
    return [sys.executable, "-m", "ser_nb.train", "--features", str(features), "--model_out", f"{out}.h5", "--units", "16",
            "--epochs", str(EPOCHS), "--split", "words", "--members", str(MEMBERS)]


def epochs_kept(folder):
    "Epochs in the histories of all networks."
    return sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("members/*/history.csv"))


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_training_ends_the_same(features, tmp_path):
    whole, killed, moments, kept = tmp_path / "whole", tmp_path / "killed", random.Random(0), [0]
    left = finish(train(features, whole), whole)
    for _ in range(KILLS):
        at = moments.randint(left // 6, left // 3)
        left -= at  # at the least, for what was begun is made again
        kill(train(features, killed), killed, at)
        kept.append(epochs_kept(killed))
    assert kept == sorted(kept) and 0 < kept[-1] < EPOCHS * MEMBERS, kept
    finish(train(features, killed), killed)
    assert epochs_kept(killed) == EPOCHS * MEMBERS and content(killed).keys() == content(whole).keys()
    for name in ("history.csv", "normaliser.json", "split.csv", "run.json", "model.onnx"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
