"""The state of a quantized model or unit: its state_dict, which loads into a freshly quantized skeleton bit for bit."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from aiqvit.interfaces import UserError
from aiqvit.quant import quantizers
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers.base import STATE
from aiqvit.quant.site import QuantSpec, Scheme, Site


def saved_state(model: nn.Module) -> dict[str, Any]:
    """A copy of the state_dict: tensors, and plain values about each quantizer.

    Raises `UserError` for a layer whose compensation (low-rank terms, rounding) is not merged into its weight.
    """
    for name, module in model.named_modules():
        if isinstance(module, QuantLayer) and module.compensation is not None:
            raise UserError(f"{name or 'the layer'}: its compensation is still being trained: merge it before saving")
    return copy.deepcopy(model.state_dict())


def scheme_of(state: dict[str, Any]) -> Scheme:
    """The scheme by which a saved model was quantized, site by site: with it, a model becomes a skeleton for `state`.

    Calling it raises `UserError` for a site that the state does not have and for a format that is not one of ours.
    """

    def scheme(site: Site) -> QuantSpec:
        kept = state.get(f"{site.name}.{STATE}")
        if kept is None:
            raise UserError(f"the state is of another scheme: the site {site.name} is not in the state")
        if kept["format"] not in quantizers.__all__:
            raise UserError(f"{site.name} has the format {kept['format']!r}: expected one of "
                            f"{', '.join(quantizers.__all__)}")
        return QuantSpec(getattr(quantizers, kept["format"]), kept["bits"], options=kept["options"])

    return scheme


def load_state(model: nn.Module, state: dict[str, Any]) -> None:
    """Bring a skeleton, quantized by the same scheme, into a saved state; nothing is changed when that fails.

    Raises `UserError` that names the first site or tensor which differs.
    """
    own = model.state_dict()
    here, there = ({key for key in keys if key.endswith(STATE)} for keys in (own, state))
    for found, what in ((there - here, "is not in this model"), (here - there, "is not in the state")):
        differing = sorted(found)
        if differing:
            site = differing[0].removesuffix(STATE).rstrip(".")
            raise UserError(f"the state is of another scheme: the site {site} {what}")
    try:
        copy.deepcopy(model).load_state_dict(state)  # a trial: the model itself stays whole where it fails
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise UserError(f"the state does not fit this model: {' '.join(lines[1:3])}") from error
    model.load_state_dict(state)
