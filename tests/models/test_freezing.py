"""Frozen layers stay frozen in files and copies, at any depth, and the optimizer goes on as before."""

import copy
import pickle

import keras
import numpy as np
import pytest

from keras_stm import STMResNet, TSMResNet, keras_compat
from tests.layers.check_layer import STEP
from tests.reference.backend import numpy

TINY = {"depths": (2, 1, 1, 1), "width": 16, "classes": 3}
CLIPS = np.random.default_rng(0).normal(size=(4, 2, 32, 32, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0])


def a_block(model):
    model.get_layer("conv3_block1").trainable = False


def a_branch(model):
    model.get_layer("conv2_block2").cmm.trainable = False


def layers_deep_in_blocks(model):
    block = model.get_layer("conv3_block1")
    for layer in (
        block.cmm.reduce_bn,
        block.cstm.temporal_conv,
        block.shortcut_conv,
        block.reduce_conv.layer,
    ):
        layer.trainable = False


def all_batch_norm(model):
    for layer in keras_compat.flatten_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def all_but_the_head(model):
    for layer in model.layers:
        layer.trainable = layer.name == "predictions"


def all_but_batch_norm(model):
    for layer in keras_compat.flatten_layers(model)[1:]:
        layer.trainable = isinstance(layer, keras.layers.BatchNormalization)


def a_block_but_for_a_branch_but_for_a_layer(model):
    block = model.get_layer("conv2_block2")
    block.trainable = False
    block.cmm.trainable = True
    block.cmm.reduce_bn.trainable = False


def trainable(model):
    """Returns the paths of the trainable weights, without the name of an outer model."""
    return [weight.path for weight in model.trainable_weights]


@pytest.mark.parametrize(
    "freeze",
    [
        *(a_block, a_branch, all_batch_norm, all_but_the_head, all_but_batch_norm),
        a_block_but_for_a_branch_but_for_a_layer,
    ],
)
def test_a_frozen_pattern_survives_a_file(freeze, tmp_path):
    model = STMResNet(**TINY)
    everything = trainable(model)
    freeze(model)
    assert trainable(model) != everything
    model.save(tmp_path / "model.keras")
    assert trainable(keras.models.load_model(tmp_path / "model.keras")) == trainable(model)


def in_sequential(base):
    return keras.Sequential([keras.Input(CLIPS.shape[1:]), base, keras.layers.Dense(3)])


def in_functional(base):
    inputs = keras.Input(CLIPS.shape[1:])
    return keras.Model(inputs, keras.layers.Dense(3)(base(inputs)))


@pytest.mark.parametrize("build", [STMResNet, TSMResNet])
@pytest.mark.parametrize("around", [in_sequential, in_functional])
def test_a_base_in_a_larger_model_stays_frozen(build, around, tmp_path):
    base = build(**TINY)
    base.get_layer("conv2_block2").restore_bn.trainable = False
    model = around(base)
    for name in ("part.keras", "whole.keras"):
        model.save(tmp_path / name)
        loaded = keras.models.load_model(tmp_path / name)
        # Keras names the weights of a new head in its own way.
        assert trainable(loaded)[:-2] == trainable(model)[:-2]
        # The second file has a base that is frozen as a whole.
        base.trainable = False
    assert len(loaded.trainable_weights) == 2


@pytest.mark.parametrize(
    "duplicate", [keras.models.clone_model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_are_frozen_as_the_model_is(duplicate):
    model = STMResNet(**TINY)
    layers_deep_in_blocks(model)
    assert trainable(duplicate(model)) == trainable(model)


def test_a_block_is_thawed_as_a_whole():
    model = STMResNet(**TINY)
    everything = trainable(model)
    a_block(model)
    block = type(model.get_layer("conv3_block1")).from_config(model.get_layer("conv3_block1").get_config())
    block.build((None, None, None, None, 64))
    assert block.trainable_weights == []
    block.trainable = True
    assert [f"{path}" for path in trainable(block)] == [
        p for p in everything if p.startswith("conv3_block1/")
    ]


@pytest.mark.every_backend
def test_the_optimizer_goes_on_where_it_was(tmp_path):
    model = STMResNet(**TINY, dropout=0.0)
    layers_deep_in_blocks(model)
    frozen = {weight.path for weight in model.weights} - set(trainable(model))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **STEP)
    model.train_on_batch(CLIPS, LABELS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert trainable(loaded) == trainable(model)
    before = {weight.path: numpy(weight) for weight in loaded.weights}
    for each in (model, loaded):
        each.compile(each.optimizer, "sparse_categorical_crossentropy", **STEP)
        each.train_on_batch(CLIPS, LABELS)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-6)
        is_statistic = "moving" in one.path
        if not is_statistic:
            assert (one.path in frozen) == (numpy(other) == before[one.path]).all(), one.path
