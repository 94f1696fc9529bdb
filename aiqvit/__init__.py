"""aiqvit: post-training quantization of vision transformers, measured honestly."""

__version__ = "0.1.0"
