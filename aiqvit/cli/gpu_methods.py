"""Every method on the embedded data on a device, beside the same run on the CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy

from aiqvit.families.opening import unit_names
from aiqvit.harness.launch.options import MethodSpec, choose_methods
from aiqvit.harness.run.runner import to_device
from aiqvit.interfaces import Bits, Diverged, Job, Outcomes, Subject, Task, UserError
from aiqvit.recon.rewriting import quantized
from aiqvit.registry import TASKS
from aiqvit.stats.intervals import distinguishable, of_difference
from aiqvit.stats.measured import Measured, measured
from aiqvit.stats.resamples import scores

MODELS = (("imagenet", "mini_vit"), ("imagenet", "mini_swin"), ("modelnet40", "mini_point_transformer"),
          ("coco", "mini_mask_rcnn_swin"))
HEAD = "| model | method | metric | CPU | device | difference, 95 % interval | within noise | seconds |\n|" + "---|" * 8
DRAWS = 200  # of the bootstrap


def rows(device: str, methods: str, images: int, bits: Bits) -> Iterator[str]:
    """Table rows under `HEAD`, as they come: each method at preset smoke on each mini model, `images` evaluated.

    Within noise: the 95 % interval of the difference, paired over the samples evaluated, holds 0. A detector without
    its extra is a row that says so.
    """
    for name, model in MODELS:
        try:
            task = TASKS.get(name)("mini")
        except UserError as error:
            yield f"| {model} | left out: {error} |" + " |" * 6
            continue
        subject = task.load(model)
        for choice in choose_methods(methods):
            yield _row(task, subject, choice, device, images, bits)


def _row(task: Task, subject: Subject, choice: MethodSpec, device: str, images: int, bits: Bits) -> str:
    began = time.perf_counter()
    metric = task.metrics[0]
    start = f"| {subject.name} | {choice.method.title} | {metric} |"
    try:
        found = _measured(task, _outcomes(task, subject, choice, device, images, bits))[metric]
        seconds = time.perf_counter() - began
        plain = _measured(task, _outcomes(task, subject, choice, "cpu", images, bits))[metric]
    except (Diverged, UserError, RuntimeError) as error:
        return f"{start} failed: {str(error).splitlines()[0][:100]} |" + " |" * 4
    noise = of_difference([found], [plain])
    within = "no" if distinguishable(noise) else "yes"
    difference = f"{noise.value:+.2f} ({noise.low:+.2f} to {noise.high:+.2f})"
    return f"{start} {plain.value:.2f} | {found.value:.2f} | {difference} | {within} | {seconds:.1f} |"


def _outcomes(task: Task, subject: Subject, choice: MethodSpec, device: str, images: int, bits: Bits) -> Outcomes:
    """Quantize and evaluate, seed 0."""
    method = choice.build("smoke", task.limits("smoke"))
    drawn = task.calibration(subject, method.images, 0)
    units = unit_names(subject.model) if subject.units is None else subject.units
    job = Job(deepcopy(subject.model).to(device), units, [to_device(batch, device) for batch in drawn], bits,
              bit_rules={**subject.bit_rules, **choice.bit_rules}, forward=task.forward, features=task.features,
              join=task.join)
    model = quantized(method, job)
    return task.outcomes(model, subject, limit=images, batch_size=64, device=device,
                         progress=lambda items, *_, **__: items)


def _measured(task: Task, said: Outcomes) -> dict[str, Measured]:
    values = {name: float(value[0]) for name, value in task.score(said, said.once()).items()}
    drawn = scores(lambda weights: task.score(said, weights), len(said.samples), DRAWS)
    return measured(0, values, task.counted, len(said.samples), drawn, DRAWS)
