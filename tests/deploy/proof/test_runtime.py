"""Files that cannot be read or run are one sentence."""

import sys

import onnx
import pytest

from aiqvit.deploy.proof.floor import logit_floor
from aiqvit.deploy.proof.kernels import count_kernels
from aiqvit.deploy.proof.parity import layer_parity
from aiqvit.interfaces import UserError
from tests.deploy.proof.handmade import PROMISED


@pytest.mark.parametrize("content", [b"", b"nothing like ONNX", b"\x08\x0a\x12\x05abc"])
def test_what_is_no_onnx(made, tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"a.onnx' is no ONNX file, or .*: export the model again"):
        layer_parity(made.model, tmp_path / "a.onnx", made.images)


def test_a_file_cut_off(made, tmp_path):
    (tmp_path / "a.onnx").write_bytes(made.path.read_bytes()[:3000])
    with pytest.raises(UserError, match="is no ONNX file, or a part of one"):
        count_kernels(tmp_path / "a.onnx", PROMISED)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read '.*a.onnx': No such file"):
        count_kernels(tmp_path / "a.onnx", PROMISED)


def test_a_runtime_that_is_too_old_for_a_file(made, tmp_path):
    model = onnx.load(made.path)
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"a.onnx'?: onnxruntime \S+ cannot load it \(.*\): exports run from 1.23 on"):
        count_kernels(tmp_path / "a.onnx", PROMISED)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_a_missing_extra(made, monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(UserError, match=r"needs onnx and onnxruntime: pip install 'aiqvit\[onnx\]'"):
        count_kernels(made.path, PROMISED)


def test_no_images(made):
    for check in (layer_parity, logit_floor):
        with pytest.raises(UserError, match="checked on images: expected a tensor"):
            check(made.model, made.path, made.images[:0])
