import importlib.util
import os
import pathlib
import random
import tempfile

import filelock
import numpy as np
import pytest

import keras_stm_command  # noqa: F401

# Compiling takes longer than the compiled code: this takes a third off the tests under JAX.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Many tests compile the same networks, also in processes that they start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_sessionstart(session):
    # PyTorch must be loaded before TensorFlow in a process that needs both. The process that hands out the
    # tests to others (--dist) needs neither, and starts them earlier without.
    if session.config.getoption("dist") == "no" and importlib.util.find_spec("torch"):
        import torch  # noqa: F401


def pytest_collection_modifyitems(items):
    import keras

    # The longest first: in the end no process waits long for another.
    items.sort(key=lambda item: -minutes(item.get_closest_marker("slow")))
    if keras.backend.backend() == "tensorflow":
        return
    skip = pytest.mark.skip(reason="runs under the tensorflow backend alone")
    for item in items:
        if not item.get_closest_marker("every_backend"):
            item.add_marker(skip)


def minutes(slow):
    """What a mark `slow(minutes=3)` says; 0 where it says nothing, or is not there."""
    return slow.kwargs.get("minutes", 0) if slow else 0


@pytest.fixture(autouse=True)
def fixed_seed():
    # Keras draws its seeds from Python's. `keras.utils.set_random_seed` would also set TensorFlow's, which
    # then makes its functions ready anew for each test.
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Function that makes a folder once for all test processes: `made_once(name, make)`.

    `make(folder)` fills a folder that does not exist yet. Tests must not change what it holds.
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
    """A folder with train, val and test folders of a few clips of arrow of time."""
    from keras_stm.data import arrow_of_time

    def make(folder):
        arrow_of_time.make_dataset(folder, num_train=16, num_validation=8, num_test=8, progress=False)

    return str(made_once("clips", make))


@pytest.fixture(scope="session")
def trained_run(made_once, clips):
    """The folder of a finished run, for tests that need some run: `pathlib.Path`, not to be changed."""
    from tests.train import small_runs

    return pathlib.Path(made_once("trained_run", lambda folder: small_runs.train_sure(folder, clips)))
