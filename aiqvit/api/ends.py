"""The ends of a network that no family knows: the layer that gets the input, and the one that gives the output."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from aiqvit.families.family import find
from aiqvit.families.opening import open_model
from aiqvit.quant.anatomy import layer_roles


@torch.no_grad()
def ends(net: nn.Module, sample: Tensor) -> dict[str, str]:
    """Layer -> role: `patch_embed` of a Linear or Conv2d that is called with the input itself, `head` of one whose
    output, logits (B, classes), is the network's; empty for a network that a family knows.

    Methods treat these two differently from the layers between them, the image above all.
    """
    if find(type(net), "describer") is not None:
        return {}
    known, calls = layer_roles(open_model(copy.deepcopy(net))), []
    hooks = [module.register_forward_hook(lambda _, args, output, name=name: calls.append((name, args, output)))
             for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d) and name not in known]
    try:
        result = net(sample)
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: "patch_embed" for name, args, _ in calls if args and args[0] is sample}
    logits = isinstance(result, Tensor) and result.dim() == 2
    return found | {name: "head" for name, _, output in calls if logits and output is result and name not in found}
