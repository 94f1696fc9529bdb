"""Doing one run: seed, calibrate, quantize, evaluate, record."""
