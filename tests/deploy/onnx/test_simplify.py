"""Simplifying a graph changes no number, however near constants are to 0 and 1."""

import pytest
import torch
from torch import nn

from aiqvit.deploy.onnx.export import export_fp32
from aiqvit.deploy.proof.runtime import run, session


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("function", [
    lambda x: 1 / (x + 1e-8),
    lambda x: 1 / (1e-12 + x),
    lambda x: 1 / (x - 1e-9),
    lambda x: (x + 1) * 1.000005 - 1,
    lambda x: (x + 1) / 0.999995 - 1,
    lambda x: x / (x.norm(dim=1, keepdim=True) + 1e-8),
], ids=["add", "add to", "subtract", "multiply", "divide", "normalize"])
def test_constants_near_0_and_1_stay(function, tmp_path):
    x = torch.tensor([[0.0, 0, 0], [0, 0, 1e-6]])
    path = export_fp32(Function(function), tmp_path / "f.onnx", x)
    (found,) = run(session(path), x)
    assert torch.allclose(found, function(x), rtol=1e-4, atol=1e-9, equal_nan=True), (found, function(x))


def test_what_undoes_itself_is_left_out(tmp_path):
    import onnx

    def there_and_back(x):
        return x.transpose(1, 2).transpose(1, 2).reshape(x.shape[0], 6).unflatten(1, (2, 3)) * 2

    path = export_fp32(Function(there_and_back), tmp_path / "f.onnx", torch.randn(4, 2, 3))
    assert "Transpose" not in {node.op_type for node in onnx.load(path).graph.node}
