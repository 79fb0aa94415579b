"""Folders and lists as people have them, by command and at random: nothing lost, nothing guessed in silence."""
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ser_nb.data import CorpusError, load_corpus, read_table
from ser_nb.lib.audio import as_file, tone, tone_files
from ser_nb.lib.corpora import is_word, odd_character

BIN = Path(sys.executable).parent
EMOTIONS = ("angry", "sad", "happy")


def run(*words, code=0, **kwargs):
    done = subprocess.run([str(BIN / words[0]), *map(str, words[1:])], capture_output=True, text=True, **kwargs)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done


def test_roles_are_told_before_anything_long(tmp_path):
    names = [f"{e}/{who}/{i}.wav" for e in EMOTIONS for who in ("anna", "ben") for i in range(2)]
    root = tone_files(names, tmp_path / "in")
    for command in (["ser_check", root],
                    ["ser_features", "--data_dir", root, "--out_dir", tmp_path / "f", "--new_voices"]):
        first = run(*command).stderr.splitlines()[0]
        assert first == ("2 speakers, from the second folder: anna, ben; 3 emotions, from the first folder: angry, "
                         "happy, sad; texts unknown")
    done = run("ser_run", "--data_dir", root, "--out_dir", tmp_path / "r", "--protocols", "words", code=1).stderr
    assert done.splitlines()[0] == first


def test_one_person_in_train_and_test_has_no_speakers(tmp_path):
    names = [f"{part}/{e}/{part}{i}.wav" for part in ("train", "test") for e in EMOTIONS for i in range(2)]
    root = tone_files(names, tmp_path)
    run("ser_features", "--data_dir", root, "--out_dir", tmp_path / "f", "--new_voices")
    index = read_table(tmp_path / "f/index.csv")
    assert set(index["speaker"]) == {""} and index["part"].value_counts().to_dict() == {"train": 6, "test": 6}


def test_expressions(tmp_path):
    root = tone_files([f"{e.title()}/S{'MF'[who % 2]}{who}_G{i}_{e[0].upper()}{i:03}.wav" for e in EMOTIONS
                       for who in range(1, 5) for i in range(3)], tmp_path)
    proposed = run("ser_check", root).stderr
    assert r"4 speakers may stand in the names; if so, give --speaker_from '^([A-Z]{2}\d+)_'" in proposed
    assert "4 speakers, from --speaker_from: SF1" in run("ser_check", root, "--speaker_from", r"^([A-Z]{2}\d+)_").stderr
    wrong = {"(": "no regular expression", "SM(.)": "fits only 18 of 36 files; the first", "^x": "none of 36"}
    for way, says in wrong.items():
        done = run("ser_features", "--data_dir", root, "--out_dir", tmp_path / "f", "--speaker_from", way, code=1)
        assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_name_that_cannot_be_written_is_left_out_alone(tmp_path):
    root = tone_files([f"{who}_hi_{e}.wav" for who in ("anna", "J\u00fcrgen") for e in EMOTIONS], tmp_path / "in")
    for name in (b"anna_\xff_sad.wav", b"anna_a\nb_sad.wav", b"anna_\x1b[31m_sad.wav", "anna_\u202e_sad.wav".encode()):
        shutil.copy(root / "anna_hi_sad.wav", os.fsencode(root) + b"/" + name)
    done = run("ser_features", "--data_dir", root, "--out_dir", tmp_path / "f", "--new_voices")
    assert done.stderr.count("rejected ") == 4 and not odd_character(done.stderr.replace("\n", ""))
    assert len(read_table(tmp_path / "f/index.csv")) == 6 and len(read_table(tmp_path / "f/rejected.csv")) == 4


def test_a_list_is_checked_to_its_end(tmp_path):
    root = tone_files(["audio/1.wav", "audio/2.wav", "audio/3.wav"], tmp_path)
    rows = ["sep=;", "Unnamed: 0;File Name;Label;speeker;age;", r"0;audio\1.wav;angry;anna;30;", ";;;;;",
            r"1;audio\2.wav;sad;ben;;", r"2;audio\lost.wav;sad;ben;;", r"3;audio\2.wav;sad;ben;;",
            "4;audio/3.wav;;ben;;"]
    (root / "list.csv").write_bytes("\r\n".join(rows).encode("utf-16"))
    done = run("ser_check", root / "list.csv", "--out", tmp_path / "problems.csv")
    assert done.stdout.splitlines()[-1] == "2 recordings; 1 missing, 2 invalid, 0 odd"
    assert "the column speeker is read as nothing; if it is the speaker, call it speaker" in done.stderr
    assert "kept besides: Unnamed: 0, speeker, age" in done.stderr
    assert len(read_table(tmp_path / "problems.csv")) == 3
    run("ser_features", "--data_dir", root / "list.csv", "--out_dir", tmp_path / "f", "--new_voices")
    assert read_table(tmp_path / "f/index.csv")["age"].tolist() == ["30", ""]


def known_clips(corpus):
    return set(corpus["clip"]) | set(corpus.attrs["left_out"])


FOLDERS = ("angry Sad happy Joy train test eval dev anna ben 0001 0002 male female M F wav x noisy strong session1 16k "
           "OAF_angry tired").split()
NAMES = ("anna_hi_angry ben_good_day_sad 1 2 03a01Fa OAF_bar_sad OAF_bar_angry dis-f1-b1 SM1_F1_A1 angry_1 "
         "train_hi_sad m_hi_happy \x1b \u00e9 anna-hi-angry").split(" ")


@pytest.mark.parametrize("seed", range(4))
def test_folders_at_random(tmp_path, seed):
    "Each file is in the corpus, or left out with its reason, or a copy; no word is a speaker."
    draw, loaded = random.Random(seed), 0
    for k in range(60):
        root, made = tmp_path / str(k), set()
        folders, names = draw.sample(FOLDERS, draw.randint(2, 6)), draw.sample(NAMES, draw.randint(1, 5))
        if k % 2:
            folders, names = ["angry", "sad", "happy", *folders[:2]], NAMES[:3]
        for _ in range(draw.randint(1, 14)):
            name = draw.choice(names) + draw.choice((".wav", ".flac"))
            path = root.joinpath(*draw.choices(folders, k=draw.randint(k % 2, 3)), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_file(tone(2000, hz=draw.choice((100, 200, 300)))) if draw.random() < 0.9 else b"junk")
            made.add(path.relative_to(root).as_posix())
        try:
            with warnings.catch_warnings(action="ignore"):
                corpus = load_corpus(root)
        except CorpusError as error:
            assert "\n" not in str(error)
            continue
        loaded += 1
        known, left_out = known_clips(corpus), corpus.attrs["left_out"]
        tops = {clip.split("/", 1)[-1] for clip in known} | known
        lost = [clip for clip in made if not odd_character(clip) and not {clip, clip.split("/", 1)[-1]} & tops]
        assert not lost or "left out as" in corpus.attrs["roles"], (lost, left_out)
        assert corpus["clip"].is_unique and (corpus["emotion"] != "").all()
        assert not set(corpus["clip"]) & set(left_out)
        assert not [who for who in corpus["speaker"] if who and is_word(who, initials=False)]
        assert all(clip.isprintable() and reason.isprintable() for clip, reason in left_out.items())
    assert loaded > 10


FIELDS = ["path", "emotion", "a.wav", "b.wav", "sad", "speaker", "an", "", '"', ";", ",", "\t", "\n", "\0", "\x1b",
          "=x", "\u00fc", "sep=;", "|", "file", "label", "split", "train", "fold1",
          "\u202e", "C:\\x\\a.wav", "\x85", "\u2028", "part", "sex", "clip", "corpus"]
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le")


@pytest.mark.parametrize("seed", range(2))
def test_lists_at_random(tmp_path, seed):
    "A list is read or refused in one line, and no character that a terminal obeys comes through."
    draw, root, loaded = random.Random(seed), tone_files(["a.wav", "b.wav", "c.wav"], tmp_path), 0
    for k in range(600):
        further = draw.sample(["speaker", "sex", "part", "clip", "age", "", "text"], draw.randint(0, 5))
        header = ["path", "emotion", *further]
        draw.shuffle(header)
        fields = ["a.wav", "b.wav", "c.wav", "sad", "happy", "train", "", "f", "x\ty", "\x1b"]
        rows = [header, *([draw.choice(fields) for _ in header] for _ in range(draw.randint(0, 8)))]
        text = draw.choice(",;\t").join(FIELDS[:2]) + "\n" if k % 3 == 0 else ""
        text += "".join(draw.choice(FIELDS) + draw.choice((",", "\n", "")) for _ in range(draw.randint(0, 40)))
        text = "\n".join(draw.choice(",;").join(row) for row in rows) if k % 3 else text
        (root / "list.csv").write_bytes(text.encode(draw.choice(ENCODINGS), "replace"))
        try:
            with warnings.catch_warnings(action="ignore"):
                corpus = load_corpus(root / "list.csv")
        except CorpusError as error:
            assert "\n" not in str(error)
            continue
        loaded += 1
        assert corpus["clip"].is_unique and (corpus["emotion"] != "").all()
        assert not corpus.map(odd_character).ne("").any(axis=None), text
        assert set(corpus.get("part", [])) <= {"train", "val", "test", ""}
        assert all(clip.isprintable() and reason.isprintable() for clip, reason in corpus.attrs["left_out"].items())
    assert loaded > 10


LAYOUTS = {  # a few files of each corpus as they lie in the published one; how many speakers; emotions
    "nemo": ("samples/WR0_surprised_64, samples/EB0_neutral_13, samples/MP0_sadness_79", 3, "neutral sad surprise"),
    "cafe": ("Joie/Fort/11-J-2-3, Joie/Faible/11-J-1-3, Neutre/12-N-1-6, Surprise/Fort/01-S-2-1", 3,
             "happy neutral surprise"),
    "esd": ("0002/Sad/train/0002_001071, 0011/Angry/test/0011_000351, 0011/Angry/train/0011_000371, "
            "0011/Happy/evaluation/0011_000701", 2, "angry happy sad"),
    "emov-db": ("bea/Angry/anger_1-28_0011, bea/Sleepy/sleepiness_1-28_0011, sam/Disgusted/disgust_29-56_0031, "
                "josh/Amused/amused_1-28_0003", 3, "amused angry disgust sleepiness"),
    "jl-corpus": ("JL(wav+txt)/male2_anxious_9a_2, JL(wav+txt)/male2_anxious_9b_2, JL(wav+txt)/female1_excited_1a_1",
                  2, "excited fear"),
    "subesco": ("F_02_MONIKA_S_1_NEUTRAL_5, M_02_RASEL_S_1_ANGRY_1, F_02_MONIKA_S_1_NEUTRAL_4", 2, "angry neutral"),
    "shemo": ("female/F21N05, female/F24F02, male/M12N69, male/M12N70", 3, "fear neutral"),
    "aesdd": ("anger/a03 (5), anger/a03 (5)b, fear/f01 (1), happiness/h01 (1), disgust/d01 (2), sadness/s01 (1)", 3,
              "angry disgust fear happy sad"),
    "mesd": ("Anger_F_B_ofensa, Fear_C_A_por_favor, Sadness_M_A_dentro, Neutral_F_A_dentro", 3,
             "angry fear neutral sad"),
    "urdu": ("Angry/SM1_F1_A01, Angry/SM1_F10_A010, Happy/SF4_F1_H031, Sad/SM1_F1_S01", 2, "angry happy sad"),
    "ased": ("01Neutral/n1-01-01-02-59, 04Sad/s4-01-01-02-59, 04Sad/S4-04-02-01-29, 05Angry/a5-03-02-01-58", 3,
             "angry neutral sad"),
    "turev-db": ("Sound Source/Angry/1157_kz_acik, Sound Source/Calm/1234_sk_acik, Sound Source/Sad/1157_hl_acik, "
                 "Sound Source/Happy/1358_mt_acik", 3, "angry calm happy sad"),
    "ravdess-song": ("Actor_01/03-02-01-01-01-01-01, Actor_01/03-02-06-02-02-02-01, Actor_24/03-02-05-01-01-01-24", 2,
                     "angry fear neutral"),
    "baved": ("2/4-m-20-2-2-705, 2/4-m-20-2-2-710, 4/4-m-20-4-0-1100, 2/54-f-19-2-1-607", 2,
              "high_level low_level usual_level"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts(tmp_path, name):
    files, speakers, emotions = LAYOUTS[name]
    names = [f"{file}.wav" for file in files.split(", ")]
    with warnings.catch_warnings(action="error"):
        corpus = load_corpus(tone_files(names, tmp_path / "copy"))
    assert corpus["clip"].tolist() == sorted(names) and set(corpus["corpus"]) == {name}
    assert corpus["speaker"].nunique() == speakers and "" not in set(corpus["speaker"])
    assert sorted({emotion.replace(" ", "_") for emotion in corpus["emotion"]}) == emotions.split()
    if name == "esd":
        assert corpus["part"].tolist() == ["train", "test", "train", "val"]
    if name == "ased":
        assert sorted(corpus["text"]) == ["01", "01", "a5-03", "s4-04"]


LISTED = {  # clips, lists beside them, who speaks and in which emotion; the others are left out with their reasons
    "iemocap": (
        {f"Session1/sentences/wav/{scene}/{scene}_{turn}": said for scene, turn, said in [
            ("Ses01F_impro01", "F000", "01F neutral female"), ("Ses01F_impro01", "M001", "01M angry male"),
            ("Ses01M_script01_1b", "F002", "01F excited female"), ("Ses01M_script01_1b", "M003", ""),
            ("Ses01M_script01_1b", "M004", "")]},
        {"Session1/dialog/EmoEvaluation/Ses01F_impro01.txt":
            "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
            "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n\n"
            "[8.3 - 9.1]\tSes01F_impro01_M001\tang\t[2.0, 3.5, 3.0]\n",
         "Session1/dialog/EmoEvaluation/Ses01M_script01_1b.txt":
            "[1.0 - 2.0]\tSes01M_script01_1b_F002\texc\t[4.0, 3.0, 3.0]\n"
            "[2.0 - 3.0]\tSes01M_script01_1b_M003\txxx\t[2.0, 2.0, 2.0]\n"},
        ["its judges did not agree", "its list says nothing of it"]),
    "msp-improv": (
        {"Audio/session1/S01A/R/MSP-IMPROV-S01A-F01-R-FF01": "F01 angry female",
         "Audio/session1/S01A/P/MSP-IMPROV-S01A-M01-P-FM02": "M01 neutral male",
         "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM03": ""},
        {"Evalution.txt": "UTD-IMPROV-S01A-F01-R-FF01.avi; A; A:3.3; V:2.3; D:3.0 ; N:3.6;\n"
                          "UTD-IMPROV-S01A-M01-P-FM02.avi; N; A:3.0; V:3.5; D:3.0 ; N:3.6;\n"
                          "UTD-IMPROV-S01A-F01-S-FM03.avi; X; A:3.0; V:3.5; D:3.0 ; N:3.6;\n"},
        ["its judges did not agree"]),
    "meld": (
        {"train_splits/dia0_utt0": "PHOEBE sad", "train_splits/dia0_utt1": "MONICA surprise",
         "dev_splits_complete/dia0_utt0": "ROSS angry", "output_repeated_splits_test/dia0_utt0": " happy"},
        {f"{part}_sent_emo.csv":
            "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n" + rows
         for part, rows in [
            ("train", "1,\"Oh my God, he\u2019s lost it.\",Phoebe,sadness,negative,0,0,4,7,a,b\n"
                      "2,What?,Monica,surprise,negative,0,1,4,7,a,b\n"),
            ("dev", "1,Or!,Ross,anger,negative,0,0,4,4,a,b\n"), ("test", "1,Hey!,All,joy,positive,0,0,4,4,a,b\n")]},
        []),
    "emozionalmente": (
        {"audio/1612872848291": "42 happy", "audio/1612872848292": "42 neutral", "audio/1612872848293": ""},
        {"metadata/samples.csv": "file_name,actor,emotion_expressed,sentence\n1612872848291.wav,42,joy,Ti aspetto\n"
                                 "1612872848292.wav,42,neutrality,\"Vengo, ora\"\n"},
        ["its list says nothing of it"]),
}


@pytest.mark.parametrize("name", LISTED)
def test_labels_in_lists(tmp_path, name):
    clips, lists, reasons = LISTED[name]
    root = tone_files([f"{clip}.wav" for clip in clips], tmp_path / "copy")
    with pytest.raises(CorpusError, match="beside them, which tells"), warnings.catch_warnings(action="ignore"):
        load_corpus(root)
    for file, text in lists.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    with warnings.catch_warnings(action="ignore"):
        corpus = load_corpus(root)
    told = {row.clip[:-4]: f"{row.speaker} {row.emotion} {row.sex}".rstrip() for row in corpus.itertuples()}
    assert told == {clip: said for clip, said in clips.items() if said} and set(corpus["corpus"]) == {name}
    assert sorted(corpus.attrs["left_out"].values()) == reasons
    if name == "emozionalmente":
        assert corpus["text"].tolist() == ["ti aspetto", "vengo, ora"]
    if name == "meld":
        assert corpus["part"].tolist() == ["val", "test", "train", "train"]


def test_song_beside_speech(tmp_path):
    "They are the same people."
    names = [f"Actor_0{who}/03-0{way}-0{e}-01-01-01-0{who}.wav" for who in (1, 2) for way in (1, 2) for e in (3, 4)]
    with warnings.catch_warnings(action="ignore"):
        corpus = load_corpus(tone_files(names, tmp_path))
    assert set(corpus["corpus"]) == {"ravdess"} and len(corpus) == 4
    assert set(corpus.attrs["left_out"].values()) == {"it is song, not speech"}
