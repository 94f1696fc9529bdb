"""All parts of a proof in a few lines, which say plainly what misses its target."""

from dataclasses import replace

from aiqvit.deploy.onnx.export import Exported
from aiqvit.deploy.proof.report import float_size, prove
from tests.deploy.proof.handmade import PROMISED, change


def test_a_right_export(mini):
    proof = prove(mini.model, mini.exported, mini.images, fp32=mini.fp32, rounds=1, batches=(1,))
    assert proof.missed == [] and proof.size.fp32 > 0.9 * mini.fp32.stat().st_size
    text = str(proof)
    assert [line.split()[0] for line in text.splitlines()[1:5]] == ["size", "kernels", "parity", "outputs"]
    assert "latency  batch 1, 1 thread: fp32 " in text and text.endswith("all targets met: kernels, parity, outputs")


def test_a_wrong_export_is_called_wrong(made):
    path = change(made.path, "fc2.codes", (3, 4), 20)
    exported = Exported(path, path.stat().st_size, PROMISED | {"elsewhere": "integer"}, 6)
    proof = prove(made.model, exported, made.images)
    assert proof.latency is None and len(proof.missed) == 3
    last = str(proof).splitlines()[-1].strip()
    assert last.startswith("MISSED: 1 product is not on integer kernels as promised; 1 layer or product is unlike")


def test_what_was_not_checked_has_no_line(mini):
    proof = prove(mini.model, mini.exported, mini.images)
    bare = replace(proof, kernels=None, parity=None, floor=None)
    assert bare.missed == [] and len(str(bare).splitlines()) == 2


def test_the_size_of_float_counts_parameters_of_layers_alone(made):
    assert float_size(made.model) == 4 * (16 * 24 + 24 + 24 * 16 + 16 + 16 * 5 + 5)
