"""What `aiqvit.quantize` refuses or warns of, in one sentence."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import aiqvit
from aiqvit.interfaces import UserError
from tests.api.networks import Own, images, quantized, random

WRONG = {  # arguments -> what is said
    "text": (dict(model="vit"), "model is a str: expected a torch.nn.Module"),
    "class": (dict(model=Own), "model is a type"),
    "state": (dict(model={}), "model is a dict"),
    "unknown": (dict(model=nn.Sequential(nn.Conv2d(3, 3, 3))), "no family knows the network Sequential"),
    "no weights": (dict(model=Own().to("meta")), "has no values, it is on the meta device"),
    "lazy": (dict(model=nn.Sequential(Own(), nn.LazyLinear(3))), "1.weight has no values"),
    "method": (dict(method="repq"), "did you mean|unknown method 'repq'"), "no method": (dict(method=None), "unknown"),
    "two": (dict(method="minmax,brecq"), "expected one method"), "fp32": (dict(method="fp32"), "expected one method"),
    "bits": (dict(bits="9/9"), "bits '9/9': expected"), "one": (dict(bits=4), "bits '4': expected weights/activations"),
    "no bits": (dict(bits="32/32"), "bits '32/32'"), "preset": (dict(preset="fast"), "expected one of smoke, quick"),
    "device": (dict(device="tpu"), "device 'tpu': "), "meta": (dict(device="meta"), "device 'meta': "),
    "seed": (dict(seed=-1), "seed -1: "), "seed's type": (dict(seed="1"), "seed '1': "),
    "setting": (dict(stepz=3), "unknown setting of MinMax 'stepz'"), "value": (dict(images="many"), "images=many"),
    "negative": (dict(images=-1), "images=-1"), "title": (dict(title="x"), "unknown setting"),
    "bits of none": ({"bits:nope": 8}, "bits:nope=8 names no site"),
    "many bits": ({"bits:qkv": 99}, "bits:qkv=99: expected"),
    "keep": (dict(keep=["classfy"]), "names no module of Own: did you mean 'classify'"),
    "keep text": (dict(keep="classify"), r"expected a list of globs"), "keep none": (dict(keep=None), "list of globs"),
    "keep number": (dict(keep=[3]), "list of globs"),
    "no data": (dict(data=None), "data is of the type NoneType"), "empty": (dict(data=[]), "data has no samples"),
    "empty batch": (dict(data=torch.zeros(0, 3, 32, 32)), "data has no samples"),
    "path": (dict(data="images"), "data is of the type str"),
    "dictionary": (dict(data={"x": images()}), "data is of the type dict"),
    "channels": (dict(data=images()[:, :1]), r"does not take a batch of shape \(4, 1, 32, 32\), float32"),
    "one picture": (dict(data=images()[0]), r"does not take a batch of shape \(3, 32, 32\)"),
    "bytes": (dict(data=images().byte()), "does not take a batch of shape .*, uint8"),
    "nan": (dict(data=images() * float("nan")), "batch 0 has values that are NaN or infinite"),
    "infinite": (dict(data=[images(), images() * float("inf")], images=8), "batch 1 has values"),
    "second batch": (dict(data=[images(), images()[:, :2]], images=8), r"batch of shape \(4, 2, 32, 32\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_one_sentence(what):
    changed, words = WRONG[what]
    arguments = {"model": Own(), "data": images(), "method": "minmax", "preset": "smoke", "progress": False, **changed}
    with pytest.raises(UserError, match=words) as error:
        aiqvit.quantize(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", (float("nan"), float("inf")))
def test_weights_that_are_not_finite_are_refused(value):
    model = random(Own)
    model.layers[1].mlp.fc2.weight.data[0, 0] = value
    with pytest.raises(UserError, match=re.escape("model: layers.1.mlp.fc2.weight has values that are NaN")):
        quantized(model, images())


def test_a_network_that_cannot_be_copied_is_refused():
    model = Own()
    model.cached = model.classify.weight * 2  # no leaf
    with pytest.raises(UserError, match="model: Own cannot be copied: "):
        quantized(model, images())


def test_a_function_that_was_changed_from_outside_is_said_so():
    model = random(Own)
    for name in ("classify", "layers.0.attn", "layers.0.norm1"):
        hook = model.get_submodule(name).register_forward_hook(lambda module, inputs, output: output * 5)
        with pytest.warns(UserWarning, match=f"^model: {name} has forward hooks"):
            quantized(model, images())
        hook.remove()
    hook = model.layers[0].register_forward_hook(lambda module, inputs, output: output * 5)
    changed = quantized(model, images())  # a block stays what it is
    hook.remove()
    assert not torch.equal(changed(images()), quantized(model, images())(images()))
    model.classify.forward = lambda x: x
    with pytest.raises(UserError, match="^model: classify has a forward pass of its own"):
        quantized(model, images())
    with pytest.raises(UserError, match="^model: OptimizedModule .*hand over .*model._orig_mod"):
        quantized(torch.compile(random(Own)), images())
