import pytest

from keras_stm.train import presets
from tests.train.small_runs import NARROW, untraced


@pytest.fixture(autouse=True)
def narrow_model(monkeypatch):
    """Makes commands that train `stm_small` train a narrow one."""
    monkeypatch.setitem(presets.MODELS, "stm_small", NARROW)


@pytest.fixture
def eagerly():
    """Runs steps like `untraced`."""
    with untraced():
        yield
