"""Every registered method on the mini Mask R-CNN, with images of two sizes: whole runs on a part of the units."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("mmdet")

from aiqvit.tasks.detection import models  # noqa: E402
from aiqvit.tasks.detection.forward import of_one_size, raw_outputs, roi_features  # noqa: E402
from aiqvit.tasks.mini import coco as mini  # noqa: E402
from aiqvit.tasks.weights import load_state, read_state  # noqa: E402

from aiqvit.families.opening import open_model, quantize_model  # noqa: E402
from aiqvit.interfaces import Bits, Job  # noqa: E402
from aiqvit.quant.anatomy import units_of  # noqa: E402
from aiqvit.quant.card import scheme_card, sites  # noqa: E402
from aiqvit.quant.surgery import calibrate  # noqa: E402
from aiqvit.recon import rewriting  # noqa: E402
from aiqvit.recon.activations import ActivationStore  # noqa: E402
from aiqvit.recon.capture import chained, unit_inputs  # noqa: E402
from aiqvit.recon.walk import walk  # noqa: E402
from aiqvit.registry import METHODS  # noqa: E402
from tests.models import uniform  # noqa: E402

METHOD_NAMES = [name for name in METHODS.names() if name != "fp32"]
UNITS = ("backbone.patch_embed", "backbone.stages.0.blocks.1", "backbone.stages.1.downsample", "neck.fpn_convs.0")


@pytest.fixture(scope="module")
def detector():
    model = mini.detector("mini_mask_rcnn_swin")
    path = str(mini.weights("mini_mask_rcnn_swin"))
    load_state(model, read_state(path), path)
    model.rpn_head.test_cfg.max_per_img = 10
    return models.prepare(model)


def samples(count, height, width, seed):
    from mmdet.structures import DetDataSample

    pixels = torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(seed))
    meta = {"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
    return [{"inputs": image.byte(), "data_samples": DetDataSample(metainfo=meta)} for image in pixels]


def quantized(method, detector, bits):
    torch.manual_seed(0)
    cls = METHODS.get(method)
    batches = [samples(2, 32, 32, 0), samples(1, 32, 64, 1), samples(1, 64, 32, 2)]
    job = Job(copy.deepcopy(detector), UNITS, batches, Bits.parse(bits), forward=raw_outputs, features=roi_features,
              join=of_one_size)
    return rewriting.quantized(cls(**cls.presets.get("smoke", {})), job)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_whole_run_quantizes_every_site_with_at_most_2b_codes(method, detector):
    net, wrong, seen = quantized(method, detector, "4/6"), [], set()

    def check(name):
        def hook(quantizer, args, output):
            codes = quantizer.encode(args[0])
            seen.add(name)
            fine = codes.min() >= 0 and codes.max() < 2**quantizer.bits
            if not (fine and torch.equal(quantizer.decode(codes), output)):
                wrong.append(name)
        return hook

    for name, quantizer in sites(net):
        assert quantizer.mode == "on"
        quantizer.register_forward_hook(check(name))
    with torch.no_grad():
        outputs = raw_outputs(net, samples(1, 32, 64, 3))
    assert all(torch.isfinite(tensor).all() for tensor in outputs)
    assert wrong == [] and seen == {name for name, _ in sites(net)}
    for row in scheme_card(net):
        expected = 4 if row["kind"] == "weight" else 8 if row["role"] == "image" else 6
        assert row["bits"] == expected or not row["sites"], row


def test_units_of_a_walk_get_what_full_forward_passes_bring(detector):
    scheme = uniform()
    batches = [samples(2, 32, 32, 0), samples(1, 32, 64, 1)]
    student, names = quantize_model(copy.deepcopy(detector), scheme), units_of(open_model(copy.deepcopy(detector)))
    calibrate(student, lambda m: raw_outputs(m, batches[0]))
    linked = chained(detector, names, batches[0], raw_outputs)
    assert [name for name in names if name not in linked] == [names[0], *names[-6:]]
    for data in walk(student, detector, names, batches, raw_outputs, ActivationStore(2**30)):
        for ours, model in ((data.inputs, student), (data.fp_inputs, detector)):
            direct = unit_inputs(model, data.name, batches, raw_outputs, ActivationStore(2**30))
            for (mine, _), (wanted, _) in zip(ours.calls(), direct.calls(), strict=True):
                torch.testing.assert_close(mine, wanted)
        for parameter in data.unit.parameters():  # what reconstruction changes reaches the next unit
            parameter.data.mul_(0.9)


@pytest.mark.parametrize("method", ("minmax", "ptq4vit", "repqvit", "aiqvit"))
def test_eight_bits_stay_close_to_full_precision(method, detector):
    batch = samples(1, 32, 64, 3)
    with torch.no_grad():
        expected = raw_outputs(detector, batch)
        given = raw_outputs(quantized(method, detector, "8/8"), batch)
    for a, b in zip(given, expected, strict=True):
        assert (a - b).norm() < 0.3 * b.norm()


@pytest.mark.parametrize("method", ("aiqvit", "ptq4vit"))
def test_same_seed_same_numbers_bit_for_bit(method, detector):
    with torch.no_grad():
        first, second = (raw_outputs(quantized(method, detector, "3/3"), samples(1, 32, 64, 3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_fisher_weights_of_every_image_are_kept_apart(detector):
    cls = METHODS.get("brecq")
    job = Job(copy.deepcopy(detector), UNITS[:2], [samples(1, 64, 64, 0), samples(1, 32, 64, 1)], Bits(4, 4),
              forward=raw_outputs, join=of_one_size)
    cls(**cls.presets["smoke"], loss="fisher").quantize(job)
    assert [entry["unit"] for entry in job.log] == list(UNITS[:2])
