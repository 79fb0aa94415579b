"""Splits and scales, whatever they are asked for: leaks, odd tables, spellings, folders, scales kept on disk."""
import io
from functools import partial

import numpy as np
import pandas as pd
import pytest

from ser_nb.dataset import (PARTS, Normaliser, SplitError, audit, bucket_lengths, check_split, class_names, doubles,
                            kfold, label_ids, load_split, obstacles, part_rows, save_split, split_folders,
                            split_random, split_speakers, split_words, train_batches, verdict)
from ser_nb.features import FeatureSettings, extract
from ser_nb.more.demo import example_corpus


@pytest.fixture(scope="module")
def corpus():
    return example_corpus("data")


@pytest.fixture(scope="module")
def features(corpus, tmp_path_factory):
    words = sorted(set(corpus["text"]))[:20]
    return extract(corpus[corpus["text"].isin(words)], tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def speakers(corpus):
    return sorted(set(corpus["speaker"]))


@pytest.fixture(scope="module")
def split(features, speakers):
    return split_speakers(features.index, test=speakers[-1:])


@pytest.fixture(scope="module")
def rows(features, split):
    return {part: part_rows(features, split, part) for part in PARTS}


@pytest.fixture(scope="module")
def bands(features, rows):
    "Log-mel bands of some training clips."
    return [features[i][:, features.settings.families["logmel"]] for i in rows["train"][:20]]


@pytest.fixture
def six():
    return pd.DataFrame([dict(clip=f"{s}{e}{w}", emotion=e, speaker=s, text=w) for s in "abcdef"
                         for e in ("sad", "happy") for w in "12345"])


@pytest.fixture
def shared(six):
    return six.assign(part=np.resize(["train", "train", "val", "test"], len(six)))


def by_hand(protocol, *rows):
    columns = ["clip", "speaker", "text", "sha256", "source", "part"]
    return pd.DataFrame(rows, columns=columns).assign(emotion="sad", protocol=protocol, fold=0)


def leaky():
    "Each leak once."
    return by_hand("unseen speakers", ("a.wav", "Ann", "dog", "h1", "", "train"),
                   ("a-loud.wav", "Ann", "dog", "h2", "a.wav", "train"), ("b.wav", "Bea", "cat", "h3", "", "train"),
                   ("b2.wav", "Bea", "ship", "h4", "", "test"), ("c.wav", "Cid", "Cat", "h5", "", "test"),
                   ("copied.wav", "Dee", "moon", "h3", "", "test"), ("a-high.wav", "Eve", "sun", "h6", "a.wav", "test"))


def refused(words, call, *args, **named):
    with pytest.raises(SplitError) as said:
        call(*args, **named)
    assert words in str(said.value)


@pytest.mark.parametrize("clip", ["b2.wav", "c.wav", "copied.wav", "a-high.wav"])
def test_each_leak_alone_is_found(clip):
    row = leaky().drop(columns=["emotion", "protocol", "fold"]).set_index("clip", drop=False).loc[clip]
    alone = by_hand("unseen words", ("a.wav", "Ann", "dog", "h1", "", "train"),
                    ("b.wav", "Bea", "cat", "h3", "", "train"), tuple(row))
    if clip == "b2.wav":
        assert verdict(check_split(alone)).count("share their speaker") == 1
    else:
        refused(clip, check_split, alone)
    assert ("LEAK" in verdict(alone.assign(protocol="random"))) == (clip in ("copied.wav", "a-high.wav"))


def test_a_kept_audit_says_the_same():
    kept = pd.read_csv(io.StringIO(audit(leaky()).to_csv(index=False)), keep_default_na=False)
    assert verdict(kept) == verdict(kept.assign(allowed=kept["allowed"].astype(str))) == verdict(audit(leaky()))
    refused("unknown protocol 'fair'", audit, leaky().assign(protocol="fair"))


def test_a_leak_says_how_to_mend_it_and_what_contradicts():
    refused("Put all clips of a speaker into one part", check_split, leaky())
    said = verdict(leaky())
    for words in ("1 of 4 test clips are the same file as one in train (such as copied.wav and b.wav)",
                  "under two speakers (Bea, Dee)", "under two texts (cat, moon)"):
        assert words in said


def test_what_is_unknown_is_not_called_clean():
    said = verdict(by_hand("unseen speakers", ("a.wav", "", "", "", "", "train"), ("b.wav", "", "", "", "", "test")))
    assert "Unknown speaker" in said and "Unknown words" in said and "No test clip" not in said


def test_labels_that_cannot_be_learnt():
    refused("'bored' is none of", label_ids, ["bored"], ("angry", "sad"))
    refused("at least 2 are needed", class_names, leaky())


def test_random_and_words(corpus):
    words, by_chance, new_words = sorted(set(corpus["text"])), split_random(corpus), split_words(corpus)
    rare = corpus.assign(emotion=["tired", "bored", "bored"] + corpus["emotion"].tolist()[3:])
    assert not by_chance["part"].equals(split_random(corpus, seed=1)["part"])
    refused("leave some clips", split_random, corpus, val=0.5, test=0.5)
    refused("seed=-1: give a whole number", split_random, corpus, seed=-1)
    refused("'tired' has 1 clip, at least 3 are needed", split_random, rare)
    refused("'bored' has 2 clips, at least 3 are needed", split_random, rare)
    assert (pd.crosstab(new_words["part"], [new_words["emotion"], new_words["speaker"]]) > 0).all(axis=None)
    refused("not known", split_words, corpus.assign(text=""))
    refused("at least 3", split_words, corpus[corpus["text"].isin(words[:2])])
    assert [obstacles(corpus, by) for by in (None, "text", "speaker")] == [[], [], []]


def test_speakers(corpus, speakers, six):
    chosen = split_speakers(six, test=["f"]).groupby("part")["speaker"].agg(set)
    assert len(chosen["val"]) == 1 and not chosen["val"] & chosen["train"]
    new_voice = split_speakers(corpus, test=speakers[-1:], val_by="text")
    assert split_speakers(corpus, test=f" {speakers[-1].lower()}", val_by="text").equals(new_voice)
    refused(f"choose from {', '.join(speakers)}", split_speakers, corpus, test=["Nobody"])
    refused("leave one to train on", split_speakers, corpus, test=speakers)
    refused("speaker of", split_speakers, corpus.assign(speaker=""), test=["OAF"])


def with_double(**other):
    "Anna's and Ben's clips in two emotions; one of Ben's files is Anna's."
    rows = [dict(clip=f"{who}/{e}{i}.wav", emotion=e, speaker=who, text=f"word {i}", sha256=f"{who}{e}{i}", source="")
            for who in ("anna", "ben", "cid") for e in ("angry", "sad") for i in range(4)]
    rows[8] = rows[0] | dict(clip="ben/angry0.wav", speaker="ben") | other
    return pd.DataFrame(rows)


def test_one_recording_under_two_names():
    two_voices = doubles(with_double(), "speaker")
    refused(two_voices[0], split_speakers, with_double(), test=["cid"])
    refused("under two texts (word 0, word 9)", split_words, with_double(text="word 9"))
    refused("under two emotions (angry, sad)", split_random, with_double(emotion="sad"))
    refused(two_voices[0], kfold, with_double(), 2, by="speaker")
    assert obstacles(with_double(), "speaker") == two_voices
    assert two_voices[0] in verdict(split_random(with_double()))


def test_one_speaker_in_two_spellings(six):
    spelt = six.assign(speaker=[s.upper() if i % 3 else s for i, s in enumerate(six["speaker"])])
    first, second = split_speakers(spelt, test=["F"]), split_speakers(six, test=["f"])
    assert first.sort_values("clip")["part"].tolist() == second.sort_values("clip")["part"].tolist()
    assert sorted(set(split_speakers(spelt, test=["f"])["speaker"])) == list("ABCDEF")
    by_mistake = by_hand("unseen speakers", ("a.wav", "Jos\u00e9", "dog", "", "", "train"),
                         ("b.wav", "jose\u0301", "cat", "", "", "test"))
    refused("1 of 1 test clips share their speaker with train", check_split, by_mistake)


def test_folders(six, shared):
    given = six.assign(part=["test" if s == "f" else "train" for s in six["speaker"]])
    assert split_folders(shared).sort_values("clip")["part"].tolist() == shared.sort_values("clip")["part"].tolist()
    refused("no folder is named train", split_folders, six)
    refused("no folder is named test", split_folders, given.replace({"part": {"test": "val"}}))
    refused("1 clip in no folder", split_folders, shared.assign(part=[""] + shared["part"].tolist()[1:]))
    copied = shared.assign(sha256=["same" if i in (0, 3) else str(i) for i in range(len(shared))])
    refused(f"{copied['clip'][3]} and {copied['clip'][0]}", split_folders, copied)


@pytest.mark.parametrize("by", [None, "text", "speaker"])
def test_folds(corpus, speakers, by):
    folds = kfold(corpus, k=len(speakers), by=by)
    assert sorted(pd.concat([f[f["part"] == "test"] for f in folds])["clip"]) == sorted(corpus["clip"])
    if by:
        assert all(not set(f[by][f["part"] == "test"]) & set(f[by][f["part"] == "train"]) for f in folds)
    refused("choose another k", kfold, corpus, k=len(speakers) + 1, by="speaker")


def test_rows_of_a_part(features, split, rows):
    assert list(features.index["clip"].iloc[rows["test"]]) == list(split["clip"][split["part"] == "test"])
    refused("has changed since", part_rows, features, split.assign(sha256="0"), "test")
    refused("has no features", part_rows, features, split.assign(clip="x" + split["clip"]), "val")


def test_scales(features, rows):
    blind = Normaliser.fit(features, rows["train"])
    scaled = np.concatenate([blind.apply(features[i]) for i in rows["train"]])
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(0)[blind.stats[""][1] != 1], 1, atol=1e-2)
    assert scaled.dtype == np.float32
    own = Normaliser.fit(features, rows["train"], "utterance").apply(features[0])
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-3)
    adapted, first = Normaliser.fit(features, rows["train"], "speaker"), features.index["speaker"].iloc[0]
    assert adapted.note.startswith("adapted: uses unlabelled clips")
    np.testing.assert_array_equal(adapted.adapt("Nobody", [features[0]]).apply(features[0], "Nobody"), own)
    np.testing.assert_array_equal(adapted.apply(features[0], f" {first.lower()}"), adapted.apply(features[0], first))
    assert set(adapted.adapt(first.lower(), [features[0]]).stats) == set(adapted.stats)
    refused("use one of", Normaliser.fit, features, rows["train"], "sepaker")


def test_a_clips_own_level(features, rows, bands):
    level, utterance = (Normaliser.fit(bands, range(20), mode) for mode in ("level", "utterance"))
    assert np.concatenate([level.apply(x) for x in bands]).std() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(level.apply(bands[0] + 12), level.apply(bands[0]), atol=1e-4)
    brighter = bands[0] + np.linspace(-6, 6, bands[0].shape[1], dtype=np.float32)
    assert np.abs(level.apply(brighter) - level.apply(bands[0])).max() > 0.1
    np.testing.assert_allclose(utterance.apply(brighter), utterance.apply(bands[0]), atol=1e-3)
    refused("these families alone", Normaliser.fit, features, rows["train"], "level")


class Pieces(list):
    "Frames in memory, with the settings that say what their columns are."
    settings = FeatureSettings(n_mfcc=0, n_chroma=0, n_bands=0, tonnetz=False, rms=False, zcr=False, pitch=True)


@pytest.fixture(scope="module")
def sung(bands):
    tones = [np.random.default_rng(i).normal(30, 3, (len(x), 1)).astype(np.float32) for i, x in enumerate(bands)]
    return Pieces(np.hstack([x, s, s * 0 + 0.5, s]) for x, s in zip(bands, tones))


def test_a_clips_own_pitch(sung):
    high, x = Normaliser.fit(sung, range(20), "level"), sung[0].copy()
    x[:, 64] += 5
    np.testing.assert_allclose(high.apply(x), high.apply(sung[0]), atol=1e-4)
    x[:, 64] *= 2
    assert np.abs(high.apply(x) - high.apply(sung[0]))[:, 64].max() > 0.1


def test_what_is_kept_on_disk_comes_back(tmp_path, features, rows, split, sung):
    assert load_split(save_split(split, tmp_path / "split.csv")).equals(split)
    fitted = [Normaliser(), *(Normaliser.fit(features, rows["train"], mode) for mode in ("train", "speaker", "utterance")),
              Normaliser.fit(sung, range(20), "level")]
    for n in fitted:
        back = Normaliser.load(n.save(tmp_path / "normaliser.json"))
        assert back == n
    np.testing.assert_array_equal(back.apply(sung[0]), fitted[-1].apply(sung[0]))


def test_an_epoch_has_each_clip_once(features, rows, split):
    labels, blind = label_ids(features.index["emotion"], class_names(split)), Normaliser.fit(features, rows["train"])
    batches = partial(train_batches, features, rows["train"], labels[rows["train"]], blind)
    epoch, buckets = list(batches(seed=0, epoch=0)), bucket_lengths(features.index["n_frames"].iloc[rows["train"]])
    assert {b.frames.shape[1] for b in epoch} <= set(buckets)
    assert sorted(r for b in epoch for r in b.row[b.row >= 0]) == sorted(rows["train"])
    for b in epoch:
        for i in np.flatnonzero(b.row >= 0):
            assert b.label[i] == labels[b.row[i]]
            np.testing.assert_array_equal(b.frames[i][b.mask[i]], blind.apply(features[b.row[i]]))
