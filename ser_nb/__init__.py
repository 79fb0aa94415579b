"Speech emotion recognition that a person can read, run and trust."
__version__ = "0.1.0"

import os


def cache_folder() -> str:  # ser_nb in XDG_CACHE_HOME, by default in ~/.cache
    "The one place, apart from the folders that a command names, where files are kept from run to run."
    home = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(home if os.path.isabs(home) else os.path.expanduser("~/.cache"), "ser_nb")


def _keep_home() -> None:
    "Ask libraries, before they are imported, to send nothing and to write into the cache; who has chosen otherwise is heard."
    chosen = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0",
              "KERAS_HOME": os.path.join(cache_folder(), "keras")}
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    if not any(os.path.isdir(os.path.expanduser(f"{place}matplotlib")) for place in (f"{config}/", "~/.")):
        chosen["MPLCONFIGDIR"] = os.path.join(cache_folder(), "matplotlib")
    for name, value in chosen.items():
        os.environ.setdefault(name, value)


_keep_home()

_NAMES = {
    "data": "load_audio load_corpus",
    "features": "FeatureSettings clip_features extract open_features",
    "dataset": "audit split_random split_speakers split_words",
    "model": "ModelSettings build_model",
    "train": "TrainSettings",
    "evaluate": "report_card",
    "predict": "Recognizer export",
    "more.demo": "demo",
    "more.fetch": "fetch",
    "trust": "model_card",
}
_PLACES = {name: place for place, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'ser_nb' has no attribute {name!r}")
    import importlib
    return getattr(importlib.import_module(f"ser_nb.{_PLACES[name]}"), name)


def __dir__():
    return sorted({*globals(), *_PLACES})
