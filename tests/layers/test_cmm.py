import keras
import numpy as np
import pytest

from keras_stm.layers import CMM
from tests.layers.check_layer import assert_parity, check_layer, random_clip
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS, numpy, run

pytestmark = pytest.mark.every_backend

test_cmm_as_a_keras_layer = check_layer(
    CMM, {"filters": 8, "strides": 2, "reduction": 2, "causal": True}, (2, 3, 7, 5, 6)
)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    "shape, strides, causal",
    [((2, 3, 7, 5, 8), 2, False), ((1, 2, 6, 8, 8), 1, False), ((2, 3, 7, 5, 8), 2, True)],
    ids=str,
)
def test_cmm_equals_numpy_loops(shape, strides, causal, data_format):
    layer = CMM(8, strides, reduction=4, data_format=data_format, causal=causal)

    def reference(clip, weights):
        return numpy_layers.cmm(clip, weights, strides, causal)

    assert_parity(layer, reference, shape, data_format)


@pytest.mark.parametrize("causal", [False, True])
def test_the_motion_in_training_is_that_in_inference(causal):
    layer = CMM(8, reduction=4, use_batch_norm=False, causal=causal)
    clip = random_clip((2, 3, 4, 4, 8))
    layer.build(clip.shape)
    trained = run(lambda clip: layer(clip, training=True), clip)
    # XLA may fuse the two forms in different ways.
    np.testing.assert_allclose(numpy(trained), numpy(run(layer, clip)), atol=1e-6)


def test_kernels_start_from_pytorchs_default():
    layer = CMM(512, reduction=4)
    layer.build((None, None, None, None, 512))
    for conv, fan_in in ((layer.reduce_conv, 512), (layer.motion_conv, 9), (layer.restore_conv, 128)):
        kernel = keras.ops.convert_to_numpy(conv.layer.kernel)
        bound = fan_in**-0.5
        assert np.abs(kernel).max() <= bound
        assert np.abs(kernel).max() > 0.98 * bound
        assert np.std(kernel) == pytest.approx(bound / 3**0.5, rel=0.05)
