"""Whatever a user types: one line on standard error, an exit code, and no traceback."""
import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

COMMANDS = {entry.name: entry.value for entry in entry_points(group="console_scripts") if entry.name.startswith("ser_")}
MAKE = """
import sys
from pathlib import Path
from ser_nb.data import demo
from ser_nb.dataset import split_words
from ser_nb.features import extract
from ser_nb.model import ModelSettings
from ser_nb.train import TrainSettings, train
root = Path(sys.argv[1])
features = extract(demo(root / "demo", n_speakers=2, n_words=6), root / "features")
train(features, split_words(features.index, val=0.2, test=0.2), root / "run", ModelSettings(units=(8,), dense=0),
      TrainSettings(epochs=1, n_buckets=1), progress=False)
"""
SECONDS = 100  # after which a command is ended: some wait for what never comes


SERVE = """
import contextlib, importlib, json, os, runpy, signal, sys
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
for line in sys.stdin:
    words, script, home, seconds = json.loads(line)
    if not (child := os.fork()):
        os.chdir(home)
        signal.alarm(seconds)
        for path, fd in (("out.txt", 1), ("err.txt", 2)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # what the command before has left running may still write to its own
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = (open(fd, mode, closefd=False, errors="backslashreplace")
                                             for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
        sys.argv, code = [script, *words], 99
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 0 if e.code is None else print(e.code, file=sys.stderr) or 1
        except BaseException as e:
            print(f"Traceback: {type(e).__name__}: {e}", file=sys.stderr)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A folder with a corpus, its features, a run, and things that are none of these."
    root = tmp_path_factory.mktemp("one_line")
    subprocess.run([sys.executable, "-c", MAKE, root], check=True, capture_output=True)
    (root / "empty").mkdir()
    (root / "file").write_bytes(bytes(range(256)) * 8)
    (root / "table.csv").write_bytes(b"\xff\xfe\x00,\n" * 9)
    (root / "of space \n é").mkdir()
    (root / "clip.wav").write_bytes(sorted((root / "demo").rglob("*.wav"))[0].read_bytes())
    return root


@pytest.fixture(scope="module")
def server():
    "A process that has the commands' modules and no threads, and forks for each command line: most of a start is spared."
    modules = json.dumps(sorted({value.partition(":")[0] for value in COMMANDS.values()}))
    with subprocess.Popen([sys.executable, "-c", SERVE, modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def start(server, words, home):
    "Exit code, output and errors of a command line."
    name, *words = words
    module, _, function = COMMANDS[name].partition(":")
    script = home / f"{name}.py"
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    server.stdin.write(json.dumps([words, str(script), str(home), SECONDS]) + "\n")
    server.stdin.flush()
    code = int(server.stdout.readline())
    return code, *((home / name).read_text(errors="replace") for name in ("out.txt", "err.txt"))


LONG, ESCAPE = "x" * 5000, "a\x1b[31m\nb"
WORDS = [
    *[[name, *words] for name in COMMANDS for words in (["--bogus"], ["--bogus=1", ESCAPE], ["--no_such", "-3"])],
    *[["ser_predict", *words] for words in (
        [], ["clip.wav", "--run", "nowhere"], ["clip.wav", "--run", ""], ["clip.wav", "--run", "file"],
        ["clip.wav", "--run", "empty"], ["clip.wav", "--run", "features"], ["clip.wav", "--run", ESCAPE],
        ["clip.wav", "--run", LONG], ["clip.wav", "--run", "/dev/zero"], ["clip.wav", "--run", "run", "--format", "x"],
        ["clip.wav", "--run", "run", "--window", "-3"], ["nowhere.wav", "--run", "run"], ["empty", "--run", "run"],
        [LONG, "--run", "run"], [ESCAPE, "--run", "run"], ["", "--run", "run"], ["-", "--run", "run"],
        ["-", "--run", "run", "--timeline"], ["clip.wav", "--run", "run", "--speaker", "demo"],
        *[["nowhere"] * n + ["--run", "run"] for n in (2, 3000)], ["file", "--run", "run", "--timeline"],
        ["clip.wav", "--run", "run", "--pauses"], ["clip.wav", "--run", "run", "--timeline", "--pauses", "nan"],
        ["clip.wav", "--run", "run", "--out", "x.vtt"], ["clip.wav", "--run", "run", "--timeline", "--out", "file/x.vtt"],
        ["demo", "--run", "run", "--timeline", "--out", "x.svg"])],
    *[["ser_listen", *words] for words in (
        ["--run", "nowhere"], ["--run", "run", "--from_file", "nowhere.wav"], ["--run", "run", "--from_file", "file"],
        ["--run", "run", "--from_file", ESCAPE], ["--run", "run", "--from_file", "clip.wav", "--window", "-3"],
        ["--run", "run", "--device", "none such", "--seconds", "1"])],
    *[["ser_adapt", *words] for words in (
        [], ["nowhere"], ["nowhere", "--out_dir", "made/a"], ["demo", "--out_dir", "made/a", "--run", "nowhere"],
        ["empty", "--out_dir", "made/a"], ["file", "--out_dir", "made/a"], ["demo", "--out_dir", "file"], [ESCAPE])],
    *[["ser_export", *words] for words in (
        [], ["run"], ["run", "x.doc"], ["nowhere", "x.onnx"], ["file", "x.onnx"], ["run", ""], ["run", "file/x.onnx"])],
    *[["ser_fetch", *words] for words in ([], ["tess"], ["nowhere", "x"], [ESCAPE, "x"], ["", ""])],
    *[["ser_check", *words] for words in (
        [], ["nowhere"], ["file"], ["table.csv"], ["empty"], [""], [","], [ESCAPE], [LONG], ["/dev/null"],
        ["demo", "--out", "empty"], ["demo,nowhere"])],
    *[["ser_features", "--data_dir", "demo", "--out_dir", "made", *words] for words in (
        ["--data_dir", "nowhere"], ["--data_dir", "empty"], ["--data_dir", "table.csv"], ["--data_dir", ESCAPE],
        ["--hop_length", "0"], ["--hop_length", "x"], ["--sr", "-1"], ["--n_fft", str(10**12)], ["--n_mels", "-1"],
        ["--top_db", "-3"], ["--top_db", "nan"], ["--vad", "9"], ["--engine", "x"], ["--jobs", "0"],
        ["--out_dir", "file"], ["--out_dir", "file/x"])],
    *[["ser_train", "--features", "features", "--model_out", "made/m.h5", "--epochs", "1", *words] for words in (
        ["--features", "nowhere"], ["--features", "file"], ["--features", "empty"], ["--features", ESCAPE],
        ["--split", "sideways"], ["--split", "nowhere.csv"], ["--split", "table.csv"], ["--split", "file"],
        ["--split", "speakers", "--test_speakers", "nobody"], ["--epochs", "-1"], ["--epochs", "x"],
        ["--batch_size", "0"], ["--learning_rate", "nan"], ["--learning_rate", "-1"], ["--conv", "-1"],
        ["--units", "a,b"], ["--units", "0"], ["--pooling", "x"], ["--dropout", "2"],
        ["--normalise", "x"], ["--voices", "3"], ["--members", "0"], ["--members", "-1"], ["--seed", "-1"],
        ["--seed", str(10**30)], ["--model_out", "file/x.h5"], ["--model_out", "x.pt"], ["--model_out", ""])],
    *[["ser_evaluate", "--model", "run", "--features", "features", *words] for words in (
        ["--model", "nowhere"], ["--model", "file"], ["--model", "empty"], ["--model", ESCAPE], ["--part", "x"],
        ["--features", "nowhere"], ["--features", "file"], ["--out_dir", "file"], ["--out_dir", "file/x"])],
    *[["ser_run", "--data_dir", "demo", "--out_dir", "made/r", *words] for words in (
        ["--data_dir", "nowhere"], ["--data_dir", "empty"], ["--data_dir", "table.csv"], ["--protocols", "x"],
        ["--protocols", ","], ["--seeds", "0"], ["--seeds", "x"], ["--words", "-1"], ["--members", "-1"],
        ["--epochs", "-1"], ["--normalise", "x"], ["--out_dir", "file"], ["--seed", "-1"], ["--folds", "1"],
        ["--repeats", "2"], ["--baseline", "x"], ["--build", "nobody"])],
    *[["ser_search", "--data_dir", "demo", "--out_dir", "made/s", *words] for words in (
        ["--data_dir", "nowhere"], ["--space", "x"], ["--space", "dropout=.1|2"], ["--space", ESCAPE], ["--folds", "1"],
        ["--inner", "x"], ["--tries", "-1"], ["--words", "-1"], ["--epochs", "-1"], ["--out_dir", "file"])],
    *[["ser_card", "--run", "run", "--features", "features", *words] for words in (
        ["--run", "nowhere"], ["--run", "file"], ["--run", ESCAPE], ["--features", "nowhere"], ["--features", "file"],
        ["--part", "x"], ["--coverage", "2"], ["--coverage", "nan"], ["--risk", "2"], ["--max_clips", "-1"],
        ["--data_dir", "nowhere"], ["--out_dir", "file"], ["--seed", "-1"])],
]


def test_all_commands_are_here():
    assert len(COMMANDS) == 12 and {words[0] for words in WORDS} == set(COMMANDS)


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words).encode("unicode_escape").decode()[:60])
def test_one_line(server, home, words):
    code, out, err = start(server, words, home)
    assert code in (1, 2), (code, out, err)
    *told, last = err.splitlines()  # what is being done, and what went wrong
    assert last.startswith(f"{words[0]}: ") and not any(line.startswith(f"{words[0]}: ") for line in told), err
    assert "Traceback" not in err + out and "fault of ser_nb" not in err and "\x1b" not in err + out, err


@pytest.mark.parametrize("name", COMMANDS)
def test_help(server, home, name):
    code, out, err = start(server, [name, "--help"], home)
    assert code == 0 and out.startswith(f"usage: {name} ") and not err


def test_good_ones_still_work(server, home):
    "The way in which the commands are started above can show success too."
    code, out, err = start(server, ["ser_predict", "clip.wav", "demo", "--run", "run", "--format", "json"], home)
    assert (code, err) == (0, "") and out.startswith("[")


def test_a_name_that_a_terminal_would_obey(server, home):
    "A file may be called so; what is said of it is one harmless line."
    code, out, err = start(server, ["ser_predict", "clip.wav", "--run", "run", "--out", ESCAPE], home)
    assert code == 0 and (home / ESCAPE).is_file(), err
    assert out == "a\\x1b[31m\\nb\n"
