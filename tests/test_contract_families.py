"""Every registered method on a network of every family: whole runs with preset smoke."""

from __future__ import annotations

import pytest
import torch

from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job
from aiqvit.quant.anatomy import norm_readers, units_of
from aiqvit.quant.card import sites
from aiqvit.quant.coverage import coverage
from aiqvit.recon.rewriting import quantized
from aiqvit.registry import METHODS
from aiqvit.settings import kinds
from tests.families import networks

METHOD_NAMES = [name for name in METHODS.names() if name != "fp32" and not METHODS.get(name).only_in_grids]
FAMILIES = ("vit_parallel_fused", "vit_things", "vit_post_norm", "vit_diff_parallel", "vit_rms", "siglip",
            "eva02_scaled", "rope_mixed", "dinov3", "beit_shared", "cait", "swin_padded", "swinv2", "tv_vit",
            "tv_swin", "tv_swinv2")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_whole_run_quantizes_all_of_the_network(method, family):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: more threads are slower
    try:
        (choice,) = choose_methods(method)
        x = networks.images(4)
        model = networks.build(family)
        expected = model(x).detach()
        quick = {"elements": 256, "widths": 4}
        choice.changed.update({key: value for key, value in quick.items() if key in kinds(choice.method)})
        job = Job(model, None, [x[:2], x[2:]], Bits(6, 8), log=[])
        with torch.no_grad():
            net = quantized(choice.build("smoke"), job)
            logits = net(x)
            found = coverage(net, lambda m: m(x[:1]))
    finally:
        torch.set_num_threads(threads)
    assert all(quantizer.mode == "on" for _, quantizer in sites(net))
    assert found.missed == 0 and found.quantized > 0.98
    assert logits.isfinite().all()
    assert job.teacher is not None or (logits - expected).norm() < 0.5 * expected.norm()  # else ReLU, next to untrained
    logged = [entry["unit"] for entry in job.log]
    reconstructed = [unit for unit in logged if unit != "other layers" and not unit.startswith("mlp:")]
    assert reconstructed == [unit for unit in units_of(net) if unit in reconstructed]
    left = {q.site.name for _, q in sites(net) if q.site.operand == "activation" and q.granularity == "channel"}
    assert not left, f"ranges a channel that no norm absorbs: {left}, norms: {dict(norm_readers(net))}"
