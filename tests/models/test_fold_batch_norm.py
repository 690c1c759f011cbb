"""`keras_stm.fold_batch_norm`. See `test_across_backends.py` for files of folded models."""

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import STMResNet, TSMResNet, fold_batch_norm, keras_compat
from keras_stm.arguments import ArgumentError
from keras_stm.layers.per_frame import frame_conv
from tests.layers.check_layer import randomize
from tests.reference.backend import compute, numpy, oriented, relative_error


def random_model(build=STMResNet, depths=(1, 1, 1, 1), **arguments):
    """Returns a tiny model with random weights and statistics, and logits: a softmax would hide errors."""
    keras.utils.set_random_seed(0)
    if arguments.get("include_top", True):
        arguments = {"classes": 5, "classifier_activation": None, **arguments}
    model = build(depths, 16, **arguments)
    randomize(model)
    for variable in model.weights:
        # The variance is so small that epsilon matters. The smaller gamma keeps the factor near 1.
        if variable.path.endswith("moving_variance"):
            variable.assign(variable * 0.01)
        elif variable.path.endswith("gamma"):
            variable.assign(variable * 0.1)
    return model


def random_clip(data_format="channels_last", batch=2, frames=3, height=33, width=40):
    clip = np.random.default_rng(0).normal(size=(batch, frames, height, width, 3)).astype("float32")
    return oriented(clip, data_format)


def has_batch_norm(model):
    return any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in keras_compat.flatten_layers(model)
    )


def assert_folds(model, clip, tolerance=1e-4):
    """The folded model has no BatchNormalization and the same output. `model` is unchanged."""
    before = model.get_weights()
    expected = numpy(compute(model, clip))
    folded = fold_batch_norm(model)
    assert has_batch_norm(model) and not has_batch_norm(folded)
    assert folded.name == model.name and folded.input_shape == model.input_shape
    assert relative_error(numpy(compute(folded, clip)), expected) < tolerance
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    return folded


# A model combines several options if they do not hide each other.
MODELS = {
    # One stage has two blocks, so that one shortcut has no convolution.
    "stm": (STMResNet, {"depths": (2, 1, 1, 1)}),
    "concatenation, ordinary convolution, channels first": (
        STMResNet,
        {"fusion": "concat", "temporal_conv": "ordinary", "data_format": "channels_first"},
    ),
    "cmm, mean, pooled features": (
        STMResNet,
        {"branches": ("cmm",), "fusion": "mean", "reduction": 4, "include_top": False, "pooling": "max"},
    ),
    "tsm of a fixed shape": (TSMResNet, {"input_shape": (3, 33, 40, 3)}),
}
CASES = [
    # One model under every backend is enough: it has every layer that receives a bias.
    pytest.param(name, marks=pytest.mark.every_backend if index < 1 else [])
    for index, name in enumerate(MODELS)
]


@pytest.mark.parametrize("name", CASES)
def test_every_model_gives_the_same_without_batch_norm(name):
    build, arguments = MODELS[name]
    model = random_model(build, **arguments)
    model.compile("adam", "mse", jit_compile=False)
    data_format = arguments.get("data_format", "channels_last")
    folded = assert_folds(model, random_clip(data_format))
    assert not folded.compiled
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers if layer.name != "conv1_bn"
    ]
    macs = [keras_stm.count_macs(each, random_clip(data_format).shape[1:]) for each in (model, folded)]
    assert macs[0] == macs[1]
    again = fold_batch_norm(folded)
    for ours, theirs in zip(again.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_mixed_precision_stays_and_gives_nearly_the_same():
    model = random_model(dtype="mixed_bfloat16")
    folded = assert_folds(model, random_clip(), tolerance=5e-2)
    assert folded.get_layer("conv3_block1").cmm.reduce_conv.layer.compute_dtype == "bfloat16"
    assert {variable.dtype for variable in folded.weights} == {"float32"}


def backbone():
    """Returns a model of features, with CSTM only in the first block of one stage."""
    cstm = {"branches": ("cstm",), "stm_stages": (3,), "stm_blocks": "first", "depths": (1, 2, 1, 1)}
    return random_model(**cstm, include_top=False, pooling="avg")


def sequential():
    return keras.Sequential(
        [
            keras.Input((None, None, None, 3)),
            backbone(),
            keras.layers.Dense(6, name="hidden"),
            keras.layers.BatchNormalization(scale=False, name="hidden_bn"),
            keras.layers.ReLU(),
            keras.layers.Dense(4, name="head"),
        ]
    )


def two_streams():
    """Returns a model with a nested backbone, used twice, and a Conv1D with bias before a BatchNorm."""
    clip, other = keras.Input((None, None, None, 3)), keras.Input((None, None, None, 3))
    shared = backbone()
    x = keras.layers.Concatenate()([shared(clip), shared(other)])
    x = keras.layers.Reshape((64, -1))(x)
    x = keras.layers.Conv1D(8, 3, name="head_conv")(x)
    x = keras.layers.BatchNormalization(center=False)(x)
    return keras.Model([clip, other], [x])


def test_layers_around_a_backbone_are_folded_as_well():
    model = sequential()
    randomize(model)
    assert_folds(model, random_clip())


def test_a_backbone_that_is_used_twice_stays_one():
    model = two_streams()
    randomize(model)
    clips = [random_clip(), random_clip()[::-1].copy()]
    expected = numpy(model(clips))
    folded = fold_batch_norm(model)
    assert not has_batch_norm(folded)
    assert relative_error(numpy(folded(clips)), expected) < 1e-4
    assert sum(isinstance(layer, keras.Model) for layer in folded.layers) == 1


def behind(*layers):
    inputs = keras.Input((None, 8, 8, 3))
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="bad")


def two_uses():
    inputs = keras.Input((None, 8, 8, 3))
    x = conv(inputs)
    return keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(x) + x, name="bad")


def conv(x):
    return frame_conv(4, 3, name="conv", dtype="float32", data_format="channels_last")(x)


BAD = {
    "pixels": lambda: behind(keras.layers.BatchNormalization(name="bn")),
    "pooling": lambda: behind(keras.layers.AveragePooling3D(2), keras.layers.BatchNormalization(name="bn")),
    "activation": lambda: behind(
        keras.layers.Conv3D(4, 3, activation="relu"), keras.layers.BatchNormalization(name="bn")
    ),
    "other axis": lambda: behind(conv, keras.layers.BatchNormalization(axis=2, name="bn")),
    "conv used elsewhere": two_uses,
    "batch statistics": lambda: behind(
        conv, lambda x: keras.layers.BatchNormalization(name="bn")(x, training=True)
    ),
    "inside another layer": lambda: behind(
        keras.layers.TimeDistributed(keras.layers.BatchNormalization(name="bn"), name="each")
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_batch_norm_that_cannot_be_folded_is_named(name):
    with pytest.raises(ArgumentError, match=r"Received:.* 'bn' in the") as error:
        fold_batch_norm(BAD[name]())
    assert error.value.name == "model"


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        pass

    for model in (Own(name="own"), keras.Sequential([keras.layers.Dense(3)])):
        with pytest.raises(ArgumentError, match=f"Received: model='{model.name}' of ") as error:
            fold_batch_norm(model)
        assert (error.value.name, error.value.value) == ("model", model)
