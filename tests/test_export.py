"""What is written for other programs opens in them: networks in a keras that knows nothing of ser_nb."""
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ser_nb.lib.backend import load_weights, network_bytes
from ser_nb.model import Ensemble, ModelSettings, build_network
from ser_nb.train import ENCODER_NETWORK, READOUT_NETWORK, VOICE_NETWORK

CLASSIC = ModelSettings(units=(12, 6), dense=8, batch_norm=True)
VOICE = replace(VOICE_NETWORK, conv=8, units=(8,), columns=(0, 67))
UNTRAINED = replace(READOUT_NETWORK, n_mels=64, units=(8,), columns=(0, 67), speaker_norm=True)
NETWORKS = {"classic": (CLASSIC, 20), "mean": (replace(CLASSIC, pooling="mean"), 20),
            "attention": (replace(CLASSIC, pooling="attention", bidirectional=True, l2=0.01), 20),
            "several": (Ensemble((VOICE, UNTRAINED, replace(ENCODER_NETWORK, columns=(67, 147)))), 147)}
BARE = """
import sys, keras, numpy as np
for name in sys.argv[1:]:
    batch = dict(np.load(f"{name}.npz"))
    for suffix in (".h5", ".keras"):
        model = keras.models.load_model(name + suffix)
        np.save(name + suffix, model.predict_on_batch(batch))
assert not any(name.startswith("ser_nb") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    "Networks as files, and what a bare keras makes of them."
    home, wanted = tmp_path_factory.mktemp("bare"), {}
    for name, (settings, n) in NETWORKS.items():
        model = build_network(settings, n, 7)
        mask = np.arange(20) < np.array([[20], [7], [13]])
        batch = {"frames": np.random.default_rng(0).normal(size=(3, 20, n)).astype("float32"), "mask": mask}
        np.savez(home / f"{name}.npz", **batch)
        (home / f"{name}.h5").write_bytes(network_bytes(model))
        model.save(home / f"{name}.keras")
        wanted[name] = model, batch
    done = subprocess.run([sys.executable, "-c", BARE, *NETWORKS], cwd=home, capture_output=True, text=True,
                          env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stderr[-2000:]
    return home, wanted


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", NETWORKS)
def test_bare_keras_answers_the_same(name, suffix, written):
    home, wanted = written
    model, batch = wanted[name]
    assert np.abs(np.load(home / f"{name}{suffix}.npy") - model.predict_on_batch(batch)).max() < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_read_again_by_weights(name, written):
    home, wanted = written
    again = load_weights(build_network(*NETWORKS[name], 7), home / f"{name}.h5")
    for a, b in zip(again.get_weights(), wanted[name][0].get_weights()):
        np.testing.assert_array_equal(a, b)
    assert network_bytes(again) == (home / f"{name}.h5").read_bytes()
