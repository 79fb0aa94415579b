"""Extraction that is killed at any moment loses no finished shard, and ends with the same bytes as an undisturbed one."""
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from killing import finish, kill

from ser_nb.more.demo import demo

KILLS = 10
EXTRACT = """
import sys
from ser_nb.data import load_corpus
from ser_nb.features import extract

extract(load_corpus(sys.argv[1]), sys.argv[2], jobs=2, shard_size=8)
"""


def extract(corpus, folder):
    return [sys.executable, "-c", EXTRACT, str(corpus), str(folder)]


def finished(folder):
    "When each finished shard was made: its csv is the mark, its array the work."
    shards = folder / "shards"
    return {path.stem: (shards / f"{path.stem}.npy").stat().st_mtime_ns for path in shards.glob("[!.]*.csv")}


def content(folder):
    "Bytes of every file of a folder."
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "A corpus, the bytes of an undisturbed feature folder of it, and how often a file was changed for it."
    root = tmp_path_factory.mktemp("kill")
    demo(root / "demo", n_speakers=4)
    changes = finish(extract(root / "demo", root / "whole"), root / "whole")
    return root / "demo", content(root / "whole"), changes


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_ten_times(undisturbed, tmp_path, seed):
    corpus, whole, changes = undisturbed
    moments, folder, made = random.Random(seed), tmp_path / "features", [{}]
    for _ in range(KILLS):
        kill(extract(corpus, folder), folder, at=moments.randint(1, changes // (KILLS + 1)))
        made.append(finished(folder))
        assert made[-2].items() <= made[-1].items()
    assert 0 < len(made[-1]) < len(whole) // 2 - 1
    finish(extract(corpus, folder), folder)
    assert made[-1].items() <= finished(folder).items()
    assert content(folder) == whole


def alive(group):
    "Processes of a group that still run."
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            pass
    return found


def test_workers_end_with_a_killed_command(undisturbed, tmp_path):
    corpus, _, _ = undisturbed
    folder, command = tmp_path / "features", [sys.executable, "-m", "ser_nb.features", "--jobs", "2"]
    process = subprocess.Popen([*command, "--data_dir", str(corpus), "--out_dir", str(folder)], start_new_session=True)
    while process.poll() is None and len(alive(process.pid)) < 4:  # itself, two workers, and a tracker at least
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 100
    while (left := alive(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for worker in left:
        worker.kill()
    assert not left, f"{len(left)} processes live on"
