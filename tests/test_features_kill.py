"""Extraction that is killed at any moment loses no finished shard, and ends with the same bytes as an undisturbed one."""
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ser_nb.more.demo import demo

EXTRACT = """
import sys
from ser_nb.data import load_corpus
from ser_nb.features import extract

print("ready", flush=True)
extract(load_corpus(sys.argv[1]), sys.argv[2], jobs=2, shard_size=8)
"""


def start(corpus, folder):
    "Begin an extraction in a process group of its own, and return it once it has imported everything."
    command = [sys.executable, "-c", EXTRACT, str(corpus), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    return process


def finished(folder):
    "When each finished shard was made: its csv is the mark, its array the work."
    shards = folder / "shards"
    return {path.stem: (shards / f"{path.stem}.npy").stat().st_mtime_ns for path in shards.glob("[!.]*.csv")}


def content(folder):
    "Bytes of every file of a folder."
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "A corpus, and the bytes of an undisturbed feature folder of it."
    root = tmp_path_factory.mktemp("kill")
    demo(root / "demo", n_speakers=4)
    assert start(root / "demo", root / "whole").wait() == 0
    return root / "demo", content(root / "whole")


def kill_at_random(process, folder, moments):
    "Kill a whole process group within 50 ms of a random number of new shards; return whether it was still alive."
    enough = len(finished(folder)) + moments.randrange(4)
    while process.poll() is None and len(finished(folder)) < enough:
        time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.05))
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_ten_times(undisturbed, tmp_path, seed):
    corpus, whole = undisturbed
    moments, folder, midway = random.Random(seed), tmp_path / "features", 0
    for _ in range(10):
        before = finished(folder)
        alive = kill_at_random(start(corpus, folder), folder, moments)
        after = finished(folder)
        assert before == {name: after.get(name) for name in before}
        midway += alive and 0 < len(after) < len(whole) // 2 - 1
    assert midway >= 3
    before = finished(folder)
    assert start(corpus, folder).wait() == 0
    after = finished(folder)
    assert before == {name: after.get(name) for name in before}
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
    corpus, whole = undisturbed
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
