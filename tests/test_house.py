"""The house style, as far as a machine can see it."""
import ast
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))
from fold import unfolded  # noqa: E402

NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not p.parent.name.startswith("."))
MODULES = sorted(p for p in (ROOT / "ser_nb").rglob("*.py") if not p.name.startswith("_"))
CHAPTERS = [p for p in NOTEBOOKS if re.match(r"\d\d_", p.name)]
MEDIAN = 16  # lines of a chapter's exported cell
LONGER = {"self_train"}  # definitions of a chapter that may be
CROWDED = {"09_your_voice", "adapting", "answers", "answering", "corpora", "inputs", "model_card"}  # not yet split
UNSORTED = {"05_evaluate", "06_predict", "adapting", "model_card", "summary"}  # not yet in order
HEAVY = ("keras.src", "jax._src", "pandas.core", "matplotlib.artist", "seaborn.utils", "sklearn.base", "scipy._lib", "numba.core",
         "librosa.core", "joblib.parallel", "pooch.core", "IPython.core")



def module_name(path):
    "lib.audio of ser_nb/lib/audio.py"
    return ".".join(path.relative_to(ROOT / "ser_nb").with_suffix("").parts)


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
each_module = pytest.mark.parametrize("path", MODULES, ids=[module_name(p) for p in MODULES])


def cells(path, kind="code"):
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_there_is_something_to_check():
    assert NOTEBOOKS and MODULES


@each_notebook
def test_no_long_lines(path):
    long = [line for cell in cells(path) for line in source(cell).splitlines()
            if len(line) > 120 and not line.startswith("#| fig-alt:")]
    assert not long, "code over 120 characters wide:\n" + "\n".join(long)


@each_module
def test_definitions_are_small(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    first = {n: min([n.lineno, *(d.lineno for d in n.decorator_list)]) for n in definitions}
    big = [f"{n.name}: {n.end_lineno - first[n] + 1} lines" for n in definitions if n.end_lineno - first[n] + 1 > 40]
    assert not big, "definitions over 40 lines: " + ", ".join(big)


@each_notebook
def test_no_stored_errors(path):
    failed = [source(c) for c in cells(path) if any(o["output_type"] == "error" for o in c["outputs"])]
    assert not failed, "cells stored with an error:\n" + "\n---\n".join(failed)


@each_notebook
def test_no_stored_warnings(path):
    "What was written to stderr belongs to one machine: mend its cause and run the notebook again."
    texts = ["".join(o["text"]) for c in cells(path) for o in c["outputs"] if o["output_type"] == "stream" and o["name"] == "stderr"]
    assert not texts, "outputs stored from stderr:\n" + "\n".join(texts)


@each_notebook
def test_imports_stand_alone(path):
    "The docs run each cell that has an import, even inside a function, in a new namespace: nothing else may stand there."
    mixed = []
    for cell in cells(path):
        code = "\n".join(line for line in source(cell).splitlines() if not line.startswith(("%", "!")))
        if re.search(r"^#\|\s*(export|exporti|eval:\s*false)\b", code, re.M) or "nbdev_export()" in code:
            continue
        tree = ast.parse(code)
        imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
        if imports and not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body):
            mixed.append(code)
    assert not mixed, "imports together with other code:\n" + "\n---\n".join(mixed)


@each_notebook
def test_outputs_are_small(path):
    size = sum(len(json.dumps(c["outputs"])) for c in cells(path))
    assert size < 1_500_000, f"stored outputs take {size / 1e6:.2f} MB, the limit is 1.5 MB"


@each_notebook
def test_exports_somewhere(path):
    named = any(re.search(r"^#\|\s*default_exp\s+\S+", source(c), re.M) for c in cells(path))
    assert named or path.stem == "index", "no `#| default_exp` names the module that this notebook makes"


@each_notebook
def test_has_title(path):
    "nbdev turns the first markdown cell into the page's title and drops the rest of it, so nothing else may stand there."
    first = source(cells(path, "markdown")[0]).strip()
    assert re.fullmatch(r"# [^#\s].*\n+> \S.*", first), f"the title cell must be `# Title` and one line of `> subtitle` only:\n{first}"


@each_notebook
def test_one_title(path):
    text = re.sub(r"^```.*?^```", "", "\n".join(source(c) for c in cells(path, "markdown")), flags=re.M | re.S)
    titles = re.findall(r"^# .*", text, re.M)
    assert len(titles) == 1, "more than one heading of the first level:\n" + "\n".join(titles[:10])


def n_words(text):
    "Words that are read: no code, no addresses, no formulas that stand alone."
    text = re.sub(r"^```.*?^```|<[^>]*>|\$\$.*?\$\$", "", text, flags=re.M | re.S)
    return sum(bool(re.search(r"\w", word)) for word in re.sub(r"\]\([^)]*\)", "]", text).split())


def is_table(text):
    "Whether a cell is a table to look something up in, and nothing else."
    return all(line.startswith("|") for line in text.strip().splitlines())


@each_notebook
def test_steps_are_short(path):
    most = 60 if path in CHAPTERS or path.stem == "index" else 75
    long = [f"{cell['id']}: {n_words(source(cell))} words" for cell in cells(path, "markdown")
            if n_words(source(cell)) > (100 if is_table(source(cell)) else most)]
    assert not long, f"a cell of prose has {most} words at most, a table 100: " + ", ".join(long)


def exported(path):
    "The exported cells that define something: id, lines of code."
    for cell in cells(path):
        if re.search(r"^#\|\s*exporti?\b", source(cell), re.M):
            code = re.sub(r"^#\|.*\n", "", source(cell), flags=re.M).strip()
            if not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(code).body):
                yield cell["id"], code


@each_chapter
def test_definitions_of_a_chapter_are_shorter(path):
    big = []
    for _, code in exported(path):
        for node in ast.parse(code).body:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.end_lineno - first >= 25 and node.name not in LONGER:
                big.append(f"{node.name}: {node.end_lineno - first + 1} lines")
    assert not big, "definitions over 25 lines in a chapter: " + ", ".join(big)


@each_chapter
def test_exported_cells_are_short(path):
    sizes = [len(code.splitlines()) for _, code in exported(path)]
    assert not sizes or statistics.median(sizes) <= MEDIAN, f"{sizes}: {statistics.median(sizes)} lines in the median"


@each_notebook
def test_exported_cells_hold_one_thing(path):
    "Over 25 lines a cell has one definition; several short ones may stand together."
    crowded = [f"{name}: {len(code.splitlines())} lines" for name, code in exported(path)
               if len(code.splitlines()) > 25 and len(ast.parse(code).body) > 1]
    assert not crowded or path.stem in CROWDED, "cells to be split: " + ", ".join(crowded)


def import_rank(node):
    "Place among imports: standard library, packages, ser_nb; in each `import` before `from`; by name."
    name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    top = name.split(".")[0]
    kind = 0 if top == "__future__" else 1 if top in sys.stdlib_module_names else 3 if top == "ser_nb" else 2
    return kind, isinstance(node, ast.ImportFrom), name.casefold()


def name_rank(name):
    "Place among names that one module gives: constants, classes, functions."
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name


@each_notebook
def test_imports_are_in_order(path):
    wrong = []
    for cell in cells(path):
        code = re.sub(r"^[#%!].*$", "", source(cell), flags=re.M)
        nodes = ast.parse(code).body
        if nodes and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes):
            names = [[a.name for a in n.names] for n in nodes if isinstance(n, ast.ImportFrom)]
            if nodes != sorted(nodes, key=import_rank) or any(n != sorted(n, key=name_rank) for n in names):
                wrong.append(cell["id"])
    assert not wrong or path.stem in UNSORTED, f"imports out of order in {', '.join(wrong)}"


@each_chapter
def test_plumbing_is_folded(path):
    "A chapter opens in JupyterLab without its imports, and nbdev_clean leaves it so."
    found = unfolded(path)
    assert not found, f"to be folded, or not: {', '.join(found)}; run tools/fold.py"
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    assert re.search(r"^allowed_cell_metadata_keys = .*\bjupyter\b", settings, re.M), "nbdev_clean would unfold it"


def test_chapters_are_short():
    long = {p.stem: n for p in CHAPTERS if p.name < "06" and (n := len(json.loads(p.read_text(encoding="utf-8"))["cells"])) > 80}
    assert not long, f"the chapters 00 to 05 have 80 cells at most; what isn't their subject goes to a room: {long}"


@each_chapter
def test_begins_with_the_subject(path):
    "A picture, a sound or a table within five cells after the imports."
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    last = max(i for i, c in enumerate(found[:12]) if c["cell_type"] == "code" and re.search(r"^(import|from) ", source(c), re.M))
    kinds = {kind for c in found[last + 1 : last + 6] for o in c.get("outputs", []) for kind in o.get("data", {})}
    assert kinds & {"image/png", "image/svg+xml", "text/html"}, f"within five cells after the imports there is only {sorted(kinds)}"


@each_module
def test_no_pickle(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    imports += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert not {m.split(".")[0] for m in imports} & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    unsafe = [k.value.lineno for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords
              if k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)]
    assert not unsafe, f"allow_pickle on line {unsafe}"


def imports(path):
    "Full names of the modules of ser_nb that a module imports, with the names that it takes from each."
    package = ["ser_nb", *path.relative_to(ROOT / "ser_nb").parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            if name.split(".")[0] == "ser_nb":
                yield name, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.split(".")[0] == "ser_nb")


PRINTERS = {"lib.command.say", "lib.command.note", "lib.command.one_line", "lib.answers.show", "lib.roles.tell_roles"}  # that is what they are for


def commands_and_their_own(tree):
    "The commands of a module, and private functions that nobody but these uses."
    tops = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    found = {name for name, n in tops.items() if {ast.unparse(d).split("(")[0] for d in n.decorator_list} & {"command", "main_command"}}
    users = {name: {other for other, n in tops.items() if other != name and any(isinstance(m, ast.Name) and m.id == name for m in ast.walk(n))}
             for name in tops if name.startswith("_")}
    while more := {name for name, by in users.items() if by and by <= found} - found:
        found |= more
    return found


def prints(node, aloud=("print", "say")):
    "Lines on which something is printed, but for what is written to a file that the caller gave."
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in aloud]
    given = [n for n in calls if any(k.arg == "file" and not ast.unparse(k.value).startswith("sys.") for k in n.keywords)]
    return [n.lineno for n in calls if n not in given]


@each_module
def test_functions_print_nothing(path):
    "Commands print, and so do functions that they alone use; all others have a log (`note`)."
    tree, module = ast.parse(path.read_text(encoding="utf-8")), module_name(path)
    own, aloud = commands_and_their_own(tree), {"print", "say"}
    if ("ser_nb.more.demo", "say") in [(name, what) for name, names in imports(path) for what in names] or module == "more.demo":
        aloud = {"print"}  # the demo's voice says something else
    lines = [line for n in tree.body if getattr(n, "name", "") not in own and f"{module}.{getattr(n, 'name', '')}" not in PRINTERS
             for line in prints(n, aloud)]
    assert not lines, f"prints on line {lines}: take `note` of ser_nb.lib.command, or let the command print"


def test_prints_are_seen():
    "The test above can fail."
    code = "def f():\n    print(1)\ndef _g():\n    say('x')\n@main_command\ndef h():\n    _g()\n    print(f(), file=sys.stderr)\n"
    tree = ast.parse(code)
    assert commands_and_their_own(tree) == {"_g", "h"} and [prints(n) for n in tree.body] == [[2], [4], [8]]


def floor(module):
    "0 for a room below the chapters, 1 for a chapter, 2 for what is built upon chapters."
    return {"lib": 0, "more": 2, "ser_nb": 0}.get(module.removeprefix("ser_nb.").split(".")[0], 1)


@each_module
def test_arrows_run_one_way(path):
    "A room of lib imports no chapter, and neither imports what is built upon chapters."
    own = floor(module_name(path))
    wrong = [name for name, _ in imports(path) if floor(name) > own]
    assert not wrong, f"imports from above: {', '.join(wrong)}"


@each_module
def test_private_names_stay_at_home(path):
    private = [f"{module}.{name}" for module, names in imports(path) for name in names if name.startswith("_")]
    assert not private, f"private names of other modules: {', '.join(private)}"


def loaded_by(*names):
    "The heavy libraries that a new Python has loaded after importing `names`."
    code = f"import sys, {', '.join(names)}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


HEAVY_BY_RIGHT = {"more.estimator"}  # a class of scikit-learn, which nobody imports who doesn't ask for it


@pytest.mark.parametrize("module", ["ser_nb", *(f"ser_nb.{module_name(p)}" for p in MODULES if module_name(p) not in HEAVY_BY_RIGHT)])
def test_import_is_light(module):
    assert not loaded_by(module), f"`import {module}` loads heavy libraries"


def test_heavy_libraries_are_seen():
    "The test above can fail: each of these does load what it looks for."
    assert {"pandas.core", "matplotlib.artist"} <= set(loaded_by("pandas", "matplotlib.pyplot"))


def test_sidebar_is_complete():
    listed = re.findall(r"^\s*(?:- |href: )(\S+\.ipynb)$", (ROOT / "nbs" / "sidebar.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(p.relative_to(ROOT / "nbs").as_posix() for p in NOTEBOOKS), "nbs/sidebar.yml is out of step: run `nbdev_sidebar`"


def test_readme_in_step():
    done = subprocess.run([sys.executable, ROOT / "tools" / "readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
