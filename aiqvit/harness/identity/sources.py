"""A hash of the source that a run executes, method and task, blind to comments, docstrings and formatting."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ENGINE = ("aiqvit.quant", "aiqvit.families", "aiqvit.transforms", "aiqvit.recon", "aiqvit.method", "aiqvit.baselines",
          "aiqvit.tasks")


def code_hash(*classes: type) -> str:
    """Twelve hexadecimal digits over the modules of the classes and all they import from the engine or own packages.

    Empty, which means unknown, where the source of a class cannot be read.
    """
    try:
        return _hashed(classes)
    except Exception:  # a class of another package, with or without a readable source
        return ""


def _hashed(classes: tuple[type, ...]) -> str:
    own = {cls.__module__.partition(".")[0] for cls in classes} - {"aiqvit"}
    roots = (*ENGINE, *own)
    of = {cls.__module__: cls for cls in classes}
    found: dict[str, str] = {}
    waiting = list(of)
    while waiting:
        module = waiting.pop()
        tree = _parse(module, of.get(module)) if module not in found else None
        if tree is None:
            continue
        found[module] = ast.dump(_without_docstrings(tree))
        waiting += [m for m in _imports(tree, module) if any(m == r or m.startswith(f"{r}.") for r in roots)]
    text = [f"{name} {found[name]}" for name in sorted(found)]
    text += [inspect.getsource(cls) for module, cls in of.items() if module not in found]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]


def _source(module: str) -> Path | None:
    """The module's file, found without importing the module itself."""
    try:
        spec = find_spec(module)
    except (Exception, SystemExit):  # it imports the packages above, which may do anything
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _parse(module: str, cls: type | None) -> ast.Module | None:
    path = _source(module)
    if path is None and cls is not None:  # __main__ or a module made by a test
        path = Path(inspect.getfile(cls))
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def _imports(tree: ast.Module, module: str) -> Iterator[str]:
    """Names of modules that are imported anywhere in the source, packages above them included."""
    path = _source(module)
    package = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).strip(".")
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
