"""What cannot be exported is said in one sentence, and nothing is written."""

from __future__ import annotations

from functools import cache
from importlib import metadata

import pytest
import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx import versions
from aiqvit.deploy.onnx.export import export_fp32, export_onnx
from aiqvit.interfaces import UserError
from aiqvit.quant.surgery import calibrate
from tests.deploy.onnx.parts import layer


class Net(nn.Module):
    """A quantized layer, in a model whose forward pass can be given."""

    def __init__(self, body=lambda fc, x: fc(x)) -> None:
        super().__init__()
        self.fc, self.body = layer(nn.Linear(8, 8)), body
        calibrate(self.requires_grad_(False), lambda model: model.fc(example()))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.fc, x)


@cache
def example() -> Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def one_sentence(error: pytest.ExceptionInfo) -> bool:
    return "\n" not in str(error.value) and 20 < len(str(error.value)) < 300


@pytest.mark.parametrize(("model", "given", "why"), [
    (nn.Linear(8, 8), example(), "the model is not quantized"),
    (Net(), example()[:, :5], r"does not take an example of shape \(4, 5\)"),
    (Net(), example()[:0], "no batch"),
    (Net(), torch.tensor(1.0), "no batch"),
    (Net(), [1, 2], "no batch"),
    (Net(lambda fc, x: fc(x.reshape(2, 8))), example(), "fixes the number of samples"),
    (Net(lambda fc, x: fc(x) * (2 if x.shape[0] == 1 else 1)), example(), "is another for a batch of 1"),
    (Net(lambda fc, x: fc(x) * (2 if x.shape[0] % 2 else 1)), example(), "is another for a batch of 1"),
    (Net(lambda fc, x: fc(x) * (2 if x.shape[0] > 16 else 1)), example(), "is another for a batch of more than 16"),
    (Net(lambda fc, x: fc(x + torch.randn(8))), example(), "is another for a batch of 1"),
    (Net(lambda fc, x: fc(x) if x.sum() > 0 else x), example(), "cannot be exported: .*data-dependent"),
    (Net(lambda fc, x: torch.linalg.eigvals(fc(x).T @ x).real), example(), "cannot be exported: .*linalg_eig"),
])
def test_models_and_examples(tmp_path, capfd, model, given, why):
    with pytest.raises(UserError, match=why) as error:
        export_onnx(model, tmp_path / "no.onnx", given)
    assert one_sentence(error) and list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_layer_whose_range_was_never_found(tmp_path):
    model = Net()
    model.fc.input_quantizer.mode = "off"
    with pytest.raises(UserError, match=r"^fc: .*has no range yet"):
        export_onnx(model, tmp_path / "no.onnx", example())


@pytest.mark.parametrize("opset", [18, 20, 99])
def test_opsets(tmp_path, opset):
    with pytest.raises(UserError, match=f"^opset {opset} does not do: .* 21 or newer") as error:
        export_onnx(Net(), tmp_path / "no.onnx", example(), opset=opset)
    assert one_sentence(error) and list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "net.onnx"):
        for export in (export_onnx, export_fp32):
            with pytest.raises(UserError, match="^cannot write .*net.onnx|^cannot write") as error:
                export(Net(), path, example())
            assert one_sentence(error)


@pytest.mark.parametrize("package", versions.OLDEST)
def test_packages_that_are_too_old_or_missing(tmp_path, monkeypatch, package):
    real = metadata.version
    for found, why in (("0.2.1", f"^{package} 0.2.1 is too old"), (None, r"pip install 'aiqvit\[onnx\]'")):
        def version(name, found=found):
            if name == package and found is None:
                raise metadata.PackageNotFoundError(name)
            return found if name == package else real(name)

        monkeypatch.setattr(metadata, "version", version)
        with pytest.raises(UserError, match=why) as error:
            export_onnx(Net(), tmp_path / "no.onnx", example())
        assert one_sentence(error) and list(tmp_path.iterdir()) == []
