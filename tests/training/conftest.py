import pytest

import config
from tests.training.small_runs import NARROW, untraced


@pytest.fixture(autouse=True)
def narrow_model(monkeypatch):
    """Commands that train `stm_small` train a narrow one."""
    monkeypatch.setitem(config.MODELS, "stm_small", NARROW)


@pytest.fixture
def eagerly():
    """Steps run as in `untraced`."""
    with untraced():
        yield
