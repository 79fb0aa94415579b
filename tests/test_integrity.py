"""Damage that is seen: flipped bits, swapped files, several programs in one folder, full disks and kills.

SER_NB_FLIPS=10000 flips that many bits.
"""
import contextlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from ser_nb.data import demo
from ser_nb.dataset import split_words
from ser_nb.evaluate import predictions, read_predictions, report, ser_evaluate
from ser_nb.features import extract, open_features
from ser_nb.lib import files as lib_files
from ser_nb.lib import runs as lib_runs
from ser_nb.lib.command import what_happened
from ser_nb.lib.files import SerError, locked
from ser_nb.lib.runs import SEALED, Report, Run, read_history, read_run
from ser_nb.model import ModelSettings
from ser_nb.predict import Recognizer, export, ser_predict
from ser_nb.train import TrainSettings, load_run, run_split, save_model_file, ser_train, train
from ser_nb.trust import calibrate, read_calibration, ser_card

FLIPS = int(os.environ.get("SER_NB_FLIPS", 300))
BIN = Path(sys.executable).parent
NETWORK, TRAINING = ModelSettings(units=(6,), dense=0), TrainSettings(epochs=2, n_buckets=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("integrity")


@pytest.fixture(scope="module")
def features(home):
    return extract(demo(home / "demo", n_speakers=2, n_words=6), home / "features", jobs=1)


@pytest.fixture(scope="module")
def split(features):
    return split_words(features.index, val=0.2, test=0.2)


def trained(features, split, folder, **more):
    return train(features, split, folder, NETWORK, TRAINING, progress=False, **more)


@pytest.fixture(scope="module")
def run(home, features, split):
    "A finished run with its model file, report and calibration."
    folder = trained(features, split, home / "run")
    save_model_file(folder, home / "run.h5")
    report(folder, features)
    calibrate(folder, features)
    return folder


def contents(folder):
    "The files of a folder, without the lock."
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".lock"}


def readings(run, folder):
    "What a run and its features are asked for: name -> function of nothing that gives the answer."
    def recognised():
        recognizer = Recognizer.load(run)
        return recognizer.probabilities(frames).tobytes(), recognizer.temperature, recognizer.threshold

    def features():
        found = open_features(folder)
        return found.data_hash, [found[i].tobytes() for i in range(len(found))], found.rejected.to_csv()

    whole = open_features(folder)
    frames = [whole[i] for i in range(0, len(whole), 5)]
    return {"recogniser": recognised, "calibration": lambda: read_calibration(run), "run.json": lambda: read_run(run),
            "history": lambda: read_history(run).to_csv(), "split": lambda: run_split(run).to_csv(),
            "report": lambda: read_predictions(run).to_csv(), "features": features,
            "judged": lambda: Report.open(run / "report").read("report.json"),
            "opened": lambda: open_features(folder, verify=True).data_hash,
            "verified": lambda: Run.open(run).verify(),
            "model file": lambda: predictions(run.with_suffix(".h5"), open_features(folder)).to_csv()}


_opened = []  # paths that Python opens, where a test wants to know of them
sys.addaudithook(lambda event, words: _opened.append(str(words[0])) if event == "open" else None)


def read_by(work):
    "What a work gives, and which files it opens for that."
    _opened.clear()
    return work(), {str(Path(path).resolve()) for path in _opened}


def outcome(ask, wanted):
    "Whether a question is answered as before, refused, or answered otherwise and silently."
    try: return "same" if ask() == wanted else "silent"
    except SerError as error:
        assert "\n" not in str(error), error
        return "error"


def test_no_flip_is_silent(home, run, features):
    "One bit in any file of a run, its report, its features and its model file: an error, or the same answers."
    rng, seen, asks = random.Random(0), {}, readings(run, features.folder)
    known = {name: read_by(ask) for name, ask in asks.items()}
    files = {str(path.resolve()): bytearray(path.read_bytes())
             for folder in (run, features.folder) for path in sorted(folder.rglob("*")) if path.name != ".lock"
             and path.is_file()}
    files[str(run.with_suffix(".h5").resolve())] = bytearray(run.with_suffix(".h5").read_bytes())
    for path in rng.choices(sorted(files), k=FLIPS):
        data, ask_of = files[path], [name for name, (_, read) in known.items() if path in read]
        bit = rng.randrange(8 * len(data))
        with open(path, "r+b") as file:
            file.seek(bit // 8)
            file.write(bytes([data[bit // 8] ^ 1 << bit % 8]))
            file.flush()
            found = {name: outcome(asks[name], known[name][0]) for name in ask_of}
            file.seek(bit // 8)
            file.write(data[bit // 8:bit // 8 + 1])
        assert "silent" not in found.values(), (bit, path, found)
        seen.setdefault(Path(path).name, Counter())["error" if "error" in found.values() else "same"] += 1
    print(dict(sum(seen.values(), Counter())), {name: dict(counted) for name, counted in sorted(seen.items())})
    for name in (*SEALED, "calibration.json", "run.h5", "predictions.csv", "index.csv", "settings.json"):
        assert not seen.get(name, Counter())["same"], name
    assert all(ask() == known[name][0] for name, ask in asks.items())


MUTATIONS = {"empty": lambda data: b"", "cut": lambda data: data[: len(data) // 2], "object": lambda data: b"{}",
             "list": lambda data: b"[]", "null": lambda data: b"null", "text": lambda data: b"Dear diary,\n" * 9,
             "binary": lambda data: np.random.default_rng(0).bytes(3000), "deep": lambda data: b"[" * 10**5,
             "longer": lambda data: data + b"\0", "none": None}


def mutate(path, how):
    "Change a file, or remove it."
    change = MUTATIONS[how]
    if change is None: path.unlink()
    else: path.write_bytes(change(path.read_bytes()))


def told(command, *words, **options):
    "Exit code of a command called in this process, what it prints, and its one line of complaint."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code, more = command(*words, **options) or 0, ""
        except SystemExit as end: code, more = (1, end.code) if isinstance(end.code, str) else (end.code or 0, "")
    lines = [line for line in (err.getvalue() + more).splitlines() if line.startswith("ser_")]
    assert code == 0 or (len(lines) == 1 and "fault of ser_nb" not in lines[0]), lines
    return code, out.getvalue(), "".join(lines)


@pytest.fixture(scope="module")
def clip(home, run):
    return str(sorted((home / "demo").rglob("*.wav"))[0])


def judge(run, features, out):
    return told(ser_evaluate, model=str(run) + ".h5", features=str(features.folder), out_dir=str(out))


def predict(run, clip):
    return told(ser_predict, [clip], run=str(run), format="json")


LIKE_OTHERS = ("list", "null", "text", "deep")  # what can be read no more than the others can
MARKED = {how: pytest.param(how, marks=[pytest.mark.slow] * (how in LIKE_OTHERS)) for how in MUTATIONS}


@pytest.mark.parametrize("how", MARKED.values())
def test_damaged_files_end_in_one_line(home, run, features, clip, how):
    "Each file of a finished run, through the commands that read it."
    right, names = predict(run, clip), {**contents(run), "model file": b""}
    train_again = dict(features=str(features.folder), split="words", epochs=2, classic=True, units="6", members=1)
    for name in [name for name in names if not name.startswith("report/")]:
        copy = home / "copies" / how / name.replace(".", "-") / "run"
        shutil.copytree(run, copy)
        shutil.copy(home / "run.h5", f"{copy}.h5")
        mutate(copy / name if name != "model file" else Path(f"{copy}.h5"), how)
        found = predict(copy, clip)
        assert found == right or found[0], name
        if name != "calibration.json" and not (how == "none" and name == "model file"):
            assert judge(copy, features, home / "nowhere")[0] == 1, name
        if name not in ("model file", "calibration.json"):
            with pytest.raises(SerError): Run.open(copy).verify()
            with pytest.raises(SerError): export(copy, home / "nowhere.zip")
            assert told(ser_card, run=str(copy), features=str(features.folder), max_clips=2)[0] == 1
            fresh = name == "run.json" and how == "none"  # no run is there any more
            assert told(ser_train, model_out=f"{copy}.h5", **train_again)[0] == (not fresh), name
    assert not (home / "nowhere").exists() and not (home / "nowhere.zip").exists()


def test_damaged_calibration_is_mended_by_who_replaces_it(home, run, features):
    copy = shutil.copytree(run, home / "mended")
    before = contents(copy)
    for how in MUTATIONS:
        mutate(copy / "calibration.json", how)
        with pytest.raises(SerError): read_calibration(copy)
        calibrate(copy, features)
        assert contents(copy) == before


def reseal(folder, name):
    "What somebody does who changes a file and its hash."
    files = Run.open(folder)
    files.adopt([name])
    files.store()


@pytest.mark.parametrize("how", ["object", "list", "text", "empty", "deep"])
def test_forged_files_end_in_one_line(home, run, features, clip, how):
    "The same where the hashes were made to fit."
    for name in (*SEALED, "calibration.json"):
        copy = shutil.copytree(run, home / "forged", dirs_exist_ok=True)
        mutate(copy / name, how)
        reseal(copy, name)
        predict(copy, clip)
        if name not in ("audit.csv", "model.onnx", "reference.json", "calibration.json"):
            assert told(ser_evaluate, model=str(copy), features=str(features.folder))[0] == 1, name
        if name == "run.json":
            assert told(ser_card, run=str(copy), features=str(features.folder))[0] == 1


class Killed(BaseException):
    "As SIGKILL, a moment after a file was written."


def killed_after(step, work):
    "Do some work until the given file is written; whether it ended by itself."
    written = []

    def writing(path, data, write=lib_files.write_file):
        write(path, data)
        written.append(path)
        if len(written) > step: raise Killed
        return path

    with patch.object(lib_runs, "write_file", writing):
        try: work()
        except Killed: return False
    return True


@pytest.fixture(scope="module")
def plain(home, features, split):
    "A run and nothing else, and what it holds."
    return contents(trained(features, split, home / "plain"))


def test_killed_after_any_file_it_goes_on(home, features, split, plain, every):
    "Also what lies there then is a whole run, or none."
    for step in range(0, 100, every(3)):
        folder = home / "killed" / str(step)
        if killed_after(step, lambda: trained(features, split, folder)): break
        try: assert load_run(folder)[1]["finished"]
        except SerError as error: assert str(folder) in str(error)
        assert contents(trained(features, split, folder)) == plain, step
    assert 15 < step < 100


def test_killed_calibration(home, run, features):
    "Old or new, never neither."
    copy = shutil.copytree(run, home / "recalibrated")
    old = read_calibration(copy)["coverage"]
    for step in range(9):
        if killed_after(step, lambda: calibrate(copy, features, coverage=0.3)): break
        assert read_calibration(copy)["coverage"] in (old, read_calibration(copy)["coverage"])
        Run.open(copy).verify()
        Recognizer.load(copy)
    assert step == 3 and read_calibration(copy)["wanted"] == {"coverage": 0.3}


@pytest.mark.parametrize("how", [marked for how, marked in MARKED.items() if how != "longer"])
def test_damage_while_it_is_trained(home, features, split, plain, how):
    "A run that was stopped and of which a file is damaged is not gone on with."
    stopped = home / "stopped"
    if not stopped.exists(): assert not killed_after(10, lambda: trained(features, split, stopped))
    for name in contents(stopped):
        copy = shutil.copytree(stopped, home / "damaged", dirs_exist_ok=True)
        mutate(copy / name, how)
        try: assert contents(trained(features, split, copy)) == plain, name
        except SerError as error: assert "damaged" in str(error) and "\n" not in str(error), error
        shutil.rmtree(copy)


def test_a_run_stopped_in_an_older_version_goes_on(home, features, split, plain):
    folder = home / "older"
    assert not killed_after(10, lambda: trained(features, split, folder))
    (folder / "hashes.json").unlink()
    described = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({k: v for k, v in described.items() if k != "finished"}, indent=1))
    assert contents(trained(features, split, folder)) == plain


def starts_together(commands):
    "Exit code and complaint of each of some programs."
    work = [subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for words in commands]
    ends = [w.communicate() for w in work]
    return [(w.returncode, err) for w, (_, err) in zip(work, ends)]


def test_three_programs_in_one_folder(home, features):
    "One at a time, or one line that says who is at work."
    out = home / "contested.h5"
    ends = starts_together([BIN / "ser_train", "--features", features.folder, "--model_out", out, "--classic", "--units",
                            "6", "--epochs", "40", "--split", "words", "--seed", seed, "--overwrite"] for seed in range(3))
    good = [seed for seed, (code, _) in enumerate(ends) if code == 0]
    assert good
    for code, err in ends:
        lines = [line for line in err.splitlines() if line.startswith("ser_train:")]
        assert code == 0 or (code == 1 and len(lines) == 1 and "is writing to" in lines[0]), err
    assert Run.open(home / "contested").verify() == ()
    assert load_run(out)[1]["train"]["seed"] in good
    assert not list((home / "contested").glob("epoch-*")) and not list((home / "contested").glob(".writing-*"))


def test_two_reports_in_one_folder(home, run, features):
    "They wait for each other."
    out = home / "two-reports"
    words = [BIN / "ser_evaluate", "--model", run, "--features", features.folder, "--out_dir", out]
    assert [code for code, _ in starts_together([words, words])] == [0, 0]
    assert Report.open(out).read("report.json") == Report.open(run / "report").read("report.json")


def test_lost_hashes_are_an_error_for_each_reader(home, run):
    "What is read of a folder whose list of hashes is gone is not believed."
    copy = shutil.copytree(run, home / "unlisted")
    (copy / "hashes.json").unlink()
    for read in (read_run, read_history, run_split, read_calibration, load_run, Recognizer.load,
                 lambda folder: Run.open(folder).normaliser):
        with pytest.raises(SerError, match="hashes.json"): read(copy)
    (copy / "report" / "report-hashes.json").unlink()
    with pytest.raises(SerError, match="report-hashes.json"): read_predictions(copy)


def test_a_killed_check_leaves_no_process(home, features):
    "Its workers end soon after it."
    code = f"""from ser_nb.more.check import check
from ser_nb.lib.finding import load_corpus
corpus = load_corpus({str(home / 'demo')!r})
print("begun", flush=True)
while True: check(corpus, jobs=2)"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout.readline() == "begun\n"

    def group():
        return [pid for pid in filter(str.isdigit, os.listdir("/proc")) if session_of(pid) == parent.pid]

    until(lambda: len(group()) > 2)
    parent.kill()
    parent.wait()
    until(lambda: not group())


def session_of(pid):
    "The session that a process belongs to, unless it has ended."
    try: state, _, _, session = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError: return None
    return None if state == "Z" else int(session)


def until(true):
    "Wait for something that comes soon."
    for _ in range(600):
        if true(): return
        time.sleep(0.1)
    raise AssertionError("it never came")


def test_a_killed_program_leaves_no_lock(home):
    code = f"""import time
from ser_nb.lib.files import locked
with locked({str(home / 'held')!r}):
    print("held", flush=True)
    time.sleep(600)"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SerError, match=f"pid {holder.pid}"):
            with locked(home / "held"): pass
    finally:
        holder.kill()
        holder.wait()
    with locked(home / "held"): pass


@contextlib.contextmanager
def small_disk(folder, size):
    "A disk of so many bytes, where this program may make one."
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode: pytest.skip("no disk of its own can be mounted here")
    try: yield folder
    finally: subprocess.run(["umount", folder], check=True)


def fails_whole(work, folder):
    "Whether some work ended by an error of the disk, told in one line and with nothing half-written."
    try: work()
    except OSError as error:
        said = what_happened(error)
        assert str(folder) in said and "check the path" in said and "\n" not in said, said
        assert not list(folder.rglob(".writing-*"))
        return True
    return False


def test_full_disk(home, features, split, plain, every):
    "At whichever file it is full: one line, and after room was made the same bytes as ever."
    failed, sizes = 0, range(16, 160, 12)[::every(3)]
    for size in sizes:
        with small_disk(home / "disk", f"{size}k") as disk:
            failed += fails_whole(lambda: trained(features, split, disk / "run"), disk)
            subprocess.run(["mount", "-o", "remount,size=9m", disk], check=True)
            assert contents(trained(features, split, disk / "run")) == plain
    assert failed > len(sizes) / 2


def test_full_disk_by_command(home, features):
    "In a process of its own, which HDF5 would end by signal 11."
    for size, code in ((60, 1), (9000, 0)):
        with small_disk(home / "disk", f"{size}k") as disk:
            done = subprocess.run([BIN / "ser_train", "--features", features.folder, "--model_out", disk / "run.h5",
                                   "--classic", "--units", "16", "--epochs", "2", "--split", "words"], capture_output=True, text=True)
            lines = [line for line in done.stderr.splitlines() if line.startswith("ser_train:")]
            assert done.returncode == code and len(lines) == code and "Traceback" not in done.stderr, done.stderr
            assert all("No space left on device" in line and str(disk) in line for line in lines)


def test_full_disk_of_features_and_reports(home, run, features):
    "The same for those that extract and judge."
    corpus = demo(home / "demo", n_speakers=2, n_words=6)
    for size in (8, 60):
        with small_disk(home / "disk", f"{size}k") as disk:
            assert fails_whole(lambda: extract(corpus, disk / "features", jobs=1), disk)
        with small_disk(home / "disk", f"{size}k") as disk:
            assert fails_whole(lambda: report(run, features, disk / "report"), disk)


def test_files_that_may_not_grow(home, features, split, plain):
    "The same for everyone: no file may be longer than a limit."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (500, 3000, 15_000, 40_000):
        folder = home / "limited" / str(limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try: assert fails_whole(lambda: trained(features, split, folder), folder) or limit == 40_000
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert contents(trained(features, split, folder)) == plain
