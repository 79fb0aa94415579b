"""Run notebooks and say which stored outputs are no longer what the code gives: `python tools/outputs.py nbs/02_dataset.ipynb`.

Text is compared, pictures are not: their bytes differ from one matplotlib to the next. `--store ID,ID` puts the outputs of
these cells in place of the old ones and leaves every other byte as it is. Needs the corpora that the cells speak of."""
from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from fastcore.script import Param, call_parse

ROOT = Path(__file__).resolve().parent.parent


def run(path):
    "The cells of a notebook after a run, by their id."
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=place).execute()
    return {cell["id"]: json.loads(json.dumps(cell)) for cell in notebook["cells"] if cell["cell_type"] == "code"}


def texts(outputs):
    "What outputs say in plain text."
    found = [output.get("data", {}).get("text/plain", output.get("text", "")) for output in outputs]
    return [text if isinstance(text, str) else "".join(text) for text in found]


def as_stored(outputs):
    "Outputs in the form in which nbdev_clean leaves them."
    for output in outputs:
        output.pop("execution_count", None)
        if output["output_type"] == "execute_result":
            output["execution_count"] = None
        for kind, value in list(output.get("data", {}).items()):
            if isinstance(value, str) and not kind.startswith("image/png"):
                output["data"][kind] = value.splitlines(keepends=True)
        if isinstance(output.get("text"), str):
            output["text"] = output["text"].splitlines(keepends=True)
    return [dict(sorted(output.items())) for output in outputs]


def compare(path, store):
    "The ids of cells whose stored text is another one; those to be stored are."
    notebook, now = json.loads(path.read_text(encoding="utf-8")), run(path)
    other = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        if texts(cell["outputs"]) != texts(now[cell["id"]]["outputs"]):
            other.append(cell["id"])
        if cell["id"] in store:
            cell["outputs"] = as_stored(now[cell["id"]]["outputs"])
    if store:
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return other


@call_parse
def main(
    notebooks: Param("their paths; all, if none is given", str, nargs="*"),
    store: str = "",  # ids of cells whose outputs are to be replaced, with commas between
):
    "Compare stored outputs with those of a run."
    os.environ |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "OMP_NUM_THREADS": "1"}
    wanted, found = {name for name in store.split(",") if name}, 0
    for path in map(Path, notebooks or sorted((ROOT / "nbs").rglob("*.ipynb"))):
        other = [name for name in compare(path.resolve(), wanted) if name not in wanted]
        found += len(other)
        print(f"{path}: {', '.join(other) or 'as stored'}", flush=True)
    sys.exit(found > 0)
