"""Records of runs that never took place, written by the real `Store`."""

from dataclasses import asdict

from aiqvit.harness.spec import RunSpec
from aiqvit.harness.store import Store

CARD = {"role": "post_softmax", "kind": "activation", "quantizer": "uniform", "bits": 4, "granularity": "tensor",
        "note": "", "sites": 12}
TITLES = {"fp32": "Full precision", "aiqvit": "AIQViT", "repqvit": "RepQ-ViT", "minmax": "MinMax"}


def record(method, model, metrics, bits="4/4", seed=0, task="imagenet", variant="", preset="paper", limit=None,
           status="done", val=50000, code="c", started="2026-01-01T00:00:00+00:00", log=(), quantizer="uniform",
           minutes=2.0, calibration=32, data="d", **settings):
    """One record as the runner makes it; `metrics` without the number of images."""
    reference = method == "fp32"
    settings = {} if reference else {"images": calibration, "protocol": "unified", **settings}
    spec = RunSpec(task, model, "w", data, method, settings, code, "" if reference else preset,
                   "32/32" if reference else bits, seed, limit, "cpu", 1)
    label = TITLES.get(method, method)
    made = {
        "id": spec.id, "status": status, "label": f"{label} [{variant}]" if variant else label, "spec": asdict(spec),
        "metrics": {**metrics, "images": limit or val} if status == "done" else {}, "fp32": None,
        "calibration_images": 0 if reference else calibration,
        "times": {"quantize": 60 * minutes, "evaluate": 1.0}, "log": list(log),
        "scheme": [] if reference else [{**CARD, "bits": int(bits.split("/")[1]), "quantizer": quantizer}],
        "manifest": {"started": started, "python": "3.11", "packages": {"torch": "2.14"}, "device": "cpu",
                     "git": {"commit": "abcdef0123456789", "dirty": True}},
        "data": {"val": val, "train": 100, "skipped": [], "checksum": data}, "peak_mib": {"rss": 100.0},
    }
    if status == "failed":
        made["error"] = {"type": "Diverged", "message": "blocks.3: the loss is <nan>", "traceback": "Traceback <...>"}
    return made


def write(folder, *records):
    """Write the records to a results folder and return it."""
    for one in records:
        Store(folder).write(one)
    return folder
