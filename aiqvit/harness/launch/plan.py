"""A grid of runs: what a request means on one task."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from aiqvit.families.opening import check, check_policies
from aiqvit.harness.identity.labels import BITS, INPUTS
from aiqvit.harness.identity.sources import code_hash
from aiqvit.harness.identity.spec import REFERENCE, Run, RunSpec, version_text
from aiqvit.harness.launch.options import MethodSpec
from aiqvit.harness.launch.request import Request
from aiqvit.interfaces import DataIdentity, Method, NotHere, Subject, Task, UserError
from aiqvit.quant.policy import BitPolicy
from aiqvit.registry import METHODS
from aiqvit.settings import values


@dataclass(frozen=True)
class Plan:
    """All runs of one task, model by model, the full-precision run of each model first."""

    task: Task
    runs: tuple[Run, ...]
    preset: str
    device: str
    notes: tuple[str, ...] = ()  # what was done to make weights fit, the model's name in front
    absent: tuple[str, ...] = ()  # models whose weights a run would fetch first: none of `runs` is theirs
    each: int = 0  # runs of a model


def plan(request: Request, name: str) -> Plan:
    """The grid that a request means on the task `name`. Writes nothing; raises `UserError` for what cannot be done."""
    choices, device = request.choices(), request.place()
    task = request.open_task(name)
    if request.calib is not None and 0 < task.train_images < request.calib:  # for none the task has a word
        raise UserError(f"--calib {request.calib}: there are only {task.train_images} images to calibrate on")
    preset = request.preset_for(task, device)
    models = request.models(task)
    limits = task.limits(preset)
    built = [(choice, choice.build(preset, limits)) for choice in choices if choice.name != REFERENCE]
    reference = next((c for c in choices if c.name == REFERENCE), MethodSpec(REFERENCE, METHODS.get(REFERENCE), {}))
    make = _Maker(request, task, device, preset)
    runs, notes, absent = [], [], []
    for model in models:
        try:
            subject = task.load(model, request.weights)
        except NotHere:
            absent.append(model)
            continue
        notes += [f"{model}: {note}" for note in subject.notes]
        _check(task, subject, request, [choice for choice, _ in built])
        runs.append(make(subject, reference, reference.build(""), "32/32", 0))
        for bits in request.bit_widths(task):
            for choice, method in built:
                runs += [make(subject, choice, method, str(bits), seed) for seed in request.seed_list()]
    each = 1 + len(request.bit_widths(task)) * len(built) * len(request.seed_list())
    return Plan(task, tuple(runs), preset, device, tuple(notes), tuple(absent), each)


def _check(task: Task, subject: Subject, request: Request, choices: list[MethodSpec]) -> None:
    """Raise `UserError` for a model that cannot be quantized as asked, where that can be told without data."""
    rules = [{**subject.bit_rules, **choice.bit_rules} for choice in choices]
    policies = [BitPolicy(bits, rule) for bits in request.bit_widths(task) for rule in rules if rule]
    if choices and (example := task.example(subject)) is not None:
        check(subject.model, lambda model: task.forward(model, example), f"model {subject.name!r}", request.partial)
    if policies:
        check_policies(subject.model, policies)


class _Maker:
    """Makes runs of one plan; asks the task once for what each draw of samples holds."""

    def __init__(self, request: Request, task: Task, device: str, preset: str) -> None:
        self.request, self.task, self.device, self.preset = request, task, device, preset
        self.explicit = request.calib is not None
        self.limit = request.limit if request.limit is not None and request.limit < task.val_images else None
        self._identities: dict[tuple[int, int], DataIdentity] = {}
        self._sources: dict[str, str] = {}

    def __call__(self, subject: Subject, choice: MethodSpec, method: Method, bits: str, seed: int) -> Run:
        reference = choice.name == REFERENCE
        preset = "" if reference else self.preset
        spec = RunSpec(
            task=self.task.label,
            model=subject.name,
            weights=subject.checksum,
            **asdict(self._identity(method.images, seed)),
            method=choice.name,
            settings=values(method) | {k: v for k, v in choice.changed.items() if k.startswith(BITS)}
            | {INPUTS + key: value for key, value in subject.inputs.items()},
            version=version_text(choice.method, type(self.task), reference),
            preset=preset,
            bits=bits,
            seed=seed,
            limit=self.limit,
            device=self.device.partition(":")[0],
            threads=self.request.threads_on(self.device),
        )
        defaults = choice.defaults(preset, None if reference else self.task.limits(preset))
        return Run(spec, method, defaults, self.explicit and not reference, self._source(choice), self.task.metrics,
                   self.request.partial, self.request.keep_models and not reference)

    def _identity(self, images: int, seed: int) -> DataIdentity:
        key = images, seed if images else 0
        if key not in self._identities:
            self._identities[key] = self.task.identity(images, seed, self.limit, self.explicit and images > 0)
        return self._identities[key]

    def _source(self, choice: MethodSpec) -> str:
        if choice.name not in self._sources:
            self._sources[choice.name] = code_hash(choice.method, type(self.task))
        return self._sources[choice.name]
