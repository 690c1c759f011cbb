"""Models in bfloat16: nearly the scores of float32, really computed in bfloat16."""

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import TSMResNet, inference, keras_compat
from keras_stm.arguments import ArgumentError
from keras_stm.models.precision import in_precision, with_dtype_policy
from tests.models.test_fold_batch_norm import has_batch_norm, random_clip, random_model, sequential
from tests.reference.backend import compute, numpy, relative_error

# bfloat16 has eight bits of precision: a layer's rounding errors are 0.2 to 0.4%.
TOLERANCE = 5e-2


def adapted():
    """Returns a model with LoRA and frozen layers, as after fine-tuning."""
    model = random_model()
    model.get_layer("conv4_block1").trainable = False
    keras_compat.flatten_layers(model.get_layer("conv5_block1").cmm.restore_conv)[1].enable_lora(2)
    return model


MODELS = {
    "adapted": adapted,
    "channels first": lambda: random_model(data_format="channels_first", fusion="concat"),
    "tsm": lambda: random_model(TSMResNet),
}
CASES = [
    pytest.param(name, marks=pytest.mark.every_backend if index < 1 else [])
    for index, name in enumerate(MODELS)
]


@pytest.mark.parametrize("name", CASES)
def test_blocks_compute_in_bfloat16_and_scores_are_nearly_the_same_in_float32(name):
    model = MODELS[name]()
    clip = random_clip("channels_first" if name == "channels first" else "channels_last")
    before, expected = model.get_weights(), numpy(compute(model, clip))
    mixed = in_precision(model, "bfloat16")
    block = mixed.get_layer("conv4_block1").output
    features, scores = compute(keras.Model(mixed.input, [block, mixed.output]), clip)
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in (features, scores)]
    assert dtypes == ["bfloat16", "float32"]
    assert 1e-5 < relative_error(numpy(scores), expected) < TOLERANCE
    assert not has_batch_norm(mixed) and {weight.dtype for weight in mixed.weights} == {"float32"}
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.every_backend
def test_a_stream_carries_bfloat16_and_gives_the_scores_of_the_clip():
    model = random_model(causal=True)
    clip = random_clip(batch=1, height=32, width=32)
    expected = inference.predict_fn(model)(clip)
    scores = inference.frame_scores(in_precision(model, "bfloat16"), 32, clip.shape[1], None)
    state = scores.start()
    for time in range(clip.shape[1]):
        found, state = scores.add(clip[:, time], state)
    dtypes = {name: keras.backend.standardize_dtype(value.dtype) for name, value in state.items()}
    assert {dtypes.pop("consensus"), dtypes.pop("frames")} == {"float32"}
    assert set(dtypes.values()) == {"bfloat16"}
    assert 1e-5 < relative_error(found, expected) < TOLERANCE


def test_layers_of_inner_models_compute_in_it_too():
    model = sequential()
    mixed = in_precision(model, "bfloat16")
    inner = next(layer for layer in mixed.layers if isinstance(layer, keras.Model))
    assert inner.get_layer("conv3_block1").cstm.conv.layer.compute_dtype == "bfloat16"
    assert mixed.get_layer("head").compute_dtype == "float32"
    assert relative_error(numpy(mixed(random_clip())), numpy(model(random_clip()))) < TOLERANCE


def test_the_policy_of_a_model_in_mixed_precision_becomes_float32():
    model = random_model(dtype="mixed_bfloat16")
    exact = with_dtype_policy(model, "float32")
    assert {layer.compute_dtype for layer in keras_compat.flatten_layers(exact)} == {"float32"}
    for ours, theirs in zip(exact.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_float32_is_the_model_as_it_was_made():
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3)
    assert in_precision(model, "float32") is model
    with pytest.raises(ArgumentError, match=r"'bfloat16'. Received: precision='float16'"):
        in_precision(model, "float16")
