"""The commands as the README writes them, also as modules, with broken files among the recordings."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from ser_nb.data import demo, read_table

BIN = Path(sys.executable).parent


def run(*words, cwd, code=0):
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def break_some(folder: Path) -> set:
    "Twenty broken files of ten kinds, each named as a clip of the corpus; returns their names."
    good = sorted(folder.rglob("*.wav"))[0].read_bytes()
    rng = np.random.default_rng(0)
    t = np.arange(16000) / 16000
    arrays = {"silent": np.zeros(16000), "short": 0.1 * np.sin(600 * t[:200]),
              "nan": np.where(t > 0.5, np.nan, 0.1), "inf": np.where(t > 0.5, np.inf, 0.1)}
    raw = {"empty": b"", "header": good[:44], "truncated": good[: len(good) // 2], "garbage": rng.bytes(5000),
           "text": b"this is not sound\n" * 200, "riff": b"RIFF" + rng.bytes(400)}
    names = set()
    for emotion in ("angry", "sad"):
        for kind in (*arrays, *raw):
            path = folder / f"SF1_{kind}_{emotion}.wav"
            if kind in arrays: sf.write(path, arrays[kind], 16000, subtype="FLOAT")
            else: path.write_bytes(raw[kind])
            names.add(path.name)
    return names


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    demo(root / "data/demo")
    return root


def test_seed_commands(home):
    broken = break_some(home / "data/demo")
    done = run(BIN / "ser_features", "--data_dir", "data/demo", "--out_dir", "data/features", cwd=home)
    rejected = read_table(home / "data/features/rejected.csv")
    assert {Path(p).name for p in rejected["path"]} == broken
    assert (rejected["reason"] != "").all()
    again = run(sys.executable, "-m", "ser_nb.features", "--data_dir", "data/demo", "--out_dir", "data/features", cwd=home)
    assert done.stdout and again.stdout
    run(BIN / "ser_train", "--features", "data/features", "--model_out", "checkpoints/ser_lstm.h5", "--epochs", "3",
        "--units", "16", "--members", "1", cwd=home)
    assert (home / "checkpoints/ser_lstm.h5").exists() and (home / "checkpoints/ser_lstm/run.json").exists()
    for command in ([BIN / "ser_evaluate"], [sys.executable, "-m", "ser_nb.train"]):
        run(*command, "--help", cwd=home)
    out = run(BIN / "ser_evaluate", "--model", "checkpoints/ser_lstm.h5", "--features", "data/features", cwd=home).stdout
    assert "Synthetic speech" in out and "UAR" in out and "LEAK" not in out
    assert (home / "checkpoints/ser_lstm/report/report.html").exists()
    module = run(sys.executable, "-m", "ser_nb.evaluate", "--model", "checkpoints/ser_lstm.h5", "--features",
                 "data/features", "--out_dir", "elsewhere", cwd=home).stdout
    assert module.splitlines()[:-1] == out.splitlines()[:-1]
    assert (home / "elsewhere/report.json").exists() and not (home / "runs").exists()


def test_new_voices_and_classic(home):
    clip = max((home / "data/demo").rglob("*_bar_fear.wav"))
    run(BIN / "ser_features", "--data_dir", "data/demo", "--out_dir", "data/voices", "--new_voices", cwd=home)
    for features, out, more in (("data/voices", "voices", ["--units", "8"]),
                                ("data/features", "picked", ["--members", "1", "--units", "8"]),
                                ("data/features", "classic", ["--classic", "--units", "8"])):
        run(BIN / "ser_train", "--features", features, "--model_out", f"checkpoints/{out}.h5", "--split", "speakers",
            "--epochs", "2", *more, cwd=home)
        assert run(BIN / "ser_predict", clip, "--run", f"checkpoints/{out}", cwd=home).stdout
        assert "UAR" in run(BIN / "ser_evaluate", "--model", f"checkpoints/{out}.h5", "--features", features,
                            cwd=home).stdout
    made = {out: json.loads((home / f"checkpoints/{out}/run.json").read_text()) for out in
            ("voices", "picked", "classic")}
    assert len(made["voices"]["model"]["members"]) == made["voices"]["train"]["members"] == 3
    assert len(list((home / "checkpoints/voices/members").iterdir())) == 3
    for out, network in (("voices", made["voices"]["model"]["members"][0]), ("picked", made["picked"]["model"])):
        assert network["bidirectional"] and 0 < made[out]["train"]["voices"] < 1
        assert made[out]["train"]["epochs"] == 2
    assert [made[out]["features"]["pitch"] for out in made] == [True, True, False]
    assert made["picked"]["features"]["n_mfcc"] == 0 and made["classic"]["features"]["n_mfcc"] == 20
    assert made["classic"]["model"]["units"] == [8] and made["classic"]["train"]["voices"] == 0
    run(BIN / "ser_card", "--run", "checkpoints/picked", "--features", "data/features", "--max_clips", "10", cwd=home)
    for out, crop, more in (("all", 200, []), ("old", 0, ["--data_dir", "data/demo", "--classic", "--judge_only"])):
        run(BIN / "ser_run", "--out_dir", out, "--protocols", "speakers", "--words", "4", "--max_folds", "2",
            "--epochs", "1", "--units", "8", *more, cwd=home)
        summary = json.loads((home / out / "summary.json").read_text())
        assert {r["protocol"] for r in summary["runs"]} == {"unseen speakers"}
        run_made = json.loads((home / out / summary["runs"][0]["run"] / "run.json").read_text())
        assert run_made["train"]["crop"] == crop and run_made["train"]["members"] == 1


@pytest.mark.parametrize("words, says", [
    (["ser_features", "--data_dir", "nowhere"], "nowhere"),
    (["ser_features", "--data_dir", "data/demo", "--hop_length", "0"], "hop_length"),
    (["ser_train", "--features", "nowhere"], "nowhere"),
    (["ser_train", "--features", "data/features", "--split", "sideways"], "sideways"),
    (["ser_train", "--features", "data/features", "--classic", "--voices", "1"], "ser_features --new_voices"),
    (["ser_evaluate", "--model", "none.h5", "--features", "data/features"], "none"),
    (["ser_run", "--data_dir", "nowhere"], "nowhere"),
    (["ser_run", "--protocol", "sideways"], "sideways"),
    (["ser_card", "--run", "nowhere", "--features", "data/features"], "nowhere"),
    (["ser_check", "nowhere"], "nowhere"),
])
def test_one_line_errors(home, words, says):
    done = run(BIN / words[0], *words[1:], cwd=home, code=1)
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
