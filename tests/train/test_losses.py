"""Class weights in the loss."""

import keras
import numpy as np
import pytest

from keras_stm.train.losses import ClassWeighted
from tests.reference.backend import numpy

pytestmark = pytest.mark.every_backend

WEIGHTS = np.array([0.5, 3.0, 1.0])
SCORES = np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2], [0.1, 0.1, 0.8]], "float32")


def loss_of(labels, smoothing=0.0):
    inner = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    return numpy(ClassWeighted(inner, WEIGHTS)(np.asarray(labels, "float32"), SCORES))


def test_each_clip_weighs_as_its_class():
    expected = np.mean(WEIGHTS[[1, 0, 2]] * -np.log(SCORES[[0, 1, 2], [1, 0, 2]]))
    np.testing.assert_allclose(loss_of(np.eye(3)[[1, 0, 2]]), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixed_label_is_the_mix_of_the_losses(smoothing):
    first, second = np.eye(3)[[1, 0, 2]], np.eye(3)[[0, 2, 2]]
    mixed = loss_of(0.3 * first + 0.7 * second, smoothing)
    expected = 0.3 * loss_of(first, smoothing) + 0.7 * loss_of(second, smoothing)
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)
