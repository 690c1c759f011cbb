import inspect
import json
import math
import pathlib
from functools import lru_cache

import h5py
import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import STMResNet, STMResNet50, STMResNet101, STMResNet152, TSMResNet50, TSNResNet50
from keras_stm.models import TSMResNet, TSNResNet
from tests.reference.backend import DATA_FORMATS, compute, numpy, oriented

TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}


def random_clip(frames, height=64, width=64, batch=1):
    clip = np.random.default_rng(0).normal(size=(batch, frames, height, width, 3))
    return clip.astype("float32")


@lru_cache
def tiny(build=STMResNet, seed=1, **arguments):
    """A tiny model with random weights; its head is drawn large enough for scores to differ."""
    keras.utils.set_random_seed(seed)
    model = build(**TINY, **arguments)
    head = model.get_layer("predictions")
    head.kernel.assign(np.random.default_rng(seed).normal(0, 0.1, head.kernel.shape))
    return model


# Parameters and giga multiply-adds with 174 classes and clips of 8x224x224, of which the paper gives a
# part rounded (Tables 1, 5 and 8).
COUNTS = {
    "TSN-R50": (TSNResNet50, {}, 23_864_558, 32.700),
    "TSM-R50": (TSMResNet50, {}, 23_864_558, 32.700),
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
    model = build(classes=174, **arguments)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == parameters
    macs = keras_stm.count_macs(model, (8, 224, 224, 3))
    assert isinstance(macs, int)
    assert round(macs / 1e9, 3) == gmacs
    if row == "STM-R50":
        assert round(keras_stm.count_macs(model, (16, 224, 224, 3)) / 1e9, 3) == 66.151


def test_macs_do_not_depend_on_the_data_format():
    first = STMResNet(**TINY, data_format="channels_first")
    macs = keras_stm.count_macs(first, (8, 3, 97, 131))
    assert macs == keras_stm.count_macs(tiny(), (8, 97, 131, 3))


@pytest.mark.parametrize(
    "frames, size",
    [
        (1, (64, 64)),
        (4, (64, 64)),
        (8, (64, 64)),
        (16, (64, 64)),
        (2, (112, 112)),
        (2, (160, 160)),
        (2, (224, 224)),
        (2, (97, 131)),
        (2, (1, 1)),
    ],
    ids=str,
)
def test_one_model_runs_on_clips_of_any_length_and_size(frames, size):
    scores = numpy(compute(tiny(), random_clip(frames, *size, batch=2)))
    assert scores.shape == (2, 5)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-6)
    # The two clips differ, and so do their scores: the model looks at them.
    assert (scores[0] != scores[1]).any()


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("pooling, shape", [(None, (2, 3, 4, 5, 512)), ("avg", (2, 512)), ("max", (2, 512))])
def test_features_without_the_top(pooling, shape, data_format):
    arguments = {"include_top": False, "data_format": data_format}
    model = tiny_features(pooling=pooling, **arguments)
    features = tiny_features(pooling=None, **arguments)
    features.set_weights(model.get_weights())
    clip = oriented(random_clip(3, 97, 131, batch=2), data_format)
    outputs = numpy(compute(model, clip))
    if pooling is None:
        shape = oriented(np.empty(shape), data_format).shape
    assert outputs.shape == shape
    unpooled = numpy(compute(features, clip))
    axes = (1, 2, 3) if data_format == "channels_last" else (1, 3, 4)
    if pooling == "avg":
        np.testing.assert_allclose(outputs, unpooled.mean(axis=axes), atol=1e-5)
    if pooling == "max":
        np.testing.assert_allclose(outputs, unpooled.max(axis=axes), atol=1e-6)


def tiny_features(**arguments):
    return STMResNet(TINY["depths"], TINY["width"], **arguments)


def test_scores_are_the_softmax_of_the_logits():
    scores, logits = tiny(), tiny(classifier_activation=None)
    logits.set_weights(scores.get_weights())
    clip = random_clip(4)
    actual, exponents = numpy(compute(scores, clip)), np.exp(numpy(compute(logits, clip)))
    np.testing.assert_allclose(actual, exponents / exponents.sum(), rtol=1e-5)


@pytest.fixture
def mixed(request):
    tiny()  # It is kept, so that no policy of ours may be its own.
    keras.config.set_dtype_policy(f"mixed_{request.param}")
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("mixed", ["bfloat16", "float16"], indirect=True)
def test_mixed_precision_reaches_the_blocks_and_not_the_scores(mixed):
    model = STMResNet(**TINY)
    for name in ("conv1_conv", "conv2_block1", "conv5_block1", "predictions"):
        assert model.get_layer(name).compute_dtype == mixed
    assert model.get_layer("conv3_block1").cmm.restore_conv.layer.compute_dtype == mixed
    assert {variable.dtype for variable in model.weights} == {"float32"}
    reference = tiny()
    model.set_weights(reference.get_weights())
    clip = random_clip(4)
    outputs = compute(model, clip)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_allclose(numpy(outputs).sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(numpy(outputs), numpy(compute(reference, clip)), atol=2e-2)


@pytest.mark.parametrize("mixed", ["float16"], indirect=True)
def test_average_over_time_does_not_overflow_float16(mixed):
    model = STMResNet(**TINY, classifier_activation=None)
    model.get_layer("predictions").bias.assign(np.full(5, 40_000.0))
    outputs = numpy(compute(model, random_clip(4)))
    np.testing.assert_allclose(outputs, 40_000, rtol=1e-3)


@pytest.mark.parametrize("build, sees_order", [(TSNResNet, False), (STMResNet, True), (TSMResNet, True)])
def test_order_of_frames_matters_to_stm_and_tsm_and_not_to_tsn(build, sees_order):
    model = tiny(build)
    clip = random_clip(4)
    forward, backward = (numpy(compute(model, each)) for each in (clip, clip[:, ::-1].copy()))
    difference = np.abs(forward - backward).max()
    assert difference > 1e-4 if sees_order else difference < 1e-6


def test_dropout_has_the_rate_asked_for_and_rests_in_inference():
    model = tiny(dropout=0.9)
    clip = random_clip(2)
    outputs = [numpy(compute(model, clip)) for _ in range(2)]
    np.testing.assert_array_equal(*outputs)
    assert model.get_layer("dropout").rate == 0.9


def test_classifier_starts_from_a_normal_of_a_thousandth():
    head = STMResNet((1, 1, 1, 1), 16, classes=200).get_layer("predictions")
    kernel = keras.ops.convert_to_numpy(head.kernel)
    assert np.std(kernel) == pytest.approx(1e-3, rel=0.02)
    assert (keras.ops.convert_to_numpy(head.bias) == 0).all()


def test_no_two_kernels_start_alike():
    model = STMResNet((2, 2, 1, 1), 16, classes=5)
    starts = [
        keras.ops.convert_to_numpy(weight).reshape(-1)[:16]
        for weight in model.trainable_weights
        if len(weight.shape) == 4 and math.prod(weight.shape) >= 16
    ]
    # Scaled copies too would be equal draws.
    starts = np.sign(starts)
    assert len({tuple(start) for start in starts}) == len(starts)


@pytest.mark.parametrize(
    "name, value",
    [
        ("depths", 50),
        ("depths", (1, 1, 1)),
        ("depths", (1, 1, 1, 0)),
        ("depths", (1, 1, 1, 1.0)),
        ("width", 0),
        ("width", "64"),
        ("weights", "nothing"),
        ("weights", "missing.safetensors"),
        ("weights", 3),
        ("include_top", "no"),
        ("input_shape", 224),
        ("input_shape", (224, 224, 3)),
        ("input_shape", (8, 224, 224, None)),
        ("input_shape", (8, 224, 0, 3)),
        ("input_shape", (8, 224.0, 224, 3)),
        ("classes", 0),
        ("classes", True),
        ("classes", "5"),
        ("classifier_activation", "sofmax"),
        ("classifier_activation", 3),
        ("dropout", 1),
        ("dropout", -0.1),
        ("dropout", True),
        ("dropout", "half"),
        ("dropout", None),
        ("pooling", "sum"),
        ("pooling", ["avg"]),
        ("branches", "cstm"),
        ("branches", None),
        ("branches", ("cstm", "motion")),
        ("fusion", "product"),
        ("fusion", None),
        ("stm_stages", 2),
        ("stm_stages", (1, 2)),
        ("stm_stages", "2345"),
        ("stm_blocks", "last"),
        ("stm_blocks", 1),
        ("temporal_conv", "dense"),
        ("temporal_conv", None),
        ("reduction", 0),
        ("reduction", 17),
        ("reduction", 1.5),
        ("data_format", "NHWC"),
    ],
)
def test_wrong_argument_is_named_with_what_was_received(name, value):
    with pytest.raises(ValueError, match=f"`{name}` ") as error:
        STMResNet(**{**TINY, name: value})
    assert str(error.value).endswith(f"Received: {name}={value!r}")


SIGNATURE = {
    "weights": None,
    "include_top": True,
    "input_shape": None,
    "classes": 400,
    "classifier_activation": "softmax",
    "dropout": 0.5,
    "pooling": None,
    "branches": ("cstm", "cmm"),
    "fusion": "sum",
    "stm_stages": (2, 3, 4, 5),
    "stm_blocks": "all",
    "temporal_conv": "channelwise",
    "reduction": 16,
    "data_format": None,
}
OF_STM_ONLY = {"branches", "fusion", "stm_stages", "stm_blocks", "temporal_conv", "reduction"}


@pytest.mark.parametrize(
    "build, name, without",
    [
        (STMResNet50, "stm_resnet50", ()),
        (STMResNet101, "stm_resnet101", ()),
        (STMResNet152, "stm_resnet152", ()),
        (TSNResNet50, "tsn_resnet50", OF_STM_ONLY),
        (TSMResNet50, "tsm_resnet50", OF_STM_ONLY),
    ],
)
def test_signature_is_the_designs(build, name, without):
    parameters = inspect.signature(build).parameters.values()
    expected = {key: value for key, value in SIGNATURE.items() if key not in without}
    actual = [(parameter.name, parameter.default) for parameter in parameters]
    assert actual == [*expected.items(), ("name", name)]
    with pytest.raises(TypeError):
        build(depths=(1, 1, 1, 1))


def test_layers_are_named_as_the_design_says():
    names = [layer.name for layer in STMResNet((2, 1, 1, 1), 16, classes=5).layers]
    assert names == [
        "clip",
        "conv1_conv",
        "conv1_bn",
        "conv1_relu",
        "pool1_pad",
        "pool1_pool",
        "conv2_block1",
        "conv2_block2",
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
    """By these names Keras finds the weights of files that were written before."""
    tiny().save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert {"batch_normalization", "stm_block", "per_frame", "dense"} <= set(file["layers"])


def weight_paths(name):
    """`{path: shape}` of a tiny model. `weight_paths.json` holds them as of the first version."""
    build, arguments = {
        "stm": (STMResNet, {}),
        "stm_concat_ordinary": (STMResNet, {"fusion": "concat", "temporal_conv": "ordinary"}),
        "tsn": (TSNResNet, {}),
        "tsm": (TSMResNet, {}),
    }[name]
    return {weight.path: list(weight.shape) for weight in build(**TINY, **arguments).weights}
