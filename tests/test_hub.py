"""Encoders of the Hugging Face hub: what is read of them, what they hear, and runs upon them."""
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ser_nb.data import demo
from ser_nb.dataset import split_words
from ser_nb.features import (VOICE_FRAMES, FeatureSettings, clip_features, extract, only_voice, open_features,
                             pick_families)
from ser_nb.lib import hub
from ser_nb.lib.audio import load_audio
from ser_nb.lib.files import FeatureError, TrainError
from ser_nb.lib.hub import hub_states, open_ear, other_encoder, pinned, probe, tiny
from ser_nb.more.export import export
from ser_nb.more.training import command_settings, ready_encoder
from ser_nb.predict import PredictError, Recognizer
from ser_nb.train import read_run, train

KINDS = ("wav2vec2", "hubert", "wavlm", "whisper")
BANDS = only_voice(VOICE_FRAMES, False)
COMMIT = "0123456789" * 4


def heard_by(name, **more):
    return FeatureSettings(encoder=name, layer="2", **more)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=f"no {package} here: pip install 'ser_nb[ssl]'")
    folder = tmp_path_factory.mktemp("hub")
    return {kind: tiny(kind, folder / kind) for kind in KINDS}


@pytest.fixture()
def model(models, tmp_path):
    "A copy that may be spoilt."
    shutil.copytree(models["wavlm"].removeprefix("hf:"), tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("hub_corpus") / "demo", n_speakers=2, n_words=3)


@pytest.fixture(scope="module")
def features(models, corpus, tmp_path_factory):
    settings = replace(BANDS, encoder=models["wavlm"], layer="1,3")
    return extract(corpus, tmp_path_factory.mktemp("hub_features"), settings)


def refused(folder, match, **more):
    with pytest.raises(FeatureError, match=match) as error:
        pinned(heard_by(f"hf:{folder}", **more))
    assert "\n" not in str(error.value) and str(error.value).startswith("encoder='hf:")


@pytest.mark.parametrize("missing", ["huggingface_hub", "transformers", "torch"])
def test_a_missing_package_is_one_line(missing, monkeypatch, tmp_path):
    "Of the hub's client, of transformers and of torch."
    if missing != "huggingface_hub":
        for name, text in {"config.json": "{}", "model.safetensors": ""}.items():
            (tmp_path / name).write_text(text)
        monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FeatureError, match=r"^encoder='hf:[^\n]*: pip install 'ser_nb\[ssl\]'$"):
        pinned(heard_by("hf:someone/something" if missing == "huggingface_hub" else f"hf:{tmp_path}"))


@pytest.mark.parametrize("wrong", [dict(encoder="wavlm"), dict(layer="6"), dict(encoder="hf:a/b", layer="six"),
                                   dict(encoder="hf:a/b", center=False), dict(encoder_hash="0")], ids=str)
def test_settings_that_cannot_work(wrong):
    with pytest.raises(FeatureError, match="|".join(wrong)):
        FeatureSettings(**wrong)


def test_settings_and_commands():
    known = replace(BANDS, encoder="hf:a/b", layer="6", encoder_hash="0", encoder_width=16)
    assert known.families["hub"] == slice(64, 80) and known.names[-1] == "hub_15"
    assert FeatureSettings.from_json(known.to_json()) == known and "layer" not in BANDS.to_json()
    assert other_encoder(known, "none") == BANDS and other_encoder(known, "hf:a/b") == known
    frames, _, training = command_settings(replace(known, pitch=True), False, {}, {}, "hf:a/b")
    assert frames == known and training.voices == 0
    assert ready_encoder("hf:a/b") == "hf:a/b"
    with pytest.raises(TrainError, match="must be one of none, ge2e, hf:NAME"):
        ready_encoder("wavlm")


def test_nothing_is_heard_before_the_hash_is_known():
    with pytest.raises(FeatureError, match="call pinned"):
        clip_features(np.random.default_rng(0).normal(size=9000) / 9, heard_by("hf:a/b"))


@pytest.mark.parametrize("kind", KINDS)
def test_families(models, kind):
    settings = pinned(heard_by(models[kind]))
    ear, noise = open_ear(settings), np.random.default_rng(0).normal(size=20000).astype(np.float32) / 10
    assert settings.encoder_width == probe(ear, 16000) == 16 and settings.encoder_about.startswith(kind)
    assert not ear.model.training and len(settings.encoder_hash) == 64
    x = clip_features(noise, settings)
    assert x.shape == (len(x), settings.n_features) and np.isfinite(x).all()
    assert np.array_equal(x, clip_features(noise, settings))
    assert hub_states(ear, noise[:40], 1, 320).shape == (1, 16)  # the shortest there is
    assert hub_states(ear, noise, 126, 160).shape == (126, 16)  # another hop
    every, parts = pinned(replace(settings, layer="all", encoder_hash="")), []
    for k in range(4):
        parts.append(hub_states(open_ear(replace(settings, layer=str(k))), noise, 63, 320))
    assert np.allclose(hub_states(open_ear(every), noise, 63, 320), np.mean(parts, 0), atol=1e-5)
    assert np.abs(parts[1] - parts[3]).max() > .1


def test_a_long_clip(models, monkeypatch):
    "It is heard in pieces, so that memory stays bounded. Whisper hears two seconds at once, here."
    sizes, real = [], hub.hear
    monkeypatch.setattr(hub, "hear", lambda ear, y: sizes.append(len(y)) or real(ear, y))
    noise = np.random.default_rng(0).normal(size=16000 * 7).astype(np.float32) / 10
    for kind in KINDS:
        ear = open_ear(pinned(heard_by(models[kind])))
        assert hub_states(ear, noise, 351, 320, longest=3.0).shape == (351, 16)
    assert max(sizes) <= 48000 and max(sizes[-8:]) <= 32000


def test_layers_above_are_left_out(models):
    for kind in KINDS:
        model = open_ear(pinned(replace(heard_by(models[kind]), layer="1"))).model
        assert len(getattr(model, "encoder", model).layers) == 2


def test_layers_beyond(models):
    with pytest.raises(FeatureError, match="layer 9: it has layers 0 to 3"):
        pinned(replace(heard_by(models["hubert"]), layer="9"))


def test_pickles_are_not_read(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    refused(model, "pickles .* can run code")


def test_no_code_of_a_model_is_run(model):
    (model / "evil.py").write_text(f"open({str(model / 'ran')!r}, 'w')\nclass C: pass\n")
    config = json.loads((model / "config.json").read_text())
    code = {"AutoConfig": "evil.C", "AutoModel": "evil.C", "AutoFeatureExtractor": "evil.C"}
    (model / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": code}))
    refused(model, "evil can't be heard with")
    (model / "config.json").write_text(json.dumps({**config, "auto_map": code, "attn_implementation": "some/kernel"}))
    assert pinned(heard_by(f"hf:{model}")).encoder_width == 16  # transformers knows the family itself
    assert not (model / "ran").exists()


@pytest.mark.parametrize("asks", ["transformers_weights", "quantization_config", "adapter_config.json"])
def test_more_than_numbers(model, asks):
    config = json.loads((model / "config.json").read_text())
    if asks.endswith("json"):
        (model / asks).write_text("{}")
    else:
        (model / "config.json").write_text(json.dumps({**config, asks: "other.bin"}))
    refused(model, f"{asks}: a whole model")


def test_weights_that_are_missing_are_not_drawn(model):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    del weights["encoder.layers.1.attention.k_proj.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    refused(model, "no weights for encoder.layers.1.attention.k_proj.weight")
    (model / "model.safetensors").write_bytes(b"damaged")
    refused(model, "wavlm can't be heard with")


def test_shards_of_weights(models, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModel

    whole = models["wav2vec2"].removeprefix("hf:")
    AutoModel.from_pretrained(whole).save_pretrained(tmp_path, max_shard_size="20KB")
    AutoFeatureExtractor.from_pretrained(whole).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    one, two = (pinned(heard_by(name)) for name in (models["wav2vec2"], f"hf:{tmp_path}"))
    y = np.random.default_rng(0).normal(size=9000) / 9
    assert one.encoder_hash != two.encoder_hash and np.array_equal(clip_features(y, one), clip_features(y, two))
    next(tmp_path.glob("model-00002-*")).unlink()
    refused(tmp_path, "model-00002-.* is missing")


def test_what_does_not_hear(models, tmp_path):
    import transformers as t

    small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    takes = {"text": t.Wav2Vec2FeatureExtractor(), "squares": t.ASTFeatureExtractor(num_mel_bins=32, max_length=200)}
    made = {"text": t.BertModel(t.BertConfig(vocab_size=40, **small)),
            "squares": t.ASTModel(t.ASTConfig(num_mel_bins=32, max_length=200, **small))}
    for name, why in {"text": "bert doesn't hear", "squares": "audio-spectrogram-transformer gives"}.items():
        made[name].save_pretrained(tmp_path / name)
        takes[name].save_pretrained(tmp_path / name)
        refused(tmp_path / name, why)
    (tmp_path / "squares" / "preprocessor_config.json").unlink()
    refused(tmp_path / "squares", "can't be heard with")


def test_another_encoder_that_transformers_has(models, tmp_path):
    import transformers as t

    small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    t.Wav2Vec2BertModel(t.Wav2Vec2BertConfig(**small)).save_pretrained(tmp_path)
    t.SeamlessM4TFeatureExtractor().save_pretrained(tmp_path)
    assert pinned(heard_by(f"hf:{tmp_path}")).encoder_about == "wav2vec2-bert, licence not stated"


@pytest.fixture()
def the_hub(models, monkeypatch, tmp_path):
    "A hub that has one model at one commit, and counts who asks."
    import huggingface_hub

    folder, asked = tmp_path / COMMIT, []
    shutil.copytree(models["hubert"].removeprefix("hf:"), folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")

    def snapshot_download(name, revision, allow_patterns, local_files_only):
        asked.append((name, revision, local_files_only))
        assert not [p for p in allow_patterns if p.endswith((".bin", ".py", "*"))]
        if name != "some/hubert":
            raise ConnectionError("no route")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_revision_is_kept(the_hub, corpus, tmp_path):
    first = extract(corpus[:3], tmp_path / "f", heard_by("hf:some/hubert"))
    assert first.settings.revision == COMMIT and first.settings.encoder_about == "hubert, licence apache-2.0"
    the_hub.clear()
    again = extract(corpus[:3], tmp_path / "f", heard_by("hf:some/hubert"))
    assert again.settings == first.settings and not the_hub  # nothing to compute, nothing to ask
    more = extract(corpus[:5], tmp_path / "f", heard_by("hf:some/hubert"))
    assert {(revision, local) for _, revision, local in the_hub} == {(COMMIT, True)} and len(more) == 5
    other = replace(heard_by("hf:some/hubert"), layer="1")
    assert extract(corpus[:3], tmp_path / "f", other).settings.revision == COMMIT


def test_a_hub_that_does_not_answer(the_hub, corpus, tmp_path, monkeypatch):
    with pytest.raises(FeatureError, match="the hub doesn't answer .*try again with a network, or give a folder"):
        extract(corpus[:3], tmp_path / "f", heard_by("hf:some/other"))
    assert not (tmp_path / "f").exists()


def test_extraction_goes_on(models, corpus, tmp_path, monkeypatch):
    settings, heard, real = replace(BANDS, encoder=models["wavlm"]), [], hub.hub_states

    def stops(*args):
        heard.append(args)
        if len(heard) == 6:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(hub, "hub_states", stops)
    with pytest.raises(KeyboardInterrupt):
        extract(corpus[:8], tmp_path, settings, shard_size=2)
    extract(corpus[:8], tmp_path, settings, shard_size=2)
    assert len(heard) == 6 + 8 - 4


def test_run(features, corpus, tmp_path, models):
    assert list(features.settings.families) == ["logmel", "hub"]
    frames, network, training = command_settings(features.settings, False, {}, {"members": 1, "epochs": 1},
                                                 features.settings.encoder)
    split = split_words(features.index, seed=0)
    folder = train(pick_families(features, frames), split, tmp_path / "run", network, training)
    run = read_run(folder)
    assert run["features"]["encoder_hash"] == features.settings.encoder_hash and "layer 1,3, sha256" in run["encoder"]
    assert {m["columns"][1] - m["columns"][0] for m in run["model"]["members"]} == {16}
    assert sorted(p.name.split("-")[0] for p in (folder / "members").iterdir()) == ["hub", "trained"]
    r, i = Recognizer.load(folder), 4
    path = corpus.set_index("clip").loc[features.index["clip"].iloc[i], "path"]
    assert np.array_equal(r.frames(path), features[i])
    asked = r.predict(path).probabilities
    assert np.isclose(sum(asked.values()), 1, atol=1e-5)
    assert export(folder, tmp_path / "x.onnx").stat().st_size
    with pytest.raises(PredictError, match="a page can't run it"):
        export(folder, tmp_path / "x.html")
    alone = train(features, split, tmp_path / "readout", network, replace(training, fit="readout", epochs=1))
    assert [p.name for p in (alone / "members").iterdir()] == ["hub-0"]
    assert "readout of frames" in repr(Recognizer.load(alone))


def test_a_run_wants_its_own_encoder(features, corpus, tmp_path, models, monkeypatch):
    folder = Path(models["wavlm"].removeprefix("hf:"))
    settings, y = features.settings, load_audio(corpus["path"].iloc[0])[0]
    text = (folder / "config.json").read_text()
    try:
        (folder / "config.json").write_text(text + "\n")
        with pytest.raises(FeatureError, match="its hash is .*take the model that the frames were made with"):
            clip_features(y, settings)
    finally:
        (folder / "config.json").write_text(text)
    assert np.array_equal(clip_features(y, settings), clip_features(y, open_features(features.folder).settings))
