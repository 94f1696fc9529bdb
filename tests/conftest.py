"""A tiny ImageNet on disk, a tiny timm model with random weights, and toy methods: no network, no GPU, no real data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from aiqvit.bench import main
from aiqvit.families.opening import quantize_model
from aiqvit.harness.run import runner
from aiqvit.interfaces import Diverged, Job, Method
from aiqvit.quant.observers import MinMax
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.surgery import calibrate
from aiqvit.registry import METHODS

LONGEST = ("test_contract.py", "test_reference.py", "test_pack.py", "test_kill.py", "test_wheel.py", "test_speed.py",
           "test_contract_families.py", "test_deployable.py", "test_export.py")
WNIDS = ("n01440764", "n01443537", "n02124075")  # class indices 0, 1, 285
MODEL = "test_vit"


os.environ.setdefault("AIQVIT_WORKERS", "1")  # grids of toys are done before another process has started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first: one process runs a file, and the others would wait for it at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def min_max(job: Job) -> nn.Module:
    """Uniform codes over the whole range."""
    scheme = by_role({"default": spec(Uniform, job.bits.weight, 0, MinMax())},
                     {"default": spec(Uniform, job.bits.activation, None, MinMax())})
    model = quantize_model(job.model, scheme, BitPolicy(job.bits, job.bit_rules))
    calibrate(model, lambda net: job.forward(net, job.calibration[0]))
    return model


@dataclass(frozen=True)
class Toy(Method):
    """Uniform codes over the whole range; has a field of every type that the command line can set."""

    title = "Toy"
    note = "a toy"
    presets = {"smoke": {"steps": 1}, "quick": {"steps": 2}, "paper": {"steps": 99}}
    images: int = 3
    steps: int = 5
    rate: float = 1e-3
    curriculum: bool = True
    loss: Literal["mse", "frobenius"] = "mse"
    ranks: tuple[int, ...] = (1, 2)
    memory: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps == 13:
            raise ValueError("steps must not be 13")

    def quantize(self, job: Job) -> nn.Module:
        for unit in job.progress(job.units, "units"):
            job.log.append({"unit": unit, "loss": torch.tensor(float(len(job.calibration[0])))})
        return min_max(job)


@dataclass(frozen=True)
class Breaks(Method):
    """Diverges while it quantizes."""

    title = "Breaks"
    images: int = 2

    def quantize(self, job: Job) -> nn.Module:
        raise Diverged("blocks.3: the loss is nan")


@dataclass(frozen=True)
class Nan(Method):
    """Gives a model whose outputs are not finite."""

    title = "NaN"
    images: int = 2

    def quantize(self, job: Job) -> nn.Module:
        model = min_max(job)
        model.head.weight.data.fill_(float("nan"))
        return model


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only full precision and the toy methods are registered."""
    monkeypatch.setattr(METHODS, "_read", True)
    toys = {"fp32": "aiqvit.baselines.fp32:FullPrecision", "toy": Toy, "breaks": Breaks, "nan": Nan}
    monkeypatch.setattr(METHODS, "_entries", toys)


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three classes of four training and five validation images each."""
    root, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 5)):
        for wnid in WNIDS:
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / wnid / f"{i}.JPEG")
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's smallest ViT."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / f"{MODEL}.safetensors"
    save_file(timm.create_model(MODEL).state_dict(), path)
    return path


@pytest.fixture
def shared() -> Path:
    """Real data and weights beside the repository; the test skips without them."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "imagenet" / "val").is_dir():
        pytest.skip("no real data beside the repository")
    return folder


@pytest.fixture
def bench(imagenet, weights, tmp_path, monkeypatch):
    """Call the command with what it needs; the output folder is `tmp_path / "out"`."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **replaced: str) -> int:
        options = {"data": str(imagenet), "weights": str(weights), "model": MODEL, "out": "out", "bits": "4/4",
                   "threads": "1"}
        flags = [text for key, value in (options | replaced).items() for text in (f"--{key}", value)]
        return main([*flags, *arguments])

    return call


@pytest.fixture
def executed(monkeypatch):
    """Labels of the runs that are really executed."""
    labels, real = [], runner.run

    def spy(item, *rest):
        labels.append(f"{item.label} {item.spec.bits} {item.spec.seed}")
        return real(item, *rest)

    monkeypatch.setattr(runner, "run", spy)
    return labels
