"""aiqvit: post-training quantization of vision transformers, measured honestly."""

__version__ = "0.1.0"

# of all that methods share (quant, recon and what they import): raise it when the numbers of methods change. With
# `Method.version` and `Task.version` it is part of a run's identity; tests/reference.csv catches who forgets.
ENGINE_VERSION = 1
