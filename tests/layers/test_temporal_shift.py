import numpy as np
import pytest

from keras_stm.layers import TemporalShift
from tests.layers.check_layer import assert_parity, check_layer
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS, compute, numpy

pytestmark = pytest.mark.every_backend

test_temporal_shift_as_a_keras_layer = check_layer(
    TemporalShift, {"shift_div": 4, "causal": True}, (2, 3, 3, 2, 10)
)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    "frames, shift_div, causal", [(1, 8, False), (2, 2, False), (5, 3, False), (5, 8, False), (5, 3, True)]
)
def test_temporal_shift_equals_numpy_loops(frames, shift_div, causal, data_format):
    layer = TemporalShift(shift_div, data_format, causal)

    def reference(clip, weights):
        return numpy_layers.temporal_shift(clip, shift_div, causal)

    assert_parity(layer, reference, (2, frames, 3, 2, 17), data_format)


def test_first_eighth_reads_the_next_frame_and_second_the_previous():
    clip = np.zeros((1, 3, 1, 1, 8), "float32")
    clip[0, :, 0, 0, :] = [[1], [2], [3]]
    outputs = numpy(compute(TemporalShift(), clip))[0, :, 0, 0, :]
    assert outputs[:, 0].tolist() == [2, 3, 0]
    assert outputs[:, 1].tolist() == [0, 1, 2]
    assert (outputs[:, 2:] == [[1], [2], [3]]).all()
