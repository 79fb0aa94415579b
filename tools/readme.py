"""Make README.md from nbs/index.ipynb, so that the front page of the site and of the repository are one."""
from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path

import nbformat
from fastcore.script import call_parse
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made from nbs/index.ipynb by `python tools/readme.py`: edit the notebook, not this file. -->"
DIRECTIVE = re.compile(r"#\|\s*([\w-]+):?\s*(.*?)\s*$")
LINK = re.compile(r"""(\]\(|\b(?:src|href)=["'])([^)"'\s]+)""")
FENCE = re.compile(r"(^(`{3,}|~{3,}).*?^\2[`~]*$|`[^`\n]+`)", re.M | re.S)


def directives(cell):
    "The `#|` lines that open a code cell as a dict, and the code below them."
    lines, found = cell.source.splitlines(), {}
    while lines and (m := DIRECTIVE.match(lines[0])):
        found[m[1]] = m[2].lower()
        lines.pop(0)
    return found, "\n".join(line for line in lines if not re.search(r"#\|\s*hide_line\s*$", line)).strip("\n")


def shown(cell):
    "The cell as a reader of the page sees it, or None where it is hidden."
    if cell.cell_type != "code":
        return cell if cell.cell_type == "markdown" else None
    found, code = directives(cell)
    if found.keys() & {"hide", "export", "exporti", "default_exp"} or found.get("include") == "false":
        return None
    cell.source = code
    cell.metadata["transient"] = {"remove_source": found.get("echo") == "false" or not code}
    cell.outputs = [] if found.get("output") == "false" else cell.outputs
    return cell if code or cell.outputs else None


def from_root(target):
    "A link that is relative to nbs/, made relative to the project's root; it must lead to a file."
    if re.match(r"[a-z][a-z0-9+.-]*:|[#/]", target, re.I):
        return target
    path, mark, anchor = target.partition("#")
    path = os.path.normpath(os.path.join("nbs", path)).replace(os.sep, "/")
    if not (ROOT / path).exists():
        sys.exit(f"nbs/index.ipynb links to {target}, but there is no file {path}")
    return path + mark + anchor


def tidy(text):
    "Links from the root, no styles that GitHub would drop, no runs of empty lines."
    parts = FENCE.split(text)
    for i in range(0, len(parts), 3):
        parts[i] = LINK.sub(lambda m: m[1] + from_root(m[2]), parts[i])
        parts[i] = re.sub(r"<style scoped>.*?</style>\n?", "", parts[i], flags=re.S)
        parts[i] = re.sub(r"\n\s*\n\s*\n+", "\n\n", parts[i])
    return "".join(p for i, p in enumerate(parts) if i % 3 != 2).strip() + "\n"


def make():
    "The text of README.md."
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.cells = [c for c in map(shown, notebook.cells) if c is not None]
    body, resources = MarkdownExporter().from_notebook_node(notebook)
    if resources["outputs"]:
        sys.exit("nbs/index.ipynb has a picture in a cell's output: save it in nbs/images and link to it from markdown")
    title, _, rest = tidy(body).partition("\n")
    return f"{title}\n\n{NOTE}\n\n{rest.lstrip()}"


@call_parse
def main(
    check: bool = False,  # change nothing; print what differs and exit with 1 where README.md is out of step
):
    "Make README.md from nbs/index.ipynb."
    path, new = ROOT / "README.md", make()
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if not check:
        path.write_text(new, encoding="utf-8")
    elif old != new:
        diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.md", "nbs/index.ipynb")
        sys.stdout.writelines(diff)
        sys.exit("README.md is out of step with nbs/index.ipynb: run `python tools/readme.py`")
