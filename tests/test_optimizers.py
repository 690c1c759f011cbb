import keras
import numpy as np
import pytest

from keras_stm.optimizers import SGD


def steps(optimizer, gradients, start=(1.0, -2.0, 3.0), name="kernel"):
    """A weight after the steps of `gradients`."""
    weight = keras.Variable(np.array(start, "float32"), name=name)
    optimizer.build([weight])
    for gradient in gradients:
        gradient = keras.ops.convert_to_tensor(np.array(gradient, "float32"))
        optimizer.apply([gradient], [weight])
    return keras.ops.convert_to_numpy(weight)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_decay_goes_through_the_momentum_as_pytorchs(momentum, nesterov):
    gradients = np.random.default_rng(0).normal(size=(10, 3))
    weight, velocity = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    for gradient in gradients:
        gradient = gradient + 0.1 * weight
        velocity = momentum * velocity + gradient
        weight = weight - 0.05 * (gradient + momentum * velocity if nesterov else velocity)
    optimizer = SGD(0.05, momentum=momentum, nesterov=nesterov, weight_decay=0.1)
    np.testing.assert_allclose(steps(optimizer, gradients), weight, rtol=1e-5)


def test_without_decay_it_is_keras_sgd():
    gradients = np.random.default_rng(0).normal(size=(5, 3))
    weights = [steps(each(0.05, momentum=0.9), gradients) for each in (SGD, keras.optimizers.SGD)]
    np.testing.assert_array_equal(*weights)


def test_decay_is_added_after_clipping():
    """Clipping is for what the data say; PyTorch clips before the optimiser sees the decay."""
    optimizer = SGD(1.0, weight_decay=0.1, clipnorm=1.0)
    weight = steps(optimizer, [[0.0, 0.0, 100.0]])
    np.testing.assert_allclose(weight, [0.9, -1.8, 3 - 1 - 0.3], rtol=1e-6)


def test_excluded_weights_do_not_decay():
    for name, expected in (("gamma", 1.0), ("kernel", 0.9)):
        optimizer = SGD(1.0, weight_decay=0.1)
        optimizer.exclude_from_weight_decay(var_names=["gamma"])
        assert steps(optimizer, [[0.0]], [1.0], name) == pytest.approx(expected)


def test_optimizer_returns_from_its_config():
    optimizer = SGD(0.05, momentum=0.9, weight_decay=0.1, nesterov=True)
    stored = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(stored)
    assert type(restored) is SGD
    assert restored.get_config() == optimizer.get_config()
