"""NMS and RoIAlign through torchvision, behind MMCV's own functions, against explicit loops."""

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from aiqvit.tasks.detection import ops  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def installed():
    ops.install()


def iou(a, b, offset):
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset for i in (0, 1))
    inner = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    return inner / (sum(areas) - inner)


@pytest.mark.parametrize("offset", (0, 1))
def test_nms_keeps_what_an_explicit_loop_keeps(offset):
    from mmcv.ops import nms

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, 15, (60, 2))], 1).astype(np.float32)
    scores = rng.permutation(60).astype(np.float32)
    kept = []
    for i in np.argsort(-scores):
        if all(iou(boxes[i], boxes[j], offset) <= 0.4 for j in kept):
            kept.append(i)
    dets, found = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4, offset=offset)
    assert 5 < len(kept) < 55 and found.tolist() == kept
    assert torch.equal(dets[:, 4], torch.from_numpy(scores)[found])


def sampled(image, y, x):
    """Bilinear value of an image (H, W); 0 more than a pixel outside."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = max(y, 0), max(x, 0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    if top == height - 1:
        y = top
    if left == width - 1:
        x = left
    below, right, v, u = min(top + 1, height - 1), min(left + 1, width - 1), y - top, x - left
    return ((1 - v) * ((1 - u) * image[top, left] + u * image[top, right])
            + v * ((1 - u) * image[below, left] + u * image[below, right]))


def pooled(features, roi, size, scale, samples):
    """Mean of samples x samples values of each of size x size bins, with the half-pixel shift of `aligned`."""
    x1, y1, x2, y2 = (value * scale - 0.5 for value in roi[1:])
    tall, wide = (y2 - y1) / size, (x2 - x1) / size
    out = np.zeros((len(features[0]), size, size))
    for c, i, j in np.ndindex(out.shape):
        values = [sampled(features[int(roi[0]), c], y1 + tall * (i + (a + 0.5) / samples),
                          x1 + wide * (j + (b + 0.5) / samples)) for a in range(samples) for b in range(samples)]
        out[c, i, j] = np.mean(values)
    return out


ROIS = torch.tensor([[0, 1.0, 2.0, 25.0, 29.0], [1, -4.0, 5.0, 14.0, 40.0], [1, 10.0, 10.0, 10.5, 11.0]])


def test_roi_align_is_the_mean_of_bilinear_samples():
    from mmcv.ops import roi_align

    features = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    found = roi_align(features, ROIS, (3, 3), 0.25, 2, "avg", True)
    for roi, values in zip(ROIS.tolist(), found, strict=True):
        np.testing.assert_allclose(values, pooled(features.numpy(), roi, 3, 0.25, 2), atol=1e-5)


def test_roi_align_gradient_is_that_of_finite_differences():
    from mmcv.ops import roi_align

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 2, 2, 2, generator=generator, dtype=torch.float64)

    def loss(values):
        return (roi_align(values, ROIS.double(), (2, 2), 0.2, 2, "avg", True) * weights).sum()

    leaf = features.clone().requires_grad_()
    loss(leaf).backward()
    for place in ((0, 0, 1, 1), (1, 1, 3, 2), (1, 0, 0, 0)):
        step = torch.zeros_like(features)
        step[place] = 1e-4
        slope = (loss(features + step) - loss(features - step)) / 2e-4
        assert leaf.grad[place].item() == pytest.approx(slope.item(), abs=1e-6)


def test_other_ops_say_what_they_need():
    if sys.modules["mmcv._ext"] is not ops:
        pytest.skip("compiled ops are installed, and preferred")
    with pytest.raises(NotImplementedError, match="soft_margin.*compiled ops"):
        ops.soft_margin(1)
    with pytest.raises(NotImplementedError, match="average pooling"):
        ops._only_average(0)
