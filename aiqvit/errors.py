"""What can go wrong, as exceptions: the user's mistakes, weights that are not here, a method that diverges."""

from __future__ import annotations


class UserError(ValueError):
    """The user asked for something that cannot be done: one clear sentence, exit code 2."""


class NotHere(UserError):
    """Weights that would have to be fetched, asked for from a task that is `offline`."""


class Diverged(RuntimeError):
    """A loss or an output became NaN or infinite; the message names the unit where it happened."""
