"""Build the site from the notebooks, with neither Quarto nor a network: `python tools/docs.py`, then open _docs/index.html.

nbdev prepares the notebooks as it does for Quarto, in a temporary copy of the project, and smalldocs renders them from the same
`_quarto.yml`. Formulas become MathML with a font of their own, so that the pages load nothing from anywhere else."""
from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from fastcore.script import call_parse

ROOT = Path(__file__).resolve().parent.parent
NUMBERED = re.compile(r"(?<![\w/.-])\d+[a-zA-Z0-9]*_(\w+\.(?:ipynb|html))")
CODE_LINK = re.compile(r"\[`([^`\n]+)`\]\(https?://[^)\s]*\)")
MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
KATEX = re.compile(r'\s*<(?:link|script)\b[^>]*/katex@[^>]*>(?:\s*</script>)?')
REMOTE = re.compile(r'<(?:script|img|iframe|audio|video|source)\b[^>]*\ssrc="(?:https?:)?//[^"]*"|<link\b[^>]*rel="?stylesheet[^>]*"'
                    r'(?:https?:)?//[^"]*"|\bfrom [\'"]https?://[^\'"]*|@import[^;]*//[^;]*;|url\(["\']?(?:https?:)?//[^)]*\)')
TEX = {r"\begin{aligned}": r"\begin{align*}", r"\end{aligned}": r"\end{align*}", r"\arg": r"\operatorname{arg}",
       r"\lVert": r"\|", r"\rVert": r"\|", r"\lvert": "|", r"\rvert": "|"}  # what latex2mathml doesn't know, in its words
EXPECTED = ("format commonmark is not built", "keep-md is ignored", "grid is ignored", "output-file is not read")  # meant for Quarto
MATH_CSS = """
@font-face { font-family: "STIX Two Math"; src: url("STIXTwoMath-Regular.ttf"); }
math { font-family: "STIX Two Math", math; font-size: 1.05em; }
mtd[columnalign="right"] { text-align: right; padding-right: 0; }
mtd[columnalign="left"] { text-align: left; padding-left: 0.2em; }
.math.display { display: block; overflow-x: auto; overflow-y: hidden; }
"""


class DocsError(Exception):
    "What an author can mend in a notebook."


def copy_project(to):
    "What nbdev reads, so that it writes into the copy."
    skip = shutil.ignore_patterns(".*", "__pycache__")
    for name in ("nbs", "ser_nb"):
        shutil.copytree(ROOT / name, to / name, ignore=skip)
    shutil.copy(ROOT / "settings.ini", to)


def process(project):
    "nbdev's own steps: configuration, index of names, sidebar, and notebooks with `show_doc` run and hidden cells left out."
    os.chdir(project)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(project))
    from nbdev import doclinks, quarto, serve

    quarto.refresh_quarto_yml()
    doclinks._build_modidx()
    quarto.nbdev_sidebar.__wrapped__()
    notebooks = doclinks.nbglob(as_path=True)
    try:
        pages = serve.proc_nbs(force=True, n_workers=min(len(notebooks), os.cpu_count()))
    except Exception as error:
        reasons = re.findall(r"^\w+(?:Error|Exception)\b.*", str(error.__cause__), re.M)
        raise DocsError("\n".join([str(error), *reasons[:1]])) from error
    lost = {p.name for p in notebooks} - {p.name for p in pages.rglob("*.ipynb")}
    if lost or not notebooks:
        raise DocsError(f"nbdev made no page of {', '.join(sorted(lost)) or 'anything: there are no notebooks'}")
    return pages


def no_links_in_code(text):
    "nbdev links names in `show_doc`'s signatures too, where Markdown is shown as it is written."
    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    return "".join(CODE_LINK.sub(r"`\1`", part) if i % 2 else part for i, part in enumerate(parts))


def plain_names(pages):
    "NN_x.ipynb becomes x.ipynb, in the folder, the sidebar and the notebooks' links, as nbdev names pages for Quarto."
    for path in sorted(pages.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = NUMBERED.sub(r"\1", "".join(cell["source"]))
            for data in (output.get("data", {}) for output in cell.get("outputs", [])):
                if "text/markdown" in data:
                    data["text/markdown"] = no_links_in_code("".join(data["text/markdown"]))
        path.unlink()
        path.with_name(NUMBERED.sub(r"\1", path.name)).write_text(json.dumps(notebook), encoding="utf-8")
    sidebar = pages / "sidebar.yml"
    sidebar.write_text(NUMBERED.sub(r"\1", sidebar.read_text(encoding="utf-8")), encoding="utf-8")


def mathml(match, page):
    "One formula as MathML; what the converter or a browser doesn't know stops the build."
    from latex2mathml.converter import convert

    tex = html.unescape(match[2]).strip()
    known = re.sub("|".join(rf"{re.escape(t)}(?![A-Za-z])" for t in TEX), lambda m: TEX[m[0]], tex)
    try:
        result = convert(known, display="block" if match[1] == "display" else "inline")
    except Exception as error:
        raise DocsError(f"{page}: the formula {tex!r} can't be read: {error or type(error).__name__}") from error
    result = result.replace(r"\_", "_")
    unknown = re.search(r"\\[A-Za-z]+|&(?![#\w]+;)", re.sub(r"<[^>]*>", "", result))
    if unknown := unknown or re.search(r'mathvariant="(?!normal|italic)[\w-]+', result):
        raise DocsError(f"{page}: the formula {tex!r} has {unknown[0]}, which would not be shown: write it another way")
    return f'<span class="math {match[1]}">{result}</span>'


def make_local(site, url):
    "Take out what smalldocs would load from other hosts, and make links to the published site relative."
    libs = site / "site_libs"
    shutil.copy(str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"), libs)
    with (libs / "smalldocs.css").open("a", encoding="utf-8") as css:
        css.write(MATH_CSS)
    for path in [p for p in site.rglob("*") if p.suffix in (".html", ".css")]:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(site)
        if path.suffix == ".css":
            text = re.sub(r"@import url\((?:https?:)?//[^)]*\);?", "", text)
        else:
            up = "../" * (len(name.parts) - 1)
            text = MATH.sub(lambda m: mathml(m, name), KATEX.sub("", text))
            text = re.sub(rf'(<a\b[^>]*href="){re.escape(url)}/?([^"]*)', lambda m: m[1] + up + (m[2] or "index.html"), text)
        if remote := REMOTE.search(text):
            raise DocsError(f"{name} would load something from another host: {remote[0][:150]}")
        path.write_text(text, encoding="utf-8")


def build(out):
    "The whole site, built aside and put in place of `out` when it is complete."
    from nbdev.config import get_config
    from smalldocs.site import build as render

    config = get_config(path=ROOT)
    with tempfile.TemporaryDirectory(prefix="ser_nb-docs-") as tmp:
        project, home = Path(tmp).resolve(), Path.cwd()
        copy_project(project)
        try:
            pages = process(project)
            plain_names(pages)
            result = render(pages, quiet=True)
        finally:
            os.chdir(home)
        for warning in result.warnings:
            if not any(text in warning for text in EXPECTED):
                print(f"warning: {warning}", file=sys.stderr)
        make_local(result.out, config.doc_host + config.doc_baseurl)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(result.out, out)
    return sorted(out.rglob("*.html"))


@call_parse
def main(
    out: str = "_docs",  # folder of the site, replaced whole; relative to the project
    check: bool = False,  # then open every page in Chromium with tools/check_docs.py
):
    "Build the site from the notebooks, with neither Quarto nor a network."
    folder = (ROOT / out).resolve()
    if folder == ROOT or folder in ROOT.parents or (folder.exists() and any(folder.iterdir()) and not (folder / "site_libs").is_dir()):
        sys.exit(f"{folder} holds something other than a site: name another folder")
    try:
        pages = build(folder)
    except DocsError as error:
        sys.exit(f"docs: {error}")
    print(f"{len(pages)} pages in {folder}: open {folder / 'index.html'}")
    if check:
        sys.exit(subprocess.run([sys.executable, ROOT / "tools" / "check_docs.py", "--folder", folder]).returncode)
