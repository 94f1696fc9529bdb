"""Records of runs that never took place, written by the real `Store`."""

import json
from dataclasses import asdict

from aiqvit.harness.identity.spec import RunSpec, run_id
from aiqvit.harness.store.records import Store, plain, sealed

CARD = {"role": "post_softmax", "kind": "activation", "quantizer": "uniform", "bits": 4, "granularity": "tensor",
        "note": "", "sites": 12}


def record(method, model, metrics, bits="4/4", seed=0, task="imagenet", variant="", preset="paper", limit=None,
           status="done", val=50000, version="method 1", started="2026-01-01T00:00:00+00:00", log=(),
           quantizer="uniform", minutes=2.0, calibration=32, data="d", source=None, coverage=None, **settings):
    """One record as the runner makes it; `metrics` without the number of images, `variant` like `rank=20,dfq=off`."""
    reference = method == "fp32"
    defaults = {} if reference else {"images": calibration, "protocol": "unified"}
    changed = {part.partition("=")[0]: part.partition("=")[2] for part in variant.split(",") if part}
    settings = {**defaults, **settings, **changed}
    defaults |= {k: v for k, v in settings.items() if ":" not in k} | dict.fromkeys(changed, "its own")
    spec = RunSpec(task, model, "w", data, "t", f"draw {seed}", method, settings, version, "" if reference else preset,
                   "32/32" if reference else bits, seed, limit, "cpu", 1)
    made = {
        "id": spec.id, "status": status, "defaults": defaults, "spec": asdict(spec),
        "metrics": {**metrics, "images": limit or val} if status == "done" else {}, "fp32": None,
        "calibration_images": 0 if reference else calibration,
        "times": {"quantize": 60 * minutes, "evaluate": 1.0}, "log": list(log),
        "scheme": [] if reference else [{**CARD, "bits": int(bits.split("/")[1]), "quantizer": quantizer}],
        "manifest": {"started": started, "python": "3.11", "packages": {"torch": "2.14"}, "device": "cpu",
                     "git": {"commit": "abcdef0123456789", "dirty": True}, "source": source},
        "data": {"val": val, "train": 100, "skipped": [], "checksum": data}, "peak_mib": {"rss": 100.0},
    }
    if coverage:
        made["coverage"] = coverage
    if status == "failed":
        made["error"] = {"type": "Diverged", "message": "blocks.3: the loss is <nan>", "traceback": "Traceback <...>"}
    return made


def of_before(made, label):
    """The record as versions before `defaults` wrote it: with a label and a spec that has the source in it."""
    spec = {k: v for k, v in made["spec"].items() if k not in ("version", "train", "calibration")} | {"code": "c0de"}
    old = {k: v for k, v in made.items() if k != "defaults"} | {"label": label, "spec": spec}
    return old | {"id": run_id(plain(spec))}


def write(folder, *records):
    """Write the records to a results folder and return it; those of before as they were, without a checksum."""
    for one in records:
        if "code" in one["spec"]:
            path = Store(folder).path(one["id"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(plain(one)), encoding="utf-8")
        else:
            Store(folder).write(sealed(one))
    return folder
