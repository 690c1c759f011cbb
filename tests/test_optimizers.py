import json

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import keras_compat
from keras_stm.optimizers import SGD, TSM_GROUPS


def steps(optimizer, gradients, start=(1.0, -2.0, 3.0), name="kernel"):
    """Returns a weight after one step per gradient."""
    weight = keras.Variable(np.array(start, "float32"), name=name)
    optimizer.build([weight])
    for gradient in gradients:
        gradient = keras.ops.convert_to_tensor(np.array(gradient, "float32"))
        optimizer.apply([gradient], [weight])
    return keras.ops.convert_to_numpy(weight)


@pytest.mark.every_backend
@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
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
    """Clipping applies to the gradient of the loss. PyTorch also clips before it adds the decay."""
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


@pytest.mark.every_backend
def test_groups_multiply_rate_and_decay_of_the_weights_that_they_name():
    def step(path, groups):
        layer, name = path.split("/")
        with keras.name_scope(layer):
            weight = keras.Variable(np.ones(1, "float32"), name=name)
        optimizer = SGD(0.1, weight_decay=0.5, groups=groups)
        optimizer.build([weight])
        optimizer.apply([keras.ops.ones(1)], [weight])
        return 1 - float(keras.ops.convert_to_numpy(weight)[0])

    # 0.1 * (gradient 1 + decay 0.5 * weight 1), each with its factor.
    for path, expected in [
        ("conv/kernel", 0.15),
        ("conv/bias", 0.2),
        ("bn/gamma", 0.1),
        ("bn/beta", 0.1),
        ("predictions/kernel", 0.75),
        ("predictions/bias", 1.0),
    ]:
        assert step(path, TSM_GROUPS) == pytest.approx(expected), path
        assert step(path, None) == pytest.approx(0.15), path


def test_groups_name_weights_of_our_models():
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3)
    ends = {end: sum(v.path.endswith(end) for v in model.trainable_variables) for end in TSM_GROUPS}
    norms = sum(
        isinstance(layer, keras.layers.BatchNormalization) for layer in keras_compat.flatten_layers(model)
    )
    assert ends["predictions/kernel"] == ends["predictions/bias"] == ends["bias"] == 1
    assert ends["gamma"] == ends["beta"] == norms


def test_groups_return_from_the_config():
    optimizer = SGD(0.1, groups=TSM_GROUPS)
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    restored = keras.saving.deserialize_keras_object(stored)
    assert {end: tuple(factors) for end, factors in restored.groups.items()} == TSM_GROUPS


@pytest.mark.parametrize(
    "make",
    [
        lambda steps: SGD(
            0.05, momentum=0.9, weight_decay=0.1, groups=TSM_GROUPS, gradient_accumulation_steps=steps
        ),
        lambda steps: keras.optimizers.AdamW(0.05, weight_decay=0.1, gradient_accumulation_steps=steps),
    ],
    ids=["sgd", "adamw"],
)
def test_accumulated_gradients_move_a_weight_as_their_mean_does(make):
    gradients = np.random.default_rng(0).normal(size=(12, 3))
    whole = steps(make(None), gradients.reshape(4, 3, 3).mean(axis=1), name="bias")
    np.testing.assert_allclose(steps(make(3), gradients, name="bias"), whole, rtol=1e-5)
