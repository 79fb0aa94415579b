"""Features, whatever they are asked for: settings, odd samples, whole batches, families done by half, and the command."""
import itertools
import subprocess
import sys
from pathlib import Path
from unittest import mock

import librosa
import numpy as np
import pytest

import ser_nb.features as chapter
from ser_nb.features import (FeatureError, FeatureSettings, batch_features, clip_features, estimate_tuning, extract,
                             file_features, loud_span, open_features, power_spectrogram)
from ser_nb.lib.audio import load_audio
from ser_nb.more.demo import demo, example_corpus

DEFAULTS, WITH_PITCH = FeatureSettings(), FeatureSettings(pitch=True)
HASH = "4fa590a1f879bd47094c91b6bbe38df70a7a52455f5287047061c53045dca293"
WRONG = dict(sr=0, n_fft=1024.0, win_length=2048, hop_length=1025, center=1, top_db=-3, vad=4, fmin=9000, fmax=8001,
             n_mels=514, n_mfcc=65, delta_order=3, delta_width=8, n_chroma=-1, tuning=0.7, n_bands=7, tonnetz="yes",
             db_range=float("nan"), f0_min=10, f0_max=90.0)


@pytest.fixture(scope="module")
def corpus():
    return example_corpus("data")


@pytest.fixture(scope="module")
def eight(corpus):
    "Samples of eight clips from all over the corpus."
    return [load_audio(path)[0] for path in corpus["path"][:: len(corpus) // 8][:8]]


@pytest.mark.parametrize("setting, value", WRONG.items())
def test_what_cannot_work_is_refused(setting, value):
    with pytest.raises(FeatureError) as said:
        FeatureSettings(**{setting: value})
    assert f"{setting}={value!r}" in str(said.value)


@pytest.mark.parametrize("together, words", [
    (dict(n_chroma=0), "tonnetz=False"),
    (dict(n_fft=256, hop_length=160, n_mels=100), "no bin falls into it"),
    (dict(n_mfcc=0, logmel=False, n_chroma=0, tonnetz=False, n_bands=0, rms=False, zcr=False), "every family is off"),
])
def test_what_cannot_work_together_is_refused(together, words):
    with pytest.raises(FeatureError, match=words):
        FeatureSettings(**together)


def test_columns():
    assert FeatureSettings(sr=22050).names == DEFAULTS.names
    assert DEFAULTS.names[DEFAULTS.families["chroma"]][:3] == ["chroma_C", "chroma_C#", "chroma_D"]
    few = FeatureSettings(n_mfcc=0, logmel=False, tonnetz=False, n_bands=0)
    assert list(few.families) == ["chroma", "rms", "zcr"]


def test_json():
    "Also that folders made before are known again: the hash of the defaults stays."
    other = FeatureSettings(sr=22050, n_mfcc=13, top_db=None)
    assert FeatureSettings.from_json(other.to_json()) == other
    assert FeatureSettings.from_json(other.to_json()).hash == other.hash != DEFAULTS.hash == HASH
    for text, words in (("{", "not json"), ('{"format": 0}', "format 2"), ('{"format": 2, "n_mfc": 13}', "n_mfc")):
        with pytest.raises(FeatureError, match=words):
            FeatureSettings.from_json(text)


def test_only_voice():
    assert chapter.only_voice(FeatureSettings(n_mels=40, hop_length=160)).n_features == 43


@pytest.mark.parametrize("top_db", [20, 30, 45])
def test_trimming_is_librosas(eight, top_db):
    for y in eight:
        librosas = librosa.effects.trim(y, top_db=top_db, frame_length=1024, hop_length=320)[1]
        assert loud_span(y, FeatureSettings(top_db=top_db)) == tuple(librosas)


def test_tuning_is_librosas(eight):
    for y in eight:
        power = power_spectrogram(y, DEFAULTS)
        assert abs(estimate_tuning(power, DEFAULTS) - librosa.estimate_tuning(S=power.T, sr=16000, n_fft=1024)) < 1e-9


@pytest.mark.parametrize("n_fft, hop", [(1024, 320), (1001, 333)])
def test_level_is_librosas(eight, n_fft, hop):
    ours = chapter.rms(eight[0], FeatureSettings(n_fft=n_fft, hop_length=hop))
    librosas = librosa.feature.rms(y=eight[0], frame_length=n_fft, hop_length=hop).T
    assert np.abs(ours - librosas).max() < 1e-5 * np.ptp(librosas)


@pytest.mark.parametrize("settings", [DEFAULTS, FeatureSettings(pitch=True, tuning=None),
                                      FeatureSettings(center=False, delta_width=99)])
def test_together_and_alone_are_the_same_bits(eight, settings):
    for together, y in zip(batch_features(eight, settings), eight):
        assert np.array_equal(together, clip_features(y, settings))


def test_long_and_short_together(eight):
    long = np.tile(eight[0], 10)
    clips = [eight[0], long, eight[0][:9000]]
    for together, y in zip(batch_features(clips), clips):
        assert np.array_equal(together, clip_features(y))
    assert batch_features([]) == []


def test_families_left_out(eight):
    bare = FeatureSettings(n_mfcc=0, n_chroma=0, tonnetz=False, n_bands=0, logmel=False)
    assert np.array_equal(clip_features(eight[0], bare), clip_features(eight[0])[:, -2:])


def test_odd_samples():
    with pytest.raises(FeatureError, match=r"\(2, 16000\)"):
        clip_features(np.zeros((2, 16000)))
    for value in (np.nan, np.inf, 1e30):
        with pytest.raises(FeatureError, match="not finite"):
            clip_features(np.full(16000, value))
    for value in (0, 1e-12, 2.0**31):
        assert np.isfinite(clip_features(np.full(16000, value), FeatureSettings(pitch=True, tuning=None))).all()


def test_a_family_done_by_half(eight):
    "A name and two columns, and no computation: no clip gets what happened to lie in the memory."
    whole = chapter.family_widths
    with mock.patch.object(chapter, "family_widths", lambda s: {**whole(s), "jitter": 2}):
        with pytest.raises(FeatureError, match="'jitter' has columns and is computed nowhere"):
            clip_features(eight[0])


@pytest.mark.parametrize("family", ["jitter", "rms"])
def test_a_family_of_other_columns(eight, family):
    frames, parts = clip_features(eight[0]), chapter._parts
    odd = (family, np.zeros((len(frames), 2)))
    with mock.patch.object(chapter, "_parts", lambda *given: itertools.chain(parts(*given), [odd])):
        with pytest.raises(FeatureError, match=f"family '{family}' was computed as"):
            clip_features(eight[0])
    assert np.array_equal(clip_features(eight[0]), frames)


def test_files(corpus, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"not a wav at all")
    path = corpus["path"][0]
    row, frames = file_features(path)
    assert np.array_equal(frames, clip_features(load_audio(path)[0]))
    assert (row["n_frames"], row["reason"], len(row["sha256"])) == (len(frames), "", 64)
    for bad in ("noise.wav", "nowhere.wav"):
        row, frames = file_features(tmp_path / bad)
        assert row["reason"] and frames is None
    fine = FeatureSettings(hop_length=2, n_fft=4096)
    assert file_features(path, fine)[0]["reason"] == ""
    with mock.patch("ser_nb.lib.spectra.ROOM", 1e6):
        assert file_features(path, fine)[0]["reason"].startswith("too long: its 0 ")


@pytest.fixture(scope="module")
def listing(corpus, tmp_path_factory):
    "A csv of ten clips and a diary."
    home = tmp_path_factory.mktemp("command")
    (home / "diary.wav").write_bytes(b"Dear diary, today I was happy.")
    rows = corpus.iloc[:: len(corpus) // 11].head(11)
    paths = [str(Path(path).resolve()) for path in rows["path"][:10]] + [str(home / "diary.wav")]
    rows.assign(path=paths)[["path", "emotion"]].to_csv(home / "mine.csv", index=False)
    return home / "mine.csv"


def command(*options):
    "Run the command as a user does, and return its exit code and both outputs."
    run = subprocess.run([sys.executable, "-m", "ser_nb.features", *map(str, options)], capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


def test_command(listing):
    out = listing.parent / "features"
    code, printed, complaints = command("--data_dir", listing, "--out_dir", out, "--n_mfcc", 13)
    assert code == 0 and printed.startswith("10 "), complaints
    roles, *log = complaints.splitlines()
    assert "speakers unknown" in roles and [line[:18] for line in log if line.startswith("features: ")] == ["features: 11 clips"] * 2
    assert log[-1].startswith("rejected ")
    assert open_features(out).settings == FeatureSettings(n_mfcc=13, pitch=True, encoder="ge2e")
    code, _, complaints = command("--data_dir", listing, "--out_dir", out, "--n_mfcc", 13, "--strict")
    assert code == 1 and complaints.splitlines()[-1].startswith("ser_features: 1 clips were rejected")


@pytest.mark.parametrize("options, families", [
    (("--pitch", 0), [*DEFAULTS.families, "encoder"]), (("--pitch",), [*WITH_PITCH.families, "encoder"]),
    (("--encoder", "none"), list(WITH_PITCH.families)), (("--hop_length", 400), list(WITH_PITCH.families)),
    (("--new_voices",), ["logmel", "pitch", "encoder"])])
def test_families_of_the_command(listing, tmp_path, options, families):
    code, _, complaints = command("--data_dir", listing, "--out_dir", tmp_path / "f", *options)
    assert code == 0, complaints
    assert list(open_features(tmp_path / "f").settings.families) == families


@pytest.mark.parametrize("options", [("--data_dir", "nowhere"), ("--hop_length", 5000)])
def test_what_the_command_refuses(listing, tmp_path, options):
    code, _, complaints = command("--data_dir", listing, "--out_dir", tmp_path / "f", *options)
    assert code == 1
    assert complaints.count("ser_features: ") == 1 and complaints.splitlines()[-1].startswith("ser_features: ")


def test_a_missing_detector_is_said_once(tmp_path, monkeypatch):
    "Before any clip, and not of each."
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(FeatureError, match=r"ser_nb\[vad\]"):
        extract(demo(tmp_path / "demo", n_speakers=1, n_words=1), tmp_path / "frames", FeatureSettings(vad=1, sr=22050))
    assert not (tmp_path / "frames").exists()
