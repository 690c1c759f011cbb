import pytest

import config
from keras_stm.data import arrow_of_time
from tests.training.small_runs import NARROW


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with train, val and test folders of a few clips."""
    root = tmp_path_factory.mktemp("data") / "clips"
    return arrow_of_time.make_dataset(root, num_train=16, num_validation=8, num_test=8, progress=False)


@pytest.fixture(autouse=True, scope="module")
def narrow_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.MODELS, "stm_small", NARROW)
        yield
