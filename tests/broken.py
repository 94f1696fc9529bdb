"""Packages of somebody else in which something is wrong, as pip would leave them in a folder."""

from __future__ import annotations

from pathlib import Path

from tests.plugins import install

CLASS = """
from dataclasses import dataclass
from aiqvit.baselines.minmax import MinMax
from aiqvit.interfaces import Method
"""
META = """
class Meta(type):
    def __getattribute__(cls, name):
        raise RuntimeError("no " + name)
class X(Method, metaclass=Meta):
    pass
"""


def method(body: str, decorated: str = "@dataclass(frozen=True)\n", base: str = "MinMax") -> str:
    """A module with a method `X` of this body."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"{CLASS}{decorated}class X({base}):\n{lines}"


SOURCES = {  # what is wrong -> the module `third`, whose class X is the method `third`
    "syntax": "class X(:\n",
    "raises": 'raise RuntimeError("no GPU\\nat all")\n',
    "import": "import no_such_module_at_all\n",
    "exits": "import sys\nsys.exit(3)\n",
    "exits well": "raise SystemExit\n",
    "recursion": "def f():\n    return f()\nf()\n",
    "memory": "raise MemoryError\n",
    "generator": "raise GeneratorExit\n",
    "strange error": 'class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E("x")\n',
    "huge error": 'raise ValueError("\\x1b[31m" + "x" * 10**6)\n',
    "bytes": "\x00\x01",
    "no class": "Y = 1\n",
    "no type": "X = 1\n",
    "another class": "class X:\n    pass\n",
    "no dataclass": method('title = "T"\nimages = 3', decorated="", base="Method"),
    "no title": method("images: int = 3", base="Method"),
    "no images": method('title = "T"', base="Method"),
    "no default": method('title = "T"\nimages: int', base="Method"),
    "title number": method("title = 3"),
    "title control": method('title = "T\\x1b[31m"'),
    "title lines": method('title = "T\\nU"'),
    "title empty": method('title = " "'),
    "title of a variant": method('title = "AIQViT [rank=20]"'),
    "title taken": method('title = " aiqvit "'),
    "title property": method('title = property(lambda self: "T")'),
    "note number": method('title = "T"\nnote = 3'),
    "images negative": method('title = "T"\nimages: int = -1'),
    "images text": method('title = "T"\nimages: int = "3"'),
    "presets list": method('title = "T"\npresets = []'),
    "preset of others": method('title = "T"\npresets = {"quick": {"rank": 3}}'),
    "preset out of bounds": method('title = "T"\npresets = {"quick": {"images": -3}}'),
    "grids text": method('title = "T"\ngrids = {"mine": "images=3"}'),
    "grids numbers": method('title = "T"\ngrids = {3: (3,)}'),
    "infinite": method('title = "T"\nrate: float = float("inf")'),
    "strange default": method('title = "T"\nrate: object = object()'),
    "unresolved": method('title = "T"\nrate: "Nowhere" = 3'),
    "refuses itself": method('title = "T"\ndef __post_init__(self):\n    raise RuntimeError("never")'),
    "metaclass": CLASS + META,
}
POINTS = {  # what is wrong -> entry_points.txt of a package whose module `third` is fine
    "taken": "[aiqvit.methods]\nminmax = third:X\n",
    "taken task": "[aiqvit.tasks]\ncoco = third:X\n",
    "empty target": "[aiqvit.methods]\nthird = \n",
    "no module": "[aiqvit.methods]\nthird = :X\n",
    "no attribute": "[aiqvit.methods]\nthird = third\n",
    "dots": "[aiqvit.methods]\nthird = ..:X\n",
    "name all": "[aiqvit.methods]\nall = third:X\n",
    "name slash": "[aiqvit.methods]\na/b = third:X\n",
    "name star": "[aiqvit.methods]\n* = third:X\n",
    "name empty": "[aiqvit.methods]\n = third:X\n",
    "name brackets": "[aiqvit.methods]\na[b=1],c = third:X\n",
    "name control": "[aiqvit.methods]\na\x1b[31m = third:X\n",
    "not a task": "[aiqvit.tasks]\nthird = third:X\n",
    "no equals": "[aiqvit.methods]\nthird\n",
    "no section": "third = third:X\n",
    "binary": "[aiqvit.methods]\n\udcff\udcfe = third:X\n",
    "another family": "[aiqvit.families]\ntimm.models.vision_transformer = third:X\n",
}
GOOD = method('title = "Third"')


def broken(folder: Path, what: str, module: str = "third") -> None:
    """Install the broken package of that kind."""
    source = SOURCES.get(what, GOOD)
    install(folder, module, source, {module: f"{module}:X"})
    if what in POINTS:
        text = POINTS[what].replace("third", module)
        (folder / f"{module}-1.0.dist-info" / "entry_points.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
