"""What training refuses, what a damaged run folder says, and runs of several networks and of the readout."""
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from ser_nb.dataset import Normaliser, bucket_lengths, class_names, label_ids, part_rows, split_words
from ser_nb.features import VOICE_FRAMES, FeatureSettings, extract
from ser_nb.lib.backend import weights_bytes
from ser_nb.lib.files import BusyError, locked
from ser_nb.lib.runs import SEALED, Run, sha256
from ser_nb.model import ModelSettings, build_model
from ser_nb.more.demo import example_corpus
from ser_nb.train import (LADDER, READOUT_NETWORK, READOUT_TRAINING, VOICE_NETWORK, VOICE_TRAINING, TrainError,
                          TrainSettings, change_clips, command_settings, draw_memory, ensemble_members, fit_readout,
                          learnt_shares, load_run, make_split, many_speakers, predict_rows, read_history, run_features,
                          save_model_file, seed_everything, train, train_buckets, val_scores)

SMALL, QUICK = ModelSettings(units=(24,), dense=16), TrainSettings(epochs=4, learning_rate=5e-3)
UNTRAINED = ModelSettings(units=(64,), bidirectional=True, pooling="deviation", dense=0)
SIX = TrainSettings(epochs=6, fit="readout")
PAIR = replace(QUICK, members=2)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    "Twenty words in seven emotions: features, split, rows of each part, labels, scale."
    corpus, folder = example_corpus("data"), tmp_path_factory.mktemp("features")
    few = corpus[corpus["text"].isin(sorted(set(corpus["text"]))[:20])].reset_index(drop=True)
    features = extract(few, folder / "few")
    parts = split_words(features.index, val=0.2, test=0.2, seed=0)
    rows = {part: part_rows(features, parts, part) for part in ("train", "val")}
    labels = label_ids(features.index["emotion"], class_names(parts))
    return SimpleNamespace(features=features, folder=folder / "few", parts=parts, rows=rows, labels=labels,
                           classes=class_names(parts), scale=Normaliser.fit(features, rows["train"]))


@pytest.fixture(scope="module")
def runs(given, tmp_path_factory):
    "The same run twice, and one of another seed."
    folder, how = tmp_path_factory.mktemp("runs"), (given.features, given.parts)
    return [train(*how, folder / name, SMALL, replace(QUICK, seed=seed), progress=False)
            for name, seed in (("a", 0), ("b", 0), ("c", 1))]


@pytest.fixture(scope="module")
def scarce(given):
    "The split without half of the angry clips that are learnt from."
    parts = given.parts
    return parts[(parts["emotion"] != "angry") | (parts["part"] != "train") | (np.arange(len(parts)) % 2 == 0)]


@pytest.fixture(scope="module")
def both(given, scarce, tmp_path_factory):
    return train(given.features, scarce, tmp_path_factory.mktemp("pair") / "both", SMALL, PAIR, progress=False)


def flip(path, at=5000):
    "Change one bit of a file."
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("setting, says", [
    (dict(epochs=-1), "epochs=-1"), (dict(members=-1), "a whole number from 0 to 50"), (dict(fit="last"), "one of all, readout"),
    (dict(fit="readout", epochs=0), "needs a number of epochs"), (dict(seed=-1), "seed=-1: must be a whole number from 0"),
    (dict(voices=2), "voices=2: must be from 0 to 1"), (dict(monitor="test_uar"), "one of val_uar, val_loss, last")])
def test_settings_that_make_no_sense(setting, says):
    with pytest.raises(TrainError, match=says):
        TrainSettings(**setting)


@pytest.mark.parametrize("network, training, says", [
    (ModelSettings(speaker_norm=True), QUICK, "sampling="), (SMALL, SIX, "dense=0"),
    (VOICE_NETWORK, VOICE_TRAINING, "--new_voices")])
def test_refused_before_anything_is_written(given, tmp_path, network, training, says):
    with pytest.raises(TrainError, match=says):
        train(given.features, given.parts, tmp_path / "x", network, training)
    assert not (tmp_path / "x").exists()


def test_another_run_is_left_alone(given, runs):
    with pytest.raises(TrainError, match="other model"):
        train(given.features, given.parts, runs[0], ModelSettings(units=(8,)), QUICK)


def test_lengths(given):
    f, rows = given.features, given.rows["train"]
    changed = train_buckets(f, rows, TrainSettings(voices=1))
    assert changed == LADDER[:len(changed)]
    assert train_buckets(f, rows, TrainSettings(voices=1, crop=50)) == (50, *changed)
    plain, cut = train_buckets(f, rows, TrainSettings()), train_buckets(f, rows, TrainSettings(crop=48))
    assert plain == bucket_lengths(f.index["n_frames"].to_numpy()[rows], 3)
    assert (cut[-1], cut[-2]) == (plain[-1], 48)


def test_what_is_done_to_clips(given):
    f = given.features
    assert change_clips(f, TrainSettings(time_masks=0, feature_masks=0)) is None
    with pytest.raises(TrainError, match="ser_features --new_voices"):
        change_clips(f, TrainSettings(voices=1))
    short = change_clips(f, TrainSettings(crop=20))(f[0], np.random.default_rng(0))
    assert len(f[0]) > 20 and short.shape == (20, f[0].shape[1])


def test_weights_too_large(given):
    model = build_model(SMALL, given.features.settings.n_features, len(given.classes))
    model.set_weights([np.full_like(w, 3e38) for w in model.get_weights()])
    with pytest.raises(TrainError, match="no number"):
        predict_rows(model, given.features, given.rows["val"], given.scale)


def test_readout_reports_what_it_answers(given):
    seed_everything(0)
    model = build_model(UNTRAINED, given.features.settings.n_features, len(given.classes))
    draw_memory(model, seed=0)
    how, still = (given.features, given.rows["train"]), replace(SIX, epochs=1, time_masks=0, feature_masks=0)
    labels = given.labels[given.rows["train"]]
    said = fit_readout(model, *how, labels, given.scale, still)
    heard = val_scores(predict_rows(model, *how, given.scale), labels)
    np.testing.assert_allclose(heard["val_loss"], said["loss"], atol=1e-4)


def test_run_of_the_readout(given, tmp_path):
    r = [train(given.features, given.parts, tmp_path / str(k), UNTRAINED, SIX, progress=False) for k in range(2)]
    assert (r[0] / "history.csv").read_bytes() == (r[1] / "history.csv").read_bytes()
    assert len(read_history(r[0])) == 1
    seed_everything(0)
    model = build_model(UNTRAINED, given.features.settings.n_features, len(given.classes))
    draw_memory(model, seed=0)
    rows = given.rows["train"]
    logs = fit_readout(model, given.features, rows, given.labels[rows], given.scale, SIX)
    assert read_history(r[0])["accuracy"][0] == logs["accuracy"]
    np.testing.assert_allclose(learnt_shares(r[0]), np.full(len(given.classes), 1 / len(given.classes)))


@pytest.fixture
def damaged(runs, tmp_path):
    return shutil.copytree(runs[0], tmp_path / "damaged")


@pytest.mark.parametrize("name", ["best.weights.h5", "history.csv", "split.csv", "run.json", "hashes.json"])
def test_one_bit(given, damaged, name):
    flip(damaged / name)
    for use in (lambda: Run.open(damaged).verify(),
                lambda: train(given.features, given.parts, damaged, SMALL, QUICK)):
        with pytest.raises(TrainError) as said:
            use()
        assert str(damaged) in str(said.value)


def test_one_program_at_a_time(given, damaged):
    how = (given.features, given.parts, damaged, SMALL, QUICK)
    assert train(*how, progress=False) == damaged
    with locked(damaged), ThreadPoolExecutor(1) as pool:
        again = pool.submit(train, *how, overwrite=True, progress=False)
        with pytest.raises(BusyError, match="wait until it is done, or give another folder"):
            again.result()
    assert Run.open(damaged).verify() == ()


def test_model_file_that_is_wrong(runs):
    a, other = runs[0], build_model(ModelSettings(units=(5,)), 3, 2)
    path = a.with_suffix(".h5")
    save_model_file(a, path)
    assert Run.open(a).hashes[".h5"] == sha256(path.read_bytes())
    right = path.read_bytes()
    for wrong in (right[:5000], right[:9000] + b"?" + right[9001:], weights_bytes(other)):
        path.write_bytes(wrong)
        with pytest.raises(TrainError, match="a.h5: not the file that was left there"):
            load_run(path)
    save_model_file(a, path)
    assert path.read_bytes() == right
    with pytest.raises(TrainError, match="run.json is missing"):
        load_run(a.with_name("none.h5"))


def test_model_file_of_an_older_version(given, runs, tmp_path):
    "No hash is known of it, so it is compared weight by weight."
    older, known = shutil.copytree(runs[0], tmp_path / "older"), json.loads((runs[0] / "hashes.json").read_text())
    (older / "hashes.json").write_text(json.dumps({name: known[name] for name in SEALED}))
    other, right = build_model(ModelSettings(units=(5,)), 3, 2), weights_bytes(load_run(runs[1])[0])
    for wrong, says in ((right[:5000], "do not fit the network"), (weights_bytes(other), "do not fit the network"),
                        (weights_bytes(load_run(runs[2])[0]), "are not those of")):
        (tmp_path / "older.h5").write_bytes(wrong)
        with pytest.raises(TrainError, match=says):
            load_run(tmp_path / "older.h5")
    (tmp_path / "older.h5").write_bytes(right)
    said = predict_rows(load_run(tmp_path / "older.h5")[0], given.features, given.rows["val"], given.scale)
    np.testing.assert_array_equal(said, Run.open(runs[0]).probabilities(given.features, given.rows["val"]))


def test_features_of_a_run(given, runs, tmp_path):
    assert run_features(runs[0], given.folder).settings == given.features.settings
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(TrainError, match=r"damaged \(no corpus\)"):
        run_features(tmp_path, given.folder)


def test_ensemble_killed_before_the_mean(given, scarce, both, tmp_path):
    how = (given.features, scarce, tmp_path / "two", SMALL, PAIR)
    with mock.patch("ser_nb.beside.lesson.joined", side_effect=Killed), pytest.raises(Killed):
        train(*how, progress=False)
    made = {f: f.stat().st_mtime_ns for f in (tmp_path / "two/members").glob("*/[!.]*")}
    two = train(*how, progress=False)
    assert {f: f.stat().st_mtime_ns for f in (two / "members").glob("*/[!.]*")} == made
    assert (two / "history.csv").read_bytes() == (both / "history.csv").read_bytes()


def test_ensemble_is_a_run_like_others(given, runs, both):
    rows = given.rows["val"]
    p = Run.open(both).probabilities(given.features, rows)
    heard = val_scores(p, given.labels[rows])["val_loss"]
    np.testing.assert_allclose(read_history(both)["val_loss"][0], heard, atol=1e-4)
    assert {f.name for f in both.iterdir()} == {f.name for f in runs[0].iterdir()} | {"members"}
    save_model_file(both, both.with_suffix(".h5"))
    model = load_run(both.with_suffix(".h5"))[0]
    np.testing.assert_array_equal(predict_rows(model, given.features, rows, Run.open(both).normaliser), p)


def test_members():
    three = replace(VOICE_TRAINING, members=3, seed=2)
    mixed = ensemble_members(VOICE_NETWORK, three, VOICE_FRAMES, list(range(9)))
    assert (len(mixed), mixed["untrained-7"]) == (6, (READOUT_NETWORK, replace(READOUT_TRAINING, seed=7)))
    assert len(ensemble_members(ModelSettings(), TrainSettings(members=3), FeatureSettings(), range(9))) == 3
    assert not many_speakers(["OAF"] * 1400 + list(range(10)) * 45)


def test_split_of_a_command(given):
    index = given.features.index
    with pytest.raises(TrainError, match="where the split is speakers"):
        make_split(index, "words", 0, index["speaker"].iloc[0])
    with pytest.raises(TrainError, match="must be random, words, speakers"):
        make_split(index, "leave")
    parted = index.assign(part=np.resize(["train", "val", "test"], len(index)))
    assert set(make_split(parted, "folders")["protocol"]) == {"folders"}


def test_settings_of_a_command():
    plain, default = FeatureSettings(), (ModelSettings(), TrainSettings())
    assert command_settings(VOICE_FRAMES, False, {}, {})[0] == VOICE_FRAMES
    for pitch in (False, True):
        assert command_settings(replace(plain, pitch=pitch), True, {}, {}) == (plain, *default)
    assert command_settings(replace(plain, logmel=False), False, {}, {})[1:] == default
