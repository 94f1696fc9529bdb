"""onnxruntime's own quantization, as it is meant to be used: smaller files whose outputs stay near."""

import pytest

from aiqvit.deploy.proof.kernels import count_kernels
from aiqvit.deploy.proof.references import dynamic, static
from aiqvit.deploy.proof.runtime import run, session
from aiqvit.interfaces import UserError


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_files_are_smaller_integer_and_near(mini, tmp_path, kind, capfd):
    path = dynamic(mini.fp32, tmp_path) if kind == "dynamic" else static(mini.fp32, tmp_path, mini.images)
    assert path.stat().st_size < 0.5 * mini.fp32.stat().st_size
    assert count_kernels(path, {}).integer > 5
    (expected,), (given,) = (run(session(file), mini.images) for file in (mini.fp32, path))
    assert 0 < (given - expected).norm() < 0.3 * expected.norm()
    assert capfd.readouterr().err == ""


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "fp32.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot take this model"):
        dynamic(tmp_path / "fp32.onnx", tmp_path)
