"""Detectors through MMDetection: the only package that imports mmdet, mmcv and mmengine."""
