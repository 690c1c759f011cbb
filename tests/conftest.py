import importlib.util
import os
import pathlib

import before_tensorflow  # noqa: F401

# Compiling takes longer than what is compiled: this takes a third off the tests under JAX.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# PyTorch must be loaded before TensorFlow in a process that needs both.
if importlib.util.find_spec("torch"):
    import torch  # noqa: F401

import keras
import pytest

_ROOT = pathlib.Path(__file__).parent
# What prepares data has nothing to do with the backend, but for what runs beside a model; nor have commands
# that hand on what the library does, which is tested under each.
_DATA = (
    "data",
    *("training/test_check_data.py", "training/test_config.py", "training/test_pack.py"),
    *("training/test_checkpoints.py", "training/test_data_wait.py", "training/test_run_data.py"),
)
_COMMANDS = (
    *("training/test_evaluate.py", "training/test_predict.py", "training/test_visualize.py"),
    *("training/test_reproduce.py", "training/test_export_command.py"),
)
# Begun first, so that in the end no process has a long one left while the others wait.
_LONGEST = (
    *("training/test_fit.py", "training/test_export_command.py", "test_export.py", "weights/test_load.py"),
    *("training/test_evaluate.py", "training/test_predict.py", "test_visualization.py"),
    *("models/test_models.py", "models/test_parity.py", "models/test_training_parity.py"),
    *("training/test_kills.py", "training/test_equal_devices.py", "training/test_main_job.py"),
    *("training/test_reproduce.py", "training/test_benchmark.py"),
)
_DATA_AND_BACKEND = (
    *("data/test_keras_augment.py", "data/test_views.py"),
    "data/test_pipeline.py::test_a_model_fits_and_evaluates_on_it",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.relative_to(_ROOT).as_posix() not in _LONGEST)
    if keras.backend.backend() == "tensorflow":
        return
    skip = pytest.mark.skip(reason="runs once, under the tensorflow backend")
    for item in items:
        path = item.path.relative_to(_ROOT)
        once = any(path.is_relative_to(name) for name in (*_DATA, *_COMMANDS))
        test = f"{path.as_posix()}::{item.name}"
        if (once and not test.startswith(_DATA_AND_BACKEND)) or item.get_closest_marker("once"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)
