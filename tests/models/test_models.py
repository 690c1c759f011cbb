import importlib
import inspect
import json
import math
import pathlib
import warnings
from functools import cache

import h5py
import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import (
    STMResNet,
    STMResNet50,
    STMResNet101,
    STMResNet152,
    TSMResNet,
    TSMResNet50,
    TSMResNet101,
    TSNResNet,
    TSNResNet50,
    keras_compat,
)
from keras_stm.arguments import ArgumentError
from keras_stm.models.resnet import DEPTHS, resnet
from tests.reference.backend import compute, numpy, oriented

TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}


# One clip, with its frames in several orders.
ORDERS = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3, 0], [2, 0, 3, 1]]
CLIPS = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")[ORDERS]


@cache
def tiny(build=STMResNet):
    """Returns a tiny model with random weights. Its head is large enough for the scores to differ."""
    keras.utils.set_random_seed(1)
    model = build(**TINY)
    head = model.get_layer("predictions")
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.1, head.kernel.shape))
    return model


def with_layer(model, name):
    """Returns a model with two outputs: the output of a layer of `model` and the output of `model`."""
    return keras.Model(model.input, [model.get_layer(name).output, model.output])


@cache
def logits_and_scores(build=STMResNet):
    """Returns the logits and scores of `CLIPS` by a tiny model."""
    return tuple(map(numpy, compute(with_layer(tiny(build), "consensus"), CLIPS)))


# Parameters and giga multiply-adds with 174 classes and clips of 8x224x224. The paper states some of them,
# rounded (Tables 1, 5 and 8).
COUNTS = {
    "TSN-R50": (TSNResNet50, {}, 23_864_558, 32.700),
    "CSTM only": (STMResNet50, {"branches": ("cstm",)}, 23_875_886, 32.746),
    "CSTM, ordinary": (
        STMResNet50,
        {"branches": ("cstm",), "temporal_conv": "ordinary"},
        27_636_974,
        40.407,
    ),
    "CMM only": (STMResNet50, {"branches": ("cmm",)}, 24_024_338, 33.030),
    "STM-R50": (STMResNet50, {}, 24_035_666, 33.075),
    "STM-R101": (STMResNet101, {}, 43_183_106, 63.016),
    "STM-R152": (STMResNet152, {}, 58_955_602, 92.962),
}


@pytest.mark.parametrize("row", COUNTS)
def test_parameters_and_macs_are_the_papers(row):
    build, arguments, parameters, gmacs = COUNTS[row]
    # Do not initialize the weights: drawing them takes longer than everything else.
    with keras.StatelessScope(initialize_variables=False):
        model = build(classes=174, **arguments)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == parameters
    macs = keras_stm.count_macs(model, (8, 224, 224, 3))
    assert isinstance(macs, int)
    assert round(macs / 1e9, 3) == gmacs
    if row == "STM-R50":
        assert round(keras_stm.count_macs(model, (16, 224, 224, 3)) / 1e9, 3) == 66.151


def test_macs_do_not_depend_on_the_data_format_and_tsm_costs_what_tsn_does():
    first = STMResNet(**TINY, data_format="channels_first")
    macs = keras_stm.count_macs(first, (8, 3, 97, 131))
    assert macs == keras_stm.count_macs(tiny(), (8, 97, 131, 3))
    clip = (8, 97, 131, 3)
    assert keras_stm.count_macs(tiny(TSMResNet), clip) == keras_stm.count_macs(tiny(TSNResNet), clip)


@pytest.mark.parametrize("pooling, data_format", [("avg", "channels_last"), ("max", "channels_first")])
def test_features_without_the_top(pooling, data_format):
    model = STMResNet((1, 1, 1, 1), 16, include_top=False, pooling=pooling, data_format=data_format)
    clip = oriented(np.random.default_rng(0).normal(size=(2, 3, 33, 65, 3)).astype("float32"), data_format)
    features, pooled = map(numpy, compute(with_layer(model, "conv5_block1"), clip))
    assert features.shape == oriented(np.empty((2, 3, 2, 3, 512)), data_format).shape
    axes = (1, 2, 3) if data_format == "channels_last" else (1, 3, 4)
    expected = features.mean(axis=axes) if pooling == "avg" else features.max(axis=axes)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_features_that_are_not_pooled_are_the_last_blocks():
    model = STMResNet((1, 1, 1, 1), 16, include_top=False)
    assert model.layers[-1].name == "conv5_block1"
    assert model.output is model.layers[-1].output


@pytest.mark.every_backend
def test_scores_are_the_softmax_of_the_logits():
    logits, scores = logits_and_scores()
    exponents = np.exp(logits)
    np.testing.assert_allclose(scores, exponents / exponents.sum(axis=-1, keepdims=True), rtol=1e-5)
    assert scores.shape == (4, 5)
    assert STMResNet(**TINY, classifier_activation=None).layers[-1].name == "consensus"


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.every_backend)])
def test_mixed_precision_reaches_the_blocks_and_not_the_scores(dtype):
    model = STMResNet(**TINY, dtype=f"mixed_{dtype}")
    for name in ("conv1_conv", "conv2_block1", "conv5_block1", "predictions"):
        assert model.get_layer(name).compute_dtype == dtype
    assert model.get_layer("conv3_block1").cmm.restore_conv.layer.compute_dtype == dtype
    assert {variable.dtype for variable in model.weights} == {"float32"}
    model.set_weights(tiny().get_weights())
    with_logits = with_layer(model, "consensus")
    _, scores = compute(with_logits, CLIPS)
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    np.testing.assert_allclose(numpy(scores), logits_and_scores()[1], atol=2e-2)
    # The average over time is computed in float32: the sum of four such values exceeds float16.
    model.get_layer("predictions").bias.assign(np.full(5, 40_000.0))
    np.testing.assert_allclose(numpy(compute(with_logits, CLIPS)[0]), 40_000, rtol=5e-3)


def policies(model):
    """Returns the names of each layer, also nested, and of its dtype policy."""
    return [
        (layer.name, layer.dtype_policy.name)
        for layer in keras_compat.flatten_layers(model)
        if not isinstance(layer, keras.Model | keras.layers.InputLayer)
    ]


OPTIONS = [{}, {"include_top": False, "pooling": "avg"}, {"include_top": False, "pooling": "max"}]


@pytest.mark.parametrize("options", OPTIONS, ids=["top", "avg", "max"])
@pytest.mark.parametrize("build", [STMResNet, TSNResNet, TSMResNet])
def test_dtype_is_a_policy_or_its_name_and_by_default_keras_own(build, options):
    with keras.StatelessScope(initialize_variables=False):
        by_name = build(**TINY, **options, dtype="mixed_bfloat16")
        by_policy = build(**TINY, **options, dtype=keras.DTypePolicy("mixed_bfloat16"))
        default = build(**TINY, **options)
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            by_global = build(**TINY, **options)
            against_global = build(**TINY, **options, dtype="float32")
        finally:
            keras.config.set_dtype_policy("float32")
    found = policies(by_name)
    others = {name for name, policy in found if policy != "mixed_bfloat16"}
    assert others == (set() if options else {"consensus", "scores"})
    assert policies(by_policy) == policies(by_global) == found
    assert {policy for _, policy in policies(default) + policies(against_global)} == {"float32"}


@pytest.mark.parametrize("dtype", ["int32", "nonsense", 16, {"name": "float32"}])
def test_dtype_must_be_a_policy_of_floating_point(dtype):
    with pytest.raises(ArgumentError, match="Received: dtype=") as error:
        STMResNet(**TINY, dtype=dtype)
    assert (error.value.name, error.value.value) == ("dtype", dtype)


@pytest.mark.every_backend
@pytest.mark.parametrize("build, sees_order", [(TSNResNet, False), (STMResNet, True), (TSMResNet, True)])
def test_order_of_frames_matters_to_stm_and_tsm_and_not_to_tsn(build, sees_order):
    _, scores = logits_and_scores(build)
    differences = np.abs(scores[1:] - scores[0]).max(axis=-1)
    assert (differences > 1e-4).all() if sees_order else (differences < 1e-6).all()


def test_dropout_has_the_rate_asked_for():
    """Parity with PyTorch shows that dropout is inactive in inference."""
    for arguments, rate in (({}, 0.5), ({"dropout": 0.9}, 0.9)):
        assert STMResNet(**TINY, **arguments).get_layer("dropout").rate == rate


@pytest.mark.every_backend
def test_the_classifier_starts_from_a_normal_of_a_thousandth_and_no_two_kernels_start_alike():
    model = STMResNet((2, 2, 1, 1), 16, classes=200)
    head = model.get_layer("predictions")
    assert np.std(keras.ops.convert_to_numpy(head.kernel)) == pytest.approx(1e-3, rel=0.02)
    assert (keras.ops.convert_to_numpy(head.bias) == 0).all()
    starts = [
        keras.ops.convert_to_numpy(weight).reshape(-1)[:16]
        for weight in model.trainable_weights
        if len(weight.shape) == 4 and math.prod(weight.shape) >= 16
    ]
    # Compare the signs: the same draw with another scale is also a repetition.
    starts = np.sign(starts)
    assert len({tuple(start) for start in starts}) == len(starts)


SIGNATURE = {
    "weights": None,
    "include_top": True,
    "input_shape": None,
    "classes": None,
    "classifier_activation": "softmax",
    "dropout": 0.5,
    "pooling": None,
    "branches": ("cstm", "cmm"),
    "fusion": "sum",
    "stm_stages": (2, 3, 4, 5),
    "stm_blocks": "all",
    "temporal_conv": "channelwise",
    "reduction": 16,
    "causal": False,
    "data_format": None,
    "dtype": None,
}
OF_STM_ONLY = {"branches", "fusion", "stm_stages", "stm_blocks", "temporal_conv", "reduction"}
OF_BLOCKS = {*OF_STM_ONLY, "causal"}


# For each function: the function for any depth, the name of the model and its depth.
PUBLISHED = {
    STMResNet50: (STMResNet, "stm_resnet50", 50),
    STMResNet101: (STMResNet, "stm_resnet101", 101),
    STMResNet152: (STMResNet, "stm_resnet152", 152),
    TSNResNet50: (TSNResNet, "tsn_resnet50", 50),
    TSMResNet50: (TSMResNet, "tsm_resnet50", 50),
    TSMResNet101: (TSMResNet, "tsm_resnet101", 101),
}


@pytest.mark.parametrize("build", PUBLISHED)
def test_signature_is_the_designs(build):
    any_size, name, _ = PUBLISHED[build]
    without = {STMResNet: (), TSMResNet: OF_STM_ONLY, TSNResNet: OF_BLOCKS}[any_size]
    expected = [(key, value) for key, value in SIGNATURE.items() if key not in without]

    def signature(function):
        return [(each.name, each.default) for each in inspect.signature(function).parameters.values()]

    assert signature(build) == [*expected, ("name", name)]
    sizes = [("depths", inspect.Parameter.empty), ("width", 64)]
    assert signature(any_size) == [*sizes, *expected, ("name", name.rstrip("0125"))]
    with pytest.raises(TypeError):
        build(depths=(1, 1, 1, 1))


@pytest.mark.parametrize("build", [*PUBLISHED, STMResNet, TSNResNet, TSMResNet])
def test_every_argument_is_told_and_handed_on(build, monkeypatch):
    """The arguments are written by hand in each function, and so can differ."""
    told = build.__doc__.partition("    Args:\n")[2].partition("\n\n")[0]
    told = [line.strip().partition(":")[0] for line in told.splitlines() if line[8] != " "]
    assert told == list(inspect.signature(build).parameters)

    inner = PUBLISHED[build][0] if build in PUBLISHED else resnet
    module = importlib.import_module(build.__module__)
    given = {name: object() for name in inspect.signature(build).parameters}
    if inner is resnet:
        # These arguments go to the block and are checked, so they need valid values.
        given |= {name: value for name, value in SIGNATURE.items() if name in OF_BLOCKS & given.keys()}
    got = {}
    monkeypatch.setattr(module, inner.__name__, got.update)
    build(**given)
    got.pop("block", None)
    if build in PUBLISHED:
        assert got.pop("depths") == DEPTHS[PUBLISHED[build][2]]
    assert got == {
        name: value for name, value in given.items() if inner is not resnet or name not in OF_BLOCKS
    }


def test_layers_are_named_as_the_design_says():
    names = [layer.name for layer in tiny().layers]
    assert names == [
        "clip",
        "conv1_conv",
        "conv1_bn",
        "conv1_relu",
        "pool1_pad",
        "pool1_pool",
        "conv2_block1",
        "conv3_block1",
        "conv4_block1",
        "conv5_block1",
        "avg_pool",
        "dropout",
        "predictions",
        "consensus",
        "scores",
    ]


PATHS = json.loads((pathlib.Path(__file__).parent / "weight_paths.json").read_text())


@pytest.mark.parametrize("name", PATHS)
def test_weight_paths_stay_as_files_have_them(name):
    """A change here makes every saved file unreadable."""
    assert weight_paths(name) == PATHS[name]


def test_a_file_of_weights_calls_layers_by_keras_own_classes_where_they_stand_for_one(tmp_path):
    """Keras finds the weights in existing files by these names."""
    tiny().save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert {"batch_normalization", "stm_block", "per_frame", "dense"} <= set(file["layers"])


def weight_paths(name):
    """Returns `{path: shape}` of a tiny model. `weight_paths.json` has those of the first version."""
    build, arguments = {
        "stm": (STMResNet, {}),
        "stm_concat_ordinary": (STMResNet, {"fusion": "concat", "temporal_conv": "ordinary"}),
        "tsn": (TSNResNet, {}),
        "tsm": (TSMResNet, {}),
    }[name]
    model = build(**TINY, **arguments) if arguments else tiny(build)
    return {weight.path: list(weight.shape) for weight in model.weights}


def test_count_macs_does_not_count_a_layer_of_an_unknown_kind_as_nothing():
    model = keras.Sequential([keras.layers.Input((4, 8, 8, 3)), keras.layers.ConvLSTM2D(2, 3, name="lstm")])
    with pytest.raises(ValueError, match="convolutions, dense layers.*model='lstm'"):
        keras_stm.count_macs(model, (4, 8, 8, 3))


@pytest.mark.every_backend
def test_under_pytorch_jit_compile_is_turned_off_with_one_line():
    is_torch = keras.backend.backend() == "torch"
    base = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3)
    for model in (base, keras.Sequential([keras.Input((None, None, None, 3)), base])):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=True)
        told = [str(each.message) for each in caught if "jit_compile" in str(each.message)]
        assert (model.jit_compile, len(told)) == (not is_torch, is_torch)
        for size in (32, 40) if is_torch else ():
            assert np.isfinite(model.train_on_batch(np.ones((2, 2, size, size, 3)), np.array([0, 1])))
