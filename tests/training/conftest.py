import keras
import pytest

import config
from tests.training.small_runs import NARROW


@pytest.fixture(autouse=True)
def narrow_model(monkeypatch):
    """Commands that train `stm_small` train a narrow one."""
    monkeypatch.setitem(config.MODELS, "stm_small", NARROW)


@pytest.fixture
def eagerly():
    """Steps run without being traced, which takes less time than a few of them save: TensorFlow alone."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)
    else:
        yield
