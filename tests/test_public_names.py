"""What could be imported goes on to be, from where it was: `public_names.json` lists all public names of 4035acd.

names: what each module listed in `__all__`; used: what other code imported besides; members: fields and methods of the
classes; commands: where each is found, and its options; run: modules that are commands too, with `python -m`.
"""
import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KNOWN = json.loads((ROOT / "tests" / "public_names.json").read_text(encoding="utf-8"))
IMPORT = re.compile(r"\bfrom (ser_nb[\w.]*) import (\([^)]*\)|[\w, ]+)")
LACKING = """
import importlib, json, sys
module, names, members = sys.argv[1], *map(json.loads, sys.argv[2:])
held = importlib.import_module(module)
print(*[n for n in names if not hasattr(held, n)])
for name, wanted in members.items():
    cls = getattr(held, name)
    fields = {f for c in cls.__mro__ for f in vars(c).get("__annotations__", {})}
    print(*[f"{name}.{n}" for n in wanted if not hasattr(cls, n) and n not in fields])
"""

each_command = pytest.mark.parametrize("command", KNOWN["commands"])


@pytest.mark.parametrize("module", KNOWN["names"])
def test_names(module):
    "In a new Python that imports this module alone, so that no other one lends it anything."
    names = KNOWN["names"][module] + KNOWN["used"].get(module, [])
    members = {n.rpartition(".")[2]: m for n, m in KNOWN["members"].items() if n.rpartition(".")[0] == module}
    done = subprocess.run([sys.executable, "-c", LACKING, module, json.dumps(names), json.dumps(members)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), f"{module} has lost {', '.join(done.stdout.split())}"


@each_command
def test_commands(command):
    "Its entry point, its old place and all its options."
    known = KNOWN["commands"][command]
    text = (ROOT / "settings.ini").read_text(encoding="utf-8")
    place = re.search(rf"\b{command}=([\w.]+):(\w+)", text)
    assert place, f"settings.ini has lost {command}"
    for module, name in (place.groups(), (known["at"], command)):
        options = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        assert not set(known["options"]) - set(options), f"{command} has lost options"


@pytest.mark.parametrize("module, command", KNOWN["run"].items())
def test_run_as_module(module, command):
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    if "--help-all" in done.stdout:
        done = subprocess.run([sys.executable, "-m", module, "--help-all"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lost = [o for o in KNOWN["commands"][command]["options"] if not re.search(rf"\b{o}\b", done.stdout)]
    assert done.stdout and not lost, f"python -m {module} --help does not tell of {', '.join(lost)}"


def texts():
    "The code of everything that imports from the package."
    for folder in ("ser_nb", "tests", "benchmarks", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def imports(path, text):
    "Modules and names that a text imports from the package, also inside functions and strings."
    for module, names in IMPORT.findall(text):
        yield module, re.findall(r"(\w+)(?: as \w+)?", re.sub(r"#.*", "", names))
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(text)) if package.startswith("ser_nb") else ():
        if isinstance(node, ast.ImportFrom) and node.level:
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield module, [alias.name for alias in node.names]


def found(module, name):
    "Whether an import would work, be it of a name or of a module."
    held = importlib.import_module(module)
    inside = hasattr(held, "__path__") and importlib.util.find_spec(f"{module}.{name}")
    return hasattr(held, name) or bool(inside)


def test_imports_of_the_repository():
    "Also those of benchmarks and of what runs once a year."
    wanted = {(module, name, path) for path, text in texts() for module, names in imports(path, text) for name in names}
    assert len({path for _, _, path in wanted}) > 20
    lost = [f"{path.relative_to(ROOT)}: from {m} import {n}" for m, n, path in sorted(wanted) if not found(m, n)]
    assert not lost, "\n".join(lost)


FACE = """
import sys, ser_nb
assert not [m for m in sys.modules if m.startswith("ser_nb.")] and "numpy" not in sys.modules
for name in ser_nb.__all__:
    held = getattr(ser_nb, name)
    assert held.__name__ == name and held.__module__.startswith("ser_nb."), name
assert set(ser_nb.__all__) < set(dir(ser_nb))
try:
    ser_nb.no_such_name
except AttributeError as e:
    print(e)
"""


def test_face():
    "`from ser_nb import load_corpus`: names that bring their module along when they are asked for, and not before."
    done = subprocess.run([sys.executable, "-c", FACE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'ser_nb' has no attribute 'no_such_name'\n"
