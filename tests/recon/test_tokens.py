"""Scales a token: shapes at each site, the same values at first, a state that loads."""

import copy

import torch

from aiqvit.families.opening import quantize_model
from aiqvit.quant.card import sites
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import spec
from aiqvit.quant.state import load_state, saved_state, scheme_of
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.tokens import scales_by_token
from aiqvit.recon.walk import walk
from tests.models import images, tiny, uniform, units

N, H, D = 17, 3, 8  # tokens, heads, channels of a head
SHAPES = {"post_layernorm": (N, 1), "proj_in": (N, 1), "post_gelu": (N, 1), "query": (1, H, N, 1),
          "key": (1, H, N, 1), "post_softmax": (1, H, N, 1), "value": (1, H, 1, D), "image": (1,), "head": (1,)}


def test_every_site_gets_the_scales_that_it_has_tokens_for_and_gives_the_same_at_first():
    teacher, batches = tiny("vit"), [images(8)]
    student = quantize_model(copy.deepcopy(teacher), uniform(4, 4, query=spec(Uniform, 4, 1)))
    calibrate(student, lambda model: model(batches[0]))
    with torch.no_grad():
        expected = student(batches[0])
        for data in walk(student, teacher, units("vit"), batches, lambda model, x: model(x), ActivationStore(2**30)):
            scales_by_token(data)
        assert torch.equal(student(batches[0]), expected)
        for _, q in sites(student):
            if q.site.operand == "activation":
                assert q.scale.shape == SHAPES[q.role], q.role
                assert q.granularity == ("token" if len(SHAPES[q.role]) > 1 else "tensor")
        state = saved_state(student)
        skeleton = quantize_model(copy.deepcopy(teacher), scheme_of(state))
        load_state(skeleton, state)
        assert torch.equal(skeleton(batches[0]), expected)
