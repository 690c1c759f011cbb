"""What `keras_stm.optimizers.SGD` adds to Keras'; its steps are compared with PyTorch's in `models`."""

import keras
import numpy as np
import pytest

from keras_stm.optimizers import SGD


def decayed(optimizer, steps):
    """The value 1.0 of a variable after steps of zero gradient."""
    variable = keras.Variable(np.ones(3, "float32"), name="kernel")
    optimizer.build([variable])
    for _ in range(steps):
        optimizer.apply([keras.ops.zeros(3)], [variable])
    return keras.ops.convert_to_numpy(variable)


def test_decay_goes_through_the_momentum():
    rate, decay, momentum = 0.1, 0.01, 0.9
    weight, velocity = 1.0, 0.0
    for _ in range(20):
        velocity = momentum * velocity + decay * weight
        weight -= rate * velocity
    actual = decayed(SGD(rate, momentum=momentum, weight_decay=decay), 20)
    np.testing.assert_allclose(actual, weight, rtol=1e-6)


def test_decay_is_not_clipped_with_the_gradient():
    clipped = decayed(SGD(0.1, weight_decay=0.5, global_clipnorm=1e-6), 1)
    np.testing.assert_allclose(clipped, 0.95, rtol=1e-6)


@pytest.mark.parametrize("weight_decay", [None, 0.0])
def test_without_decay_it_is_keras_sgd(weight_decay):
    np.testing.assert_array_equal(decayed(SGD(0.1, momentum=0.9, weight_decay=weight_decay), 3), 1)


def test_weights_can_be_excluded():
    optimizer = SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    np.testing.assert_array_equal(decayed(optimizer, 3), 1)


def test_it_is_restored_by_name_with_its_settings():
    optimizer = SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(restored) is SGD
    assert restored.get_config() == optimizer.get_config()
