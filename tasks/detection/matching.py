"""Detections as outcomes: which of them match an object, as COCO's own evaluation decides it image by image.

T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", https://arxiv.org/abs/1405.0312; code:
https://github.com/cocodataset/cocoapi. pycocotools does the matching, `aiqvit.tasks.detection.precision` goes on.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS = {"box": "bbox", "mask": "segm"}  # what is matched, as pycocotools calls it
MOST = 100  # detections of a category in an image


def matched(index: Any, predictions: Sequence[dict[str, Any]], identities: Sequence[int], categories: Sequence[int],
            masks: bool) -> dict[str, np.ndarray]:
    """What detectors said of N images: D detections with their matches, and the objects there are.

    `index` is a COCO object of the annotations, `predictions` are DetDataSamples as dictionaries, of the images with
    these ids, `categories` the ids of the detector's labels. Of each image its `id` (N,), `count` (N,) detections and
    `objects` (N, 4, categories) by size (all, small, medium, large); of each detection `box` (D, 4) in pixels, x1 y1 x2
    y2, `score` (D,), `category` (D,), and for `box` and `mask`, which takes `masks`, (D, 4) uint16 by size with a bit
    for each IoU threshold: `*_hit`, it matches an object, `*_skip`, it does not count.
    """
    found = [prediction["pred_instances"] for prediction in predictions]
    count = [len(instances["scores"]) for instances in found]
    arrays = {"id": np.array(identities, np.int64), "count": np.array(count, np.int32), **_said(found)}
    for kind, name in KINDS.items():
        if kind == "box" or masks:
            arrays |= _matched(index, _results(found, identities, categories, name), identities, categories, name, kind)
    return arrays


def _said(found: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    boxes, scores, labels = ([np.asarray(part[name].cpu()) for part in found]
                             for name in ("bboxes", "scores", "labels"))
    return {"box": np.concatenate(boxes).reshape(-1, 4).astype(np.float32),
            "score": np.concatenate(scores).astype(np.float32), "category": np.concatenate(labels).astype(np.int32)}


def _results(found: Sequence[dict[str, Any]], identities: Sequence[int], categories: Sequence[int],
             name: str) -> list[dict[str, Any]]:
    """Detections in pycocotools' form: boxes as x y width height, or run-length encoded masks, whose area counts."""
    results = []
    for identity, instances in zip(identities, found, strict=True):
        rows = zip(instances["bboxes"].tolist(), instances["scores"].tolist(), instances["labels"].tolist(),
                   instances["masks"], strict=True)
        for (x1, y1, x2, y2), score, label, mask in rows:
            what = {"bbox": [x1, y1, x2 - x1, y2 - y1]} if name == "bbox" else {"segmentation": mask}
            results.append({"image_id": identity, "category_id": categories[label], "score": score, **what})
    return results


def _matched(index: Any, results: list[dict[str, Any]], identities: Sequence[int], categories: Sequence[int],
             name: str, kind: str) -> dict[str, np.ndarray]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(index, index.loadRes(results) if results else COCO(), name)
        judge.params.imgIds, judge.params.catIds = list(identities), list(categories)
        judge.params.maxDets = [MOST]
        judge.evaluate()
    images, sizes = len(identities), len(judge.params.areaRng)
    order = sorted(set(identities))  # pycocotools sorts
    rows = {identity: row for row, identity in enumerate(identities)}
    hit, skip = np.zeros((2, len(results), sizes), np.uint16)
    skip[:] = 2**16 - 1  # those beyond the first `MOST`, which are in no entry
    objects = np.zeros((images, sizes, len(categories)), np.uint16)
    bits = 1 << np.arange(len(judge.params.iouThrs), dtype=np.uint16)[:, None]  # (10, 1)
    columns = {category: column for column, category in enumerate(categories)}
    for at, entry in enumerate(judge.evalImgs):
        if entry is None:
            continue
        size = at // len(order) % sizes
        objects[rows[entry["image_id"]], size, columns[entry["category_id"]]] = (entry["gtIgnore"] == 0).sum()
        ids = np.array(entry["dtIds"], int) - 1
        hit[ids, size] = ((entry["dtMatches"] != 0) * bits).sum(0)
        skip[ids, size] = (entry["dtIgnore"] * bits).sum(0)
    return {f"{kind}_hit": hit, f"{kind}_skip": skip} | ({"objects": objects} if kind == "box" else {})
