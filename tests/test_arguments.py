"""Wrong arguments of the library and wrong flags of the commands: an error names each, before any output."""

import functools
import os
import re

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import evaluation, export, inference, model_file, optimizers, plots, weights
from keras_stm.arguments import ArgumentError
from keras_stm.data import (
    Dataset,
    LeftOut,
    checking,
    load_clip,
    make_pipeline,
    make_views,
    open_dataset,
    segments,
    windows,
)
from keras_stm.data.views import read_views
from keras_stm.layers import CMM, CSTM, STMBlock, TemporalShift
from keras_stm.layers.tsm_block import TSMBlock
from keras_stm.models import TSMResNet, TSNResNet
from tests.commands import find_command
from tests.data.videos import write_video

NAMES = ("a", "b", "c")
CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="segments")
NAN = float("nan")
# A placeholder for the model of `tiny`.
TINY = object()


@functools.cache
def tiny(**arguments):
    return keras_stm.STMResNet((1, 1, 1, 1), 16, classes=len(NAMES), **arguments)


def features():
    return tiny(include_top=False)


@functools.cache
def classifier():
    return keras_stm.VideoClassifier(tiny(), NAMES, num_frames=2, image_size=32)


def for_wide_clips():
    layers = keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(3)
    return keras.Sequential([keras.Input((8, 32, 48, 3)), *layers])


def dataset():
    return Dataset([("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 2)], NAMES)


def clip(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def stm(**arguments):
    return keras_stm.STMResNet(**{"depths": (1, 1, 1, 1), "width": 16, "classes": 3, **arguments})


def evaluate(**arguments):
    given = {
        "predict_fn": lambda clips: np.full((len(clips), 3), 0.5),
        "class_names": NAMES,
        "progress": False,
    }
    views = [("a.mp4", 0, clip(1, 2, 8, 8, 3))]
    return evaluation.evaluate(**{**given, "views": views, **arguments})


def pipeline(**arguments):
    return make_pipeline(dataset(), **{"batch_size": 2, **arguments})


def scored(**arguments):
    return evaluation.from_scores(
        **{"scores": np.eye(3), "labels": [0, 1, 2], "class_names": NAMES, **arguments}
    )


# Function, fixed arguments, and the wrong values of each argument: one value for each check.
VALUES = [
    (
        stm,
        {},
        {
            "depths": [(1, 1, 1), (1, 1, 1, 0), (1, 1, 1, 1.0), 50],
            "width": [0, "64"],
            "classes": [0, 2.5, True],
            "include_top": ["yes"],
            "pooling": ["mean", ["avg"]],
            "input_shape": [(8, 32, 32), (8, 32, 32, None), (8, 0, 32, 3), (8, 32.0, 32, 3), 5],
            "data_format": ["NHWC"],
            "dropout": [1, -0.1, "x", True, None, NAN],
            "classifier_activation": ["softmaxx", 5],
            "branches": [("stm",), "cstm", None],
            "fusion": ["max"],
            "stm_stages": [(1,), "2", 2],
            "stm_blocks": ["last"],
            "temporal_conv": ["dense", None],
            "reduction": [0, 17, 1.5],
            "weights": ["noisy"],
        },
    ),
    (TSNResNet, {"depths": (1, 1, 1, 1)}, {"dropout": [2]}),
    (TSMResNet, {"depths": (1, 1, 1, 1)}, {"data_format": ["first"]}),
    (keras_stm.STMResNet50, {}, {"classes": [0]}),
    (
        STMBlock,
        {"filters": 16},
        {
            "filters": [0, 2.0],
            "strides": [0, (2, 2)],
            "branches": ["cstm", ("stm",)],
            "fusion": ["x"],
            "temporal_conv": [None],
            "reduction": [True, 17],
            "data_format": ["x"],
            "use_batch_norm": ["no"],
        },
    ),
    (
        CSTM,
        {"filters": 16},
        {"filters": [-1], "strides": ["2"], "temporal_conv": ["x"], "use_batch_norm": [2]},
    ),
    (
        CMM,
        {"filters": 16},
        {"filters": [None], "strides": [1.5], "reduction": [0, 17], "use_batch_norm": ["x"]},
    ),
    (TSMBlock, {"filters": 16}, {"filters": [0], "shift_div": [1]}),
    (TemporalShift, {}, {"shift_div": [0, 1, 2.0, None], "data_format": [1]}),
    (
        keras_stm.preprocess_input,
        {"clip": clip(2, 8, 8, 3)},
        {"clip": [[1, 2, 3], "clip.mp4"], "data_format": ["NHWC"]},
    ),
    (
        keras_stm.decode_predictions,
        {"scores": np.ones((1, 3)), "class_names": NAMES},
        {"class_names": [5, [1, 2, 3], []], "top": [0]},
    ),
    (
        keras_stm.count_macs,
        {"model": TINY, "input_shape": (4, 32, 32, 3)},
        {
            "model": [5],
            "input_shape": [
                (4, 32, 32),
                (4, None, 32, 3),
                (4, 32, 32, 4),
                (4, -32, 32, 3),
                (4, 32.5, 32, 3),
                5,
            ],
        },
    ),
    (keras_stm.fold_batch_norm, {}, {"model": ["model.keras"]}),
    (weights.load_weights, {"model": TINY}, {"weights": [None, 5, "", "nowhere.safetensors"]}),
    (weights.load_weights, {"weights": "x.pth"}, {"model": [5]}),
    (weights.load_weights, {"model": TINY, "weights": "x.pth"}, {"include_top": ["yes"]}),
    (weights.save_safetensors, {"model": TINY}, {"path": [5, ""]}),
    (weights.save_safetensors, {"path": "x.safetensors"}, {"model": [None]}),
    (inference.load, {}, {"path": [None, "", b"run"]}),
    (inference.predict_fn, {}, {"model": [5]}),
    (
        keras_stm.VideoClassifier,
        {"model_or_folder": TINY, "class_names": NAMES},
        {
            "class_names": [None, ("a",), 5, (1, 2, 3)],
            "num_frames": [0],
            "image_size": ["32"],
            "sampling": ["random"],
            "protocol": ["best"],
            "top_k": [0],
            "batch_size": [1.5],
        },
    ),
    (lambda clips: list(classifier().iterate(clips)), {}, {"clips": [5, "clip.mp4"]}),
    (
        lambda **arguments: classifier().timeline("clip.mp4", **arguments),
        {"window": 1},
        {"window": [0, "1", NAN], "stride": [0, 2]},
    ),
    (scored, {}, {"class_names": [5, (None,) * 3]}),
    (lambda count: scored().worst_confusions(count), {}, {"count": [0, "10"]}),
    (evaluate, {}, {"batch_size": [0], "class_names": [5]}),
    (
        plots.block_features,
        {"model": TINY, "clip": clip(1, 2, 32, 32, 3)},
        {"model": [5], "block": ["conv9_block1", None]},
    ),
    (
        plots.grad_cam,
        {"model": TINY, "clip": clip(1, 2, 32, 32, 3)},
        {"model": [None], "label": [3, -1, "a", 0.5]},
    ),
    (
        plots.plot_grad_cam,
        {"model": TINY, "clip": clip(1, 2, 32, 32, 3), "class_names": NAMES},
        {"class_names": [5], "class_name": ["d", 1], "frame_names": [["first"]]},
    ),
    (plots.flow_colors, {"flow": clip(2, 2, 2)}, {"largest": [0, NAN]}),
    (
        export.save,
        {"model": TINY, "path": "served/1", "class_names": NAMES, "image_size": 32},
        {
            "model": [5],
            "path": [5, ""],
            "class_names": [("a",), 5, ("a", "b", "c\nd"), ("a", "b", ""), ("a", "b", "\udcff")],
            "num_frames": [2.0],
            "image_size": [0],
            "resize_size": [31, True],
            "top_k": [0],
            "sampling": ["random"],
        },
    ),
    (
        export.save_onnx,
        {"model": TINY, "path": "model.onnx"},
        {"model": ["tiny.keras"], "path": [None], "sampling": ["x"], "num_frames": [-1]},
    ),
    (export.check_example, {}, {"path": [None]}),
    (
        optimizers.SGD,
        {},
        {
            "groups": [
                *("bias", {"bias": 2}, {"bias": (1,)}, {"bias": ("2", "0")}, {5: (1, 1)}),
                *({"bias": (-1, 0)}, {"bias": (NAN, 0)}, {"bias": (1, float("inf"))}),
            ]
        },
    ),
    (
        model_file.annotate,
        {"path": "model.keras", "class_names": NAMES, "clip": CLIP},
        {"path": ["nowhere.keras"], "class_names": [None, ("a\r", "b", "c")]},
    ),
    # Functions of `keras_stm.data` whose errors have the same form.
    (
        functools.partial(open_dataset, root="nowhere"),
        {"name": "folder"},
        {
            "name": ["imagenet"],
            "split": ["val"],
            "fold": [2],
            "class_order": ["raw"],
            "validation_split": [0, 1],
            "exclude": ["exclude.txt"],
        },
    ),
    (
        pipeline,
        {},
        {
            "batch_size": [0],
            "num_frames": [1.5],
            "image_size": ["224"],
            "sampling": ["x"],
            "flip": [True],
            "scales": [(), (0,), (1.5,)],
            "shard": [(1, 1), (-1, 2)],
            "workers": [0],
        },
    ),
    (
        lambda **arguments: make_views(dataset(), **arguments),
        {},
        {
            "protocol": ["best"],
            "frames": ["backwards"],
            "clips": [0],
            "crops": [2, "3"],
            "num_frames": [0],
            "image_size": [1.5],
            "sampling": [None],
            "seed": [-1, 1.5, True],
            "workers": [0],
        },
    ),
    (functools.partial(load_clip, "nowhere.mp4"), {}, {"num_frames": [8.0], "image_size": [-224]}),
    (functools.partial(read_views, clip(2, 8, 8, 3, dtype="uint8")), {}, {"crops": [2], "clips": [0]}),
    (
        functools.partial(windows.iterate_windows, "nowhere.mp4"),
        {"window": 1},
        {"window": [0, None, True], "stride": [-1, 2]},
    ),
    (
        segments.center_indices,
        {"total_frames": 8, "segments": 8},
        {"total_frames": [0], "segments": ["8"]},
    ),
    (functools.partial(LeftOut, 3), {}, {"max_unreadable": [-0.1, 1.1, NAN]}),
    (functools.partial(checking.check, "."), {}, {"splits": [[]]}),
    (
        Dataset([("a", 0), ("b", 0)], ("x",)).part,
        {"validation_split": 0.5, "seed": 0, "folder": "."},
        {"split": ["test"]},
    ),
]
CASES = [
    pytest.param(
        function, fixed, name, value, id=f"{getattr(function, '__name__', 'data')}-{name}-{value!r:.40}"
    )
    for function, fixed, wrong in VALUES
    for name, values in wrong.items()
    for value in values
]


def built_for_64_channels():
    layer = CSTM(16)
    layer.build((None, 2, 8, 8, 64))
    return layer


def norm_first():
    inputs = keras.Input((4,))
    return keras_stm.fold_batch_norm(keras.Model(inputs, keras.layers.BatchNormalization()(inputs)))


def view(label=0, clips=None):
    return [("a.mp4", label, clip(1, 2, 8, 8, 3) if clips is None else clips)]


LAYERS = {
    "STMBlock": lambda **options: STMBlock(16, **options),
    "TSMBlock": lambda **options: TSMBlock(16, **options),
    "CSTM": lambda **options: CSTM(16, **options),
    "CMM": lambda **options: CMM(16, **options),
    "TemporalShift": TemporalShift,
}
# Cases whose error shows another text than the value itself: function, argument's name, text received.
OTHERS = {
    **{
        f"{name} on frames": (lambda layer=layer: layer()(clip(2, 8, 8, 64)), "clip", "(2, 8, 8, 64)")
        for name, layer in LAYERS.items()
    },
    **{
        f"a layer on {shape}": (lambda shape=shape: TemporalShift()(clip(*shape)), "clip", f"{shape}")
        for shape in [(1, 2, 3, 8, 8, 64), (2, 64), (1, 2, 8, 8, 0)]
    },
    "a layer on unknown channels": (
        lambda: CSTM(16, data_format="channels_first")(keras.Input((2, None, 8, 8))),
        *("clip", "(None, 2, None, 8, 8)"),
    ),
    "ImageNet for a small model": (lambda: stm(weights="imagenet"), "weights", "weights='imagenet'"),
    "four channels of pixels": (
        lambda: keras_stm.preprocess_input(clip(2, 8, 8, 4)),
        *("clip", "(2, 8, 8, 4)"),
    ),
    "pixels in another data format": (
        lambda: keras_stm.preprocess_input(clip(2, 8, 8, 3), "channels_first"),
        *("clip", "(2, 8, 8, 3)"),
    ),
    "scores of one clip": (
        lambda: keras_stm.decode_predictions(np.zeros(3), NAMES),
        *("scores", "(3,)"),
    ),
    "scores of other classes": (
        lambda: keras_stm.decode_predictions(np.zeros((1, 2)), NAMES),
        *("scores", "(1, 2)"),
    ),
    "a batch norm that follows no layer": (norm_first, "model", "'batch_normalization"),
    "a model without a known input": (
        lambda: keras_stm.fold_batch_norm(keras.Sequential([keras.layers.Dense(2)], name="open")),
        *("model", "'open'"),
    ),
    "weights with another file extension": (
        lambda: weights.save_safetensors(tiny(), "weights.bin"),
        *("path", "weights.bin'"),
    ),
    "a classifier without names": (
        lambda: keras_stm.VideoClassifier(tiny()),
        *("class_names", "None"),
    ),
    "a classifier that returns no scores": (
        lambda: keras_stm.VideoClassifier(features(), NAMES),
        *("model_or_folder", "(None, None, None, None, 512)"),
    ),
    "a classifier of nothing": (lambda: keras_stm.VideoClassifier(5), "path", "5"),
    "a classifier of a missing folder": (
        lambda: keras_stm.VideoClassifier("nowhere"),
        *("path", "nowhere'"),
    ),
    **{
        f"{value!r} instead of a video": (lambda value=value: classifier()(value), "clips", kind)
        for value, kind in ((5, "int"), ({}, "dict"), ([None], "NoneType"))
    },
    **{
        f"frames {frames.dtype} {frames.shape}": (
            lambda frames=frames: classifier()(frames),
            *("source", f"{frames.dtype} {frames.shape}"),
        )
        for frames in (
            clip(2, 8, 8, 3),
            clip(2, 8, 8, 4, dtype="uint8"),
            clip(0, 8, 8, 3, dtype="uint8"),
            clip(8, 8, 3, dtype="uint8"),
        )
    },
    "no scores": (lambda: scored(scores=np.zeros((0, 3)), labels=[]), "scores", "(0, 3)"),
    "scores of too few classes": (lambda: scored(scores=np.zeros((3, 2))), "scores", "(3, 2)"),
    "scores that are NaN": (lambda: scored(scores=np.full((3, 3), NAN)), "scores", "NaN"),
    "scores that are text": (lambda: scored(scores=np.full((3, 3), "a")), "scores", "U1"),
    "a label that is no class": (lambda: scored(labels=[0, 1, 3]), "labels", "[0, 1, 3]"),
    "labels that are no integers": (lambda: scored(labels=[0.0, 1.0, 2.5]), "labels", "2.5]"),
    "too few labels": (lambda: scored(labels=[0, 1]), "labels", "[0, 1]"),
    "no views": (lambda: evaluate(views=[]), "views", "none"),
    "a view whose label is no class": (lambda: evaluate(views=view(3)), "views", "3 for 'a.mp4'"),
    "a view whose label is text": (lambda: evaluate(views=view("a")), "views", "'a' for 'a.mp4'"),
    "clips without the dimension of views": (
        lambda: evaluate(views=view(clips=clip(2, 8, 8, 3))),
        *("views", "(2, 8, 8, 3) for 'a.mp4'"),
    ),
    "scores of other videos": (
        lambda: evaluate(predict_fn=lambda clips: np.zeros((2, 3))),
        *("predict_fn", "(2, 3)"),
    ),
    "a model that returns NaN": (
        lambda: evaluate(predict_fn=lambda clips: np.full((1, 3), NAN)),
        *("predict_fn", "NaN"),
    ),
    **{
        f"Grad-CAM of a clip {shape}": (
            lambda shape=shape: plots.grad_cam(tiny(), clip(*shape)),
            *("clip", f"{shape}"),
        )
        for shape in ((2, 32, 32, 3), (2, 2, 32, 32, 3), (1, 0, 32, 32, 3), (1, 2, 32, 32, 4))
    },
    "Grad-CAM of features": (
        lambda: plots.grad_cam(features(), clip(1, 2, 32, 32, 3)),
        *("model", "conv5_block1"),
    ),
    "features of a block that sees no time": (
        lambda: plots.block_features(TSNResNet((1,) * 4, 16, classes=3), clip(1, 2, 32, 32, 3)),
        *("model", "'tsn_resnet'"),
    ),
    "Grad-CAM with other class names": (
        lambda: plots.plot_grad_cam(tiny(), clip(1, 2, 32, 32, 3), ("a", "b")),
        *("class_names", "2"),
    ),
    "colours of three directions": (
        lambda: plots.flow_colors(clip(2, 2, 3), 1),
        *("flow", "(2, 2, 3)"),
    ),
    "an export of features": (
        lambda: export.save(features(), "served/1"),
        *("model", "(None, None, None, None, 512)"),
    ),
    "an export of clips that the model does not accept": (
        lambda: export.save(for_wide_clips(), "served/1", image_size=32),
        *("num_frames", "num_frames=8, image_size=32"),
    ),
    "a missing example": (lambda: export.check_example("."), "path", ""),
    "batches larger than the training set": (
        lambda: pipeline(batch_size=4, training=True),
        *("batch_size", "4"),
    ),
    "epochs in evaluation": (lambda: pipeline(epochs=2), "initial_epoch", "epochs=2"),
    "an initial epoch after the last": (
        lambda: pipeline(training=True, initial_epoch=2, epochs=2),
        *("initial_epoch", "initial_epoch=2, epochs=2"),
    ),
    "mix_up without one-hot labels": (lambda: pipeline(mix_up=0.2), "one_hot", "False"),
    "a batch size that the shards do not divide": (
        lambda: pipeline(batch_size=3, shard=(0, 2)),
        *("batch_size", "3"),
    ),
    "a missing data set": (lambda: open_dataset("folder", "nowhere"), "root", "nowhere'"),
}
# Arguments that Keras or Python rejects: function, and a part of the message.
REFUSED_BY_OTHERS = {
    "a layer on other channels than it was built for": (
        lambda: built_for_64_channels()(clip(1, 2, 8, 8, 32)),
        "64",
    ),
    "a model on frames": (lambda: tiny()(clip(2, 32, 32, 3)), "Invalid input shape"),
    "a model on four channels": (lambda: tiny()(clip(1, 2, 32, 32, 4)), "found shape=.*4"),
    "an unknown argument of a model": (lambda: stm(banana=1), "'banana'"),
    "the depths of a published model": (lambda: keras_stm.STMResNet50(depths=(1,) * 4), "'depths'"),
    "an unknown argument of a layer": (lambda: CSTM(16, banana=1), "'banana'"),
    "an unknown argument of the optimizer": (lambda: optimizers.SGD(banana=1), "'banana'"),
}
# Wrong arguments of the commands, and a part of each message. The commands run in a folder with
# clips/<class>/*.mp4, clip.mp4, a text file, an empty folder, and `run` with a model of other classes.
# absl checks types, ranges and names of flags.
FLAGS = {
    "fit": {
        "--preset=small --config=x.json": "preset",
        "--config=text.txt": "text.txt",
        "--data_dir=nowhere": "nowhere",
        "--data_dir=empty": "empty",
        "--weights=nowhere.keras": "nowhere.keras",
        "--data_dir=clips --exclude=nowhere.txt": "nowhere.txt",
        "--data_dir=clips --output=text.txt": "text.txt",
    },
    "evaluate": {
        "": "--model",
        "--model=nowhere": "nowhere",
        "--model=text.txt": "text.txt",
        "--model=run --data_dir=nowhere": "nowhere",
        "--model=run --data_dir=clips": "other classes",
        "--model=run --data_dir=clips --max_unreadable=nan": "max_unreadable",
    },
    "predict": {
        "": "no video",
        "nowhere.mp4 --model=run": "nowhere.mp4",
        "text.txt --model=run": "text.txt",
        "empty --model=run": "empty",
        "clip.mp4": "small-stm_small",
        "clip.mp4 --stride=1": "--stride",
        "clip.mp4 --model=run --window=0": "window",
        "clip.mp4 --model=run --window=1 --stride=2": "stride",
        "clip.mp4 --json=text.txt": "--json=text.txt",
    },
    "visualize": {
        "": "one clip",
        "a.mp4 b.mp4": "one clip",
        "clip.mp4": "--model",
        "nowhere.mp4 --model=run": "nowhere.mp4",
        "clip.mp4 --model=run --block=x": "block",
        "clip.mp4 --model=run --class_name=x": "class_name",
        "clip.mp4 --model=run --output=text.txt": "text.txt",
    },
    "export": {
        "": "--model",
        "--model=nowhere": "nowhere",
        "--model=run --output=empty": "empty",
        "--model=run --output=text.txt/1": "text.txt",
    },
    "pack": {
        "": "--data_dir",
        "--data_dir=clips": "--output",
        "--data_dir=nowhere --output=out": "nowhere",
        "--data_dir=clips --output=text.txt": "text.txt",
        "--data_dir=clips --output=out --worker=5/3": "worker",
        "--data_dir=clips --output=out --split=x": "split",
    },
    "check_data": {
        "": "--data_dir",
        "--data_dir=nowhere": "nowhere",
        "--data_dir=clips --split=x": "split",
        "--data_dir=clips --output=text.txt": "text.txt",
    },
    "reproduce": {
        "--tables=99": "tables",
        "--epochs=1": "epochs",
        "--batch_size=100000": "batch_size",
        "--report_only": "output",
    },
    "benchmark": {
        "--depths=a": "depths",
        "--depths=1,1": "depths",
        "--batch_sizes=0": "batch_sizes",
        "--networks=x": "networks",
        "--json=nowhere/x.json": "nowhere",
        "--what=pipeline --video=nowhere.mp4": "nowhere.mp4",
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("function, fixed, name, value", CASES)
def test_a_wrong_value_is_refused_by_the_arguments_name(function, fixed, name, value, folder):
    # Build the network when it is first used, not when pytest collects the cases.
    arguments = {key: tiny() if each is TINY else each for key, each in fixed.items()}
    with pytest.raises(ArgumentError) as error:
        function(**{**arguments, name: value})
    assert error.value.name == name and error.value.value is value
    message = str(error.value)
    assert "\n" not in message and message.endswith(f"Received: {name}={value!r}")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("case", OTHERS)
def test_what_does_not_fit_is_told(case, folder):
    function, name, received = OTHERS[case]
    with pytest.raises(ArgumentError) as error:
        function()
    assert error.value.name == name
    assert re.search(rf"Received: .*{re.escape(received)}", str(error.value), re.DOTALL)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("case", REFUSED_BY_OTHERS)
def test_what_keras_refuses_is_told(case):
    function, part = REFUSED_BY_OTHERS[case]
    with pytest.raises((ValueError, TypeError), match=part):
        function()


def test_what_is_no_model_is_not_made_one(folder):
    (folder / "text.txt").write_text("text")
    with pytest.raises(ArgumentError) as error:
        model_file.annotate("text.txt", NAMES, CLIP)
    assert (error.value.name, error.value.value) == ("path", "text.txt")
    assert (folder / "text.txt").read_text() == "text"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder in which the commands run."""
    place = tmp_path_factory.mktemp("place")
    write_video(place / "clip.mp4", num_frames=12)
    for name in ("a", "b"):
        (place / "clips" / name).mkdir(parents=True)
        for i in range(3):
            (place / "clips" / name / f"{i}.mp4").write_bytes((place / "clip.mp4").read_bytes())
    (place / "text.txt").write_text("text\n")
    (place / "empty").mkdir()
    (place / "run").mkdir()
    tiny().save(place / "run" / "model.keras")
    model_file.annotate(place / "run" / "model.keras", NAMES, CLIP)
    return place


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Loads each model once, as most commands use the same run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "load", functools.cache(inference.load))
        yield


def content(folder):
    return {path: path.is_dir() or path.read_bytes() for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    "command, arguments", [(command, arguments) for command in FLAGS for arguments in FLAGS[command]]
)
def test_wrong_flags_are_told_in_a_line_and_nothing_is_written(
    command, arguments, place, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    before = content(place)
    try:
        status, said = find_command(command).main([f"{command}.py", *arguments.split()]), None
    except SystemExit as stop:
        status = said = stop.code
    (line,) = [said] if isinstance(said, str) else capsys.readouterr().err.splitlines()
    assert status
    # In this pattern a dot matches no line end, so the message is one line.
    assert re.fullmatch(rf"{command}\.py: .*{FLAGS[command][arguments]}.*", line)
    assert content(place) == before
