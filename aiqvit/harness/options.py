"""`aiqvit.harness.launch.options` by its former name, for scripts."""

from aiqvit.harness.launch.options import choose_methods

__all__ = ["choose_methods"]
