"""Kernels are counted in the graph that onnxruntime runs, by the layer that they belong to."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aiqvit.deploy.proof.kernels import count_kernels
from tests.deploy.proof.handmade import PROMISED, change


def edited(path, tmp_path, edit):
    model = onnx.load(path)
    edit(model.graph)
    onnx.save(model, tmp_path / "edited.onnx")
    return tmp_path / "edited.onnx"


def test_all_products_of_a_file_in_qdq_form_are_integer(made):
    found = count_kernels(made.path, PROMISED)
    assert {product.name for product in found.products} == PROMISED.keys() and found.missed == []
    assert str(found) == "5 of 5 products on integer kernels (4 MatMulIntegerToFloat, 1 QLinearMatMul)"


def test_a_product_that_is_float_against_the_promise_is_named(made, tmp_path):
    def without_quantizer(graph):
        next(node for node in graph.node if node.output[0] == "fc2.product").input[0] = "fc2:in"

    found = count_kernels(edited(made.path, tmp_path, without_quantizer), PROMISED)
    (missed,) = found.missed
    assert missed.startswith("fc2 (MatMul") and found.integer == 4
    assert "4 of 5" in str(found) and "NOT on integers as promised: fc2" in str(found)


def test_a_product_that_nobody_promised_is_named_but_not_missed(made, tmp_path):
    def decoded(graph):
        next(node for node in graph.node if node.output[0] == "av:out").input[0] = "av:left"

    found = count_kernels(edited(made.path, tmp_path, decoded), PROMISED | {"av": "float: log-sqrt2 codes"})
    assert found.missed == [] and found.integer == 4
    assert "; 1 float: log-sqrt2 codes" in str(found)


def test_a_product_of_no_layer_is_named(made, tmp_path):
    def added(graph):
        graph.initializer.append(numpy_helper.from_array(np.ones((5, 5), np.float32), "square"))
        graph.node[-1].output[0] = "logits"
        graph.node.append(helper.make_node("MatMul", ["logits", "square"], ["output"], name="slipped_in"))

    found = count_kernels(edited(made.path, tmp_path, added), PROMISED)
    assert found.missed == [] and "5 of 6" in str(found)
    assert "float, of no quantized layer: slipped_in" in str(found)


def test_what_is_folded_away_is_missed(made, tmp_path):
    found = count_kernels(made.path, PROMISED | {"elsewhere": "integer"})
    assert found.missed == ["elsewhere (no product is left)"]


@pytest.mark.parametrize("name", ["fc1.codes", "proj.codes"])
def test_other_numbers_change_no_kernel(made, name):
    assert count_kernels(change(made.path, name, (0, 0), 1), PROMISED).missed == []


def test_all_products_of_the_mini_model_are_integer(mini):
    found = count_kernels(mini.exported.path, mini.exported.products)
    assert found.missed == [] and found.integer == len(found.products) == len(mini.exported.products)
