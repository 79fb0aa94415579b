"""The same weights give the same answers on every keras backend that is installed, and each of them trains."""
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

BACKENDS = [name for name in ("jax", "tensorflow", "torch") if importlib.util.find_spec(name)]

CODE = """
import json, sys
import numpy as np
from ser_nb.model import ModelSettings, build_model, compile_model, import_keras
from ser_nb.train import load_weights, save_weights, seed_everything

pooling, weights, out = sys.argv[1:]
voices = {"wide": 2, "n_mels": 4, "conv": 6, "speaker_norm": True, "label_smoothing": 0.1}
unseen = voices if pooling == "deviation" else {}
s = ModelSettings(units=(12, 8), dense=8, pooling=pooling, bidirectional=pooling != "last", **unseen)
rng = np.random.default_rng(0)
x = {"frames": rng.normal(size=(8, 24, 5)).astype("float32"), "mask": np.arange(24) < rng.integers(1, 25, 8)[:, None]}
y = np.eye(3, dtype="float32")[rng.integers(0, 3, 8)]
seed_everything(0)
model = compile_model(build_model(s, 5, 3), s, 0.01)
import os
if not os.path.exists(weights): save_weights(model, weights)
load_weights(model, weights)
p = model.predict_on_batch(x)
losses = []
for _ in range(20):
    model.reset_metrics()
    losses.append(float(model.train_on_batch(x, y, return_dict=True)["loss"]))
json.dump({"backend": import_keras().backend.backend(), "p": np.asarray(p).tolist(), "losses": losses}, open(out, "w"))
"""


@pytest.mark.parametrize("pooling", ["last", "mean", "attention", "deviation"])
def test_backends_agree(pooling, tmp_path):
    found = {}
    for name in BACKENDS:
        out = tmp_path / f"{name}.json"
        subprocess.run([sys.executable, "-c", CODE, pooling, str(tmp_path / "w.weights.h5"), str(out)], check=True,
                       env={**os.environ, "KERAS_BACKEND": name})
        found[name] = json.loads(out.read_text())
        assert found[name]["backend"] == name
        assert found[name]["losses"][-1] < 0.9 * found[name]["losses"][0], f"{name} does not learn"
    for name in BACKENDS[1:]:
        np.testing.assert_allclose(found[name]["p"], found["jax"]["p"], atol=1e-5, err_msg=name)


def test_a_missing_backend_is_one_line():
    missing = sorted({"tensorflow", "torch"} - set(BACKENDS))
    if not missing: pytest.skip("every backend is installed")
    done = subprocess.run([sys.executable, "-c", "from ser_nb.model import import_keras; import_keras()"],
                          env={**os.environ, "KERAS_BACKEND": missing[0]}, capture_output=True, text=True)
    assert f'pip install "ser_nb[{missing[0]}]"' in done.stderr
