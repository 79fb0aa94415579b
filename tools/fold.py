"""Fold what a reader of the chapters needn't see: `python tools/fold.py` hides imports and what is for nbdev alone in JupyterLab."""
import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))
FOLDED = {"source_hidden": True}  # of the cell's metadata, under jupyter; JupyterLab shows three dots in its place


def is_plumbing(cell):
    "Whether a cell is imports alone, names that are handed on, or for nbdev or Colab."
    code = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return False
    if re.search(r"^#\|\s*default_exp|^nbdev\.nbdev_export\(\)|google\.colab|^_all_ = ", code, re.M):
        return True
    nodes = ast.parse(re.sub(r"^[#%!].*$", "", code, flags=re.M)).body
    return bool(nodes) and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes)


def unfolded(path):
    "Ids of the cells that should be folded and aren't, or are and shouldn't."
    return [c["id"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if (c["metadata"].get("jupyter") == FOLDED) != is_plumbing(c)]


def fold(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k != "jupyter"} | (
            {"jupyter": FOLDED} if is_plumbing(cell) else {})
    path.write_text(json.dumps(book, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for chapter in CHAPTERS:
        if unfolded(chapter):
            fold(chapter)
            print(f"folded: {chapter.name}")
