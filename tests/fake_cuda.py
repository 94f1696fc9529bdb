"""CUDA tensors without values on any machine: an operation that mixes devices raises, as it does on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tests.fake_autograd import python_autograd

aten = torch.ops.aten
ON_CUDA = 2**32  # in the seed of a generator that stands for one on a GPU


class FakeCuda(FakeTensorMode):
    """Answers what fake tensors do not: every float is 1, every int 0, every truth value True; a mask chooses all."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """As `FakeTensorMode`; numbers have to be drawn by a generator of their own device."""
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return 1.0 if dtype.is_floating_point else dtype == torch.bool or 0
        if func is aten.equal.default:
            return True
        if func is aten.index.Tensor:
            args = args[0], [index for given in args[1] for index in indices(given)]
        found = super().__torch_dispatch__(func, types, args, kwargs)
        if (drawn := kwargs.get("generator")) is not None:
            where = "cuda" if drawn.initial_seed() >= ON_CUDA else "cpu"
            if found.device.type != where:
                raise RuntimeError(f"{func}: a generator on {where} draws numbers on {found.device}")
        return found


def indices(given: Tensor | None) -> list[Tensor | None]:
    """One a dimension in place of a mask; other indices as they are."""
    if given is None or given.dtype != torch.bool:
        return [given]
    return [torch.zeros_like(given, dtype=torch.long).flatten()] * given.dim()


class FakeGenerator(torch.Generator):
    """Says that it is on a device that may not be there."""

    def __new__(cls, device: Any = "cpu") -> FakeGenerator:
        made = super().__new__(cls)
        made.where = torch.device(device)
        return made.manual_seed(0)

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()

    @property
    def device(self) -> torch.device:
        """Where it was asked for."""
        return self.where

    def manual_seed(self, seed: int) -> FakeGenerator:
        """As `torch.Generator`."""
        super().manual_seed(seed + ON_CUDA * (self.where.type == "cuda"))
        return self


def zeros(tensor: Tensor) -> np.ndarray:
    """What stands for `Tensor.numpy` of a fake one."""
    if tensor.device.type != "cpu":
        raise TypeError(f"a tensor on {tensor.device} is no array: copy it to the CPU first")
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """What stands for `copy.deepcopy` of a fake one, which would copy the mode too."""
    made = tensor.detach().clone()
    made = torch.nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else made
    return memo.setdefault(id(tensor), made)


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """While this lasts there is a device `cuda`, and new tensors have no values."""
    with (FakeCuda() as mode, python_autograd(), patch.object(torch, "Generator", FakeGenerator),
          patch.object(FakeTensor, "numpy", zeros, create=True),
          patch.object(FakeTensor, "__deepcopy__", copied, create=True),
          patch.object(torch.nn.Module, "to", lambda module, *_: module)):  # parameters are made where they belong
        yield mode
