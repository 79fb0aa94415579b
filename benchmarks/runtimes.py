"""One graph from sound to answer in other programs: OpenVINO, node and the browser's runtime, ONNX' own evaluator.

    python benchmarks/runtimes.py --openvino PYTHON --node FOLDER [--out benchmarks/results/runtimes.json]

PYTHON is an interpreter that has openvino, FOLDER one in which `npm install onnxruntime-node onnxruntime-web` was run. The graphs are
that of the recogniser in the box and one with drawn weights that looks at every family; drawn voices of 0.2 to 5 s are given to
all, and compared with what Python says. Takes a minute.
"""
import argparse
import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from ser_nb.dataset import Normaliser
from ser_nb.features import FeatureSettings
from ser_nb.lib.graph import drawn_voice, sound_graph
from ser_nb.model import ModelSettings, OnnxNetwork, onnx_model, weight_shapes
from ser_nb.predict import Recognizer

SECONDS = (0.2, 0.6, 1.1, 2.3, 5.0)
BY_OPENVINO = """
import json, sys, numpy as np, openvino
core, asked = openvino.Core(), json.load(open(sys.argv[1]))
found = {"version": openvino.__version__}
for path, clips in asked.items():
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found[path] = [model([np.float32(y)])[0].tolist() for y in clips]
print(json.dumps(found))
"""
BY_NODE = """
const [, asked, name] = process.argv.slice(1), ort = require(require.resolve(name, {paths: [process.cwd()]})), fs = require("fs");
(async () => {
  const found = {version: JSON.parse(fs.readFileSync(`node_modules/${name}/package.json`)).version};
  for (const [path, clips] of Object.entries(JSON.parse(fs.readFileSync(asked)))) {
    const session = await ort.InferenceSession.create(path);
    found[path] = [];
    for (const y of clips) {
      const said = await session.run({samples: new ort.Tensor("float32", Float32Array.from(y), [y.length])});
      found[path].push(Array.from(said.probabilities.data));
    }
  }
  console.log(JSON.stringify(found));
})();
"""


def drawn():
    "A recogniser with drawn weights that looks at every family of sound."
    settings, rng = FeatureSettings(pitch=True), np.random.default_rng(0)
    model, n = ModelSettings(units=(8,), pooling="attention"), settings.n_features
    weights = {name: [rng.normal(size=s).astype(np.float32) / 4 for s in shapes] for name, shapes in weight_shapes(model, n, 4).items()}
    scale = Normaliser("train", {"": np.stack([rng.normal(size=n), rng.uniform(5, 9, n)])})
    known = {"known": {}, "mean": np.zeros(n), "deviation": np.ones(n), "max_frames": 100, "median_duration": 0.8}
    network = OnnxNetwork(onnx_model(model, n, 4, weights).SerializeToString())
    return Recognizer(("angry", "happy", "neutral", "sad"), settings, scale, network, known, 0.7, 0.4, model)


def said_by_onnxruntime(path, clips):
    session = ort.InferenceSession(path)
    return [session.run(None, {"samples": y})[0] for y in clips]


def said_by_reference(path, clips):
    evaluator = ReferenceEvaluator(ModelProto.FromString(Path(path).read_bytes()))
    with np.errstate(over="ignore"):
        return [evaluator.run(None, {"samples": y})[0] for y in clips]


def said_elsewhere(words, folder=None):
    return json.loads(subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openvino")
    parser.add_argument("--node")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "runtimes.json"))
    args = parser.parse_args()
    recognizers = {"recogniser in the box": Recognizer.load(), "every family": replace(drawn(), source="drawn")}
    clips = [drawn_voice(seconds, 16000, seed) for seed, seconds in enumerate(SECONDS)]
    with tempfile.TemporaryDirectory() as home:
        paths = {f"{home}/{i}.onnx": name for i, name in enumerate(recognizers)}
        for path, name in paths.items():
            Path(path).write_bytes(sound_graph(recognizers[name]).SerializeToString())
        asked = Path(home) / "asked.json"
        asked.write_text(json.dumps({path: [y.tolist() for y in clips] for path in paths}))
        said = {"onnxruntime": {"version": ort.__version__, **{p: said_by_onnxruntime(p, clips) for p in paths}},
                "onnx.reference": {"version": onnx.__version__, **{p: said_by_reference(p, clips) for p in paths}}}
        if args.openvino:
            said["openvino"] = said_elsewhere([args.openvino, "-c", BY_OPENVINO, str(asked)])
        for name in ("onnxruntime-node", "onnxruntime-web") if args.node else ():
            said[name] = said_elsewhere(["node", "-e", BY_NODE, "-", str(asked), name], args.node)
    found = {}
    for program, answers in said.items():
        found[program] = {"version": answers["version"]}
        for path, name in paths.items():
            wanted = [list(recognizers[name].predict(y).probabilities.values()) for y in clips]
            found[program][name] = max(float(np.abs(np.array(p) - q).max()) for p, q in zip(answers[path], wanted))
    Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
