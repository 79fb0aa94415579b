"""The page that listens beside Python on real clips, in Chromium: from samples, from files of many forms, and taught a voice.

    python benchmarks/page.py --emodb data/emodb/wav --data data/emodb data/ravdess data/emovo [--clips 60] [--out benchmarks/results/page.json]

The run is the recogniser in the box. Each clip is given as samples, and once more as a file in one of the forms, in turns. Of each
speaker of EmoDB three clips of each emotion teach the page and `Recognizer.adapt`; three others of each are then asked of both.
Neither counts how often they are right: no recording is judged here. Takes some five minutes on a free core.
"""
import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf

from ser_nb.lib.audio import audio_files, load_audio, resampled
from ser_nb.more.page import write_page
from ser_nb.predict import BUNDLED, Recognizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import check_docs  # noqa: E402

READY = "new Promise(r => {const f = () => document.documentElement.dataset.ready ? r(performance.now()) : setTimeout(f, 10); f()})"
FORMS = [("wav", "PCM_16", 16000), ("wav", "PCM_24", 44100), ("wav", "FLOAT", 48000), ("wav", "PCM_16", 8000), ("wav", "PCM_32", 11025),
         ("wav", "PCM_16", 22050), ("flac", "PCM_16", 16000), ("flac", "PCM_24", 48000), ("ogg", "VORBIS", 44100), ("ogg", "OPUS", 48000),
         ("mp3", "MPEG_LAYER_III", 44100), ("mp3", "MPEG_LAYER_III", 22050)]
LETTERS = {"W": "angry", "E": "disgust", "A": "fear", "F": "happy", "N": "neutral", "T": "sad"}


def text_of(data):
    return base64.b64encode(data).decode()


class Listener:
    "The page, with a recogniser of its own that answers at once."

    def __init__(self, page, path):
        self.page = page
        page.open(path.as_uri())
        page.evaluate(READY)
        page.evaluate("globalThis.own = new Recognizer(ser_nb.run, unpacked(by('numbers').textContent.trim())); 0")

    def samples(self, y):
        return f"new Float32Array(unpacked('{text_of(y.astype('<f4').tobytes())}').buffer)"

    def of_samples(self, y):
        return self.page.evaluate(f"{{const a = own.predict({self.samples(y)}, 16000); a.frames = null; a}}")

    def of_file(self, path):
        file = f"new File([unpacked('{text_of(path.read_bytes())}')], '{path.name}')"
        return self.page.evaluate(f"decoded({file}).then(({{samples, rate}}) => {{const a = own.predict(samples, rate); a.frames = null; return a}})")

    def learn(self, clips):
        given = ", ".join(f"{{z: own.numbersOf({self.samples(y)}, 16000), label: {k}}}" for y, k in clips)
        self.page.evaluate(f"own.taught([{given}]); 0")


def difference(said, wanted):
    return max(abs(said["probabilities"][k] - p) for k, p in wanted.probabilities.items()), said["best"] != wanted.best


def summary(found):
    off = np.array([d for d, _ in found])
    return {"n": len(off), "worst": float(off.max()), "median": float(np.median(off)), "other_best": int(sum(other for _, other in found))}


def of_clips(listener, recognizer, paths, home):
    "From samples, and from files by form."
    plain, forms = [], {form: [] for form in FORMS}
    for k, path in enumerate(paths):
        y, form = load_audio(path)[0], FORMS[k % len(FORMS)]
        plain.append(difference(listener.of_samples(y), recognizer.predict(y)))
        kind, subtype, rate = form
        file = home / f"{k}.{kind}"
        sf.write(file, np.concatenate(list(resampled([y], 16000, rate))), rate, format=kind.upper(), subtype=subtype)
        forms[form].append(difference(listener.of_file(file), recognizer.predict(file)))
    return {"samples": summary(plain), "files": {" ".join(map(str, form)): summary(found) for form, found in forms.items() if found}}


def of_people(listener, recognizer, folder):
    "Taught with three clips of each emotion of each speaker."
    found = {}
    for who in sorted({p.name[:2] for p in folder.glob("*.wav")}):
        own = {e: sorted(folder.glob(f"{who}*{letter}?.wav")) for letter, e in LETTERS.items()}
        given = [(load_audio(p)[0], e) for e, paths in own.items() for p in paths[:3]]
        taught = recognizer.adapt([y for y, _ in given], emotions=[e for _, e in given])
        listener.learn([(y, recognizer.labels.index(e)) for y, e in given])
        asked = [load_audio(p)[0] for paths in own.values() for p in paths[3:6]]
        found[who] = {"taught": len(given), **summary([difference(listener.of_samples(y), taught.predict(y)) for y in asked])}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--emodb", required=True)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "page.json"))
    args = parser.parse_args()
    paths = []
    for folder in args.data:
        there = sorted(audio_files(folder))
        paths += [there[k] for k in np.linspace(0, len(there) - 1, args.clips // len(args.data)).astype(int)]
    with tempfile.TemporaryDirectory() as home, check_docs.browser() as socket:
        write_page(Path(BUNDLED), Path(home) / "listen.html")
        recognizer, listener = Recognizer.load(), Listener(check_docs.Page(socket), Path(home) / "listen.html")
        found = {"data": [Path(d).name for d in args.data], "bytes": (Path(home) / "listen.html").stat().st_size,
                 **of_clips(listener, recognizer, paths, Path(home)), "emodb": of_people(listener, recognizer, Path(args.emodb))}
    Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
