"""Each command in a new home asks no other machine, and writes to the folders it was told and to one cache only.

Python's own sockets are refused and noted by tests/hooks/quiet. Libraries that are not written in Python can't be
watched from within: strace does that, where it is installed and allowed.
"""
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ser_nb.more.demo import demo

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TRACE = ["strace", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "400", "-e", "trace=%file,%network", "-e", "signal=none"]
SMALL = ["--epochs", "1", "--members", "1"]
COMMANDS = {
    "ser_fetch": ["tess", "fetched"],
    "ser_check": ["demo", "--out", "problems.csv"],
    "ser_features": ["--data_dir", "demo", "--out_dir", "features", "--new_voices", "--jobs", "2"],
    "ser_train": ["--features", "features", "--model_out", "made/run.h5", "--units", "8", *SMALL],
    "ser_evaluate": ["--model", "made/run.h5", "--features", "features"],
    "ser_predict": ["demo", "--run", "made/run"],
    "ser_adapt": ["demo/SF1_angry", "--out_dir", "adapted"],
    "ser_export": ["made/run", "made/run.onnx"],
    "ser_listen": ["--from_file", "demo/SF1_angry/SF1_bar_angry.wav", "--run", "made/run"],
    "ser_card": ["--run", "made/run", "--features", "features", "--max_clips", "10"],
    "ser_search": ["--data_dir", "demo", "--out_dir", "searched", "--space", "dropout=.1", "--folds", "2", "--inner", "2",
                   "--words", "4", "--units", "4", *SMALL],
    "ser_run": ["--data_dir", "demo", "--out_dir", "runs", "--protocols", "random", "--units", "8", *SMALL],
}
PUBLISHERS = {"doi.org", "bj.bcebos.com"}  # of TESS
WRITES = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC|^(mkdir|rename|link|symlink|mknod|chmod|chown|fchmodat|truncate)")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]*)"')
SYSTEM = re.compile(r"/dev/(null|tty|shm/.*)|/proc/self/.*|/proc/\d+/(task/\d+/)?comm")


def can_trace():
    "Whether strace is there and may look at other processes."
    return shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", os.devnull, "true"]).returncode == 0


def calls(trace):
    "Name and arguments of each system call that a trace holds, failed ones left out."
    for line in trace.read_text(errors="replace").splitlines():
        call = re.sub(r"^\d+ +", "", line)
        if re.match(r"\w+\(", call) and " = -1 " not in call:
            yield call


def written(trace, cwd):
    "Full paths that a trace creates, changes or opens for writing."
    for call in calls(trace):
        if WRITES.search(call):
            for folder, name in PATH.findall(call):
                yield os.path.normpath(os.path.join(folder or cwd, name))


def addressed(trace):
    "Addresses and ports that a trace binds to, connects with or sends to, and names that it looks up."
    for call in calls(trace):
        if re.match(r"bind|connect|send", call):
            yield from (f"{host}:{port}" for port, host in ADDRESS.findall(call))
        if call.startswith("open") and '"/etc/resolv.conf"' in call:
            yield "a look-up"


def run(words, cwd, spare, **env):
    "Run a program in a new home under every watch there is; what it did."
    home, temp, asked, trace = spare / "home", spare / "temp", spare / "asked", spare / "trace"
    home.mkdir(parents=True), temp.mkdir(), asked.touch(), trace.touch()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "JAX_", "MPL", "KERAS_HOME", "ORT_", "RAY_"))}
    env = {**kept, "HOME": str(home), "TMPDIR": str(temp), "TEST_ASKED": str(asked), "PYTHONDONTWRITEBYTECODE": "1",
           "PYTHONPATH": str(ROOT / "tests/hooks/quiet"), **env}
    traced = [*TRACE, "-o", str(trace)] if can_trace() else []
    done = subprocess.run([*traced, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    return SimpleNamespace(code=done.returncode, said=done.stdout + done.stderr, asked=asked.read_text().splitlines(),
                           trace=trace, cwd=cwd, home=home, temp=temp)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    "What each command did, one after the other."
    root = tmp_path_factory.mktemp("quiet")
    demo(root / "work/demo", n_speakers=2, n_words=8)
    for clip in sorted((root / "work/demo").rglob("*.wav"))[3::8]:
        clip.unlink()
    env = {"ser_fetch": {"TEST_AWAKE": "1"}}
    return {name: run([BIN / name, *words], root / "work", root / name, **env.get(name, {}))
            for name, words in COMMANDS.items()}


each_command = pytest.mark.parametrize("name", COMMANDS)


def test_every_command_is_here():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    assert {line.split("=")[0] for line in settings["DEFAULT"]["console_scripts"].split()} == set(COMMANDS)


@each_command
def test_ends_well(results, name):
    assert results[name].code == (name == "ser_fetch"), results[name].said
    assert "Warning" not in results[name].said and "Traceback" not in results[name].said, results[name].said


@each_command
def test_asks_no_other_machine(results, name):
    hosts = {line.split()[-1] for line in results[name].asked}
    assert hosts == (PUBLISHERS if name == "ser_fetch" else set()), results[name].asked


@each_command
def test_home_has_the_cache_only(results, name):
    home = results[name].home
    files = {path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()}
    assert all(path.startswith(".cache/ser_nb/") for path in files), sorted(files)
    assert {path.name for path in home.iterdir()} <= {".cache"} and not list(results[name].temp.iterdir())


@each_command
def test_traced(results, name):
    "What no hook of Python sees: threads and libraries with sockets and files of their own."
    if not can_trace():
        pytest.skip("no strace here, or it may not trace")
    done = results[name]
    places = (f"{done.cwd}/", f"{done.temp}/", f"{done.home}/.cache/ser_nb/", f"{done.temp.parent}/asked")
    also = {str(done.cwd), str(done.home / ".cache"), str(done.home / ".cache/ser_nb")}
    strange = {path for path in written(done.trace, done.cwd)
               if not path.startswith(places) and path not in also and not SYSTEM.fullmatch(path)}
    assert not strange, sorted(strange)
    there = set(addressed(done.trace))
    assert {address for address in there if not re.match(r"(127\.0\.0\.1|::1):(?!53$)", address)} == set(), sorted(there)


NOISY = """
import contextlib, os, socket, subprocess
open(os.path.expanduser("~/.left"), "w").close()
with contextlib.suppress(OSError): socket.getaddrinfo("example.org", 443)
subprocess.run(["getent", "hosts", "example.org"])
"""


def test_the_watch_can_fail(tmp_path):
    "All of the above is seen in a program that does it."
    done = run([sys.executable, "-c", NOISY], tmp_path, tmp_path / "spare")
    assert done.asked == ["socket.getaddrinfo example.org"] and (done.home / ".left").exists()
    if can_trace():
        assert str(done.home / ".left") in set(written(done.trace, tmp_path)) and "a look-up" in set(addressed(done.trace))


def environment(home, code="", **env):
    "What Python has in its environment after `code` and an import of any module of ser_nb."
    code += "; import ser_nb.lib.files, os, json; print(json.dumps(dict(os.environ)))"
    plain = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "LANG", "SYSTEMROOT")}
    done = subprocess.run([sys.executable, "-c", code.lstrip("; ")], env={**plain, "HOME": str(home), **env}, check=True,
                          capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)


def test_set_by_any_import(tmp_path):
    found = environment(tmp_path)
    assert found["ORT_DISABLE_TELEMETRY"] == "1" and found["RAY_USAGE_STATS_ENABLED"] == "0"
    assert found["KERAS_HOME"] == f"{tmp_path}/.cache/ser_nb/keras"
    assert found["MPLCONFIGDIR"] == f"{tmp_path}/.cache/ser_nb/matplotlib"
    assert not list(tmp_path.iterdir())


def test_who_has_chosen_is_heard(tmp_path):
    own = {"ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1", "KERAS_HOME": "/k", "MPLCONFIGDIR": "/m"}
    assert own.items() <= environment(tmp_path, **own).items()
    assert environment(tmp_path, XDG_CACHE_HOME="/elsewhere")["KERAS_HOME"] == "/elsewhere/ser_nb/keras"
    assert environment(tmp_path, XDG_CACHE_HOME="not/absolute")["KERAS_HOME"] == f"{tmp_path}/.cache/ser_nb/keras"
    (tmp_path / ".config/matplotlib").mkdir(parents=True)
    assert "MPLCONFIGDIR" not in environment(tmp_path)
