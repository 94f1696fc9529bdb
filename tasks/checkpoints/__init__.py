"""Checkpoints as people have them: told by content, read without running anything in them, and made to fit a model."""
