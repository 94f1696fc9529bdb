"""A quantized model as an ONNX file, with the proof that it is right."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from aiqvit.api.data import Data, batches, check_input
from aiqvit.api.devices import device_of
from aiqvit.deploy.info import Info, info_of
from aiqvit.deploy.onnx.export import export_fp32, export_onnx
from aiqvit.deploy.onnx.versions import OPSETS
from aiqvit.deploy.onnx.weights import Target
from aiqvit.deploy.proof.report import Proof, prove
from aiqvit.deploy.rebuild import made
from aiqvit.guard import path as expanded
from aiqvit.harness.run.progress import progress as bar
from aiqvit.interfaces import UserError
from aiqvit.samples import joined

SAMPLES = 8  # that a proof is made on, where no data are given


def export(model: nn.Module, path: str | PathLike[str], data: Data | None = None, *,
           target: Target = "ort", opset: int = OPSETS[0], latency: bool = False,
           fp32: nn.Module | None = None, progress: bool = True) -> Proof:
    """Write a quantized model as ONNX in QDQ form, which runtimes turn into integer kernels, and prove what it is.

    >>> proof = export(q, "q.onnx", torch.randn(8, 3, 160, 160), progress=False)
    >>> proof.missed
    []

    Batches may have any size. What is proved: how many products onnxruntime runs on integer kernels, that each layer
    gives what torch's gives for the same input, and that the outputs differ by no more than float32 does from float64;
    on `data` or on random inputs where none are given. With `latency` also the speed beside float32 of the same
    network: `fp32`, or one of random weights where the network is known by name. docs/deploy.md says how to read it.

    Raises `UserError` for a model that is not quantized, a format that ONNX has no form for, an extra that is not
    installed or too old, and a place that cannot be written. Warns where the proof misses something.
    """
    info, show = info_of(model), bar if progress else lambda items, *_, **__: items
    samples = proving(info, data)
    check_input(model, samples.to(device_of(model)))
    network = _network(info, fp32) if latency else None
    proof = proved(model, info, expanded(str(path)), samples, network, target, opset, show)
    if proof.missed:
        warnings.warn(f"{proof.path}: {'; '.join(proof.missed)}", stacklevel=2)
    return proof if data is not None else replace(proof, inputs="checked on random inputs")


def proved(model: nn.Module, info: Info, path: str, samples: Tensor, fp32: nn.Module | None, target: Target, opset: int,
           progress: Callable[..., Iterable]) -> Proof:
    """Export a quantized model, of which `info` tells, and prove the file; beside `fp32`, if given, also its speed."""
    for _ in progress(range(1), "export"):  # most of the time goes here
        exported = export_onnx(model, path, samples, target=target, opset=opset, properties=properties(info))
    with tempfile.TemporaryDirectory() as folder:
        plain = export_fp32(fp32, Path(folder) / "fp32.onnx", samples) if fp32 else None
        return prove(model, exported, samples, fp32=plain, progress=progress)


def proving(info: Info, data: Data | None) -> Tensor:
    """The samples that a proof is made on, one batch: all of `data`, or random ones, the same each time."""
    if data is not None:
        given = batches(data)
        if len(sizes := {tuple(batch.shape[1:]) for batch in given}) > 1:
            raise UserError(f"data has samples of several sizes, {sorted(sizes)[0]} and {sorted(sizes)[1]}: a proof is "
                            "made on samples of one")
        return joined(given, sum(map(len, given)))
    if not info.shape:
        raise UserError("the model does not say what its inputs are: give data, export(model, path, images)")
    return torch.randn(SAMPLES, *info.shape, generator=torch.Generator().manual_seed(0))


def _network(info: Info, fp32: nn.Module | None) -> nn.Module:
    if fp32 is not None:
        return fp32
    if not info.recipe:
        raise UserError(f"nothing builds {info.model} by name: hand over the network of full precision, fp32=model")
    return made(info.recipe)


def properties(info: Info) -> dict[str, str]:
    """What the file says of itself."""
    found = {"method": info.title, "bits": info.bits, "model": str(info.recipe.get("name") or info.model),
             "weights": info.weights, "inputs": json.dumps(info.recipe["inputs"]) if info.recipe.get("inputs") else ""}
    return {f"aiqvit.{key}": value for key, value in found.items() if value}
