"""The paper's Tables 1 to 6 as layouts: headings of rows and columns, which stand in `published.csv` in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiqvit.report.published import rows

FULL = {"imagenet": 50000, "coco": 5000, "modelnet40": 2468, "shapenetpart": 2874}  # samples of the whole test set
NAMES = {"fp32": "Full-Precision", "minmax": "Min-Max", "brecq": "BRECQ", "qdrop": "QDrop", "ptq4vit": "PTQ4ViT",
         "apqvit": "APQ-ViT", "repqvit": "RepQ-ViT", "aiqvit": "AIQViT (ours)"}
RECONSTRUCTS = {"fp32": "-", "minmax": "×", "repqvit": "×", **dict.fromkeys((
    "brecq", "qdrop", "ptq4vit", "apqvit", "isvit", "aiqvit"), "✓")}  # whether a method needs reconstruction
MODELS = {"deit_tiny": ("DeiT-T",), "deit_small": ("DeiT-S",), "deit_base": ("DeiT-B",), "vit_small": ("ViT-S",),
          "vit_base": ("ViT-B",), "swin_small": ("Swin-S",), "swin_base": ("Swin-B",), "point_transformer": (),
          "mask_rcnn_swin_t": ("Mask R-CNN", "w. Swin-T"), "mask_rcnn_swin_s": ("Mask R-CNN", "w. Swin-S"),
          "cascade_mask_rcnn_swin_t": ("Cascade Mask R-CNN", "w. Swin-T"),
          "cascade_mask_rcnn_swin_s": ("Cascade Mask R-CNN", "w. Swin-S")}
METRICS = {"top1": (), "box_ap": ("AP^box",), "mask_ap": ("AP^mask",), "macc": ("mAcc",), "oa": ("OA",),
           "class_miou": ("c.mIoU",), "instance_miou": ("i.mIoU",)}
PARTS = {"lowrank": "AILoC", "dfq": "DFQ", "curriculum": "CL"}
RANKS = {"rank=20": "r = 20", "rank=100": "r = 100", "": "Auto"}
BITS = "Bits (W/A)"
REC = ("REC: needs reconstruction; the paper's marks are lost in the text that we have and were filled in from "
       "RepQ-ViT's table and the methods' papers")
CAPTIONS = (
    "Top-1 accuracy (%) of image classification on ImageNet",
    "Object detection (box AP, %) and instance segmentation (mask AP, %) on COCO",
    "Point cloud classification on ModelNet40 (%), Point Transformer",
    "Point cloud part segmentation on ShapeNetPart (mIoU by class and by instance, %), Point Transformer",
    "Ablation of AIQViT's parts: top-1 accuracy (%)",
    "Fixed rank against searched rank: top-1 accuracy (%) of AIQViT on ImageNet")
Key = Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """A row or a column: its headings, and what it says about its cells (model, method, variant, bits, metric)."""

    heads: tuple[str, ...]
    key: Key
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
        return BITS in self.stub


def layout(number: int, models: Sequence[str] | None = None) -> Layout:
    """The paper's table `number`, 1 to 6; `models` stand in for the paper's, on embedded data for example."""
    cells = [row for row in rows() if row["table"] == str(number)]
    task, caption, names = cells[0]["task"], CAPTIONS[number - 1], MODELS
    if models:
        names = {model: (model,) for model in models}
        cells = [{**row, "model": model} for model in models for row in cells if row["model"] == cells[0]["model"]]

    def lines(fields: Iterable[str], made: Callable[[Key], Line]) -> tuple[Line, ...]:
        return tuple(map(made, map(dict, dict.fromkeys(tuple((f, row[f]) for f in fields) for row in cells))))

    if number == 5:
        names, where = (names, "") if models else ({"deit_tiny": ()}, " of DeiT-T on ImageNet")
        return Layout(5, task, caption + where, tuple(PARTS.values()), lines(("method", "variant"), _parts), lines(
            ("model", "bits", "metric"), lambda key: Line((*names[key["model"]], BITS, key["bits"]), key)),
            remarks=("AILoC: low-rank compensation, DFQ: dynamic focusing quantizer, CL: curriculum learning",))
    if number == 6:
        return Layout(6, task, caption, ("Model", "Method"), lines(("model", "method", "variant"), lambda key: Line(
            (*names[key["model"]], RANKS[key["variant"]]), key, key["model"])),
            lines(("bits", "metric"), lambda key: Line((BITS, key["bits"]), key)))
    return Layout(number, task, caption, ("Method", "REC", BITS), lines(("method", "variant", "bits"), _method), lines(
        ("model", "metric"), lambda key: Line((*names[key["model"]], *METRICS[key["metric"]]), key)),
        1 if task == "coco" else 2, (REC,))


def with_methods(table: Layout, more: Iterable[tuple[str, str]]) -> Layout:
    """The layout with rows for the (method, bits) that it lacks; AIQViT stays last in its group."""
    extra = (_method({"method": method, "variant": "", "bits": bits}) for method, bits in more)

    def order(line: Line) -> tuple:
        bits = line.key["bits"]
        return bits != "32/32", *map(int, bits.split("/")), line.key["method"] == "aiqvit"

    return replace(table, rows=tuple(sorted([*table.rows, *extra], key=order)))


def _method(key: Key) -> Line:
    name, bits = key["method"], key["bits"]
    return Line((NAMES.get(name, name), RECONSTRUCTS.get(name, "—"), bits), key, bits)


def _parts(key: Key) -> Line:
    return Line(tuple("" if f"{part}=off" in key["variant"].split(",") else "✓" for part in PARTS), key)
