"""The paper's Tables 1 to 6 as layouts: which rows, which columns, in which order and groups; no numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

FULL = {"imagenet": 50000, "coco": 5000, "modelnet40": 2468, "shapenetpart": 2874}  # samples of the whole test set
NAMES = {"fp32": "Full-Precision", "minmax": "Min-Max", "brecq": "BRECQ", "qdrop": "QDrop", "ptq4vit": "PTQ4ViT",
         "apqvit": "APQ-ViT", "repqvit": "RepQ-ViT", "aiqvit": "AIQViT (ours)"}
RECONSTRUCTS = {"fp32": "-", "minmax": "×", "repqvit": "×", **dict.fromkeys((
    "brecq", "qdrop", "ptq4vit", "apqvit", "isvit", "aiqvit"), "✓")}  # whether a method needs reconstruction
IMAGENET = {"deit_tiny": "DeiT-T", "deit_small": "DeiT-S", "deit_base": "DeiT-B", "vit_small": "ViT-S",
            "vit_base": "ViT-B", "swin_small": "Swin-S", "swin_base": "Swin-B"}
COCO = {"mask_rcnn_swin_t": ("Mask R-CNN", "w. Swin-T"), "mask_rcnn_swin_s": ("Mask R-CNN", "w. Swin-S"),
        "cascade_mask_rcnn_swin_t": ("Cascade Mask R-CNN", "w. Swin-T"),
        "cascade_mask_rcnn_swin_s": ("Cascade Mask R-CNN", "w. Swin-S")}
POINTS = {"point_transformer": ()}
SIX = ("ptq4vit", "repqvit", "apqvit", "qdrop", "brecq", "aiqvit")
DETECTION = ("ptq4vit", "apqvit", "repqvit", "brecq", "aiqvit")
CLOUDS = ("minmax", "repqvit", "brecq", "aiqvit")
BITS = ("3/3", "4/4", "6/6")
PARTS = ("lowrank", "dfq", "curriculum")
MARKS = ("REC: needs reconstruction; the paper's marks are lost in the text that we have and were filled in from "
         "RepQ-ViT's table and the methods' papers",)


@dataclass(frozen=True)
class Line:
    """A row or a column: its headings, and what it says about its cells (model, method, variant, bits, metric)."""

    heads: tuple[str, ...]
    key: Mapping[str, str]
    group: str = ""  # of a row: a rule between groups; the best of a group is bold


@dataclass(frozen=True)
class Layout:
    """One of the paper's tables without its numbers."""

    number: int
    task: str
    caption: str
    stub: tuple[str, ...]  # headings of the leading columns
    rows: tuple[Line, ...]
    columns: tuple[Line, ...]
    decimals: int = 2
    remarks: tuple[str, ...] = ()

    @property
    def compares(self) -> bool:
        """Whether rows are methods, to which more can be added; otherwise an ablation of AIQViT."""
        return "Bits (W/A)" in self.stub


def layout(number: int, models: Sequence[str] | None = None) -> Layout:
    """The paper's table `number`, 1 to 6; `models` stand in for the paper's, on embedded data for example."""
    heads = {model: (model,) for model in models} if models else None
    return (_classification, _detection, _modelnet, _shapenet, _parts, _ranks)[number - 1](heads)


def with_rows(table: Layout, extra: Sequence[tuple[str, str, str]]) -> Layout:
    """The layout with rows for (method, title, bits) that the paper does not have; AIQViT stays last in its group."""
    more = [_method(method, bits, title) for method, title, bits in extra]

    def order(line: Line) -> tuple:
        bits = line.key["bits"]
        return bits != "32/32", *map(int, bits.split("/")), line.key["method"] == "aiqvit"

    return replace(table, rows=tuple(sorted([*table.rows, *more], key=order)))


def _method(method: str, bits: str, title: str = "") -> Line:
    heads = (title or NAMES[method], RECONSTRUCTS.get(method, "—"), bits)
    return Line(heads, {"method": method, "variant": "", "bits": bits}, bits)


def _comparison(number: int, task: str, caption: str, order: Mapping[str, Sequence[str]],
                models: Mapping[str, tuple[str, ...]], metrics: Mapping[str, str], decimals: int = 2) -> Layout:
    rows = (_method("fp32", "32/32"), *(_method(m, bits) for bits, methods in order.items() for m in methods))
    columns = tuple(Line((*heads, *([label] if label else [])), {"model": model, "metric": metric})
                    for model, heads in models.items() for metric, label in metrics.items())
    return Layout(number, task, caption, ("Method", "REC", "Bits (W/A)"), rows, columns, decimals, MARKS)


def _classification(models: Mapping[str, tuple[str, ...]] | None) -> Layout:
    return _comparison(1, "imagenet", "Top-1 accuracy (%) of image classification on ImageNet",
                       {"3/3": ("repqvit", "qdrop", "brecq", "aiqvit"), "4/4": SIX, "6/6": SIX},
                       models or {model: (name,) for model, name in IMAGENET.items()}, {"top1": ""})


def _detection(models: Mapping[str, tuple[str, ...]] | None) -> Layout:
    return _comparison(2, "coco", "Object detection (box AP, %) and instance segmentation (mask AP, %) on COCO",
                       {"4/4": DETECTION, "6/6": DETECTION}, models or COCO,
                       {"box_ap": "AP^box", "mask_ap": "AP^mask"}, decimals=1)


def _modelnet(models: Mapping[str, tuple[str, ...]] | None) -> Layout:
    return _comparison(3, "modelnet40", "Point cloud classification on ModelNet40 (%), Point Transformer",
                       {"4/4": CLOUDS, "6/6": CLOUDS}, models or POINTS, {"macc": "mAcc", "oa": "OA"})


def _shapenet(models: Mapping[str, tuple[str, ...]] | None) -> Layout:
    return _comparison(4, "shapenetpart", "Point cloud part segmentation on ShapeNetPart (mIoU by class and by "
                       "instance, %), Point Transformer", {"4/4": CLOUDS, "6/6": CLOUDS}, models or POINTS,
                       {"class_miou": "c.mIoU", "instance_miou": "i.mIoU"})


def _parts(models: Mapping[str, tuple[str, ...]] | None) -> Layout:
    rows = []
    for code in ("000", "100", "010", "001", "110", "101", "011", "111"):
        off = ",".join(f"{part}=off" for part, on in zip(PARTS, code, strict=True) if on == "0")
        heads = tuple("✓" if on == "1" else "" for on in code)
        rows.append(Line(heads, {"method": "aiqvit", "variant": off}))
    above = {model: (model, "Bits (W/A)") for model in models} if models else {"deit_tiny": ("Bits (W/A)",)}
    columns = tuple(Line((*heads, bits), {"model": model, "bits": bits, "metric": "top1"})
                    for model, heads in above.items() for bits in BITS)
    return Layout(5, "imagenet", "Ablation of AIQViT's parts: top-1 accuracy (%) of DeiT-T on ImageNet" if not models
                  else "Ablation of AIQViT's parts: top-1 accuracy (%)", ("AILoC", "DFQ", "CL"), tuple(rows), columns,
                  remarks=("AILoC: low-rank compensation, DFQ: dynamic focusing quantizer, CL: curriculum learning",))


def _ranks(models: Mapping[str, tuple[str, ...]] | None) -> Layout:
    names = {model: model for model in models} if models else {m: IMAGENET[m] for m in ("deit_tiny", "deit_small")}
    rows = tuple(Line((name, head), {"model": model, "method": "aiqvit", "variant": variant}, model)
                 for model, name in names.items()
                 for head, variant in (("r = 20", "rank=20"), ("r = 100", "rank=100"), ("Auto", "")))
    columns = tuple(Line(("Bits (W/A)", bits), {"bits": bits, "metric": "top1"}) for bits in BITS)
    return Layout(6, "imagenet", "Fixed rank against searched rank: top-1 accuracy (%) of AIQViT on ImageNet",
                  ("Model", "Method"), rows, columns)
