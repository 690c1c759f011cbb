import importlib.util
import os

# PyTorch must be loaded before TensorFlow in a process that needs both.
if importlib.util.find_spec("torch"):
    import torch  # noqa: F401

import keras
import pytest

_ROOT = os.path.dirname(os.path.abspath(__file__))


def pytest_collection_modifyitems(items):
    """What reads data has nothing to do with the backend but for the pipeline: the rest runs once."""
    if keras.backend.backend() == "tensorflow":
        return
    skip = pytest.mark.skip(reason="data tests run once, under the tensorflow backend")
    for item in items:
        in_data = str(item.path).startswith(os.path.join(_ROOT, "data") + os.sep)
        if in_data and item.path.name != "test_pipeline.py":
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)
