"""Losses through the rest of a detector: features of regions, tails, every objective, and what is rewritten."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch

pytest.importorskip("mmdet")

from aiqvit.baselines.blockwise import Blockwise, Loss  # noqa: E402
from aiqvit.tasks.coco import Coco  # noqa: E402
from aiqvit.tasks.detection import models  # noqa: E402
from aiqvit.tasks.detection.forward import of_one_size, raw_outputs, roi_features  # noqa: E402
from aiqvit.tasks.mini import coco as mini  # noqa: E402
from torch.nn.functional import relu  # noqa: E402

from aiqvit.families.opening import open_model, quantize_model  # noqa: E402
from aiqvit.interfaces import Bits, Job  # noqa: E402
from aiqvit.quant.anatomy import units_of  # noqa: E402
from aiqvit.recon.activations import Activations, ActivationStore  # noqa: E402
from aiqvit.recon.objectives.tail_aware import Features, Logits  # noqa: E402
from aiqvit.recon.rewriting import quantized  # noqa: E402
from aiqvit.recon.tail import Tail  # noqa: E402
from aiqvit.recon.walk import UnitData  # noqa: E402
from aiqvit.transforms.relu import gelus, left_alone, replace_gelu  # noqa: E402
from aiqvit.transforms.rotate import rotate_heads  # noqa: E402
from tests.models import uniform  # noqa: E402
from tests.tasks.test_coco_methods import detector, samples  # noqa: E402, F401 (a fixture)

REGIONS = 6
FPN = "neck.fpn_convs.0"


def features(model, batch):
    return roi_features(model, batch, REGIONS)


def by_hand(net, sample):
    """Features of one image, from the layers of Mask R-CNN's heads."""
    data = net.data_preprocessor({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}, False)
    maps, head = net.extract_feat(data["inputs"]), net.roi_head
    boxes = sample["regions"][0]
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)[:REGIONS]
    x = head.bbox_roi_extractor(maps[:3], rois).flatten(1)
    for layer in head.bbox_head.shared_fcs:
        x = relu(layer(x))
    y = head.mask_roi_extractor(maps[:3], rois[:1])  # .128 of six, rounded up
    for conv in head.mask_head.convs:
        y = relu(conv.conv(y))
    return x, relu(head.mask_head.upsample(y))


@torch.no_grad()
def test_features_of_regions_are_what_the_predictors_get(detector):  # noqa: F811
    batch = samples(2, 32, 64, 1)
    boxes, masks = features(detector, batch)
    assert boxes.shape == (2 * REGIONS, 1, 48) and masks.shape[:3] == (2, 1, mini.WIDTH)
    for i, sample in enumerate(batch):
        assert len(sample["regions"][0]) == 10  # all that the RPN gives
        x, y = by_hand(detector, sample)
        torch.testing.assert_close(boxes[REGIONS * i : REGIONS * (i + 1), 0], x)
        torch.testing.assert_close(masks[i : i + 1, 0], y)


@torch.no_grad()
def test_regions_stay_with_their_image_whatever_the_batch_and_the_model(detector):  # noqa: F811
    batch = samples(3, 32, 32, 4)
    first = features(detector, batch)
    found = [sample["regions"][0] for sample in batch]
    assert not torch.equal(found[0], found[1])
    swapped = features(detector, batch[::-1])
    for a, b, rows in zip(first, swapped, (REGIONS, 1), strict=True):
        torch.testing.assert_close(torch.cat(a.split(rows)[::-1]), b)
    other = copy.deepcopy(detector)
    other.backbone.patch_embed.projection.weight.mul_(2)
    changed = features(other, batch)
    assert [a.shape for a in changed] == [a.shape for a in first] and not torch.allclose(changed[0], first[0])
    assert all(sample["regions"][0] is boxes for sample, boxes in zip(batch, found, strict=True))


@torch.no_grad()
def test_a_cascade_has_the_features_of_all_its_stages():
    net = models.prepare(mini.detector("mini_cascade_mask_rcnn_swin"))
    batch = samples(2, 32, 32, 4)
    boxes, masks = features(net, batch)
    assert boxes.shape[:2] == (2 * REGIONS, 3) and masks.shape[:2] == (2, 3)
    assert [len(sample["regions"]) for sample in batch] == [4, 4]  # each stage has moved those of the stage before


@pytest.mark.parametrize("unit", ["backbone.patch_embed", "backbone.stages.0.blocks.1", "backbone.stages.1.downsample"])
def test_gradients_of_features_reach_a_unit_behind_which_the_tail_is_the_network(unit, detector):  # noqa: F811
    batches, seen = [samples(2, 32, 32, 0), samples(1, 32, 64, 1)], []
    tail = Tail(detector, units_of(open_model(copy.deepcopy(detector))), unit, batches, raw_outputs)
    hook = detector.get_submodule(unit).register_forward_hook(
        lambda _, __, y: seen.append(y[0] if isinstance(y, tuple) else y))
    wanted = [tail.reference([1], features), tail.reference([1])]
    hook.remove()
    output = seen[-1].clone().requires_grad_()
    for end, expected in zip((features, ""), wanted, strict=True):
        for a, b in zip(tail(output, [1], end), expected, strict=True):
            torch.testing.assert_close(a, b)
    moved = tail(output + noise(output), [1], features)
    error = sum((a - b).square().mean() for a, b in zip(moved, wanted[0], strict=True))
    (gradient,) = torch.autograd.grad(error, output)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def noise(like):
    """No constant: LayerNorms take that away."""
    return 0.1 * torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


def unit_data(net, unit, batches):
    """The unit's outputs as targets."""
    targets = Activations(ActivationStore(2**30))
    hook = net.get_submodule(unit).register_forward_hook(lambda _, __, y: targets.append((y,)))
    with torch.no_grad():
        for batch in batches:
            raw_outputs(net, batch)
    hook.remove()
    student = quantize_model(copy.deepcopy(net), uniform())
    tail = Tail(net, units_of(student), unit, batches, raw_outputs)
    return UnitData(unit, student.get_submodule(unit), targets, targets, targets, tail)


def test_the_loss_of_a_block_has_half_of_each_feature_and_that_of_the_fpn_none(detector):  # noqa: F811
    batches = [samples(2, 32, 32, 0)]
    data = unit_data(detector, "backbone.stages.0.blocks.1", batches)
    (target,), _ = data.targets.gather([0, 1])
    output, objective = target + noise(target), Features(features)
    objective.start(data)
    local = (output - target).square().flatten(1).mean(1)
    expected = 2 * local / local.mean()
    for given, wanted in zip(data.tail(output, [0, 1], features), data.tail(target, [0, 1], features), strict=True):
        term = (given - wanted).square().unflatten(0, (2, -1)).flatten(1).mean(1)
        expected = expected + 0.5 * term / term.mean()
    torch.testing.assert_close(objective.errors(output, target, [0, 1]), expected, rtol=1e-4, atol=1e-5)
    data = unit_data(detector, FPN, batches)
    (target,), _ = data.targets.gather([0, 1])
    output = target + torch.tensor([0.1, 0.2])[:, None, None, None]
    objective.start(data)
    torch.testing.assert_close(objective.errors(output, target, [0, 1]), torch.tensor([0.8, 3.2]))


def test_all_outputs_of_a_detector_are_compared_image_by_image(detector):  # noqa: F811
    data = unit_data(detector, "backbone.stages.0.blocks.1", [samples(2, 32, 32, 0)])
    (target,), _ = data.targets.gather([0, 1])
    output = target + torch.tensor([1.0, 2.0])[:, None, None] * noise(target)
    both, alone = Logits(weight=0.0), Logits(weight=0.0)
    both.start(data)
    errors = both.errors(output, target, [0, 1])
    alone.start(data)
    alone.first = both.first
    for i in (0, 1):
        torch.testing.assert_close(alone.errors(output[i : i + 1], target[i : i + 1], [i])[0], errors[i], rtol=1e-3,
                                   atol=1e-4)
    assert (errors[1] - errors[0]).abs() > 0.05


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_objective_trains_on_images_of_two_sizes(loss, detector):  # noqa: F811
    units = ("backbone.stages.0.blocks.1", FPN)
    batches = [samples(2, 32, 32, 0), samples(1, 32, 64, 1)]
    job = Job(copy.deepcopy(detector), units, batches, Bits(4, 4), forward=raw_outputs, features=roi_features,
              join=of_one_size)
    method = Blockwise(**{**Blockwise.presets["smoke"], "images": 3}, objective=loss, regions=REGIONS, bf16=True,
                       tail_half=True)
    with torch.no_grad():
        outputs = raw_outputs(quantized(method, job), samples(1, 32, 64, 3))
    assert all(tensor.isfinite().all() for tensor in outputs)
    assert [entry["unit"] for entry in job.log] == list(units)
    assert all(entry["loss_before"] > 0 and entry["kept"] == (entry["loss_after"] <= entry["loss_before"])
               for entry in job.log)


def test_a_detector_takes_bfloat16_to_its_regions_and_no_further(detector):  # noqa: F811
    batch, unit = samples(2, 32, 64, 1), "backbone.stages.1.blocks.1"
    tail = Tail(detector, units_of(open_model(copy.deepcopy(detector))), unit, [batch], lambda m, b: raw_outputs(m, b))
    assert tail.takes_bfloat16() and tail.takes_bfloat16(features)
    with torch.no_grad():
        exact = features(detector, batch)
        with torch.autocast("cpu", torch.bfloat16):
            half = features(detector, batch)
    for a, b in zip(exact, half, strict=True):
        assert not torch.equal(a, b.float()) and (a - b.float()).norm() < 0.05 * a.norm()


@torch.no_grad()
def test_heads_of_a_detector_are_rotated_and_its_gelus_replaced(detector):  # noqa: F811
    net = open_model(copy.deepcopy(detector)).double()
    x = torch.randn(1, 3, 40, 72, dtype=torch.float64)  # windows are padded
    before, bias = net.backbone(x), net.backbone.stages[0].blocks[0].attn.padding.clone()
    assert len(rotate_heads(net, torch.Generator().manual_seed(1))) == 6
    for given, expected in zip(net.backbone(x), before, strict=True):
        assert torch.allclose(given, expected, rtol=0, atol=1e-10 * expected.abs().max().item())
    assert not torch.allclose(net.backbone.stages[0].blocks[0].attn.padding, bias)
    assert len(list(gelus(net))) == 6 and left_alone(net) == ""
    assert len(replace_gelu(net)) == 6 and not torch.allclose(net.backbone(x)[-1], before[-1])


def test_the_task_gives_the_features_of_at_most_so_many_regions(detector):  # noqa: F811
    with torch.no_grad():
        boxes, masks = Coco.features(None, detector, samples(1, 32, 32, 0), 3)
    assert len(boxes) == 3 and len(masks) == 1
