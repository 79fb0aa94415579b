"""Check the types of the package with mypy: `python tools/types_check.py`.

Methods come one cell at a time, by fastcore's `patch`, which no type checker follows. So a copy of the package is checked in which
they stand in their classes, and what mypy says is told of the lines of the package. `stub` writes the same for who installs it."""
from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"as_prop": "property", "cls_method": "classmethod"}


def patches(tree):
    "The functions of a module that are methods: (function, class, decorator in a class body or none)."
    for node in tree.body:
        for mark in getattr(node, "decorator_list", []):
            name, *_ = ast.unparse(mark).split("(")
            if name == "patch" and isinstance(node, ast.FunctionDef):
                kinds = [KINDS[k.arg] for k in getattr(mark, "keywords", []) if k.arg in KINDS]
                yield node, ast.unparse(node.args.args[0].annotation), *(kinds or [""])


def foreign(trees):
    "Methods that another module gives to a class: {class: [declaration]}."
    said = {}
    for tree in trees:
        own = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        for node, home, kind in patches(tree):
            if home not in own:
                declared = f"{node.name}: Any" if kind == "property" else f"def {node.name}(self, *args: Any, **named: Any) -> Any: ..."
                said.setdefault(home, []).append(declared)
    return said


def plain(node):
    "The type in an annotation of a command's option: `Param(\"...\", int)` is an int."
    said = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "type")]
    return ast.unparse(said[0]) if said and ast.unparse(said[0]) in ("int", "float", "str") else "Any"


def rewritten(text, said):
    "A module with its methods in their classes, as lines with the numbers that they have in the module."
    tree, lines = ast.parse(text), text.splitlines()
    for node in sorted((a for a in ast.walk(tree) if isinstance(a, ast.Call) and ast.unparse(a.func) == "Param"),
                       key=lambda a: a.lineno, reverse=True):
        head, tail = lines[node.lineno - 1][: node.col_offset], lines[node.end_lineno - 1].encode()[node.end_col_offset:].decode()
        lines[node.lineno - 1:node.end_lineno] = [head + plain(node) + tail] + [""] * (node.end_lineno - node.lineno)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    inside, gone = {}, set()
    for node, home, kind in patches(tree):
        first = node.decorator_list[0].lineno
        gone.update(range(first, node.end_lineno + 1))
        if home in classes:
            body = [("", first), *([(f"    @{kind}", first)] if kind else [])]
            for n in range(node.lineno, node.end_lineno + 1):
                line = re.sub(rf"\b(self|cls): {home}\b", r"\1", "    " + lines[n - 1])
                body.append((line.replace(f"-> {home}:", "-> Self:") if "return cls(" in ast.unparse(node) else line, n))
            inside.setdefault(classes[home].end_lineno, []).extend(body)
    for name in classes.keys() & said.keys():
        n = classes[name].end_lineno
        inside.setdefault(n, []).extend((f"    {line}", n) for line in said[name])
    start = tree.body[0].end_lineno if ast.get_docstring(tree) is not None else 0
    out = []
    for n, line in enumerate(lines, 1):
        if n not in gone and not line.startswith("from __future__"):
            out.append((line, n))
        if n == start:
            out += [("from __future__ import annotations", n), ("from typing import Any, Self", n)]
        out += inside.get(n, [])
    return out


def stub(text, said):
    "What a type checker has to know of a module: all but the bodies of its functions."
    tree = ast.parse("\n".join(line for line, _ in rewritten(text, said)))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Expr(ast.Constant(...))]
    return ast.unparse(tree) + "\n"


def stubs(package):
    "{path in the package: stub} of the modules whose classes get their methods by `patch`."
    texts = modules(package)
    trees = {path: ast.parse(text) for path, text in texts.items()}
    said = foreign(trees.values())
    patched = {home for tree in trees.values() for _, home, _ in patches(tree)}
    return {path.with_suffix(".pyi"): stub(texts[path], said) for path, tree in trees.items()
            if any(isinstance(node, ast.ClassDef) and node.name in patched for node in tree.body)}


def modules(package):
    "{path in the package: text} of its modules, without the index of names."
    return {p.relative_to(package): p.read_text(encoding="utf-8") for p in sorted(package.rglob("*.py")) if p.name != "_modidx.py"}


def check(package, settings):
    "What mypy says of the package, line by line."
    texts = modules(package)
    said = foreign(map(ast.parse, texts.values()))
    with tempfile.TemporaryDirectory(prefix="ser_nb-types-") as tmp:
        numbers = {}
        for path, text in texts.items():
            lines = rewritten(text, said)
            copy = Path(tmp) / package.name / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("\n".join(line for line, _ in lines) + "\n", encoding="utf-8")
            numbers[f"{package.name}/{path.as_posix()}"] = [n for _, n in lines]
        command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--python-executable", sys.executable,
                   "--cache-dir", str(Path(tmp) / "cache"), package.name]
        done = subprocess.run(command, cwd=tmp, capture_output=True, text=True)
    for line in (done.stdout + done.stderr).splitlines():
        found = re.match(r"([^:]+):(\d+): (.*)", line)
        yield f"{found[1]}:{numbers[found[1]][int(found[2]) - 1]}: {found[3]}" if found and found[1] in numbers else line


if __name__ == "__main__":
    lines = list(check(ROOT / "ser_nb", ROOT / "mypy.ini"))
    print("\n".join(lines))
    sys.exit(not lines[-1].startswith("Success"))
