"""Measurements of `training/benchmark.py`."""
