"""What is written for other programs opens in them: networks in a keras that knows nothing of ser_nb."""
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ser_nb.lib.backend import load_weights, named_weights, network_bytes
from ser_nb.model import Ensemble, ModelSettings, OnnxNetwork, build_network, onnx_model
from ser_nb.train import ENCODER_NETWORK, READOUT_NETWORK, VOICE_NETWORK

CLASSIC = ModelSettings(units=(12, 6), dense=8, batch_norm=True)
SEEN = replace(CLASSIC, pooling="attention", bidirectional=True, l2=0.01, columns=(0, 67))
VOICE = replace(VOICE_NETWORK, conv=8, units=(8,), columns=(0, 67))
UNTRAINED = replace(READOUT_NETWORK, n_mels=64, units=(8,), columns=(0, 67), speaker_norm=True)
SEVERAL = Ensemble((SEEN, VOICE, UNTRAINED, replace(ENCODER_NETWORK, columns=(67, 147))))
NETWORKS = {"classic": (CLASSIC, 20), "several": (SEVERAL, 147)}
BARE = """
import sys, keras, numpy as np
for name in ("classic", "several"):
    model = keras.models.load_model(name + ".h5")
    np.save(name, model.predict_on_batch(dict(np.load(name + ".npz"))))
    for a, b in zip(keras.models.load_model(name + ".keras").get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(a, b)
assert not any(name.startswith("ser_nb") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    "Networks as files, and what a bare keras makes of them."
    home, wanted = tmp_path_factory.mktemp("bare"), {}
    for name, (settings, n) in NETWORKS.items():
        model = build_network(settings, n, 7)
        mask = np.arange(20) < np.array([[20], [7], [13]])
        batch = {"frames": np.random.default_rng(0).uniform(0, 2, (3, 20, n)).astype("float32"), "mask": mask}
        np.savez(home / f"{name}.npz", **batch)
        (home / f"{name}.h5").write_bytes(network_bytes(model))
        model.save(home / f"{name}.keras")
        graph = onnx_model(settings, n, 7, named_weights(model)).SerializeToString()
        wanted[name] = model, OnnxNetwork(graph).predict_on_batch(batch)
    done = subprocess.run([sys.executable, "-c", BARE], cwd=home, capture_output=True, text=True,
                          env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stderr[-2000:]
    return home, wanted


@pytest.mark.parametrize("name", NETWORKS)
def test_bare_keras_answers_the_same(name, written):
    home, wanted = written
    assert np.abs(np.load(home / f"{name}.npy") - wanted[name][1]).max() < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_read_again_by_weights(name, written):
    home, wanted = written
    again = load_weights(build_network(*NETWORKS[name], 7), home / f"{name}.h5")
    for a, b in zip(again.get_weights(), wanted[name][0].get_weights()):
        np.testing.assert_array_equal(a, b)
    assert network_bytes(again) == (home / f"{name}.h5").read_bytes()
