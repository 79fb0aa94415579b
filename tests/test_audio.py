"""Reading sound against what disks, downloads and phones hold: special files, absurd headers, other codecs, no decoder."""
import io
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from ser_nb.lib import audio, sound
from ser_nb.lib.audio import (ENCODED, SUFFIXES, AudioError, as_file, check_sound, file_blocks, find_sounds, load_audio,
                              mono, read_bytes, tone, unlike_channels)
from ser_nb.lib.files import CorpusError

FFMPEG = shutil.which("ffmpeg")
try:
    import av
except ImportError:
    av = None
needs_ffmpeg = pytest.mark.skipif(not FFMPEG, reason="ffmpeg is not on the PATH")
decoders = pytest.mark.parametrize("program", [
    pytest.param(FFMPEG, id="ffmpeg", marks=needs_ffmpeg),
    pytest.param("av", id="av", marks=pytest.mark.skipif(av is None, reason="the formats extra is not installed"))])
READERS = {
    "load_audio": lambda recording: load_audio(recording)[0],
    "own rate": lambda recording: load_audio(recording, sr=None)[0],
    "file_blocks": lambda recording: np.concatenate([np.zeros(0, np.float32), *file_blocks(recording)]),
    "unlike_channels": unlike_channels,
}
MONO = "-af pan=mono|c0=.5*c0+.5*c1"
CODED = {  # name -> what ffmpeg is told
    "end.m4a": "-c:a aac", "start.m4a": "-c:a aac -movflags +faststart", "alac.m4a": "-c:a alac", "a.aac": "-c:a aac",
    "a.3gp": f"-c:a aac -ar 16000 {MONO}", "a.webm": "-c:a libopus", "a.mkv": "-c:a libvorbis", "a.wma": "-c:a wmav2",
    "a.mov": "-c:a pcm_s16le", "g722.wav": f"-c:a g722 -ar 16000 {MONO}", "mp3.wav": "-c:a libmp3lame", "ac3.wav": "-c:a ac3",
    "a.wv": "-c:a wavpack", "a.tta": "-c:a tta", "speex.ogg": f"-c:a libspeex -ar 16000 {MONO}", "flac.ogg": "-c:a flac",
    "a.caf": "-c:a adpcm_ima_qt", "a.mp2": "-c:a mp2", "a.avi": "-c:a libmp3lame", "a.flv": "-c:a aac",
}
VIDEO = "-f lavfi -i testsrc=size=64x48:rate=5:duration=1"


@pytest.fixture(scope="session")
def source():
    "One second of a tone that grows, in two unlike loud channels, at 44.1 kHz."
    t = np.arange(44100) / 44100
    y = 0.6 * t * np.sin(2 * np.pi * 300 * t)
    return np.stack([y, 0.8 * y], axis=1)


@pytest.fixture(scope="session")
def coded(tmp_path_factory, source):
    "The tone in every format that this ffmpeg can write."
    folder = tmp_path_factory.mktemp("coded")
    sf.write(folder / "source.wav", source, 44100)
    jobs = {name: ["-i", "source.wav", *words.split(), name] for name, words in CODED.items()}
    jobs["video.mp4"] = [*VIDEO.split(), "-i", "source.wav", "-c:v", "mpeg4", "-c:a", "aac", "video.mp4"]
    jobs["mute.mp4"] = [*VIDEO.split(), "-c:v", "mpeg4", "mute.mp4"]
    for words in jobs.values() if FFMPEG else []:
        subprocess.run([FFMPEG, "-v", "quiet", "-nostdin", *words], cwd=folder)
    return {p.name: p for p in folder.iterdir() if p.stat().st_size}


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path_factory, monkeypatch):
    "No temporary file and no process outlives a test."
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert not list(folder.iterdir())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def use(monkeypatch):
    "Read with this decoder only; none if it is empty."
    def use(program):
        for module in (audio, sound):
            monkeypatch.setattr(module, "decoder", lambda: program)
    return use


def problem(recording, read="load_audio"):
    "What a reader says is wrong; nothing if all is well."
    try:
        READERS[read](recording)
    except AudioError as error:
        assert str(error).isprintable()
        return error.problem
    return ""


# -- what is no file, or has no end

@pytest.mark.parametrize("read", READERS)
def test_special_files(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.wav"))
        for path in (tmp_path / "pipe.wav", tmp_path / "socket.wav", "/dev/zero", "/dev/null"):
            assert problem(path, read) == "no file"
    assert problem(tmp_path, read) == "a folder"
    assert problem("/proc/self/environ", read) == "empty"
    (tmp_path / "link.wav").symlink_to(tmp_path / "pipe.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "round.wav").symlink_to(tmp_path / "round.wav")
    assert [problem(tmp_path / f"{name}.wav", read) for name in ("link", "gone", "round")] == [
        "no file", "missing", "unreadable"]


def test_swapped_while_opened(tmp_path, monkeypatch):
    "Where a file becomes a pipe between the look and the opening, the opening doesn't wait."
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "file.wav").write_bytes(as_file(tone()))
    there = os.stat(tmp_path / "file.wav")
    monkeypatch.setattr(os, "stat", lambda *a, **k: there)
    assert problem(tmp_path / "pipe.wav") == "no file"


def test_endless_streams():
    code = "while True: print('y' * 1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as endless:
        assert problem(endless.stdout) == "not audio"
        endless.kill()
    with open("/dev/zero", "rb") as endless:
        assert problem(endless) == "not audio"


def peak(code):
    "What code prints, and the MB that it needs more than the imports."
    code = f"""if True:
        import sys, io, numpy as np, soxr
        from ser_nb.lib.audio import AudioError, file_blocks, load_audio
        def high(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])
        before = high()
        try: {code}
        except AudioError as error: print(error.problem)
        print((high() - before) // 1024)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, used = done.stdout.splitlines()
    return said, int(used)


def header(n, rate=16000, channels=1, bits=16, tag=1, width=None):
    "The first 44 bytes of a wav."
    width = channels * bits // 8 & 0xFFFF if width is None else width
    facts = struct.pack("<IHHIIHH", 16, tag, channels, rate, rate * width & 0xFFFFFFFF, width, bits)
    return b"RIFF" + struct.pack("<I", 36 + n & 0xFFFFFFFF) + b"WAVEfmt " + facts + b"data" + struct.pack("<I", n & 0xFFFFFFFF)


def holed(path, head, n):
    "A file of n zeros after its head, which take no place on the disk."
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + n)
    return path


def test_large_files_take_little_memory(tmp_path):
    hours = holed(tmp_path / "hours.wav", header(10**9), 10**9)
    wide = holed(tmp_path / "wide.wav", header(2 * 10**8, 48000, 8, 32), 2 * 10**8)
    empty = holed(tmp_path / "empty.wav", header(0)[:12], 10**9)
    assert [problem(path) for path in (hours, empty)] == ["too long", "not audio"]
    for path, says in ((hours, "too long"), (wide, "silent"), (empty, "not audio")):
        said, used = peak(f"load_audio({str(path)!r})")
        assert (said, used < 60) == (says, True), (said, used)
    said, used = peak(f"print(sum(map(len, file_blocks({str(wide)!r}))))")
    assert int(said) > 2 * 10**6 and used < 60


def test_what_a_header_cannot_count(tmp_path):
    n = 5 * 10**9
    for head in (header(n, 96000, 8, 32), header(0xFFFFFFFF, 96000, 8, 32)):
        for read in READERS:
            assert problem(holed(tmp_path / "large.wav", head, n), read) == "too large"


def test_long_recordings_are_read_whole(tmp_path):
    "Block by block, with the same result to the bit as at once."
    import soxr
    y = np.random.default_rng(0).normal(size=(700_000, 2)).astype("float32") / 10
    for rate in (8000, 22050, 48000):
        sf.write(tmp_path / "long.wav", y, rate, subtype="FLOAT")
        want = y.mean(axis=1) if rate == 16000 else soxr.resample(y.mean(axis=1), rate, 16000)
        assert np.array_equal(load_audio(tmp_path / "long.wav")[0], want)
        assert np.array_equal(READERS["file_blocks"](tmp_path / "long.wav"), want)


# -- damage

@pytest.mark.parametrize("head", [
    header(16000, channels=0), header(16000, channels=65535), header(16000, rate=0), header(16000, rate=2**32 - 1),
    header(16000, bits=0), header(16000, bits=65535), header(0xFFFFFFF0, rate=1), header(16000, tag=0),
    header(16000, tag=0x1234), header(16000)[:20], header(16000)[:36] + b"data",
    header(16000)[:12] + b"LIST" + struct.pack("<I", 0xFFFFFFFE), b"RF64" + header(16000)[4:12] + b"ds64" + b"\xff" * 60])
def test_absurd_headers(head, tmp_path):
    data = head + as_file(tone())[44:]
    (tmp_path / "x.wav").write_bytes(data)
    for read in READERS:
        assert problem(tmp_path / "x.wav", read) == problem(io.BytesIO(data), read) != ""


def test_odd_headers():
    "A size of 2 GB is what a pipe gives, and a block of no width can be told from channels and bits."
    for head in (header(2**31), header(16000, width=0)):
        assert np.array_equal(load_audio(io.BytesIO(head + as_file(tone())[44:]))[0], load_audio(io.BytesIO(as_file(tone())))[0])


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 2), (8000, 2), (48000, 1)])
def test_mp3_without_a_tag(tmp_path, rate, channels):
    "libsndfile knows an mp3 without a tag by its suffix alone, and not from an open file."
    y = np.stack([tone(rate, rate)] * channels, axis=1)
    data = as_file(y, rate, "MP3", "MPEG_LAYER_III")
    (tmp_path / "x.mp3").write_bytes(data)
    for recording in (tmp_path / "x.mp3", io.BytesIO(data), io.BytesIO(b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + data)):
        heard, sr = load_audio(recording, sr=None)
        assert sr == rate and abs(len(heard) - rate) < 0.1 * rate
        assert np.abs(heard[len(heard) // 4 : -len(heard) // 4]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("format, subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "PCM_16")])
def test_one_behind_another(format, subtype):
    "A second recording behind the first is not left out in silence."
    one, two = as_file(tone(), format=format, subtype=subtype), as_file(tone(hz=330), format=format, subtype=subtype)
    assert not problem(io.BytesIO(one)) and problem(io.BytesIO(one + two))


def seeds():
    y = tone(4000) * np.linspace(0, 1, 4000, dtype="float32")
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"),
             ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"),
             ("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"),
             ("NIST", "PCM_16"), ("VOC", "PCM_16")]
    mp3 = as_file(y, format="MP3", subtype="MPEG_LAYER_III")
    tagged = [b"ID3\4\0\0" + size + bytes(50) + mp3 for size in (b"\0\0\0\x32", b"\0\0\0\x20", b"\x7f\x7f\x7f\x7f")]
    return [*(as_file(y, format=f, subtype=s) for f, s in kinds), as_file(np.stack([y, y / 2], 1), 8000), *tagged]


def mutilate(data, rng):
    "A file with some bytes changed, put in, cut out or doubled."
    data = bytearray(data)
    for _ in range(rng.randint(0, 6)):
        at = rng.choice([rng.randrange(max(len(data), 1)), rng.randrange(64)])
        more = bytes(rng.choice([0, 255, 127, 128, rng.randrange(256)]) for _ in range(rng.choice([1, 2, 4, 8])))
        kind = rng.randrange(4)
        if kind == 0:
            data[at : at + len(more)] = more
        elif kind == 1:
            data[at:at] = more
        elif kind == 2:
            del data[at : at + rng.randint(1, 4000)]
        else:
            data += data[at : at + 200]
    return bytes(data)


def check_mutilated(data, path):
    "One line or sound, the same from a path and from an open file."
    path.write_bytes(data)
    said = {read: problem(path, read) for read in READERS}
    assert said["load_audio"] == problem(io.BytesIO(data))
    if not said["load_audio"]:
        y, rate = load_audio(path)
        assert y.dtype == np.float32 and y.ndim == 1 and len(y) >= 0.09 * rate and np.isfinite(y).all()


def test_fuzz(tmp_path, every):
    rng, files = random.Random(0), seeds()
    for _ in range(0, 300, every(4)):
        check_mutilated(mutilate(rng.choice(files), rng), tmp_path / "x.wav")


@decoders
def test_fuzz_coded(program, coded, use, tmp_path):
    use(program)
    rng, files = random.Random(1), [path.read_bytes() for path in coded.values() if path.stat().st_size < 2**17]
    for _ in range(12):
        check_mutilated(mutilate(rng.choice(files), rng), tmp_path / "x.m4a")


@pytest.mark.parametrize("format, subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"), ("WAV", "PCM_16"),
                                             ("AIFF", "PCM_16"), ("RF64", "PCM_16"), ("WAV", "GSM610")])
def test_cut_anywhere(format, subtype, tmp_path):
    data = as_file(np.random.default_rng(0).normal(size=16000) / 9, 8000, format, subtype)
    for share in (0.05, 0.3, 0.6, 0.9, 0.99):
        (tmp_path / "x.wav").write_bytes(data[: int(share * len(data))])
        for read in READERS if format != "OGG" else list(READERS)[:3]:
            assert problem(tmp_path / "x.wav", read) or read == "unlike_channels"


# -- other codecs

@needs_ffmpeg
def test_formats_are_made(coded):
    assert {"end.m4a", "a.webm", "a.wma", "mp3.wav", "g722.wav", "video.mp4", "mute.mp4"} <= set(coded)


@decoders
def test_coded(program, coded, use, source):
    use(program)
    want = np.std(source.mean(axis=1))
    for name in set(coded) - {"mute.mp4"}:
        y, rate = load_audio(coded[name], sr=None)
        assert abs(len(y) / rate - 1) < 0.12, name
        assert abs(np.std(y) / want - 1) < 0.1, name
    assert problem(coded["mute.mp4"]) == "no sound"
    for name in ("end.m4a", "a.webm"):
        whole = load_audio(coded[name])[0]
        assert np.array_equal(READERS["file_blocks"](coded[name]), whole), name
        assert np.array_equal(load_audio(io.BytesIO(coded[name].read_bytes()))[0], whole), name
    alac = load_audio(coded["alac.m4a"], sr=None, channel=1)[0]
    assert np.abs(alac - source[:, 1]).max() < 1e-4


@needs_ffmpeg
@pytest.mark.skipif(av is None, reason="the formats extra is not installed")
def test_decoders_agree(coded, use):
    for name in set(coded) - {"mute.mp4"}:
        heard = []
        for program in (FFMPEG, "av"):
            use(program)
            heard.append(load_audio(coded[name], sr=None))
        (a, rate), (b, other) = heard
        assert rate == other and len(a) == len(b) and np.abs(a - b).max() < 1e-6, name


@decoders
def test_coded_and_cut(program, coded, use, tmp_path):
    use(program)
    for name in ("end.m4a", "start.m4a", "alac.m4a", "a.webm", "a.mkv", "a.wma", "a.3gp", "a.mov", "g722.wav", "mp3.wav",
                 "a.avi", "a.tta", "speex.ogg", "video.mp4"):
        for share in (0.5, 0.9):
            data = coded[name].read_bytes()
            (tmp_path / name).write_bytes(data[: int(share * len(data))])
            assert problem(tmp_path / name) in ("truncated", "not audio"), (name, share)


def test_without_a_decoder(coded, use, tmp_path):
    use("")
    files = {name: path.read_bytes() for name, path in coded.items()} or {"end.m4a": b"\0\0\0\x1cftypM4A ", "a.mp2": b""}
    for name in set(files) - {"a.mp2", "mp3.wav", "source.wav"}:
        (tmp_path / name).write_bytes(files[name])
        with pytest.raises(AudioError, match="ffmpeg -i .*wav") as error:
            load_audio(tmp_path / name)
        assert error.value.problem == "no decoder"
    for name in {"mp3.wav", "a.mp2"} & set(coded):
        assert not problem(coded[name])


@decoders
def test_too_long_is_given_up(program, coded, use):
    use(program)
    with pytest.raises(AudioError, match="too long: more than"):
        load_audio(coded["end.m4a"], max_duration=0.2)
    blocks = file_blocks(coded["a.wma"])
    next(blocks)
    blocks.close()


@decoders
def test_threads(program, coded, use, tmp_path):
    use(program)
    data, said = coded["a.webm"].read_bytes(), []
    (tmp_path / "cut.webm").write_bytes(data[: len(data) // 2])
    work = [threading.Thread(target=lambda: said.append(problem(tmp_path / "cut.webm"))) for _ in range(16)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert said == ["truncated"] * 16


def test_decoder_that_hangs(use, tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(1000)\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    use(str(tmp_path / "ffmpeg"))
    monkeypatch.setattr(sound, "PATIENCE", 0.1)
    m4a = b"\0\0\0\x1cftypM4A " + bytes(100)
    assert problem(io.BytesIO(m4a)) == "too slow"
    (tmp_path / "ffmpeg").chmod(0o644)
    use(str(tmp_path / "nowhere"))
    assert problem(io.BytesIO(m4a)) == "no decoder"


@decoders
@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\n{url}\n", "ffconcat version 1.0\nfile {url}\n", "v=0\nc=IN IP4 {url}\n",
                                  '<?xml version="1.0"?><MPD><BaseURL>{url}</BaseURL></MPD>'])
def test_no_playlist_is_followed(program, text, tmp_path):
    "Not even where it reaches the decoder itself."
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        data = text.format(url=f"http://127.0.0.1:{listening.getsockname()[1]}/x.m3u8").encode()
        path = tmp_path / "list.m4a"
        path.write_bytes(data)
        assert problem(path) == "not audio"
        with open(path, "rb") as file, pytest.raises(AudioError):
            list(sound._by_av(file, "x") if program == "av" else sound._by_ffmpeg(program, file, "x"))
        with pytest.raises(BlockingIOError):
            listening.accept()


@needs_ffmpeg
def test_odd_names(coded, tmp_path):
    "A name is never read as an option, an address or a pattern."
    for name in ("-y.m4a", "http:x.m4a", "a%d.m4a", "concat:a|b.m4a", "$(touch x).m4a", "a\nb.m4a"):
        shutil.copy(coded["end.m4a"], tmp_path / name)
        assert not problem(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 6


# -- folders

def test_every_suffix_is_told(tmp_path, use):
    for suffix in SUFFIXES | ENCODED:
        (tmp_path / f"x{suffix.upper()}").write_bytes(b"x")
    use("")
    found, left_out = find_sounds(tmp_path)
    assert {path.suffix.lower() for path in found} == SUFFIXES
    assert {Path(name).suffix.lower() for name in left_out} == ENCODED
    use("av")
    assert len(find_sounds(tmp_path)[0]) == len(SUFFIXES | ENCODED) and not find_sounds(tmp_path)[1]


def test_folder_without_a_path(tmp_path, monkeypatch):
    "An empty PATH is a machine without ffmpeg."
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "call.m4a").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"none of 1 recording can be read; the first, call.m4a: .*ffmpeg -i call.m4a call.wav"):
        find_sounds(tmp_path)


def test_closed_folder(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(as_file(tone()))
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(find_sounds(tmp_path)[1]) == ["closed"]


# -- samples

@pytest.mark.parametrize("y", [np.zeros((0, 2)), np.zeros((2, 0)), np.zeros(0, "int64"), np.full(10, 2**63, "uint64"),
                               np.array([-2**63, 2**63 - 1]), np.array([1 + 1j]), np.array([True]), [[]], "x", b"x"])
def test_odd_arrays(y):
    try:
        samples = mono(y)
    except AudioError:
        return
    assert samples.dtype == np.float32 and samples.ndim == 1 and not len(samples)


def test_float_wavs(tmp_path):
    "Slightly beyond full scale is sound; whole numbers in floats are not."
    for factor, says in ((1, ""), (2.5, ""), (20, ""), (32767, "absurd values")):
        sf.write(tmp_path / "x.wav", tone() * factor, 16000, subtype="FLOAT")
        assert problem(tmp_path / "x.wav") == says
    check_sound(tone() * 3, 16000, 0.1, "x")


def test_read_bytes(tmp_path):
    (tmp_path / "x.wav").write_bytes(as_file(tone()))
    assert read_bytes(tmp_path / "x.wav", "x") == as_file(tone())
    with open(tmp_path / "x.wav", "rb") as file:
        assert read_bytes(file, "x") == as_file(tone())
