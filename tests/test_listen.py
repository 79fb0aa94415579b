"""ser_listen at a terminal of its own: bars drawn in place, Ctrl-C in one line, and a voice that is taught by asking."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile as sf

BIN = Path(sys.executable).parent


MAKE = """
import sys
from pathlib import Path
import numpy as np, soundfile as sf
from ser_nb.dataset import split_words
from ser_nb.features import extract
from ser_nb.model import ModelSettings
from ser_nb.more.demo import DEMO_SR, demo, say
from ser_nb.train import TrainSettings, train
root = Path(sys.argv[1])
features = extract(demo(root / "demo", n_speakers=2, n_words=6), root / "features")
train(features, split_words(features.index, val=0.2, test=0.2), root / "run", ModelSettings(units=(8,), dense=0),
      TrainSettings(epochs=1, n_buckets=1), progress=False)
one = np.concatenate([say(word, "SF1", label) for word, label in (("bar", "angry"), ("dog", "sad"))])
sf.write(root / "short.wav", one, DEMO_SR)
sf.write(root / "long.wav", np.tile(one, 10), DEMO_SR)
for word in ("bar", "dog"):
    for label in ("angry", "sad", "happy"):
        (root / "takes" / label).mkdir(parents=True, exist_ok=True)
        sf.write(root / "takes" / label / f"{word}.wav", say(word, "SF1", label), DEMO_SR)
"""  # in a process of its own: one that has jax must not fork


DEVICE = """
import threading
import numpy as np, soundfile as sf
class PortAudioError(Exception):
    pass
class InputStream:
    "A microphone: a room, a voice, the room again."
    def __init__(self, callback, samplerate, **more):
        room = 1e-3 * np.random.default_rng(0).normal(size=3 * samplerate).astype(np.float32)
        y = np.concatenate([room[: samplerate // 2], sf.read("short.wav", dtype="float32")[0][: samplerate], room])
        blocks = [y[i : i + 1600, None] for i in range(0, len(y), 1600)]
        self.thread = threading.Thread(target=lambda: [callback(block, 0, 0, 0) for block in blocks])
    def __enter__(self):
        self.thread.start()
    def __exit__(self, *wrong):
        self.thread.join()
def play(y, sr):
    print("played", len(y) > sr)
def wait():
    pass
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A run, and some seconds of a synthetic voice."
    root = tmp_path_factory.mktemp("listen")
    subprocess.run([sys.executable, "-c", MAKE, root], check=True, capture_output=True)
    (root / "device").mkdir()
    (root / "device/sounddevice.py").write_text(DEVICE)
    return root


def at_terminal(home, *words, stop_after=None, enough=2, answers=()):
    "What a terminal gets to see, and the exit code; Ctrl-C is pressed, or a line typed, when something was seen."
    child, tty = pty.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who started the tests may have it ignored
        os.chdir(home)
        os.environ |= {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": "device"}
        os.execv(BIN / words[0], [str(w) for w in words])
    seen, until, pressed, answers = b"", time.monotonic() + 60, False, list(answers)
    while time.monotonic() < until:
        if select.select([tty], [], [], 0.2)[0]:
            try:
                seen += os.read(tty, 65536)
            except OSError:  # the other end is closed
                break
        if stop_after and not pressed and seen.count(stop_after) > enough:
            os.write(tty, b"\x03")
            pressed = True
        if answers and answers[0][0] in seen[-400:]:
            os.write(tty, answers.pop(0)[1])
    else:
        os.kill(child, signal.SIGKILL)
    os.close(tty)
    return seen.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def on_screen(text):
    "The lines that a terminal shows in the end: it goes up, empties a line, and writes it anew."
    lines, row = [""], 0
    for part in re.finditer(r"\x1b\[(\d+)F|(\x1b\[2K)|([^\x1b\r\n]+)|(\n)|\r", text):
        up, empty, said, down = part.groups()
        row = row - int(up) if up else row + bool(down)
        lines += [""] * (row + 1 - len(lines))
        lines[row] = "" if empty else lines[row] + (said or "")
    return lines


def test_bars_stay_in_place(home):
    seen, code = at_terminal(home, "ser_listen", "--run", "run", "--from_file", "short.wav")
    lines = on_screen(seen)
    labels = json.loads((home / "run/run.json").read_text())["labels"]
    assert code == 0 and [line.split()[0] for line in lines[1:8]] == labels, seen
    assert seen.count("\x1b[2K") > 50 and lines[8].startswith("level") and "█" in "".join(lines)
    assert lines[9].startswith("heard 2 s: ") and not "".join(lines[10:]).strip()


def test_ctrl_c_is_no_error(home):
    seen, code = at_terminal(home, "ser_listen", "--run", "run", "--from_file", "long.wav", stop_after=b" s  ")
    lines = [line for line in on_screen(seen) if line]
    assert code == 0 and "Traceback" not in seen, seen
    assert lines[-1].startswith("heard ") and len(lines) == 10 and "^C" not in seen, lines


TEACH = "ser_listen", "--teach", "anna", "--takes", "1"


def takes_of(home):
    "The takes that are kept, all of them whole."
    found = [p for p in (home / "anna").rglob("*") if p.is_file() and p.parent.parent.name == "takes"]
    assert all(p.suffix == ".wav" and sf.info(p).duration > 0.5 for p in found), found
    return sorted(p.relative_to(home / "anna/takes").as_posix() for p in found)


def test_a_voice_is_taught(home):
    "A take is asked for, played, taken again, kept; after Ctrl-C it goes on, here from files."
    enter, again = (b"Enter begins ", b"\n"), (b"takes it again ", b"r\n")
    typed = [enter, again, enter, (again[0], b"\n"), enter, (again[0], b"\n")]
    seen, code = at_terminal(home, *TEACH, stop_after=b"take 1: \"It", enough=3, answers=typed)
    assert code == 1 and "Traceback" not in seen and "stopped; the same command goes on" in seen, seen
    assert seen.count("played True") == 3 and "angry: once more" in seen, seen
    assert takes_of(home) == ["angry/1.wav", "disgust/1.wav"] and not (home / "anna/run.json").exists()
    seen, code = at_terminal(home, *TEACH, "--from_file", "takes")
    assert code == 0 and "fear: no take 1" in seen and "anna: the voice was heard" in seen, seen
    assert seen.count("meant ") == 2, seen
    assert takes_of(home) == ["angry/1.wav", "disgust/1.wav", "happy/1.wav", "sad/1.wav"]
    assert json.loads((home / "anna/run.json").read_text())["adapted"]["clips"] == 4
    assert not list((home / "anna").rglob(".writing-*"))
