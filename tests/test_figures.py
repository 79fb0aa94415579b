"""The figures that the front page tells are those that the benchmarks have stored."""
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = {"tess": "an actress of TESS", "emovo": "a speaker of EMOVO", "own": "a speaker of EmoDB or RAVDESS, left out"}


@pytest.mark.parametrize("name, row", ROWS.items())
def test_a_voice_that_is_learnt(name, row):
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## It learns a voice")[2]
    cells = next(line for line in text.splitlines() if line.startswith(f"| {row} |")).split("|")[2:-1]
    stored = json.loads((ROOT / f"benchmarks/results/adapt/{name}.json").read_text())["mean"]
    for clips, cell in zip((0, 1, 3, 5), cells, strict=True):
        told = [float(number) for number in re.findall(r"\.\d+", cell)]
        known = [stored[f"labelled {clips}"][what] for what in ("uar", "low", "high")]
        assert len(told) in (1, 3) and told == [pytest.approx(k, abs=0.0051) for k in known[: len(told)]], (clips, cell)


DEFAULT = {"a speaker of EmoDB": "emodb-blind", "of RAVDESS, eight emotions": "ravdess-blind", "of EMOVO": "emovo-blind",
           "of EmoDB, the same": "emodb-adapted", "of RAVDESS, the same": "ravdess-adapted",
           "of EMOVO, the same": "emovo-adapted"}


@pytest.mark.parametrize("row, task", DEFAULT.items())
def test_a_stranger(row, task):
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## How well it understands a stranger")[2]
    told = next(line for line in text.splitlines() if line.startswith(f"| {row} |")).split("|")[4]
    seeds = json.loads((ROOT / "benchmarks/results/unseen/heard.json").read_text())[task].values()
    assert len(seeds) == 5 and float(told) == pytest.approx(sum(s["uar"]["together"] for s in seeds) / 5, abs=0.0051)


def test_a_stranger_of_tess():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## How well it understands a stranger")[2]
    told = next(line for line in text.splitlines() if line.startswith("| an actress of TESS |")).split("|")[4]
    stored = json.loads((ROOT / "benchmarks/results/sure.json").read_text())["tess"]["after"]["uar"]
    assert float(told) == pytest.approx(stored, abs=0.0051)
