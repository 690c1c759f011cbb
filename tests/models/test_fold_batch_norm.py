"""`keras_stm.fold_batch_norm`; files that move between backends are read in fresh processes."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm.layers.per_frame import frame_conv
from keras_stm.models import STMResNet, TSMResNet, TSNResNet
from keras_stm.models.fold_batch_norm import fold_batch_norm
from tests.layers.check_layer import randomize
from tests.reference.backend import BACKEND, NEXT_BACKEND, compute, numpy, oriented, relative_error

ROOT = pathlib.Path(__file__).parents[2]


def random_model(build=STMResNet, depths=(1, 1, 1, 1), **arguments):
    """A tiny model whose every weight and statistic matters; logits, as a softmax would hide errors."""
    keras.utils.set_random_seed(0)
    if arguments.get("include_top", True):
        arguments = {"classes": 5, "classifier_activation": None, **arguments}
    model = build(depths, 16, **arguments)
    randomize(model)
    for variable in model.weights:
        # So small that epsilon matters; the factor stays near 1.
        if variable.path.endswith("moving_variance"):
            variable.assign(variable * 0.01)
        elif variable.path.endswith("gamma"):
            variable.assign(variable * 0.1)
    return model


def random_clip(data_format="channels_last", batch=2, frames=3, height=33, width=40):
    clip = np.random.default_rng(0).normal(size=(batch, frames, height, width, 3)).astype("float32")
    return oriented(clip, data_format)


def has_batch_norm(model):
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers())


def assert_folds(model, clip, tolerance=1e-4):
    """`model` folded has no BatchNormalization and gives the same, and `model` is as it was."""
    before = model.get_weights()
    expected = numpy(compute(model, clip))
    folded = fold_batch_norm(model)
    assert has_batch_norm(model) and not has_batch_norm(folded)
    assert folded.name == model.name and folded.input_shape == model.input_shape
    assert relative_error(numpy(compute(folded, clip)), expected) < tolerance
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    return folded


# Several options in one where they do not hide each other: to compile is what takes the time.
MODELS = {
    # Two blocks in a stage, so that one has no convolution on its shortcut.
    "stm": (STMResNet, {"depths": (2, 1, 1, 1)}),
    "cmm": (STMResNet, {"branches": ("cmm",)}),
    "cstm in one block, features": (
        STMResNet,
        {"branches": ("cstm",), "stm_stages": (3,), "stm_blocks": "first", "include_top": False},
    ),
    "mean, pooled features": (
        STMResNet,
        {"fusion": "mean", "reduction": 4, "include_top": False, "pooling": "max"},
    ),
    "concatenation, ordinary convolution, channels first": (
        STMResNet,
        {"fusion": "concat", "temporal_conv": "ordinary", "data_format": "channels_first"},
    ),
    "tsn of a fixed shape": (TSNResNet, {"input_shape": (3, 33, 40, 3)}),
    "tsm": (TSMResNet, {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_the_same_without_batch_norm(name):
    build, arguments = MODELS[name]
    model = random_model(build, **arguments)
    data_format = arguments.get("data_format", "channels_last")
    folded = assert_folds(model, random_clip(data_format))
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers if layer.name != "conv1_bn"
    ]
    macs = [keras_stm.count_macs(each, random_clip(data_format).shape[1:]) for each in (model, folded)]
    assert macs[0] == macs[1]


def test_mixed_precision_stays_and_gives_nearly_the_same():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = random_model()
    finally:
        keras.config.set_dtype_policy("float32")
    folded = assert_folds(model, random_clip(), tolerance=5e-2)
    assert folded.get_layer("conv3_block1").cmm.reduce_conv.layer.compute_dtype == "bfloat16"
    assert {variable.dtype for variable in folded.weights} == {"float32"}


def backbone():
    return random_model(include_top=False, pooling="avg")


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
    """One backbone, nested and used twice, and a convolution with bias before a plain BatchNorm."""
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
    expected = model.predict(clips, verbose=0)
    folded = fold_batch_norm(model)
    assert not has_batch_norm(folded)
    assert relative_error(folded.predict(clips, verbose=0), expected) < 1e-4
    assert sum(isinstance(layer, keras.Model) for layer in folded.layers) == 1


def test_a_compiled_model_gives_one_that_is_not():
    model = random_model()
    model.compile("adam", "mse", jit_compile=False)
    assert not fold_batch_norm(model).compiled


def test_folding_twice_changes_nothing():
    folded = fold_batch_norm(random_model())
    again = fold_batch_norm(folded)
    for ours, theirs in zip(again.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


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
    with pytest.raises(ValueError, match=r"right behind a convolution.*Received:.* 'bn' in the"):
        fold_batch_norm(BAD[name]())


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="`model` must be functional.*Received: model='own' of Own"):
        fold_batch_norm(Own(name="own"))
    with pytest.raises(ValueError, match="`model` must be functional"):
        fold_batch_norm(keras.Sequential([keras.layers.Dense(3)]))


READ = """
import sys
import keras, numpy as np
import keras_stm

folder = sys.argv[1]
model = keras.saving.load_model(f"{folder}/folded.keras")
scores = model.predict(np.load(f"{folder}/clip.npy"), verbose=0)
expected = np.load(f"{folder}/scores.npy")
assert np.abs(scores - expected).max() < 1e-4 * np.abs(expected).max()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp(BACKEND)
    model, clip = random_model(fusion="concat", temporal_conv="ordinary"), random_clip()
    np.save(folder / "clip.npy", clip)
    np.save(folder / "scores.npy", numpy(compute(model, clip)))
    fold_batch_norm(model).save(folder / "folded.keras")
    return folder


def test_a_folded_model_loads_again(written):
    model = keras.saving.load_model(written / "folded.keras")
    scores = numpy(compute(model, np.load(written / "clip.npy")))
    np.testing.assert_allclose(scores, np.load(written / "scores.npy"), rtol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec(NEXT_BACKEND) is None, reason=f"no {NEXT_BACKEND}")
def test_a_folded_model_loads_under_another_backend(written):
    process = subprocess.run(
        [sys.executable, "-c", READ, str(written)],
        env={**os.environ, "KERAS_BACKEND": NEXT_BACKEND, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
