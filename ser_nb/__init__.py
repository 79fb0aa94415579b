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

def lazily(
    module: str,  # name of the module that wants to be asked
    places: dict,  # where names stand: module -> the names, with spaces between
):  # function of a name
    "A module's `__getattr__`: names that stand elsewhere, which is not imported before one is asked for."
    place = {name: where for where, names in places.items() for name in names.split()}

    def found(name: str):
        if name not in place:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        import importlib
        return getattr(importlib.import_module(place[name]), name)

    return found


_NAMES = {
    "ser_nb.data": "load_audio load_corpus",
    "ser_nb.features": "FeatureSettings clip_features extract open_features",
    "ser_nb.dataset": "audit split_random split_speakers split_words",
    "ser_nb.model": "ModelSettings build_model",
    "ser_nb.train": "TrainSettings",
    "ser_nb.evaluate": "report_card",
    "ser_nb.predict": "Recognizer export",
    "ser_nb.more.demo": "demo",
    "ser_nb.more.fetch": "fetch",
    "ser_nb.trust": "model_card",
}
__all__ = sorted(name for names in _NAMES.values() for name in names.split())
_APART = {"ser_nb.more.estimator": "SERClassifier"}  # needs scikit-learn at once, which `import *` must not
__getattr__ = lazily("ser_nb", _NAMES | _APART)


def __dir__():
    return sorted({*globals(), *__all__})
