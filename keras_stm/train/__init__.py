"""Training: trains a model on a data set and writes the folder of a run."""

import importlib

# Loaded on first use: training needs TensorFlow, but settings do not.
_LAZY = {"Config": "config", "PRESETS": "presets", "MODELS": "presets", "fit": "run", "push": "pushing"}

__all__ = list(_LAZY)


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_LAZY]
