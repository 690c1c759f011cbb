import importlib.util
import os
import pathlib
import random
import tempfile

import filelock
import numpy as np
import pytest

import keras_stm_command  # noqa: F401

# Compiling takes longer than running the compiled code. This saves a third of the test time under JAX.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Many tests, and the processes that they start, compile the same networks.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_sessionstart(session):
    # A process that needs both must load PyTorch before TensorFlow. The process that distributes the tests
    # to others (--dist) needs neither, and starts the others earlier without them.
    if session.config.getoption("dist") == "no" and importlib.util.find_spec("torch"):
        import torch  # noqa: F401


def pytest_collection_modifyitems(items):
    import keras

    # Run the longest tests first, so that at the end no process waits long for another.
    items.sort(key=lambda item: -minutes(item.get_closest_marker("slow")))
    if keras.backend.backend() == "tensorflow":
        return
    skip = pytest.mark.skip(reason="runs only under the tensorflow backend")
    for item in items:
        if not item.get_closest_marker("every_backend"):
            item.add_marker(skip)


def minutes(slow):
    """Returns the minutes of a mark `slow(minutes=3)`; 0 without a mark or without minutes."""
    return slow.kwargs.get("minutes", 0) if slow else 0


@pytest.fixture(autouse=True)
def fixed_seed():
    # Keras draws its seeds from Python's `random`. `keras.utils.set_random_seed` would also set TensorFlow's
    # seed, and TensorFlow would then prepare its functions again for each test.
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that makes a folder once for all test processes: `made_once(name, make)`.

    `make(folder)` creates and fills the folder. Tests must not change its content.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def get(name, make):
        folder, complete = root / name, root / f"{name}.complete"
        with filelock.FileLock(root / f"{name}.lock"):
            if not complete.exists():
                make(folder)
                complete.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def clips(made_once):
    """The path of a small arrow-of-time data set, with train, val and test folders."""
    from keras_stm.data import arrow_of_time

    def make(folder):
        arrow_of_time.make_dataset(folder, num_train=16, num_validation=8, num_test=8, progress=False)

    return str(made_once("clips", make))


@pytest.fixture(scope="session")
def trained_run(made_once, clips):
    """The folder (`pathlib.Path`) of a finished run, for tests that need any run and do not change it."""
    from tests.train import small_runs

    return pathlib.Path(made_once("trained_run", lambda folder: small_runs.train_sure(folder, clips)))
