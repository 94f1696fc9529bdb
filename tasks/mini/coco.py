"""Mini COCO: procedural scenes in COCO's folder layout, and two small trained detectors with Swin."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from aiqvit.tasks.cache import folder_once
from aiqvit.tasks.detection.models import CASCADE, build, cascade_head, shipped
from aiqvit.tasks.mini.scenes import NAMES, SIDE, Scene, boxes, scene
from PIL import Image
from torch import nn
from tqdm import tqdm

VERSION = 1  # of the pictures: raise it whenever the pixels change
COUNTS = {"train": 200, "val": 100}
STREAMS = {"train": 0, "val": 1, "training pool": 2}  # independent random streams: no scene is in two of them
MODELS: tuple[str, ...] = ("mini_mask_rcnn_swin", "mini_cascade_mask_rcnn_swin")
BATCH = 8  # images at once: all have the same size
LIMITS = {"images": 64, "batch": 4, "init_images": 16}  # a scene has four times the tokens of a mini ImageNet picture
WIDTH = 48  # channels of the FPN and of the heads' convolutions


def generator(stream: str) -> np.random.Generator:
    """The seeded random source of one of ``STREAMS``."""
    return np.random.default_rng([VERSION, STREAMS[stream]])


def prepare() -> Path:
    """Write the scenes unless they are there, and return the folder with ``annotations``, ``train2017``, ``val2017``.

    They go to the cache, complete or not at all: see ``aiqvit.tasks.cache``.
    """
    return folder_once(f"mini-coco-v{VERSION}", _write_all)


def _write_all(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    for split, count in COUNTS.items():
        _write(root, split, count)


def _write(root: Path, split: str, count: int) -> None:
    """Draw the scenes of one split and write its pictures and its annotations file."""
    rng, folder = generator(split), root / f"{split}2017"
    folder.mkdir()
    images, annotations = [], []
    for number in tqdm(range(1, count + 1), desc=f"mini-coco {split}", unit="img", delay=1):
        drawn, name = scene(rng), f"{number:012d}.png"
        Image.fromarray(drawn.image).save(folder / name, compress_level=3)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        for entry in entries(drawn):
            annotations.append(entry | {"id": len(annotations) + 1, "image_id": number})
    categories = [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(NAMES)]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content), encoding="utf-8")


def entries(drawn: Scene) -> list[dict[str, Any]]:
    """COCO annotations of a scene's objects, masks run-length encoded."""
    from pycocotools.mask import encode

    found = []
    for label, mask, (left, top, right, bottom) in zip(drawn.labels, drawn.masks, boxes(drawn.masks), strict=True):
        code = encode(np.asfortranarray(mask.astype(np.uint8)))
        found.append({
            "category_id": int(label) + 1,
            "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
            "area": int(mask.sum()),
            "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
            "iscrowd": 0,
        })
    return found


def config(name: str) -> dict[str, Any]:
    """MMDetection's config of the same detector with a small Swin, few channels and few proposals."""
    cascade = name == "mini_cascade_mask_rcnn_swin"
    model = shipped(CASCADE if cascade else "_base_/models/mask-rcnn_r50_fpn.py").model
    model.backbone = dict(type="SwinTransformer", embed_dims=32, depths=(2, 2, 2), num_heads=(2, 4, 8), window_size=4,
                          out_indices=(0, 1, 2), drop_path_rate=0.0)
    model.neck.update(in_channels=[32, 64, 128], out_channels=WIDTH, num_outs=4)
    model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    model.rpn_head.anchor_generator.update(scales=[4], strides=[4, 8, 16, 32])
    roi = model.roi_head
    for extractor in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        extractor.update(out_channels=WIDTH, featmap_strides=[4, 8, 16], finest_scale=24)
        extractor.roi_layer.update(sampling_ratio=2)
    heads = roi.bbox_head if cascade else [roi.bbox_head]
    for head in heads:
        head.update(in_channels=WIDTH, fc_out_channels=48, num_classes=len(NAMES))
    if cascade:
        roi.bbox_head = [cascade_head(head) for head in heads]
    roi.mask_head.update(num_convs=2, in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=len(NAMES))
    train, test = model.train_cfg, model.test_cfg
    train.rpn.sampler.update(num=64)
    train.rpn_proposal.update(nms_pre=300, max_per_img=150)
    for stage in train.rcnn if cascade else [train.rcnn]:
        stage.sampler.update(num=32, pos_fraction=0.4)
    test.rpn.update(nms_pre=300, max_per_img=100)
    test.rcnn.update(max_per_img=30)
    return model


def detector(name: str) -> nn.Module:
    """One of ``MODELS`` with random weights, in evaluation mode."""
    if name not in MODELS:
        raise KeyError(f"unknown mini detector {name!r}; there are {', '.join(MODELS)}")
    return build(config(name))


def weights(name: str) -> Path:
    """Path of the trained weights of one of ``MODELS``: safetensors in float16."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"
