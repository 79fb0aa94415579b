"""Settings that every test shares, made before keras or matplotlib can be imported."""
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["MPLBACKEND"] = "Agg"

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the notebooks' cells marked `#| slow`, and tests marked slow, as well")


def pytest_configure(config):
    "Processes that test side by side find the demo corpus made."
    config.addinivalue_line("markers", "slow: more of what another test tries already; only with --slow")
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        from ser_nb.more.demo import example_corpus
        example_corpus(ROOT / "data")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="only with --slow"))


@pytest.fixture
def every(request):
    "The step of a sweep: 1 with --slow, which tries all of it."
    return lambda step: 1 if request.config.getoption("--slow") else step


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "Of processes side by side one takes a whole file, whose tests share what they made, or one notebook."
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::", 1)[0]
            return nodeid if file.endswith("test_notebooks.py") else file

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    "nbdev finds settings.ini from the working directory."
    monkeypatch.chdir(ROOT)
