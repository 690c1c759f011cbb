"""Training: a model and a data set -> the folder of a run."""

import importlib

# Loaded when first used: training needs TensorFlow, which settings do not.
_LAZY = {"Config": "config", "PRESETS": "presets", "MODELS": "presets", "fit": "run"}

__all__ = list(_LAZY)


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_LAZY]
