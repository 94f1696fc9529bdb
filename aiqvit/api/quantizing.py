"""Quantizing any network whose attention a family knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from aiqvit.api.data import Data, batches, check_input, warn_of_range
from aiqvit.api.devices import device_of, place
from aiqvit.api.ends import ends
from aiqvit.api.network import check_network, copied, keeping
from aiqvit.bounds import Seed
from aiqvit.deploy.fit import describe, fingerprint
from aiqvit.deploy.info import Info, attach
from aiqvit.deploy.rebuild import recipe_of
from aiqvit.families.opening import check, reached_units
from aiqvit.harness.identity.labels import BITS, label
from aiqvit.harness.identity.manifest import versions
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.launch.options import PRESETS, MethodSpec, choose_methods
from aiqvit.harness.run.memory import keep_freed_memory
from aiqvit.harness.run.progress import progress as bar
from aiqvit.interfaces import Bits, Job, Method, UserError
from aiqvit.io.structure import checked
from aiqvit.quant.coverage import coverage
from aiqvit.recon.rewriting import quantized
from aiqvit.registry import unknown
from aiqvit.samples import samples_in
from aiqvit.settings import kinds, values
from aiqvit.tasks.weights import checksum


def quantize(model: nn.Module, data: Data, method: str = "aiqvit", bits: str = "4/4", preset: str | None = None,
             seed: int = 0, device: str = "auto", progress: bool = True, *, keep: Sequence[str] = (),
             partial: bool = False, **settings: Any) -> nn.Module:
    """A quantized copy of a trained network, in float32 and evaluation mode; the network itself stays as it is.

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
    full precision. A module or parameter at several places is quantized at each. Modules that cannot be quantized are
    refused by name, unless `partial`.

    Raises `UserError` for what cannot be done and `Diverged` where a loss is not finite.
    """
    choice, where = _choice(method, settings), place(device)
    preset = _preset(preset, where)
    check_network(model)
    built, widths, seed = choice.build(preset), Bits.parse(str(bits)), _seed(seed)
    given = [batch.detach().float() if batch.is_floating_point() else batch for batch in batches(data, built.images)]
    recipe, home = recipe_of(model), device_of(model)
    net = copied(model).to(where)
    given = [batch.to(where) for batch in given]
    for batch in {batch.shape[1:]: batch for batch in given}.values():
        check_input(net, batch)
    warn_of_range(given[0])
    describe(net, roles := ends(net, given[0][:1]))
    rules = choice.bit_rules | keeping(net, keep)
    check(net, lambda opened: opened(given[0][:1]), type(model).__name__, partial, not (partial or keep))
    keep_freed_memory()
    source, size = checksum(net), sum(t.numel() * t.element_size() for t in net.state_dict().values())
    units = reached_units(net, lambda opened: opened(given[0][:1]))
    job = Job(net, units, given, widths, seed, rules, progress=bar if progress else Job.progress)
    done = quantized(built, job)
    found = coverage(done, lambda net: net(given[0][:1]))
    title = label(built.title, choice.changed, choice.defaults(preset))
    info = Info(method=choice.name, title=title, note=built.note, bits=str(widths), preset=preset, seed=seed,
                settings=_settings(built, rules), rewritten=job.rewritten,
                samples=sum(map(samples_in, given)), shape=tuple(given[0].shape[1:]), model=type(model).__name__,
                recipe=recipe, roles=roles, network=fingerprint(model), weights=source, size=size,
                coverage=asdict(found), versions=versions())
    return attach(done.to(home), info)


def _choice(method: str, settings: Mapping[str, Any]) -> MethodSpec:
    choices = choose_methods(str(method))
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


def _seed(seed: int) -> int:
    try:
        return checked(seed, Seed)
    except ValueError as error:
        raise UserError(f"seed {seed!r}: {error}"[:200]) from error


def _settings(built: Method, rules: Mapping[str, str]) -> dict[str, Any]:
    found = {key: list(value) if isinstance(value, tuple) else value for key, value in values(built).items()}
    return found | {BITS + pattern: text for pattern, text in rules.items()}
