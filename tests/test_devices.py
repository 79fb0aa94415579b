"""Two devices that share each batch give the figures of one."""
import os
import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
from ser_nb.beside.opened import load_run
from ser_nb.dataset import split_words
from ser_nb.features import VOICE_FRAMES, extract
from ser_nb.lib.backend import n_devices, on_devices
from ser_nb.lib.runs import read_history, read_run
from ser_nb.model import ModelSettings
from ser_nb.more.demo import demo
from ser_nb.more.training import ser_train
from ser_nb.train import TrainSettings, train

home = sys.argv[1]
features = extract(demo(f"{home}/demo", n_speakers=2, n_words=3), f"{home}/features", VOICE_FRAMES, jobs=1)
split = split_words(features.index, val=0.34, test=0.34)
split.to_csv(f"{home}/split.csv", index=False)
how = dict(units="4", epochs="1", batch_size="8", members="1", encoder="none", dropout="0")
ser_train(features.folder, f"{home}/one.h5", f"{home}/split.csv", **how)
ser_train(features.folder, f"{home}/two.h5", f"{home}/split.csv", devices="all", **how)
one, two = read_history(f"{home}/one"), read_history(f"{home}/two")
assert not {"loss", "val_loss", "val_uar"} - set(one)
np.testing.assert_allclose(one, two, rtol=1e-5)
a, b = (load_run(f"{home}/{name}")[0].get_weights() for name in ("one", "two"))
assert max(np.abs(x - y).max() for x, y in zip(a, b)) < 1e-5
said = [read_run(f"{home}/{name}")["versions"].get("devices") for name in ("one", "two")]
assert said == [None, "2"] and n_devices() == 1, said
with on_devices(2):
    import keras
    layout = keras.distribution.distribution().get_data_layout
    assert n_devices() == 2 and [layout((n, 5)).axes[0] for n in (8, 7)] == ["batch", None]
print("the same")
"""


def test_two_devices_are_one(tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, env=os.environ | flags)
    assert done.stdout.splitlines()[-1:] == ["the same"], done.stderr[-3000:]
