"""Labels that look like numbers, truth values, formulas or html, names in two spellings, and a recording that stands
in a corpus twice, from a list to the report, the answer and the card."""
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ser_nb.data import demo, read_table

BIN = Path(sys.executable).parent
LABELS = {"angry": "1", "sad": "true", "happy": "=1+1 $x$ <b>"}
SPELT = {"SF1": ("Anna", "anna "), "SM1": ("Jos\u00e9", "JOSE\u0301")}


def run(*words, cwd, code=0):
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels")
    clips = demo(root / "demo", n_speakers=2, n_words=7)
    clips = clips[clips["emotion"].isin(list(LABELS))].reset_index(drop=True)
    rows = pd.DataFrame(dict(path=clips["path"], emotion=clips["emotion"].map(LABELS), text=clips["text"],
                             speaker=[SPELT[s][i % 3 == 2] for i, s in enumerate(clips["speaker"])], age="007"))
    rows.to_csv(root / "list.csv", index=False)
    shutil.copy(rows["path"].iloc[0], root / "zz.wav")
    for name, other in (("voices", dict(speaker=SPELT["SM1"][0])), ("emotions", dict(emotion="true"))):
        double = {**rows.iloc[0].to_dict(), "path": str(root / "zz.wav"), **other}
        pd.concat([rows, pd.DataFrame([double])]).to_csv(root / f"{name}.csv", index=False)
    return root


def test_from_list_to_card(home):
    done = run(BIN / "ser_run", "--data_dir", "list.csv", "--out_dir", "run", "--protocols", "random", "--members", "1",
               "--epochs", "1", cwd=home)
    assert "1 training planned" in done.stderr
    assert any(line.startswith("training 1 of 1, random: UAR") for line in done.stderr.splitlines()), done.stderr
    assert "unseen speakers: not judged: not asked for" in done.stdout
    assert sorted(p.parent.name for p in home.glob("run/*/run.json")) == ["random", "recogniser"]
    index = read_table(home / "run/features/index.csv")
    assert set(index["emotion"]) == set(LABELS.values()) and set(index["age"]) == {"007"}
    out = run(BIN / "ser_evaluate", "--model", "run/random", "--features", "run/features", cwd=home).stdout
    assert all(label in out for label in LABELS.values())
    report = json.loads((home / "run/random/report/report.json").read_text())
    assert set(report["per_class"]) == set(LABELS.values()) and set(report["per_speaker"]) == {"Anna", "Jos\u00e9"}
    assert "<b>" not in (home / "run/random/report/report.html").read_text().split("<h2>Which")[1].split("<h2>Each")[0]
    with open(home / "run/random/report/predictions.csv", newline="") as file:
        assert not any(cell.startswith("=") for row in csv.reader(file) for cell in row)
    clip = sorted((home / "demo").rglob("*.wav"))[0]
    said = json.loads(run(BIN / "ser_predict", clip, "--run", "run/random", "--format", "json", cwd=home).stdout)
    assert set(LABELS.values()) >= {said[0]["label"]}
    run(BIN / "ser_card", "--run", "run/random", "--features", "run/features", "--max_clips", "6", cwd=home)
    card = json.loads((home / "run/random/card/card.json").read_text())
    assert {row["emotion"] for row in card["tables"]["recall"]} <= set(LABELS.values())


@pytest.mark.parametrize("name, protocols, cause", [
    ("voices", "speakers", "under two speakers (Anna, Jos\u00e9): delete one or correct its speaker"),
    ("emotions", "random", "under two emotions (1, true): delete one or correct its emotion")])
def test_a_double_is_named(home, name, protocols, cause):
    done = run(BIN / "ser_run", "--data_dir", f"{name}.csv", "--out_dir", name, "--protocols", protocols, cwd=home, code=1)
    last = done.stderr.splitlines()[-1]
    assert cause in last and "zz.wav are the same recording (same bytes)" in last and "share" not in last
