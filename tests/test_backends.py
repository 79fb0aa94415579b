"""The same weights give the same answers on every keras backend that is installed, and each of them trains."""
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

BACKENDS = [name for name in ("jax", "tensorflow", "torch") if importlib.util.find_spec(name)]

POOLINGS = ["last", "mean", "attention", "deviation", "change"]

CODE = """
import json, os, sys
import numpy as np
from ser_nb.model import ModelSettings, build_model, compile_model, import_keras
from ser_nb.train import load_weights, save_weights, seed_everything

folder, out, *poolings = sys.argv[1:]
voices = {"wide": 2, "n_mels": 4, "conv": 6, "speaker_norm": True, "label_smoothing": 0.1}
found = {"backend": import_keras().backend.backend()}
for pooling in poolings:
    unseen = voices if pooling == "deviation" else {}
    s = ModelSettings(units=(12, 8), dense=8, pooling=pooling, bidirectional=pooling != "last", **unseen)
    rng, weights = np.random.default_rng(0), os.path.join(folder, pooling + ".weights.h5")
    x = {"frames": rng.normal(size=(8, 24, 5)).astype("float32"), "mask": np.arange(24) < rng.integers(1, 25, 8)[:, None]}
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, 8)]
    seed_everything(0)
    model = compile_model(build_model(s, 5, 3), s, 0.01)
    if not os.path.exists(weights): save_weights(model, weights)
    load_weights(model, weights)
    p = model.predict_on_batch(x)
    losses = []
    for _ in range(20):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x, y, return_dict=True)["loss"]))
    found[pooling] = {"p": np.asarray(p).tolist(), "losses": losses}
json.dump(found, open(out, "w"))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "What each backend answers, with the weights that the first one drew."
    folder = tmp_path_factory.mktemp("backends")
    for name in BACKENDS:
        subprocess.run([sys.executable, "-c", CODE, str(folder), str(folder / f"{name}.json"), *POOLINGS], check=True,
                       env={**os.environ, "KERAS_BACKEND": name})
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in BACKENDS}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_backends_agree(pooling, found):
    for name in BACKENDS:
        assert found[name]["backend"] == name
        losses = found[name][pooling]["losses"]
        assert losses[-1] < 0.9 * losses[0], f"{name} does not learn"
        np.testing.assert_allclose(found[name][pooling]["p"], found["jax"][pooling]["p"], atol=1e-5, err_msg=name)


def test_a_missing_backend_is_one_line():
    missing = sorted({"tensorflow", "torch"} - set(BACKENDS))
    if not missing: pytest.skip("every backend is installed")
    done = subprocess.run([sys.executable, "-c", "from ser_nb.model import import_keras; import_keras()"],
                          env={**os.environ, "KERAS_BACKEND": missing[0]}, capture_output=True, text=True)
    assert f'pip install "ser_nb[{missing[0]}]"' in done.stderr
