"""What flows through the layers of a unit in full precision: inputs, and gradients of a loss at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from aiqvit.interfaces import Diverged
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.capture import first


@dataclass
class Trace:
    """Calls of one module over the calibration set: its tensor arguments and dL/d(output), samples along dim 0."""

    inputs: tuple[Tensor, ...]
    gradient: Tensor  # the shape of the output


def tensors_of(output: Any) -> list[Tensor]:
    """All floating-point tensors in nested tuples, lists and dictionaries."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


Probe = Literal["sampled", "pseudo_label", "perturbed"]


def probe_loss(output: Any, generator: torch.Generator, probe: Probe = "sampled") -> Tensor:
    """A loss at the model's own output whose gradient is not zero, summed over samples.

    PTQ4ViT's loss compares the model with itself, so its true gradient is 0. For logits (B, classes) "sampled" draws
    labels from the model's own softmax, so that the expected square of the gradient is the Fisher information;
    "pseudo_label" takes the most likely class; "perturbed" compares with the softmax of logits plus unit-variance
    noise, in the spirit of APHQ-ViT. Other outputs, (B, N, classes) and (B, 1) too, are multiplied by unit-variance
    noise. Raises `Diverged` where an output is not finite.
    """
    loss = 0.0
    for tensor in tensors_of(output):
        if not tensor.isfinite().all():
            raise Diverged("the model's own output is not finite")
        if tensor.dim() != 2 or tensor.shape[1] == 1:
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            loss = loss + (tensor * noise).sum()
            continue
        logits = tensor.detach().cpu()
        if probe == "perturbed":
            labels = (logits + torch.randn(logits.shape, generator=generator).to(logits)).softmax(-1)
        elif probe == "pseudo_label":
            labels = logits.argmax(-1)
        else:
            labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).flatten()
        loss = loss + cross_entropy(tensor, labels.to(tensor.device), reduction="sum")
    return loss


@torch.enable_grad()
def traces(model: nn.Module, unit: str, wanted: Iterable[nn.Module], batches: Iterable, forward: Callable,
           loss: Callable[[Any], Tensor]) -> dict[nn.Module, Trace]:
    """Run the model and the backward pass of `loss(output)` down to `unit`; return the trace of every wanted module.

    Modules that are called several times a pass keep the first call (of an RPN, the finest map); one that the loss does
    not depend on has a zero gradient. Everything is kept on the CPU.
    """
    seen: dict[nn.Module, list[tuple[tuple[Tensor, ...], Tensor]]] = {module: [] for module in wanted}
    now: dict[nn.Module, tuple[tuple[Tensor, ...], Tensor]] = {}

    def start(_: nn.Module, args: tuple) -> tuple:
        return tuple(a.detach().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
                     for a in args)

    def keep(module: nn.Module, args: tuple, output: Any) -> Any:
        if module in now:
            return output
        tensor = first(output)
        if not tensor.requires_grad:  # nothing tracked comes in, for example where a batch is no tensor
            tensor = tensor.detach().requires_grad_()
        tensor.retain_grad()
        now[module] = (tuple(a.detach().cpu() for a in args if isinstance(a, Tensor)), tensor)
        passed = tensor.clone()  # what follows may work in place
        return passed if isinstance(output, Tensor) else (passed, *output[1:])

    hooks = [model.get_submodule(unit).register_forward_pre_hook(start)]
    hooks += [module.register_forward_hook(keep) for module in seen]
    try:
        for batch in batches:
            now.clear()
            loss(forward(model, batch)).backward()
            for module, (inputs, output) in now.items():
                gradient = torch.zeros_like(output) if output.grad is None else output.grad
                seen[module].append((inputs, gradient.detach().cpu()))
    finally:
        for hook in hooks:
            hook.remove()
    return {module: Trace(tuple(map(torch.cat, zip(*(inputs for inputs, _ in calls), strict=True))),
                          torch.cat([gradient for _, gradient in calls]))
            for module, calls in seen.items() if calls}


def distance(output: Any, reference: Any, temperature: float = 1.0) -> Tensor:
    """How far a model's output is from a reference: the sum of `distances` over all tensors and rows."""
    pairs = zip(tensors_of(output), tensors_of(reference), strict=True)
    return sum(distances(tensor, wanted, temperature).sum() for tensor, wanted in pairs)


def distances(output: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
    """Of each row of a tensor (n, ...), (n,).

    KL divergence of logits (n, classes), both divided by `temperature`; half the squared error of other tensors, and of
    single logits, which have no softmax.
    """
    if output.dim() == 2 and output.shape[1] > 1:
        logs = ((logits / temperature).log_softmax(-1) for logits in (output, reference))
        return kl_div(*logs, log_target=True, reduction="none").sum(1)
    return 0.5 * (output - reference).square().flatten(1).sum(1)


def output_importance(model: nn.Module, unit: str, batches: Sequence, forward: Callable, references: Sequence[Any],
                      damping: float) -> Activations:
    """|dL/dz| + damping at the output z of a unit, a sample, L the distance of the model from the references.

    The model is as far quantized as it is now. BRECQ squares it: its Fisher weighting of the error.
    """
    waiting, module = iter(references), model.get_submodule(unit)
    samples = Activations(ActivationStore(2**32))
    for batch in batches:
        found = traces(model, unit, [module], [batch], forward, lambda output: distance(output, next(waiting)))
        samples.append((found[module].gradient.abs() + damping,))
    return samples
