"""Downloads from a server on this machine that breaks off, lies about sizes, serves bad hashes and hostile names."""
import hashlib
import io
import json
import subprocess
import sys
import threading
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import soundfile as sf

from ser_nb.lib.files import CorpusError
from ser_nb.more.fetch import Source, download, fetch, unpack

BIN = Path(sys.executable).parent
NUMBERS = np.random.default_rng(0).bytes(1_000_000)
DOI = "10.5072/FK2/TEST"


def md5(content):
    return hashlib.md5(content).hexdigest()


def clip(i):
    file = io.BytesIO()
    sf.write(file, 0.3 * np.sin(np.arange(8000 + i) / 20), 16000, format="WAV")
    return file.getvalue()


CLIPS = {f"OAF_{word}_{label}.wav": clip(10 * i + j) for i, word in enumerate(["bar", "bean"])
         for j, label in enumerate(["angry", "ps", "sad"])}
INDEX = pd.DataFrame([(name, hashlib.sha256(content).hexdigest()) for name, content in CLIPS.items()],
                     columns=["file", "sha256"])


class Handler(BaseHTTPRequestHandler):
    "Serves `server.files`; `server.tricks[path]` says what it does wrong there."

    def do_GET(self):
        path, wanted, server = self.path.partition("?")[0], self.headers.get("Range"), self.server
        server.asked.append((path, wanted))
        trick, content = server.tricks.get(path, {}), server.files.get(path)
        if content is None or "status" in trick:
            return self.send_error(trick.get("status", 404))
        ranged = wanted and not trick.get("no_range")
        start = int(wanted[6:-1]) if ranged else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if ranged else 200)
        if ranged:
            said = start + trick.get("shift", 0)
            self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        if "size" not in trick:
            self.send_header("Content-Length", str(len(content) - start))
        elif trick["size"] is not None:
            self.send_header("Content-Length", str(trick["size"]))
        self.end_headers()
        end = len(content)
        if trick.get("break_off"):
            trick["break_off"] -= 1
            end = start + (end - start) // 2
        self.wfile.write(content[start:end])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.tricks, server.asked = {"/numbers": NUMBERS}, {}, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    def get(known_hash="md5:" + md5(NUMBERS), **kwargs):
        return download(f"{server.url}/numbers", tmp_path / "numbers", known_hash, pause=0, **kwargs)
    return get


def names(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_plain(get, tmp_path):
    assert get().read_bytes() == NUMBERS and names(tmp_path) == ["numbers"]


def test_right_file_is_not_asked_for_again(get, server):
    get(), get()
    assert len(server.asked) == 1


def test_breaks_off(get, server, tmp_path):
    server.tricks["/numbers"] = {"break_off": 3}
    assert get().read_bytes() == NUMBERS and names(tmp_path) == ["numbers"]
    starts = [int(wanted[6:-1]) if wanted else 0 for _, wanted in server.asked]
    assert len(starts) == 4 and starts == sorted(set(starts)), "each try goes on behind the last"


def test_breaks_off_for_good_and_goes_on_later(get, server, tmp_path):
    server.tricks["/numbers"] = {"break_off": 2}
    with pytest.raises(CorpusError, match="try again to go on"):
        get(tries=2)
    assert names(tmp_path) == ["numbers.part"]
    kept = (tmp_path / "numbers.part").stat().st_size
    assert kept > 300_000 and get().read_bytes() == NUMBERS and server.asked[-1][1] == f"bytes={kept}-"


def test_breaks_off_without_ranges(get, server):
    server.tricks["/numbers"] = {"break_off": 1, "no_range": True}
    assert get().read_bytes() == NUMBERS


def test_complete_part(get, tmp_path):
    (tmp_path / "numbers.part").write_bytes(NUMBERS)
    assert get().read_bytes() == NUMBERS


@pytest.mark.parametrize("stale", [b"something else", NUMBERS + b"more", NUMBERS[:1000] + b"x"])
def test_stale_part(get, tmp_path, stale):
    (tmp_path / "numbers.part").write_bytes(stale)
    assert get().read_bytes() == NUMBERS


def test_wrong_range(get, server, tmp_path):
    server.tricks["/numbers"] = {"shift": 5}
    (tmp_path / "numbers.part").write_bytes(NUMBERS[:1000])
    assert get().read_bytes() == NUMBERS


@pytest.mark.parametrize("size, kwargs, message", [
    (2_000_000, {}, "try again"),  # more than comes
    (500_000, {}, "not the expected"),  # less than the file
    (10**12, {}, "at most were expected"),
    (None, {"max_bytes": 300_000}, "at most were expected"),  # says nothing, and sends too much
])
def test_lies_about_its_size(get, server, tmp_path, size, kwargs, message):
    server.tricks["/numbers"] = {"size": size}
    with pytest.raises(CorpusError, match=message):
        get(tries=2, **kwargs)
    assert "numbers" not in names(tmp_path)


def test_no_size_at_all(get, server):
    server.tricks["/numbers"] = {"size": None}
    assert get().read_bytes() == NUMBERS


def test_bad_hash(get, tmp_path):
    with pytest.raises(CorpusError, match="not the expected"):
        get("md5:" + "0" * 32)
    assert names(tmp_path) == []


def test_bad_hash_leaves_an_older_file(get, tmp_path):
    (tmp_path / "numbers").write_bytes(b"older")
    with pytest.raises(CorpusError):
        get("sha256:" + "0" * 64)
    assert (tmp_path / "numbers").read_bytes() == b"older"


@pytest.mark.parametrize("status, asked", [(404, 1), (403, 1), (503, 3)])
def test_refused(get, server, tmp_path, status, asked):
    server.tricks["/numbers"] = {"status": status}
    with pytest.raises(CorpusError, match=str(status)):
        get(tries=3)
    assert len(server.asked) == asked and names(tmp_path) == []


def test_nobody_listens(tmp_path):
    with pytest.raises(CorpusError, match="127.0.0.1"):
        download("http://127.0.0.1:9/x", tmp_path / "x", tries=2, pause=0)
    assert names(tmp_path) == []


@pytest.fixture
def published(server, monkeypatch, caplog):
    caplog.set_level("INFO", "ser_nb")
    "The clips on a Dataverse behind a DOI, and in a zip that holds them twice; a source that knows both."
    def publish(clips):
        server.files |= {f"/api/access/datafile/{i}": content for i, content in enumerate(clips.values())}
        listed = [{"dataFile": {"id": i, "filename": name, "md5": md5(content)}}
                  for i, (name, content) in enumerate(clips.items())]
        server.files["/api/datasets/:persistentId"] = json.dumps(
            {"status": "OK", "data": {"latestVersion": {"files": listed}}}).encode()

    import pooch.downloaders
    monkeypatch.setattr(pooch.downloaders, "doi_to_url", lambda doi, **_: f"{server.url}/dataset?id={doi}")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for name, content in CLIPS.items():
            zipped.writestr(f"TESS/{name}", content)
            zipped.writestr(f"TESS/TESS/{name}", content)
    publish(CLIPS)
    server.publish, server.files["/all.zip"] = publish, packed.getvalue()
    source = Source("Test set", "Licence of the test set", DOI, f"{server.url}/all.zip", "md5:" + md5(packed.getvalue()))
    return {"test": source}


def paths(server):
    return [path for path, _ in server.asked]


def test_doi(published, server, tmp_path, caplog):
    corpus = fetch("test", tmp_path / "test", published, INDEX)
    assert names(tmp_path) == sorted(CLIPS) and len(corpus) == 6 and "/all.zip" not in paths(server)
    assert "Licence of the test set" in caplog.text
    server.asked.clear()
    fetch("test", tmp_path / "test", published, INDEX)
    assert not server.asked, "what is complete is not asked for"
    (tmp_path / "test" / "OAF_bar_sad.wav").write_bytes(b"changed")
    (tmp_path / "test" / "OAF_bar_ps.wav").unlink()
    fetch("test", tmp_path / "test", published, INDEX)
    assert sorted(p for p in paths(server) if "datafile" in p) == ["/api/access/datafile/1", "/api/access/datafile/2"]
    assert {name: (tmp_path / "test" / name).read_bytes() for name in CLIPS} == CLIPS


def falls_back(published, server, tmp_path, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = fetch("test", tmp_path / "test", published, INDEX)
    assert len(corpus) == 6 and "/all.zip" in paths(server) and set(names(tmp_path)) == set(CLIPS)
    assert "could not be used" in caplog.text


def test_doi_unreachable(published, server, tmp_path, caplog, monkeypatch):
    import pooch.downloaders

    def fail(doi, **_):
        raise requests.ConnectionError("no route")
    monkeypatch.setattr(pooch.downloaders, "doi_to_url", fail)
    falls_back(published, server, tmp_path, caplog)


def test_doi_is_no_dataverse(published, server, tmp_path, caplog):
    del server.files["/api/datasets/:persistentId"]
    falls_back(published, server, tmp_path, caplog)


def test_doi_answers_nonsense(published, server, tmp_path, caplog):
    server.files["/api/datasets/:persistentId"] = b"<html>"
    falls_back(published, server, tmp_path, caplog)


@pytest.mark.parametrize("answer", [b"[]", b"null", b'{"data": null}', b'{"data": {"latestVersion": {"files": []}}}',
                                    b'{"data": {"latestVersion": {"files": [{"dataFile": null}]}}}'])
def test_doi_answers_other_json(published, server, tmp_path, caplog, answer):
    server.files["/api/datasets/:persistentId"] = answer
    falls_back(published, server, tmp_path, caplog)


def test_doi_with_a_bad_hash(published, server, tmp_path, caplog):
    server.files["/api/access/datafile/2"] = b"not what was promised"
    falls_back(published, server, tmp_path, caplog)


def test_doi_breaks_off(published, server, tmp_path):
    server.tricks["/api/access/datafile/2"] = {"break_off": 1}
    assert len(fetch("test", tmp_path / "test", published, INDEX)) == 6 and "/all.zip" not in paths(server)


def test_doi_with_a_hostile_name(published, server, tmp_path, caplog):
    server.publish({**CLIPS, "../../evil.wav": clip(99)})
    falls_back(published, server, tmp_path, caplog)
    assert not list(tmp_path.parent.glob("evil.wav"))


def test_both_fail(published, server, tmp_path):
    server.files.clear()
    with pytest.raises(CorpusError, match="all.zip.*404"):
        fetch("test", tmp_path / "test", published, INDEX)
    assert names(tmp_path) == []


def test_mirror_without_a_file(published, server, tmp_path):
    server.publish({name: content for name, content in CLIPS.items() if name != "OAF_bar_sad.wav"})
    with pytest.warns(UserWarning, match="1 missing; the first is OAF_bar_sad.wav"):
        assert len(fetch("test", tmp_path / "test", published, INDEX)) == 5


def test_link_in_dest_is_not_followed_out(tmp_path):
    packed = tmp_path / "some.zip"
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("door/out.wav", clip(0))
    (tmp_path / "outside").mkdir(), (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "door").symlink_to(tmp_path / "outside")
    with pytest.raises(CorpusError, match="would leave"):
        unpack(packed, tmp_path / "dest")
    assert names(tmp_path / "outside") == []


@pytest.mark.parametrize("spoil", [
    lambda content: content[: len(content) // 2],
    lambda content: content.replace(b"RIFF", b"RIFX"),  # the checksums no longer hold
    lambda content: b"",
])
def test_damaged_zip(published, server, tmp_path, spoil):
    (tmp_path / "some.zip").write_bytes(spoil(server.files["/all.zip"]))
    with pytest.raises(CorpusError, match="could not be unpacked"):
        unpack(tmp_path / "some.zip", tmp_path / "dest")
    assert names(tmp_path / "dest") == []


def test_zip_where_a_file_is_a_folder_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as zipped:
        zipped.writestr("a", b"file")
        zipped.writestr("a/b", b"in a folder")
    with pytest.raises(CorpusError, match="could not be unpacked"):
        unpack(tmp_path / "some.zip", tmp_path / "dest")


def test_commands():
    for command in "ser_fetch", "ser_check":
        done = subprocess.run([BIN / command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "usage" in done.stdout
    for words in [BIN / "ser_fetch", "iemocap", "x"], [BIN / "ser_check", "x"], [sys.executable, "-m", "ser_nb.data"]:
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
