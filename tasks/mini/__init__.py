"""Embedded mini data sets and small trained models: everything a task needs to run without a download."""

from aiqvit.interfaces import UserError


def check_home(model: str, theirs: bool, ours: bool) -> None:
    """Raise `UserError` for a model of the embedded data on real data, or the other way round."""
    if theirs and not ours:
        raise UserError(f"{model} is a model of the embedded data: give --data mini")
    if ours and not theirs:
        raise UserError(f"{model} is no model of the embedded data: give --data DIR")
