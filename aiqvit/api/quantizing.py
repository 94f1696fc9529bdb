"""Quantizing any network whose attention a family knows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import float32, nn

from aiqvit.api.data import Data, batches, check_input
from aiqvit.api.devices import device_of, place
from aiqvit.deploy.apart import apart
from aiqvit.deploy.info import ATTRIBUTE, Info, attach
from aiqvit.deploy.rebuild import recipe_of
from aiqvit.families.family import find
from aiqvit.families.opening import check, open_model
from aiqvit.harness.identity.labels import BITS, label
from aiqvit.harness.identity.manifest import versions
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.launch.options import PRESETS, MethodSpec, choose_methods
from aiqvit.harness.run.memory import keep_freed_memory
from aiqvit.harness.run.progress import progress as bar
from aiqvit.interfaces import Bits, Job, Method, UserError, samples_in
from aiqvit.quant.anatomy import Anatomy
from aiqvit.quant.coverage import coverage
from aiqvit.quant.site import FULL
from aiqvit.quant.surgery import model_sites
from aiqvit.registry import unknown
from aiqvit.settings import kinds
from aiqvit.tasks.weights import checksum


def quantize(model: nn.Module, data: Data, method: str = "aiqvit", bits: str = "4/4", preset: str | None = None,
             seed: int = 0, device: str = "auto", progress: bool = True, *, keep: Sequence[str] = (),
             partial: bool = False, **settings: Any) -> nn.Module:
    """A quantized copy of a trained network, in evaluation mode; the network itself stays as it is.

    >>> import timm, torch
    >>> model = timm.create_model("test_vit", num_classes=10)
    >>> q = quantize(model, torch.randn(8, 3, 160, 160), method="repqvit", bits="4/8", progress=False)
    >>> q(torch.randn(1, 3, 160, 160)).shape
    torch.Size([1, 10])

    Every Linear, Conv2d and attention product is quantized, also around a vision transformer that is part of a larger
    network. `data` is what to calibrate on: a tensor (B, ...), a list of batches or a DataLoader, whose labels are
    ignored; as many samples are taken as the method wants. `bits` are those of weights and activations, `preset` is
    smoke, quick or paper (by default paper on a GPU, otherwise quick), `settings` are hyper-parameters of the method
    (`steps=200`) and bits of single layers (`**{"bits:head": 8}`). `keep` are globs of names of modules that stay in
    full precision. Modules that cannot be quantized are refused by name, unless `partial`.

    Raises `UserError` for what cannot be done and `Diverged` where a loss is not finite.
    """
    choice, where = _choice(method, settings), place(device)
    preset = _preset(preset, where)
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}: expected a torch.nn.Module")
    if hasattr(model, ATTRIBUTE):
        raise UserError("the model is quantized already: start from the network of full precision")
    built, widths = choice.build(preset), Bits.parse(str(bits))
    given = batches(data, built.images)
    recipe, home = recipe_of(model), device_of(model)
    net = _copied(model).to(where)
    given = [batch.to(where) for batch in given]
    check_input(net, given[0])
    rules = choice.bit_rules | keeping(net, keep)
    check(net, lambda copied: copied(given[0][:1]), type(model).__name__, partial)
    keep_freed_memory()
    source, size = checksum(net), sum(t.numel() * t.element_size() for t in net.state_dict().values())
    job = Job(net, None, given, widths, seed, rules, progress=bar if progress else Job.progress)
    quantized = built.quantize(job)
    found = coverage(quantized, lambda done: done(given[0][:1]))
    info = Info(method=choice.name, title=label(built.title, choice.changed, {}), note=built.note, bits=str(widths),
                preset=preset, seed=seed, settings=_settings(built, rules), samples=sum(map(samples_in, given)),
                shape=tuple(given[0].shape[1:]), model=type(model).__name__, recipe=recipe, weights=source,
                size=size, coverage=asdict(found), versions=versions())
    return attach(quantized.to(home), info)


def _copied(model: nn.Module) -> nn.Module:
    """The network to quantize: float32, evaluation mode, nothing trained, each module and parameter at one place.

    Buffers that were rounded to another type are no longer those that a fresh network has: the file has to have them.
    """
    rounded = any(t.is_floating_point() and t.dtype != float32 for t in (*model.parameters(), *model.buffers()))
    try:
        net = apart(copy.deepcopy(model))
    except Exception as error:  # whatever modules of the user's raise
        reason = str(error).partition("\n")[0]
        raise UserError(f"model: a {type(model).__name__} cannot be copied: {reason}") from error
    for module in net.modules() if rounded else ():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_floating_point():
                module.register_buffer(name, buffer)
    return net.float().eval().requires_grad_(False)


def keeping(net: nn.Module, keep: Sequence[str]) -> dict[str, str]:
    """Bits of the layers and products that the globs of `keep` name, 32 each; names what they mean for coverage.

    Raises `UserError` for a glob that names no module.
    """
    if isinstance(keep, str):
        raise UserError(f"keep is a text: expected a list of globs, [{keep!r}]")
    names = [name for name, _ in net.named_modules() if name]
    kept: list[str] = []
    for glob in keep:
        if not (found := [name for name in names if fnmatchcase(name, glob)]):
            near = get_close_matches(glob, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"its parts are {', '.join(dict(net.named_children()))}"
            raise UserError(f"keep={glob!r} names no module of {type(net).__name__}: {hint}")
        kept += found
    for name in kept:
        module = net.get_submodule(name)
        if find(type(module), "describer") is None:  # the others are said anew when the network is opened
            module.anatomy = Anatomy(full_precision={"": "kept by the user"})
    sites = model_sites(open_model(copy.deepcopy(net))) if kept else {}
    inside = [name for name in sites if any(name == part or name.startswith(f"{part}.") for part in kept)]
    return {_exactly(name): str(FULL) for name in inside}


def _exactly(name: str) -> str:
    """A glob that stands for this name and never for a role that is called the same, such as `head`."""
    return f"[{name[0]}]{name[1:]}"


def _choice(method: str, settings: Mapping[str, Any]) -> MethodSpec:
    choices = choose_methods(method)
    if len(choices) != 1 or choices[0].name == REFERENCE:
        raise UserError(f"method {method!r}: expected one method that quantizes")
    choice = choices[0]
    for key, value in settings.items():
        if key not in kinds(choice.method) and not key.startswith(BITS):
            raise unknown(f"setting of {choice.method.title}", key, kinds(choice.method))
        value = str(value) if key.startswith(BITS) else value
        choice.changed[key] = tuple(value) if isinstance(value, list) else value
    return choice


def _preset(preset: str | None, device: str) -> str:
    if preset not in (None, *PRESETS):
        raise UserError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    return preset or ("quick" if device == "cpu" else "paper")


def _settings(built: Method, rules: Mapping[str, str]) -> dict[str, Any]:
    values = {f.name: getattr(built, f.name) for f in fields(built)}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return values | {BITS + pattern: text for pattern, text in rules.items()}
