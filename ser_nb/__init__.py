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
