"""Runs, tables and reports of `training/reproduce.py`."""
