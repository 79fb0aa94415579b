"""Each notebook runs from top to bottom, as one test: the lesson cells are the project's tests."""
import contextlib
import io
import re
import sys
from pathlib import Path

import nbdev.test as nbt
import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob

ROOT = Path(__file__).resolve().parent.parent
CONFIG = get_config(path=ROOT)
NOTEBOOKS = sorted(nbglob(CONFIG.nbs_path, as_path=True))
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def test_there_are_notebooks():
    assert NOTEBOOKS, f"no notebooks under {CONFIG.nbs_path}: nothing would be tested"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def test_notebook(path, request, monkeypatch):
    "nbdev runs a notebook in its own folder, so that ../data means the project's data."
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    if "matplotlib" in sys.modules:  # what the notebook before has set is no part of this one
        sys.modules["matplotlib"].rcdefaults()
        sys.modules["matplotlib"].use("Agg")
    flags = CONFIG.tst_flags.split()
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        passed, _ = nbt.test_nb(path.resolve(), skip_flags=flags, force_flags=flags if request.config.getoption("--slow") else [])
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    if not passed:
        pytest.fail(ANSI.sub("", errors.getvalue()), pytrace=False)
