"""Imports run one way (see the layout in the README): checked in the sources, lazy imports included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"aiqvit": "aiqvit", "baselines": "aiqvit.baselines", "tasks": "aiqvit.tasks"}  # at the top -> import name
FILES = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]

UP_TO_TRANSFORMS = ("aiqvit.transforms", "aiqvit.quant", "aiqvit.interfaces", "aiqvit.samples", "aiqvit.bounds")
SETTINGS = ("aiqvit.bounds", "aiqvit.settings")

# the first prefix that a module has decides which prefixes of our own it may import
ALLOWED = {
    "aiqvit.bounds": (),
    "aiqvit.samples": (),
    "aiqvit.errors": (),
    "aiqvit.outcomes": (),
    "aiqvit.task": ("aiqvit.errors", "aiqvit.outcomes", "aiqvit.samples", "aiqvit.evaluation"),  # the last lazily
    "aiqvit.evaluation": ("aiqvit.errors", "aiqvit.outcomes", "aiqvit.task"),
    "aiqvit.interfaces": ("aiqvit.errors", "aiqvit.outcomes", "aiqvit.samples", "aiqvit.task",
                          "aiqvit.settings"),  # the last lazily, when a method is made
    "aiqvit.settings": ("aiqvit.bounds", "aiqvit.interfaces", "aiqvit.io"),
    "aiqvit.plugins": ("aiqvit.interfaces", "aiqvit.io"),
    "aiqvit.contract": ("aiqvit.interfaces", "aiqvit.plugins", "aiqvit.settings"),
    "aiqvit.registry": ("aiqvit.interfaces", "aiqvit.io", "aiqvit.plugins", "aiqvit.contract"),
    "aiqvit.quant": ("aiqvit.quant", "aiqvit.interfaces"),
    "aiqvit.transforms": ("aiqvit.transforms", "aiqvit.quant", "aiqvit.interfaces"),
    "aiqvit.families": ("aiqvit.families", "aiqvit.plugins", *UP_TO_TRANSFORMS),
    "aiqvit.recon": ("aiqvit.recon", "aiqvit.families", *UP_TO_TRANSFORMS),
    "aiqvit.method": ("aiqvit.recon", "aiqvit.families", *UP_TO_TRANSFORMS),
    "aiqvit.baselines": ("aiqvit.baselines", "aiqvit.recon", "aiqvit.families", *UP_TO_TRANSFORMS),
    "aiqvit.deploy.rebuild": ("aiqvit.deploy", "aiqvit.registry", "aiqvit.interfaces", "aiqvit.io"),
    "aiqvit.deploy": ("aiqvit.deploy", "aiqvit.families", "aiqvit.io", "aiqvit.__version__", *UP_TO_TRANSFORMS),
    "aiqvit.guard": ("aiqvit.interfaces", "aiqvit.io", "aiqvit.plugins", "aiqvit.settings"),
    "aiqvit.io": ("aiqvit.io", "aiqvit.interfaces"),
    "aiqvit.tasks.train": ("aiqvit.tasks", "aiqvit.guard", "aiqvit.bounds", "aiqvit.interfaces", "aiqvit.io",
                           "aiqvit.registry"),
    "aiqvit.tasks": ("aiqvit.tasks", "aiqvit.interfaces", "aiqvit.evaluation", "aiqvit.registry", "aiqvit.io",
                     "aiqvit.bounds", "aiqvit.quant.products", "aiqvit.quant.anatomy",  # these two for families
                     "aiqvit.families.family"),
    "aiqvit.harness.identity": ("aiqvit.harness.identity", "aiqvit.interfaces", "aiqvit.io", *SETTINGS,
                                "aiqvit.__version__", "aiqvit.ENGINE_VERSION"),
    "aiqvit.harness.store": ("aiqvit.harness.store", "aiqvit.harness.identity", "aiqvit.interfaces", "aiqvit.io"),
    "aiqvit.harness.run": ("aiqvit.harness.run", "aiqvit.harness.store", "aiqvit.harness.identity",
                           "aiqvit.families.opening", "aiqvit.quant.card", "aiqvit.quant.coverage",
                           "aiqvit.recon.rewriting", "aiqvit.deploy.info", "aiqvit.deploy.pack", "aiqvit.evaluation",
                           "aiqvit.interfaces", "aiqvit.samples", "aiqvit.io"),
    "aiqvit.harness": ("aiqvit.harness", "aiqvit.families.opening", "aiqvit.quant.policy", "aiqvit.interfaces",
                       "aiqvit.registry", "aiqvit.plugins", "aiqvit.io", *SETTINGS),
    "aiqvit.stats.coverage": ("aiqvit.stats", "aiqvit.guard", "aiqvit.bounds"),  # a command
    "aiqvit.stats": ("aiqvit.stats", "aiqvit.interfaces"),
    "aiqvit.report.__main__": ("aiqvit",),  # a command
    "aiqvit.report": ("aiqvit.report", "aiqvit.harness.identity", "aiqvit.harness.store", "aiqvit.interfaces",
                      "aiqvit.io"),
}
ONLY_IN = {
    "timm": ("aiqvit.tasks", "aiqvit.families", "aiqvit.speed", "aiqvit.deploy.rebuild"),  # uses its modules
    "mmdet": ("aiqvit.tasks",),
    "mmcv": ("aiqvit.tasks",),
    "mmengine": ("aiqvit.tasks",),
    "pandas": ("aiqvit.report",),
    "onnx": ("aiqvit.deploy",),
    "onnx_ir": ("aiqvit.deploy",),
    "onnxscript": ("aiqvit.deploy",),
    "onnxruntime": ("aiqvit.deploy",),
    "openvino": ("aiqvit.deploy",),
    "ray": ("aiqvit.harness.launch.ray",),
    "matplotlib": ("aiqvit.report", "aiqvit.figures"),
    "jinja2": ("aiqvit.report",),
    "pickle": ("aiqvit.tasks.checkpoints.inert",),  # a reader that imports nothing
}


def module_name(path: Path) -> str:
    folder, *parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[folder], *parts]).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in prefixes)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_run_one_way(path):
    name = module_name(path)
    rule = next((allowed for prefix, allowed in ALLOWED.items() if under(name, (prefix,))), None)
    for target in imported(path):
        if rule is not None and under(target, ("aiqvit",)):
            assert under(target, rule), f"{name} must not import {target}"
        home = ONLY_IN.get(target.split(".")[0])
        assert home is None or under(name, home), f"{name} must not import {target}"
