import re

import numpy as np
import pytest
from keras import ops

from keras_stm import decode_predictions, preprocess_input
from keras_stm.arguments import ArgumentError


@pytest.mark.parametrize("data_format, axis", [("channels_last", -1), ("channels_first", 2)])
def test_pixels_are_normalised_as_torchvision_does(data_format, axis):
    clip = np.zeros((2, 3, 4, 5, 3), "uint8")
    clip[..., 0], clip[..., 1], clip[..., 2] = 0, 128, 255
    outputs = preprocess_input(np.moveaxis(clip, -1, axis), data_format=data_format)
    red, green, blue = np.moveaxis(outputs, axis, 0)
    np.testing.assert_allclose(red, -0.485 / 0.229, rtol=1e-6)
    np.testing.assert_allclose(green, (128 / 255 - 0.456) / 0.224, rtol=1e-6)
    np.testing.assert_allclose(blue, (1 - 0.406) / 0.225, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64"])
def test_an_array_stays_an_array_and_is_not_changed(dtype):
    clip = np.full((1, 2, 2, 3), 100, dtype)
    outputs = preprocess_input(clip)
    assert isinstance(outputs, np.ndarray)
    assert outputs.dtype == "float32" and outputs.shape == clip.shape
    assert (clip == 100).all()


@pytest.mark.every_backend
def test_a_tensor_stays_a_tensor_of_the_same_numbers():
    clip = np.random.default_rng(0).integers(0, 256, (2, 2, 4, 4, 3)).astype("uint8")
    outputs = preprocess_input(ops.convert_to_tensor(clip))
    assert not isinstance(outputs, np.ndarray) and ops.is_tensor(outputs)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), preprocess_input(clip), rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), ()], ids=str)
def test_what_has_no_channels_is_an_error(shape):
    with pytest.raises(ArgumentError, match=re.escape(f"Received: clip.shape={shape}")) as error:
        preprocess_input(np.zeros(shape), data_format="channels_first")
    assert error.value.name == "clip"


SCORES = np.array([[0.1, 0.6, 0.3], [0.25, 0.25, 0.5]], "float32")


@pytest.mark.every_backend
@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor], ids=["array", "tensor"])
def test_best_classes_come_first_and_ties_keep_their_order(convert):
    decoded = decode_predictions(convert(SCORES), ["a", "b", "c"], top=2)
    assert [[name for name, _ in clip] for clip in decoded] == [["b", "c"], ["c", "a"]]
    assert [score for _, score in decoded[0]] == pytest.approx([0.6, 0.3])
    assert all(type(score) is float for clip in decoded for _, score in clip)


def test_no_more_classes_are_returned_than_there_are():
    assert [len(clip) for clip in decode_predictions(SCORES, ["a", "b", "c"])] == [3, 3]
