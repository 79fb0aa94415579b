"""The pretrained encoder in frames, scales, networks, graphs and runs."""
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ser_nb.data import demo
from ser_nb.dataset import Normaliser, split_words
from ser_nb.features import VOICE_FRAMES, extract, pick_families, trim
from ser_nb.lib.audio import load_audio
from ser_nb.lib import encoder
from ser_nb.lib.encoder import ABOUT, encoder_frames, encoder_weights, random_encoder, weights_hash
from ser_nb.lib.files import FeatureError, ModelError, SplitError, TrainError
from ser_nb.model import ModelSettings, from_json, seen_columns, to_json

WITH = ModelSettings(columns=(3, 83), encoder="ge2e", encoder_layers=(1, 2), units=(), pooling="deviation", dense=0)
HEARD = replace(VOICE_FRAMES, encoder="ge2e")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("encoder") / "demo", n_speakers=2, n_words=3)


@pytest.fixture(scope="module")
def powers(corpus, tmp_path_factory):
    return extract(corpus, tmp_path_factory.mktemp("encoder_powers"), HEARD)


def test_family(corpus, powers):
    assert powers.settings.families["encoder"] == slice(67, 147)
    clip = corpus.set_index("clip").loc[powers.index["clip"].iloc[0]]
    y = trim(load_audio(clip["path"])[0], VOICE_FRAMES)
    assert np.allclose(powers[0][:, 67:].reshape(-1, 40)[: 1 + len(y) // 160], encoder_frames(y), atol=1e-6)
    alone = pick_families(powers, VOICE_FRAMES)
    assert np.array_equal(alone[1], powers[1][:, :67]) and alone.settings == VOICE_FRAMES


@pytest.mark.parametrize("other", [dict(sr=22050), dict(hop_length=300), dict(center=False)], ids=str)
def test_what_it_needs(other):
    with pytest.raises(FeatureError, match="the encoder needs"):
        replace(HEARD, **other)


def test_older_settings_are_said_as_before():
    "What was extracted or trained without an encoder is neither extracted nor trained again."
    assert "encoder" not in VOICE_FRAMES.to_json() and "encoder" not in to_json(ModelSettings())
    assert from_json(ModelSettings, to_json(WITH)) == WITH


class Heard(list):
    settings = SimpleNamespace(families={"logmel": slice(0, 3), "encoder": slice(3, 5)})


@pytest.mark.parametrize("mode", ["train", "level", "utterance", "speaker"])
def test_scale(mode):
    heard = Heard(np.random.default_rng(k).normal(3, 2, (9, 5)).astype(np.float32) for k in range(4))
    if mode in ("utterance", "speaker"):
        with pytest.raises(SplitError, match="the pretrained encoder looks at"):
            Normaliser.fit(heard, range(4), mode)
        return
    scaled = Normaliser.fit(heard, range(4), mode).apply(heard[0])
    assert np.array_equal(scaled[:, 3:], heard[0][:, 3:]) and abs(scaled[:, :3].mean()) < 1


@pytest.mark.parametrize("wrong", [dict(encoder="x"), dict(encoder_layers=()), dict(encoder_layers=(2, 1)), dict(columns=(3,)),
                                   dict(units=()), dict(encoder="ge2e", conv=8), dict(units=(), encoder="ge2e")], ids=str)
def test_settings(wrong):
    with pytest.raises(ModelError, match=next(iter(wrong))):
        ModelSettings(**wrong)


def test_columns():
    with pytest.raises(ModelError, match="the frames have 82"):
        seen_columns(WITH, 82)
    with pytest.raises(ModelError, match="or a multiple"):
        seen_columns(replace(WITH, columns=(0, 83)), 83)


def padded_with(x, mask, junk, extra=0):
    x = np.where(mask[..., None], x, np.float32(junk))
    x = np.pad(x, ((0, 0), (0, extra), (0, 0)), constant_values=junk)
    return {"frames": x, "mask": np.pad(mask, ((0, 0), (0, extra)))}


def test_shipped():
    "What is shipped is what its hash says, and 1.6 MB; the third layer is asked for by name."
    with np.load(Path(encoder.__file__).parents[1] / encoder.SHIPPED) as packed:
        assert weights_hash({name: packed[name] for name in packed.files}) == encoder.SHIPPED_HASH
        assert {packed[name].dtype for name in packed.files} == {np.dtype("<f2")}
    if encoder.encoder_file().is_file():
        whole, last = encoder.whole_encoder()
        assert weights_hash({f"{part}_{k}": w.astype("<f2") for k, layer in enumerate(whole[:2])
                             for part, w in zip(("kernel", "recurrent", "bias"), layer)}) == encoder.SHIPPED_HASH
        assert np.array_equal(encoder_weights(3)[2][0], whole[2][0])


def test_other_weights_are_stored_whole():
    "Weights that aren't float16 numbers keep all their digits in a graph, and a graph is either all one or the other."
    from ser_nb.model import build_network, check_onnx, named_weights, onnx_model
    network = build_network(WITH, 83, 7)
    for weights, size in ((random_encoder(1, 2), 3.3e6), (encoder_weights(), 1.66e6)):
        encoder_layers = encoder.layers_of(network)
        for layer, own in zip(encoder_layers, weights):
            layer.set_weights(own)
        data = onnx_model(WITH, 83, 7, named_weights(network)).SerializeToString()
        assert size < len(check_onnx(data, WITH, 83, 7)) < size + 3e5


def test_graph():
    "ONNX answers as keras does, with one network and with several, and padding changes nothing."
    from ser_nb.model import Ensemble, OnnxNetwork, build_network, check_onnx, n_weights, named_weights, onnx_model
    x = np.random.default_rng(0).normal(size=(3, 20, 83)).astype("float32")
    x[..., 3:] = np.abs(x[..., 3:])
    mask = np.arange(20) < np.array([[20], [7], [13]])
    for s in (WITH, replace(WITH, units=(5,), dense=4, pooling="last"),
              replace(WITH, encoder_layers=(2,), pooling="change", speaker_norm=True),
              Ensemble((ModelSettings(columns=(0, 3), units=(4,)), replace(WITH, pooling="change")), (0.3, 0.7))):
        network = build_network(s, 83, 7)
        heard = OnnxNetwork(check_onnx(onnx_model(s, 83, 7, named_weights(network)).SerializeToString(), s, 83, 7))
        for junk in (padded_with(x, mask, np.nan), padded_with(x, mask, 7, 9)):
            assert np.allclose(heard.predict_on_batch(junk), network.predict_on_batch(padded_with(x, mask, 0)), atol=1e-6)
        assert sum(int(np.prod(w.shape)) for w in network.trainable_weights) == n_weights(s, 83, 7)


def test_run(powers, tmp_path):
    "A run holds the encoder's weights, says whose they are, and needs nothing else to answer."
    from ser_nb.predict import Recognizer
    from ser_nb.train import VOICE_NETWORK, VOICE_TRAINING, ensemble_members, load_run, train
    three = replace(VOICE_TRAINING, members=3, seed=2)
    named = ensemble_members(VOICE_NETWORK, three, HEARD, ["SF1"] * 9)
    assert list(named) == [*(f"trained-{k}" for k in (6, 7, 8)), "encoder-6"]
    assert [network.columns for network, _ in named.values()] == [(0, 67)] * 3 + [(67, 147)]
    split = split_words(powers.index, val=0.34, test=0.33)
    folder = train(powers, split, tmp_path / "run", *named["encoder-6"], progress=False)
    network, run, _ = load_run(folder)
    assert np.array_equal(network.get_layer("encoder_1").get_weights()[1], encoder_weights()[1][1])
    assert 1.6e6 < (folder / "model.onnx").stat().st_size < 1.9e6  # of 3.3 MB in float32
    assert (run["encoder"], run["model"]["encoder"], run["train"]["fit"]) == (ABOUT, "ge2e", "readout")
    said = Recognizer.load(folder).predict(powers.index["path"].iloc[0])
    assert abs(sum(said.probabilities.values()) - 1) < 1e-5


def test_command_settings():
    from ser_nb.features import FeatureSettings
    from ser_nb.train import command_settings, ready_encoder
    with pytest.raises(TrainError, match="the classic network has none"):
        command_settings(FeatureSettings(), True, {}, {}, "ge2e")
    with pytest.raises(TrainError, match="must be one of none, ge2e"):
        ready_encoder("x")
    with pytest.raises(TrainError, match="ser_features --encoder ge2e"):
        ready_encoder("ge2e", SimpleNamespace(settings=VOICE_FRAMES, folder="data/features"))
