"""The page that listens, in Chromium: its answers beside Python's, its microphone, and that it asks nobody for anything."""
import base64
import http.server
import io
import json
import re
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from ser_nb.dataset import Normaliser
from ser_nb.features import FeatureSettings, only_voice
from ser_nb.lib.audio import load_audio, resampled
from ser_nb.lib.graph import drawn_voice
from ser_nb.lib.onnx import onnx_model, weight_shapes
from ser_nb.lib.parts import POOLINGS
from ser_nb.model import Ensemble, ModelSettings, OnnxNetwork
from ser_nb.more.export import export
from ser_nb.more.page import describe, page_html
from ser_nb.predict import BUNDLED, PredictError, Recognizer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import check_docs  # noqa: E402

pytest.importorskip("websocket")
if not any(map(check_docs.shutil.which, filter(None, (check_docs.os.environ.get("CHROMIUM"), *check_docs.BROWSERS)))):
    pytest.skip("no Chromium", allow_module_level=True)

RUN = ROOT / "tests" / "runs" / "4035acd-classic"
DEMO_SR = 16000
LABELS = ("angry", "happy", "neutral", "sad")
READY = "new Promise(r => {const f = () => document.documentElement.dataset.ready ? r(performance.now()) : setTimeout(f, 10); f()})"


def voice(word="boat", label="angry", speaker="SF1"):
    "A drawn voice, float32."
    return drawn_voice(0.8, DEMO_SR, zlib.crc32(f"{word}{label}{speaker}".encode()))


def random_recognizer(model, frames, mode="level", seed=0):
    "A recognizer with weights that were drawn."
    rng, n, k = np.random.default_rng(seed), frames.n_features, len(LABELS)
    weights = {}
    for name, shapes in weight_shapes(model, n, k).items():
        weights[name] = [np.abs(w) + 0.1 if name.endswith("_norm") else w for w in
                         (rng.normal(size=s).astype(np.float32) / max(1, np.sqrt(s[0]) / 2) for s in shapes)]
        if name.endswith("wide"):
            weights[name] = [np.abs(w) / 8 for w in weights[name]]
        if "encoder_" in name:
            weights[name] = [w.astype(np.float16).astype(np.float32) for w in weights[name]]
    stats = {"": np.stack([rng.normal(size=n), rng.uniform(5, 9, n)])}
    powers = frames.families.get("encoder", slice(0, 0))
    stats[""][:, powers] = [[0], [1]]
    if mode == "level":
        for name, columns in (("bands", frames.families["logmel"]), ("f0", frames.families.get("pitch"))):
            if columns:
                on = slice(columns.start, columns.start + 1) if name == "f0" else columns
                stats[name] = np.stack([np.isin(np.arange(n), np.r_[on]), np.ones(n)]).astype(float)
    reference = {"max_frames": 61, "median_duration": 0.8, "mean": [0.0] * n, "deviation": [20.0] * n,
                 "known": {"duration": [0.3, 0.6], "distance": [0.0, 1.0], "bandwidth": [100.0, 4000.0]}}
    network = OnnxNetwork(onnx_model(model, n, k, weights).SerializeToString())
    return Recognizer(LABELS, frames, Normaliser(mode, stats if mode in ("level", "train") else {}), network, reference, 1.3,
                      0.4, model)


VOICE, BOTH = only_voice(FeatureSettings()), only_voice(FeatureSettings(encoder="ge2e"))
KINDS = {
    "last": (ModelSettings(units=(12, 8)), FeatureSettings(pitch=True), "train"),
    "every family": (ModelSettings(units=(8,), pooling="mean"), FeatureSettings(n_fft=800, win_length=600, center=False,
                                                                                db_range=None, top_db=None), "utterance"),
    "conv": (ModelSettings(conv=16, units=(12,), bidirectional=True, pooling="deviation", dense=0, batch_norm=True), VOICE, "level"),
    "wide": (ModelSettings(wide=8, n_mels=64, units=(12,), bidirectional=True, pooling="last", speaker_norm=True), VOICE, "level"),
    "encoder": (ModelSettings(units=(), pooling="deviation", dense=0, encoder="ge2e", columns=(67, 147)), BOTH, "level"),
    "encoder under an LSTM": (ModelSettings(units=(8,), pooling="attention", encoder="ge2e", encoder_layers=(1, 2),
                                            columns=(67, 147)), BOTH, "level"),
    "ensemble": (Ensemble((ModelSettings(units=(8,)), ModelSettings(units=(8,), pooling="attention", dense=0))), VOICE, "none"),
    "beside an encoder": (Ensemble((ModelSettings(units=(8,), columns=(0, 67)),
                                    ModelSettings(units=(), pooling="change", dense=0, encoder="ge2e", encoder_layers=(2,),
                                                  columns=(67, 147))), (0.3, 0.7)), BOTH, "level"),
}
if "change" in POOLINGS:
    KINDS["changes of an encoder"] = (ModelSettings(units=(), pooling="change", dense=0, encoder="ge2e", columns=(67, 147),
                                                    speaker_norm=True), BOTH, "level")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(RUN)


@pytest.fixture(scope="module")
def html(home):
    export(RUN, home / "listen.html")
    return home / "listen.html"


@pytest.fixture(scope="module")
def spoken(home):
    "A recording of half a minute, of many words."
    words = [voice(w, e) for w in ("boat", "dog", "bean", "hire") for e in ("angry", "sad", "happy", "neutral")]
    sf.write(home / "spoken.wav", np.concatenate(words), DEMO_SR)
    return home / "spoken.wav"


@pytest.fixture(scope="module")
def page(html, spoken):
    "The page, opened from its file, with the recording as its microphone."
    with check_docs.browser("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                            f"--use-file-for-fake-audio-capture={spoken}", "--autoplay-policy=no-user-gesture-required") as socket:
        page = check_docs.Page(socket)
        page.open(html.as_uri())
        page.ready = page.evaluate(READY)
        yield page


def as_js(array):
    "An array of float32 as an expression."
    return f"new Float32Array(unpacked('{base64.b64encode(np.ascontiguousarray(array, '<f4').tobytes()).decode()}').buffer)"


def of_file(page, path, name=None):
    "What the page says of a file that is given to it."
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return page.evaluate(f"ser_nb.hearFile(new File([unpacked('{data}')], '{name or Path(path).name}'))"
                         ".then(r => r.error ? {error: r.error} : {...r.answer, frames: null, parts: r.parts.map(p => ({...p, frames: null}))})")


def difference(said, wanted):
    "The largest difference of probabilities; infinite where another emotion is the best."
    if said["best"] != wanted.best:
        return np.inf
    return max(abs(said["probabilities"][k] - p) for k, p in wanted.probabilities.items())


def test_ready_and_small(page, html):
    assert page.ready < 3000  # of a machine that does other things, too; alone 0.2 s
    assert html.stat().st_size < 1_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_same_from_samples(page, kind):
    "Frames, networks, scales and warnings of all kinds of runs."
    recognizer = random_recognizer(*KINDS[kind])
    description, numbers = describe(recognizer)
    page.evaluate(f"globalThis.other = new Recognizer({json.dumps(description)}, unpacked('{numbers.text}')), 0")
    for y in (voice(), np.concatenate([voice("dog", "sad"), voice("bean", "happy")]), voice()[5000:8000]):
        said = page.evaluate(f"{{const a = other.predict({as_js(y)}, 16000); a.frames = null; a}}")
        wanted = recognizer.predict(y)
        assert difference(said, wanted) < 1e-3, kind
        assert tuple(said["warnings"]) == wanted.warnings and said["label"] == wanted.label
    plain = page.evaluate(f"{{const a = new Recognizer(other.D, unpacked('{numbers.text}'), plainMath).answer({as_js(y)}); a.frames = null; a}}"
                          .replace("other.D", json.dumps(description)))
    assert difference(plain, wanted) < 1e-3


FORMS = [("WAV", "PCM_16", 16000, 1), ("WAV", "PCM_U8", 16000, 1), ("WAV", "PCM_24", 44100, 2), ("WAV", "PCM_32", 8000, 1),
         ("WAV", "FLOAT", 48000, 1), ("WAV", "DOUBLE", 22050, 1), ("WAV", "ALAW", 8000, 1), ("WAV", "ULAW", 8000, 1),
         ("WAVEX", "PCM_16", 96000, 2), ("RF64", "PCM_16", 11025, 1), ("WAV", "PCM_16", 44056, 1),
         ("FLAC", "PCM_16", 16000, 1), ("FLAC", "PCM_24", 44100, 2), ("OGG", "VORBIS", 44100, 1), ("OGG", "OPUS", 48000, 1),
         ("MP3", "MPEG_LAYER_III", 44100, 1)]


def in_form(home, y, form, subtype, rate, channels):
    "A file of some samples at 16 kHz in a form."
    y = np.concatenate(list(resampled([y], DEMO_SR, rate)))
    path = home / f"clip-{form}-{subtype}-{rate}.{form.lower()[:4].replace('wave', 'wav').replace('rf64', 'wav')}"
    sf.write(path, np.column_stack([y, 0.8 * y])[:, :channels], rate, format=form, subtype=subtype)
    return path


@pytest.mark.parametrize("form", [f for f in FORMS if f[2] >= 16000], ids=lambda f: f"{f[0]} {f[1]} {f[2]}")
def test_same_from_files(page, recognizer, home, form):
    path = in_form(home, voice(), *form)
    assert difference(of_file(page, path), recognizer.predict(path)) < 5e-3


def test_along_time(page, recognizer, spoken):
    said, wanted = of_file(page, spoken), recognizer.timeline(spoken)
    assert [(p["start"], p["stop"], p.get("label", "")) for p in said["parts"]] == [(p.start, p.stop, p.label) for p in wanted]
    assert max(difference(p, w) for p, w in zip(said["parts"], wanted) if w.best) < 5e-3
    assert difference(said, recognizer.predict(spoken)) < 5e-3


def test_never_frozen(page, spoken):
    "While a long recording is answered, the page goes on: no pause of its clock is longer than a blink."
    data = base64.b64encode(spoken.read_bytes()).decode()
    longest = page.evaluate(f"""(async () => {{
        let last = performance.now(), most = 0, on = true;
        const tick = () => {{ const now = performance.now(); most = Math.max(most, now - last); last = now; if (on) setTimeout(tick, 5); }};
        tick();
        await ser_nb.hearFile(new File([unpacked('{data}')], 'spoken.wav'));
        on = false;
        return most; }})()""")
    assert longest < 1000  # of a loaded machine; alone some 50 ms


BROKEN = {
    "silent": lambda: (np.zeros(16000), 16000, "silent"),
    "short": lambda: (voice()[:800], 16000, "too short"),
    "not finite": lambda: (np.where(np.arange(16000) == 9, np.nan, 0.1 * np.sin(np.arange(16000))), 16000, "not finite"),
    "opposite": lambda: (np.column_stack([voice(), -voice()]), 16000, "opposite channels"),
    "loud": lambda: (voice() * 30000, 16000, "absurd values"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_as_python_does(page, recognizer, home, name):
    y, rate, problem = BROKEN[name]()
    sf.write(home / f"{name}.wav", y, rate, subtype="FLOAT")
    said = of_file(page, home / f"{name}.wav")["error"]
    with pytest.raises(Exception, match=problem) as wanted:
        recognizer.predict(home / f"{name}.wav")
    assert said.split(";")[0] == re.sub(r"^.*?: ", "", str(wanted.value), count=1).split(";")[0]


def test_refuses_what_is_no_sound(page, home, spoken):
    whole = spoken.read_bytes()
    for name, data, said in (("cut.wav", whole[:9000], "truncated"), ("none.wav", b"", "empty"), ("text.mp3", b"no sound" * 99, "not audio"),
                             ("head.wav", whole[:44], "no samples")):
        (home / name).write_bytes(data)
        assert of_file(page, home / name)["error"].startswith(said), name
        assert said in page.evaluate("by('status').textContent")


def test_microphone(page):
    "Speak, wait, stop: what the fake microphone plays is answered."
    page.evaluate("by('speak').click()")
    time.sleep(3)
    page.evaluate("by('speak').click()")
    end = time.monotonic() + 30
    while "answered in" not in (status := page.evaluate("by('status').textContent")):
        assert time.monotonic() < end, status
        time.sleep(0.1)
    assert status.startswith("your voice: ") and page.evaluate("by('answer').textContent") in ("unsure", *page.evaluate("ser_nb.run.labels"))
    assert page.evaluate("by('player').src").startswith("blob:")


def test_asks_nobody(page, html):
    "Neither has it asked anybody for anything, nor could it."
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

        log_message = print

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{server.server_port}/"
    ways = [f"fetch('{there}')", f"new Promise((r, e) => {{const i = new Image(); i.onload = r; i.onerror = e; i.src = '{there}'}})",
            f"new Promise((r, e) => {{const s = document.createElement('script'); s.onload = r; s.onerror = e; s.src = '{there}'; document.body.append(s)}})",
            f"new Promise((r, e) => {{const w = new WebSocket('{there.replace('http', 'ws')}'); w.onopen = r; w.onerror = e}})"]
    inside = f"fetch('{there}').then(() => postMessage('let'), () => postMessage('refused'))"
    ways.append("new Promise((r, e) => {const w = new Worker('data:text/javascript,' + encodeURIComponent(%s)); "
                "w.onmessage = m => (m.data == 'let' ? r : e)()})" % json.dumps(inside))
    urls = [p["request"]["url"] for method, p in page.events if method == "Network.requestWillBeSent"]
    assert page.evaluate(f"Promise.all([{', '.join(ways)}].map(w => w.then(() => 'let', () => 'refused')))") == ["refused"] * len(ways)
    server.shutdown()
    server.server_close()
    assert asked == []
    assert [url for url in urls if not url.startswith(("data:", "blob:")) and url != html.as_uri()] == []


@pytest.fixture(scope="module")
def pupil(page, home):
    "The page of the recogniser in the box, which can learn a voice, and that recogniser."
    export(BUNDLED, home / "pupil.html")
    page.open((home / "pupil.html").as_uri())
    page.evaluate(READY)
    return Recognizer.load()


def given(page, clips, label):
    "Clips of one emotion, as chosen or dropped."
    texts = [base64.b64encode(wav_bytes(y)).decode() for y in clips]
    files = ", ".join(f"new File([unpacked('{text}')], '{label}-{i}.wav')" for i, text in enumerate(texts))
    return page.evaluate(f"ser_nb.teachFiles([{files}], ser_nb.run.labels.indexOf('{label}')).then(r => ({{...r, clips: r.clips.length}}))")


def wav_bytes(y):
    out = io.BytesIO()
    sf.write(out, y, 16000, format="WAV", subtype="FLOAT")
    return out.getvalue()


@pytest.mark.parametrize("form", [f for f in FORMS if f[2] < 16000], ids=lambda f: f"{f[0]} {f[1]} {f[2]}")
def test_same_from_narrow_files(page, pupil, home, form):
    "By a run that hears no contrast, which in a band without sound is a resampler's own noise."
    path = in_form(home, voice(), *form)
    assert difference(of_file(page, path), pupil.predict(path)) < 5e-3


EMODB = ROOT / "data" / "emodb" / "wav"


@pytest.mark.skipif(not EMODB.is_dir(), reason="no data/emodb")
def test_same_of_real_clips(page, pupil, home):
    for path, form in zip(sorted(EMODB.glob("*.wav"))[::100], [FORMS[k] for k in (2, 3, 13, 15)]):
        path = in_form(home, load_audio(path)[0], *form)
        assert difference(of_file(page, path), pupil.predict(path)) < 5e-3, form




def test_learns_a_voice(page, pupil, home):
    "Taught on the page as by ser_adapt; saved, forgotten and loaded again."
    clips = {e: [drawn_voice(0.4, 16000, 2 * i + j) for j in range(2)] for i, e in enumerate(("angry", "sad"))}
    taught = pupil.adapt(sum(clips.values(), []), emotions=[e for e, ys in clips.items() for _ in ys])
    (home / "new.wav").write_bytes(wav_bytes(y := drawn_voice(0.7, 16000, 9)))
    before, wanted = pupil.predict(y), taught.predict(y)
    assert difference(of_file(page, home / "new.wav"), before) < 1e-3
    said = [given(page, ys, e) for e, ys in clips.items()][-1]
    assert said["counts"] == [2, 0, 0, 0, 0, 2, 0] and said["clips"] == 4 and said["threshold"] == taught.threshold
    assert [said["judged"][k] for k in ("before", "after")] == [pytest.approx(taught.learnt["gain"][k]) for k in ("before", "after")]
    assert "Of 4 clips of yours it understands" in page.evaluate("by('taught').textContent")
    answer = of_file(page, home / "new.wav")
    assert difference(answer, wanted) < 1e-4 and answer["label"] == wanted.label
    kept = page.evaluate("ser_nb.voiceText()")
    page.evaluate("ser_nb.forgetVoice().then(() => 0)")
    assert difference(of_file(page, home / "new.wav"), before) < 1e-3
    again = f"ser_nb.loadVoice(new File([{json.dumps(kept)}], 'my_voice.json')).then(() => by('taught').textContent)"
    assert "Of 4 clips of yours" in page.evaluate(again)
    assert difference(of_file(page, home / "new.wav"), wanted) < 1e-4
    for text, why in (("{}", "no voice"), ("x", "no json"), (kept.replace(":[", ":[9e999,", 2), "damaged"), (re.sub('made_for":"..', 'made_for":"zz', kept), "another")):
        assert why in page.evaluate(f"ser_nb.loadVoice(new File([{json.dumps(text)}], 'x.json')).then(() => by('taught').textContent)")
    assert page.evaluate("document.querySelectorAll('#emotions button').length") == 14


def test_learns_from_the_microphone(page, pupil):
    "Record a clip of an emotion by its button."
    page.evaluate("ser_nb.forgetVoice().then(() => by('teach').open = true)")
    button = "document.querySelector('[aria-label=\"Record: happy\"]')"
    page.evaluate(f"{button}.click()")
    time.sleep(1)
    assert page.evaluate(f"{button}.textContent + {button}.getAttribute('aria-pressed')") == "Stoptrue"
    page.evaluate(f"{button}.click()")
    end = time.monotonic() + 30
    while "has learnt 1 clip" not in (said := page.evaluate("by('taught').textContent")):
        assert time.monotonic() < end, said
        time.sleep(0.1)


@pytest.mark.skipif(not EMODB.is_dir(), reason="no data/emodb")
def test_learns_a_person_of_emodb(page, pupil):
    "Three clips of each of two emotions of speaker 08."
    names = {"W": "angry", "T": "sad"}
    paths = [(p, names[letter]) for letter in names for p in sorted(EMODB.glob(f"08*{letter}?.wav"))[:3]]
    taught = pupil.adapt([str(p) for p, _ in paths], emotions=[e for _, e in paths])
    heard = [load_audio(p)[0] for p, _ in paths]
    clips = ", ".join(f"{{z: pupil.numbersOf({as_js(y)}, 16000), label: ser_nb.run.labels.indexOf('{e}')}}" for y, (_, e) in zip(heard, paths))
    page.evaluate(f"globalThis.pupil = new Recognizer(ser_nb.run, unpacked(by('numbers').textContent.trim())); pupil.taught([{clips}]); 0")
    for path in sorted(EMODB.glob("08*E?.wav"))[:1] + sorted(EMODB.glob("08*N?.wav"))[:1]:
        said = page.evaluate(f"{{const a = pupil.predict({as_js(load_audio(path)[0])}, 16000); a.frames = null; a}}")
        assert difference(said, taught.predict(path)) < 1e-3


def test_refusals():
    with pytest.raises(PredictError, match="normalise='speaker'"):
        page_html(random_recognizer(*KINDS["last"][:2], mode="speaker"))


def test_nothing_went_wrong(page):
    "No exception and no refused request of the page's own."
    wrong = [p for method, p in page.events if method == "Runtime.exceptionThrown"]
    assert not wrong, wrong[0]
