"""Build the site from the notebooks, with neither Quarto nor a network: `python tools/docs.py`, then open _docs/index.html.

nbdev prepares the notebooks as it does for Quarto, in a temporary copy of the project, and smalldocs renders them from the same
`_quarto.yml`. Formulas become MathML with a font of their own, so that the pages load nothing from anywhere else."""
from __future__ import annotations

import ast
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
NUMBERED = re.compile(r"(?:(?<![\w/.-])|(?<=\.\./))\d+[a-zA-Z0-9]*_(\w+\.(?:ipynb|html))")
CODE_LINK = re.compile(r"\[`([^`\n]+)`\]\(https?://[^)\s]*\)")
MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
KATEX = re.compile(r'\s*<(?:link|script)\b[^>]*/katex@[^>]*>(?:\s*</script>)?')
REMOTE = re.compile(r'<(?:script|img|iframe|audio|video|source)\b[^>]*\ssrc="(?:https?:)?//[^"]*"|<link\b[^>]*rel="?stylesheet[^>]*"'
                    r'(?:https?:)?//[^"]*"|\bfrom [\'"]https?://[^\'"]*|@import[^;]*//[^;]*;|url\(["\']?(?:https?:)?//[^)]*\)')
TEX = {r"\begin{aligned}": r"\begin{align*}", r"\end{aligned}": r"\end{align*}", r"\arg": r"\operatorname{arg}",
       r"\lVert": r"\|", r"\rVert": r"\|", r"\lvert": "|", r"\rvert": "|"}  # what latex2mathml doesn't know, in its words
EXPECTED = ("format commonmark is not built", "keep-md is ignored", "grid is ignored", "output-file is not read")  # meant for Quarto
MATH_CSS = """
@font-face { font-family: "STIX Two Math"; src: url("STIXTwoMath.woff") format("woff"); }
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


def source_cell(source, summary):
    "Code that is read only by who opens it."
    fence = "`" * (3 + source.count("```"))
    text = f'<details class="source"><summary>{summary}</summary>\n\n{fence}python\n{source}\n{fence}\n\n</details>'
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def defined(source):
    "The names that a cell defines, private ones too."
    tree = ast.parse(source)
    names = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))]
    names += [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("__") and name not in ("_all_", "pd")]


def is_imports(source):
    "Whether a cell has imports and nothing else."
    tree = ast.parse("\n".join(line for line in source.splitlines() if not line.startswith(("%", "!"))))
    return bool(tree.body) and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body)


def pictures(cell, source):
    "A cell whose pictures have their size on the page and their words for who can't see them."
    alt = re.search(r"^#\|\s*fig-alt:\s*(.*)", source, re.M)
    outputs = []
    for output in cell.get("outputs", []):
        png, size = output.get("data", {}).get("image/png"), output.get("metadata", {}).get("image/png", {})
        if png and alt:
            width = f' width="{size["width"]}"' if "width" in size else ""
            image = f'<img class="img-fluid" alt="{html.escape(alt[1].strip())}"{width} src="data:image/png;base64,{"".join(png).strip()}">'
            output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": image}}
        outputs.append(output)
    return {**cell, "outputs": outputs, "source": re.sub(r"^#\|\s*fig-alt:.*\n", "", source, flags=re.M)}


def for_readers(notebook):
    "Fold imports and guards, and put the source of what is exported, folded, under its signature."
    cells, in_guards = [], False
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (heading := re.match(r"(#+) (.*)", source)):
            if in_guards:
                cells.append({"cell_type": "markdown", "metadata": {}, "source": "</details>"})
            in_guards = heading[2].strip() == "Guards"
            if in_guards:
                rest = source.partition("\n")[2].strip()
                text = f'<details class="guards"><summary>Guards: tests that only guard</summary>\n\n{rest}'
                cells.append({"cell_type": "markdown", "metadata": {}, "source": text})
                continue
        if cell["cell_type"] == "code":
            directives = dict.fromkeys(re.findall(r"^#\|\s*(\w+)", source, re.M))
            if not directives and is_imports(source):
                cell = {**cell, "source": f"#| code-fold: true\n#| code-summary: Imports\n{source}"}
            cells.append(pictures(cell, "".join(cell["source"])))
            body = re.sub(r"^#\|.*\n", "", source, flags=re.M).strip()
            if directives.keys() & {"export", "exporti"} and (names := defined(body)):
                shown = ", ".join(f"<code>{html.escape(name)}</code>" for name in names[:4]) + ", …" * (len(names) > 4)
                cells.append(source_cell(body, f"source of {shown}"))
            continue
        cells.append(cell)
    if in_guards:
        cells.append({"cell_type": "markdown", "metadata": {}, "source": "</details>"})
    return {**notebook, "cells": cells}


def fold(project):
    "Make the copied notebooks ready for readers of pages."
    for path in (project / "nbs").rglob("*.ipynb"):
        notebook = for_readers(json.loads(path.read_text(encoding="utf-8")))
        for i, cell in enumerate(notebook["cells"]):
            cell.setdefault("id", f"page-{i}")
        path.write_text(json.dumps(notebook), encoding="utf-8")


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


def formula_font(site, path):
    "The glyphs of the formulas' font that a formula of the site may need, with what stretches and stacks them."
    from fontTools import subset

    used = set(map(ord, "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))))
    letters = {*range(0x20, 0x7F), *range(0x370, 0x3FF), *range(0x2070, 0x20A0), *range(0x2190, 0x2200), *range(0x2200, 0x2300),
               *range(0x1D434, 0x1D468), *range(0x1D6FC, 0x1D736), 0x210E}  # italic letters stand for plain ones in MathML
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    font = subset.load_font(str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=(used | letters) & set(font.getBestCmap()))
    subsetter.subset(font)
    subset.save_font(font, str(path), options)


def phone_contents(text):
    "A page's second table of contents, in the text, as something to open."
    return re.sub(r'(<nav id="TOC-body"[^>]*>)<h2[^>]*>.*?</h2>(.*?</nav>)',
                  r'<details class="contents"><summary>On this page</summary>\1\2</details>', text, count=1, flags=re.S)


def even_headings(text):
    "Headings that go down one level at a time, as who hears a page expects."
    seen = [0]

    def level(match):
        seen[0] = min(int(match[2]), seen[0] + 1)
        return f"{match[1]}{seen[0]}{match[3]}"

    head, main, rest = text.partition("<main")
    body, end, tail = rest.partition("</main>")
    body = re.sub(r"(<h)([1-6])(\b[^>]*>.*?</h)\2>", lambda m: f"{level(m)}{seen[0]}>", body, flags=re.S)
    return head + main + body + end + tail


LABELS = [  # what smalldocs leaves without a name for who hears a page
    (r'<nav class="navbar\b', '<nav aria-label="Main" class="navbar'),
    (r'<nav class="quarto-secondary-nav', '<nav aria-label="Section" class="quarto-secondary-nav'),
    (r'(<nav id="quarto-sidebar")', r'\1 aria-label="Chapters and rooms"'),
    (r'(<nav id="TOC")', r'\1 aria-label="On this page"'),
    (r'(<nav id="TOC-body")', r'\1 aria-label="On this page, in the text"'),
    (r'<nav class="page-navigation', '<nav aria-label="Next and previous page" class="page-navigation'),
    (r'(<a class="sidebar-item-(?:text|toggle)[^>]*) role="navigation"', r'\1 role="button" tabindex="0"'),
    (r'<div class="toc-actions">', '<div class="toc-actions" role="navigation" aria-label="This page">'),
    (r'(<i class="bi bi-[^"]*") role="img">', r'\1 aria-hidden="true">'),
    (r"<th></th>", "<td></td>"),
    (r'<div class="sd-table">', '<div tabindex="0" class="sd-table">'),
    (r'<span class="math display">', '<span tabindex="0" class="math display">'),
    (r'<pre class="sourceCode', '<pre tabindex="0" class="sourceCode'),
    (r'<div class="cell-output cell-output-display">', '<div tabindex="0" class="cell-output cell-output-display">'),
    (r'(<div[^>]* class="cell-output cell-output-(?:display|std(?:out|err))">\s*<pre)>', r'\1 tabindex="0">'),
    (r'(<div class="cell-output cell-output-std(?:out|err)">\s*<pre)>', r'\1 tabindex="0">'),
]


def accessible(text):
    "Names, roles and an order of headings for who hears a page or has no mouse."
    for pattern, better in LABELS:
        text = re.sub(pattern, better, text)
    return even_headings(text)


def make_local(site, url):
    "Take out what smalldocs would load from other hosts, and make links to the published site relative."
    libs = site / "site_libs"
    formula_font(site, libs / "STIXTwoMath.woff")
    with (libs / "smalldocs.css").open("a", encoding="utf-8") as css:
        css.write(MATH_CSS)
    for path in [p for p in site.rglob("*") if p.suffix in (".html", ".css")]:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(site)
        if path.suffix == ".css":
            text = re.sub(r"@import url\((?:https?:)?//[^)]*\);?", "", text)
        else:
            up = "../" * (len(name.parts) - 1)
            text = accessible(phone_contents(MATH.sub(lambda m: mathml(m, name), KATEX.sub("", text))))
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
        fold(project)
        try:
            pages = process(project)
            plain_names(pages)
            result = render(pages, quiet=True)
        finally:
            os.chdir(home)
        for warning in result.warnings:
            if not any(text in warning for text in EXPECTED):
                print(f"warning: {warning}", file=sys.stderr)
        shutil.copytree(ROOT / "nbs" / "images", result.out / "images", dirs_exist_ok=True)  # also those named in html alone
        make_local(result.out, config.doc_host + config.doc_baseurl)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(result.out, out)
    from ser_nb.more.page import write_page

    write_page(ROOT / "ser_nb" / "recogniser", out / "listen.html")
    return sorted(out.rglob("*.html"))


@call_parse
def main(
    out: str = "_docs",  # folder of the site, replaced whole; relative to the project
    check: bool = False,  # then open every page in Chromium with tools/check_docs.py
    axe: str = "",  # axe.min.js of axe-core, for the check
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
        sys.exit(subprocess.run([sys.executable, ROOT / "tools" / "check_docs.py", "--folder", folder, "--axe", axe]).returncode)
