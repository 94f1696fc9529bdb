"""Average precision of stored matches, against pycocotools on the detections themselves, and on repeated images."""

import contextlib
import io
import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("pycocotools")

from aiqvit.tasks.detection.matching import matched  # noqa: E402
from aiqvit.tasks.detection.precision import average_precision  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402
from pycocotools.mask import encode  # noqa: E402

from aiqvit.interfaces import Outcomes  # noqa: E402

CATEGORIES = (3, 1, 8)  # ids, in the order of the detector's labels; the last one has no object
STATS = ("", "_50", "_75", "_s", "_m", "_l")  # of pycocotools' first six


def rle(box, side=140):
    x, y, w, h = map(round, box)
    mask = np.zeros((side, side), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return {**(code := encode(mask)), "counts": code["counts"].decode()}


def scene(images=12, seed=0, levels=8):
    """Annotations and detections near them, with crowds, ties of scores, empty images, and all sizes of objects."""
    rng, ids = np.random.default_rng(seed), itertools.count(1)
    annotations, predictions = [], []
    for image in range(1, images + 1):
        boxes, labels = [], []
        for _ in range(rng.integers(0, 5) if image % 4 else 0):
            w, h = rng.integers(*((8, 32), (33, 95), (100, 130))[rng.integers(0, 3)], 2)
            box = [int(rng.integers(0, 140 - w + 1)), int(rng.integers(0, 140 - h + 1)), int(w), int(h)]
            label = int(rng.integers(0, 2))
            annotations.append({"id": next(ids), "image_id": image, "category_id": CATEGORIES[label], "bbox": box,
                                "area": int(w * h), "iscrowd": int(rng.random() < 0.15), "segmentation": rle(box)})
            for _ in range(rng.integers(0, 3)):
                near = np.clip(np.array(box) + rng.integers(-4, 5, 4), [0, 0, 4, 4], [136, 136, 140, 140])
                boxes.append(near.tolist())
                labels.append(label if rng.random() < 0.9 else 1 - label)
        if image % 3 == 0:
            boxes.append([5, 5, 20, 20])
            labels.append(int(rng.integers(0, 3)))
        predictions.append({"bboxes": torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes]).reshape(-1, 4),
                            "scores": torch.tensor((rng.integers(1, levels, len(boxes)) / levels).astype(np.float32)),
                            "labels": torch.tensor(labels, dtype=torch.long), "masks": list(map(rle, boxes))})
    return annotations, [{"pred_instances": p} for p in predictions]


def index(annotations, images):
    coco = COCO()
    coco.dataset = {"images": [{"id": i, "width": 140, "height": 140} for i in images],
                    "annotations": [dict(a) for a in annotations], "categories": [{"id": i} for i in CATEGORIES]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def theirs(annotations, predictions, images, kind):
    """pycocotools' own numbers, percent, NaN in place of its -1."""
    results = []
    for image, prediction in zip(images, predictions, strict=True):
        found = prediction["pred_instances"]
        for box, score, label, mask in zip(found["bboxes"].tolist(), found["scores"].tolist(),
                                           found["labels"].tolist(), found["masks"], strict=True):
            what = ({"bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]} if kind == "bbox"
                    else {"segmentation": mask})
            results.append({"image_id": image, "category_id": CATEGORIES[label], "score": score, **what})
    coco = index(annotations, images)
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(coco, coco.loadRes(results), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(STATS, np.where(judge.stats[:6] < 0, np.nan, 100 * judge.stats[:6]), strict=True))


def ours(annotations, predictions, images, weights=None):
    arrays = matched(index(annotations, images), predictions, images, CATEGORIES, True)
    found = Outcomes(tuple(map(str, images)), arrays)
    return average_precision(found, found.once() if weights is None else weights)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_pycocotools_says(seed):
    annotations, predictions = scene(seed=seed)
    images = list(range(1, 13))
    scores = ours(annotations, predictions, images)
    for kind, name in (("bbox", "box_ap"), ("segm", "mask_ap")):
        for end, value in theirs(annotations, predictions, images, kind).items():
            assert scores[name + end].item() == pytest.approx(value, abs=1e-9, nan_ok=True), name + end
    assert 10 < scores["box_ap"].item() < 90


def test_an_image_of_weight_two_is_one_that_is_there_twice():
    annotations, predictions = scene(levels=2**20)  # without ties, whose order would depend on the copies
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), 4)
    scores = ours(annotations, predictions, list(range(1, 13)), weights)
    assert "box_ap" in scores and "box_ap_s" not in scores  # sizes are left to one weighting at a time
    one = [ours(annotations, predictions, list(range(1, 13)), row[None]) for row in weights]
    for row, count in enumerate(weights):
        drawn = np.repeat(np.arange(12), count)
        images, numbers = list(range(1, len(drawn) + 1)), itertools.count(1)
        repeated = [{**a, "id": next(numbers), "image_id": image} for image, at in zip(images, drawn, strict=True)
                    for a in annotations if a["image_id"] == at + 1]
        for kind, name in (("bbox", "box_ap"), ("segm", "mask_ap")):
            expected = theirs(repeated, [predictions[at] for at in drawn], images, kind)
            for end, value in expected.items():
                assert one[row][name + end].item() == pytest.approx(value, abs=1e-9, nan_ok=True), name + end
                if name + end in scores:
                    assert scores[name + end][row] == pytest.approx(value, abs=1e-9, nan_ok=True)


def test_batches_give_what_all_at_once_give():
    annotations, predictions = scene()
    whole = matched(index(annotations, range(1, 13)), predictions, list(range(1, 13)), CATEGORIES, True)
    parts = [matched(index(annotations, range(1, 13)), predictions[at : at + 5], list(range(1, 13))[at : at + 5],
                     CATEGORIES, True) for at in (0, 5, 10)]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array, strict=True)


def test_images_in_any_order_score_the_same():
    annotations, predictions = scene()
    order = [7, 2, 11, 0, 5, 9, 1, 8, 4, 10, 3, 6]
    one, other = ours(annotations, predictions, list(range(1, 13))), ours(
        annotations, [predictions[at] for at in order], [at + 1 for at in order])
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])
