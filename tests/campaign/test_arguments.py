"""Wrong arguments of the library, wrong flags of the commands: each is named, and nothing is left behind."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import evaluation, export, inference, model_file, optimizers, visualization, weights
from keras_stm.data import (
    Dataset,
    LeftOut,
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
from tests.data.videos import write_video

pytestmark = pytest.mark.slow

TRAINING = pathlib.Path(__file__).parents[2] / "training"
NAMES = ("a", "b", "c")
CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="segments")
NAN = float("nan")
# Stands for the model of `tiny`.
TINY = object()


@functools.cache
def tiny(**arguments):
    return keras_stm.STMResNet((1, 1, 1, 1), 16, classes=len(NAMES), **arguments)


@functools.cache
def features():
    return tiny(include_top=False)


@functools.cache
def classifier():
    return keras_stm.VideoClassifier(tiny(), NAMES, num_frames=2, image_size=32)


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


# Function, fixed arguments, and the wrong values of each argument. What is said ends in the argument and the
# value as they were given.
VALUES = [
    (
        stm,
        {},
        {
            "depths": [(1, 1, 1), (1, 1, 1, 0), (1, 1, 1, 1.0), (1, 1, 1, True), 50, "1111", None],
            "width": [0, -1, 1.5, "64", True, None],
            "classes": [0, -3, 2.5, None, "x", True],
            "include_top": ["yes", None, 2],
            "pooling": ["mean", 1, []],
            "input_shape": [
                *((8, 224, 224), (8, 224, 224, None), (8, 0, 224, 3), (8, -1, 32, 3), (8, 32.0, 32, 3)),
                *((True, 32, 32, 3), 5, "abcd"),
            ],
            "data_format": ["NHWC", 1, "channels-last"],
            "dropout": [1, 1.5, -0.1, "x", None, True, NAN],
            "classifier_activation": ["softmaxx", 5],
            "branches": [("stm",), "cstm", None, 5, [["cstm"]]],
            "fusion": ["max", None],
            "stm_stages": [(1,), (6,), "2", 2, None, (2.5,)],
            "stm_blocks": ["last", None],
            "temporal_conv": ["dense", None],
            "reduction": [0, 17, "x", None, 1.5],
            "weights": ["nowhere.pth", "noisy", "", 5, True, ["x.pth"]],
        },
    ),
    (TSNResNet, {"depths": (1, 1, 1, 1)}, {"width": [0], "dropout": [2], "pooling": ["x"]}),
    (TSMResNet, {"depths": (1, 1, 1, 1)}, {"width": [-2], "classes": ["3"], "data_format": ["first"]}),
    (keras_stm.STMResNet50, {}, {"classes": [0], "weights": ["nowhere.keras"], "pooling": ["sum"]}),
    (
        STMBlock,
        {"filters": 16},
        {"filters": [0, 1.5, "x", None], "strides": [0, (2, 2), "2"], "fusion": ["x"]},
    ),
    (CSTM, {"filters": 16}, {"filters": [-1], "temporal_conv": ["x"], "use_batch_norm": ["x", 2]}),
    (CMM, {"filters": 16}, {"strides": [1.5], "reduction": [0, 17], "data_format": ["x"]}),
    (TSMBlock, {"filters": 16}, {"shift_div": [0, 1, 2.5, "8"]}),
    (TemporalShift, {}, {"shift_div": [0, 1, None], "data_format": [1]}),
    (
        keras_stm.preprocess_input,
        {"clip": clip(2, 8, 8, 3)},
        {"clip": [[1, 2, 3], None, "clip.mp4"], "data_format": ["NHWC"]},
    ),
    (
        keras_stm.decode_predictions,
        {"scores": np.ones((1, 3)), "class_names": NAMES},
        {"class_names": [5, None, [1, 2, 3], []], "top": [0, -1, 1.5, "5", None]},
    ),
    (
        keras_stm.count_macs,
        {"model": TINY, "input_shape": (4, 32, 32, 3)},
        {
            "model": [5, None],
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
    (keras_stm.fold_batch_norm, {}, {"model": [5, None, "model.keras"]}),
    (weights.load_weights, {"model": TINY}, {"weights": [None, 5, "nowhere.safetensors"]}),
    (weights.load_weights, {"weights": "x.pth"}, {"model": [None, 5, "model"]}),
    (weights.load_weights, {"model": TINY, "weights": "x.pth"}, {"include_top": ["yes", None]}),
    (weights.save_safetensors, {"model": TINY}, {"path": [5, None, ""]}),
    (weights.save_safetensors, {"path": "x.safetensors"}, {"model": [5, None]}),
    (inference.load, {}, {"path": [5, None, "", b"run"]}),
    (inference.predict_fn, {}, {"model": [5, None]}),
    (
        keras_stm.VideoClassifier,
        {"model_or_folder": TINY, "class_names": NAMES},
        {
            "class_names": [None, ("a",), 5, (1, 2, 3)],
            "num_frames": [0, "8", 1.5],
            "image_size": [-1, True],
            "sampling": ["random"],
            "protocol": ["best"],
            "top_k": [0, None],
            "batch_size": [0, 1.5],
        },
    ),
    (lambda clips: list(classifier().iterate(clips)), {}, {"clips": [5, None, "clip.mp4"]}),
    (
        lambda **arguments: classifier().timeline("clip.mp4", **arguments),
        {"window": 1},
        {"window": [0, -1, "1", NAN, None], "stride": [0, -1, 2, "1"]},
    ),
    (scored, {}, {"class_names": [5, None, (None,) * 3]}),
    (lambda count: scored().worst_confusions(count), {}, {"count": [0, -1, "10", None]}),
    (evaluate, {}, {"batch_size": [0, -1, 1.5, None], "class_names": [5, None]}),
    (
        visualization.block_features,
        {"model": TINY, "clip": clip(1, 2, 32, 32, 3)},
        {"model": [5], "block": ["conv9_block1", None]},
    ),
    (
        visualization.grad_cam,
        {"model": TINY, "clip": clip(1, 2, 32, 32, 3)},
        {"model": [None], "label": [3, -1, "a", 0.5]},
    ),
    (
        visualization.plot_grad_cam,
        {"model": TINY, "clip": clip(1, 2, 32, 32, 3), "class_names": NAMES},
        {"class_names": [5, None], "class_name": ["d", 1], "frame_names": [["first"]]},
    ),
    (visualization.flow_colors, {"flow": clip(2, 2, 2)}, {"largest": [0, -1, NAN]}),
    (
        export.save,
        {"model": TINY, "path": "served/1", "class_names": NAMES, "image_size": 32},
        {
            "model": [5, None],
            "path": [5, None, ""],
            "class_names": [("a",), 5, (1, 2, 3), ("a", "b", "c\nd"), ("a", "b", ""), ("a", "b", "\udcff")],
            "num_frames": [0, 2.0],
            "image_size": ["32", 0],
            "resize_size": [31, True],
            "top_k": [0, -1, None],
            "sampling": ["random", None],
        },
    ),
    (
        export.save_onnx,
        {"model": TINY, "path": "model.onnx"},
        {"model": ["tiny.keras"], "path": [None], "sampling": ["x"], "num_frames": [-1]},
    ),
    (export.check_example, {}, {"path": [5, None, ""]}),
    (
        optimizers.SGD,
        {},
        {
            "groups": [
                *(
                    ["bias"],
                    "bias",
                    5,
                    {"bias": 2},
                    {"bias": (1,)},
                    {"bias": (1, 2, 3)},
                    {"bias": ("2", "0")},
                ),
                *({"bias": (-1, 0)}, {"bias": (NAN, 0)}, {"bias": (1, float("inf"))}, {5: (1, 1)}),
            ]
        },
    ),
    (
        model_file.annotate,
        {"path": "model.keras", "class_names": NAMES, "clip": CLIP},
        {"path": ["nowhere.keras"], "class_names": [5, None, ("a\r", "b", "c")]},
    ),
    # Of the data, where it is the same.
    (
        functools.partial(open_dataset, root="nowhere"),
        {"name": "folder"},
        {
            "name": ["imagenet", None],
            "split": ["val", 1],
            "fold": [2],
            "class_order": ["raw"],
            "validation_split": [0, 1, -0.5],
            "exclude": ["exclude.txt"],
        },
    ),
    (
        pipeline,
        {},
        {
            "batch_size": [0, "8", None],
            "num_frames": [0, 1.5],
            "image_size": [0, "224"],
            "sampling": ["x"],
            "flip": ["yes", True],
            "scales": [(), (0,), (1.5,)],
            "shard": [(1, 1), (-1, 2)],
            "workers": [0, -1],
        },
    ),
    (
        lambda **arguments: make_views(dataset(), **arguments),
        {},
        {
            "protocol": ["best"],
            "frames": ["backwards"],
            "clips": [0, "1"],
            "crops": [2, "3"],
            "num_frames": [0],
            "image_size": [1.5],
            "sampling": [None],
            "seed": [-1, 1.5, True],
            "workers": [0],
        },
    ),
    (functools.partial(load_clip, "nowhere.mp4"), {}, {"num_frames": [0, 8.0], "image_size": [-224, None]}),
    (functools.partial(read_views, clip(2, 8, 8, 3, dtype="uint8")), {}, {"crops": [2], "clips": [0]}),
    (
        functools.partial(windows.iterate_windows, "nowhere.mp4"),
        {"window": 1},
        {"window": [0, None, True], "stride": [0, 2]},
    ),
    (
        segments.center_indices,
        {"total_frames": 8, "segments": 8},
        {"total_frames": [0], "segments": [0, "8"]},
    ),
    (functools.partial(LeftOut, 3), {}, {"max_unreadable": [-0.1, 1.1, NAN]}),
]
CASES = [
    pytest.param(
        function, fixed, name, value, id=f"{getattr(function, '__name__', 'data')}-{name}-{value!r:.40}"
    )
    for function, fixed, wrong in VALUES
    for name, values in wrong.items()
    for value in values
]


def built_block(other):
    block = STMBlock(16)
    block(clip(1, 2, 8, 8, 64))
    return block(other)


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
NO_CLIP = r"`clip` must be \(batch, time, .*\) of a known number of channels. Received: clip.shape=\("
# What fails by more than one argument's value: function, and what is said.
OTHERS = {
    **{
        f"{name} on {shape}": (lambda layer=layer, shape=shape: layer()(clip(*shape)), NO_CLIP)
        for name, layer in LAYERS.items()
        for shape in [(2, 8, 8, 64), (1, 2, 3, 8, 8, 64), (2, 64), (1, 2, 8, 8, 0)]
    },
    **{
        f"{name} on unknown channels": (
            lambda layer=layer: layer(data_format="channels_first")(keras.Input((2, None, 8, 8))),
            NO_CLIP,
        )
        for name, layer in LAYERS.items()
    },
    "a layer on other channels than it was built for": (
        lambda: built_block(clip(1, 2, 8, 8, 32)),
        "expected axis -1 of input shape to have value 64",
    ),
    "a model on frames": (lambda: tiny()(clip(2, 32, 32, 3)), "Invalid input shape"),
    "a model on four channels": (
        lambda: tiny()(clip(1, 2, 32, 32, 4)),
        "expected shape=.*, 3.*found shape=.*4",
    ),
    "an unknown argument of a model": (lambda: stm(banana=1), "'banana'"),
    "the depths of a published model": (lambda: keras_stm.STMResNet50(depths=(1,) * 4), "'depths'"),
    "an unknown argument of a layer": (lambda: CSTM(16, banana=1), "'banana'"),
    "an unknown argument of the optimizer": (lambda: optimizers.SGD(banana=1), "'banana'"),
    "ImageNet for a small model": (
        lambda: stm(weights="imagenet"),
        "width 16 and depths .*weights='imagenet'$",
    ),
    "four channels of pixels": (
        lambda: keras_stm.preprocess_input(clip(2, 8, 8, 4)),
        r"`clip` must have 3 channels, on axis -1. Received: clip.shape=\(2, 8, 8, 4\)$",
    ),
    "pixels with the channels elsewhere": (
        lambda: keras_stm.preprocess_input(clip(2, 8, 8, 3), "channels_first"),
        "`clip` must have 3 channels, on axis -3. Received: clip.shape=",
    ),
    "scores of one clip": (
        lambda: keras_stm.decode_predictions(np.zeros(3), NAMES),
        r"`scores` must be \(batch, 3\).* Received: scores.shape=\(3,\)$",
    ),
    "scores of other classes": (
        lambda: keras_stm.decode_predictions(np.zeros((1, 2)), NAMES),
        "`scores` must",
    ),
    "a norm that follows nothing": (norm_first, "`model` must have every BatchNormalization right behind"),
    "a model that knows no input": (
        lambda: keras_stm.fold_batch_norm(keras.Sequential([keras.layers.Dense(2)])),
        "`model` must be functional.* Received: model=",
    ),
    "weights called otherwise": (
        lambda: weights.save_safetensors(tiny(), "weights.bin"),
        "`path` must end in .safetensors. Received: path='.*weights.bin'$",
    ),
    "a classifier without names": (
        lambda: keras_stm.VideoClassifier(tiny()),
        "`class_names` must be given .*Received: class_names=None$",
    ),
    "a classifier that gives no scores": (
        lambda: keras_stm.VideoClassifier(features(), NAMES),
        "`model_or_folder` must be a model .*Received: a model from ",
    ),
    "a classifier of nothing": (
        lambda: keras_stm.VideoClassifier(5),
        "`path` must be a path. Received: path=5",
    ),
    "a classifier of a folder that is not there": (
        lambda: keras_stm.VideoClassifier("nowhere"),
        "`path` must be the folder of a finished run.*Received: path='.*nowhere'$",
    ),
    **{
        f"{value!r:.20} for a video": (
            lambda value=value: classifier()(value),
            "`clips` must be .*Received: clips",
        )
        for value in (5, None, {}, [None], [5])
    },
    **{
        f"frames {frames.dtype} {frames.shape}": (
            lambda frames=frames: classifier()(frames),
            "`source` must be uint8 frames .* Received: source of",
        )
        for frames in (
            clip(2, 8, 8, 3),
            clip(2, 8, 8, 4, dtype="uint8"),
            clip(0, 8, 8, 3, dtype="uint8"),
            clip(8, 8, 3, dtype="uint8"),
        )
    },
    "a video that is not there": (lambda: classifier()("nowhere.mp4"), "nowhere.mp4: no such file"),
    "no scores": (lambda: scored(scores=np.zeros((0, 3)), labels=[]), "`scores` must be .*scores.shape="),
    "scores of too few classes": (
        lambda: scored(scores=np.zeros((3, 2))),
        "`scores` must be .*scores.shape=",
    ),
    "scores that are NaN": (
        lambda: scored(scores=np.full((3, 3), NAN)),
        "`scores` must be finite .*Received: ",
    ),
    "scores that are words": (
        lambda: scored(scores=np.full((3, 3), "a")),
        "`scores` must be numbers.*Received",
    ),
    "a label of no class": (
        lambda: scored(labels=[0, 1, 3]),
        "`labels` must be 3 integers .*Received: labels=",
    ),
    "labels that are no integers": (
        lambda: scored(labels=[0.0, 1.0, 2.0]),
        "`labels` must .*Received: labels=",
    ),
    "too few labels": (lambda: scored(labels=[0, 1]), "`labels` must be 3 integers .*Received: labels="),
    "no views": (lambda: evaluate(views=[]), "`views` must give at least one .*Received: none"),
    "a view of no class": (lambda: evaluate(views=view(3)), "`views` must have labels .*Received: label=3"),
    "a view of a word": (lambda: evaluate(views=view("a")), "`views` must have labels .*Received: label='a'"),
    "views without their dimension": (
        lambda: evaluate(views=view(clips=clip(2, 8, 8, 3))),
        "`views` must have clips .*Received: clips.shape=",
    ),
    "scores of other videos": (
        lambda: evaluate(predict_fn=lambda clips: np.zeros((2, 3))),
        "`predict_fn` must return scores .*Received: scores.shape=",
    ),
    "a model that gives NaN": (
        lambda: evaluate(predict_fn=lambda clips: np.full((1, 3), NAN)),
        "`predict_fn` must return finite .*Received: scores with NaN",
    ),
    **{
        f"a picture of {shape}": (
            lambda shape=shape: visualization.grad_cam(tiny(), clip(*shape)),
            "`clip` must be one prepared clip .*Received: clip.shape=",
        )
        for shape in ((2, 32, 32, 3), (2, 2, 32, 32, 3), (1, 0, 32, 32, 3), (1, 2, 32, 32, 4))
    },
    "a picture of features": (
        lambda: visualization.grad_cam(features(), clip(1, 2, 32, 32, 3)),
        "`model` must end in the classifier .*Received: model=",
    ),
    "a picture of a block that sees no time": (
        lambda: visualization.block_features(TSNResNet((1,) * 4, 16, classes=3), clip(1, 2, 32, 32, 3)),
        "`model` must have blocks with CSTM or CMM.*Received: model=",
    ),
    "a picture with other names": (
        lambda: visualization.plot_grad_cam(tiny(), clip(1, 2, 32, 32, 3), ("a", "b")),
        "`class_names` must be as many .*Received: 2 class_names$",
    ),
    "colours of three directions": (
        lambda: visualization.flow_colors(clip(2, 2, 3), 1),
        r"`flow` must be .*Received: flow.shape=\(2, 2, 3\)$",
    ),
    "an export of features": (
        lambda: export.save(features(), "served/1"),
        "`model` must return scores.*Received: model=",
    ),
    "an export of clips that the model does not take": (
        lambda: export.save(tiny(input_shape=(8, 32, 48, 3)), "served/1", image_size=32),
        "`num_frames` and `image_size` must fit .*Received: num_frames=8, image_size=32$",
    ),
    "an example that is not there": (
        lambda: export.check_example("."),
        "`path` must be a SavedModel .*Received: ",
    ),
    "training clips for too large batches": (
        lambda: pipeline(batch_size=4, training=True),
        "`batch_size` must be at most 3, .*Received: batch_size=4$",
    ),
    "epochs of a test": (lambda: pipeline(epochs=2), "`epochs` must be .*without `training`.*epochs=2$"),
    "epochs that end first": (
        lambda: pipeline(training=True, initial_epoch=2, epochs=2),
        "`initial_epoch` must be .*Received: initial_epoch=2, epochs=2$",
    ),
    "mixed labels that are numbers": (
        lambda: pipeline(mix_up=0.2),
        "`one_hot` must be true .*one_hot=False$",
    ),
    "a share that is no whole batch": (
        lambda: pipeline(batch_size=3, shard=(0, 2)),
        "`batch_size` must be a multiple .*batch_size=3$",
    ),
    "a data set that is not there": (
        lambda: open_dataset("folder", "nowhere"),
        "`root` must be .*Received: root=",
    ),
}
# Arguments of the commands in a folder with clips/<class>/*.mp4, clip.mp4, a text file, an empty folder and
# `run` with a model of other classes; and what is said.
FLAGS = {
    "fit": {
        "--model=resnet": "flag --model=resnet: value should be one of",
        "--epochs=0": "flag --epochs=0: 0 is not a positive integer",
        "--epochs=many": "flag --epochs=many: invalid literal",
        "--dropout=1.5": "flag --dropout=1.5: 1.5 is not a number in the range",
        "--preset=small --config=x.json": "--preset and --config exclude each other",
        "--config=nowhere.json": "`config` must be the config.json of a run",
        "--config=text.txt": "`config` must be the config.json of a run",
        "--decay_epochs=3,2": "`decay_epochs` must ascend",
        "--decay_epochs=a": "flag --decay_epochs=a: must be numbers",
        "--parameter_groups=tsm": "`parameter_groups` are for optimizer 'sgd' alone",
        "--schedule=steps": "`decay_epochs` must not be empty",
        "--data_dir=nowhere": "`root` must be an existing folder",
        "--data_dir=empty": "`root` must hold one folder of clips per class",
        "--weights=nowhere.keras": "`weights` is not a file that exists",
        "--data_dir=clips --exclude=nowhere.txt": "`exclude` cannot be read",
        "--data_dir=clips --output=text.txt": "text.txt is a file; give another folder",
        "--data_dir": "Missing value for flag --data_dir",
        "junk": "unknown argument 'junk'",
    },
    "evaluate": {
        "": "--model is missing",
        "--model=nowhere": "`path` must be the folder of a finished run",
        "--model=text.txt": "`path` holds no model that can be loaded",
        "--model=run --data_dir=nowhere": "`root` must be an existing folder",
        "--model=run --data_dir=clips": "--model was trained for other classes than the data set has",
        "--model=run --protocol=best": "flag --protocol=best: value should be one of",
        "--model=run --crops=2": "flag --crops=2: value should be one of",
        "--model=run --max_unreadable=2": "2.0 is not a number in the range",
        "--model=run --data_dir=clips --max_unreadable=nan": "`max_unreadable` must be from 0 to 1",
        "--model=run junk": "unknown argument 'junk'",
    },
    "predict": {
        "": "no video is given",
        "nowhere.mp4 --model=run": "nowhere.mp4: no such file",
        "text.txt --model=run": "text.txt: not a video, or damaged",
        "empty --model=run": "empty: holds no .*file and no folder of .jpg frames",
        "clip.mp4": "`path` must be the folder of a finished run",
        "clip.mp4 --stride=1": "--stride is for --window",
        "clip.mp4 --model=run --window=0": "`window` must be a positive number of seconds",
        "clip.mp4 --model=run --window=1 --stride=2": "`stride` must be at most `window`",
        "clip.mp4 --json=empty": "--json=empty is a folder",
        "clip.mp4 --json=x --csv=x": "--json, --csv must be different files",
        "clip.mp4 --json=clip.mp4": "is one of the videos to read",
        "clip.mp4 --json=text.txt": "text.txt exists; give another name, or --overwrite",
        "clip.mp4 --csv=nowhere/x.csv": "there is no folder",
        "clip.mp4 --render=x.txt": "must end in one of",
        "clip.mp4 clips --render=x.mp4": "--render is for one video file",
        "clip.mp4 --top_k=0": "0 is not a positive integer",
    },
    "visualize": {
        "": "give one clip, .*not no argument",
        "a.mp4 b.mp4": "give one clip, .*not 2 arguments",
        "clip.mp4": "--model is missing",
        "nowhere.mp4 --model=run": "nowhere.mp4: no such file",
        "clip.mp4 --model=run --block=x": "`block` must be one of",
        "clip.mp4 --model=run --class_name=x": "`class_name` must be one of the 3 classes",
        "clip.mp4 --model=run --output=text.txt": "text.txt",
    },
    "export": {
        "": "--model is missing",
        "--model=nowhere": "`path` must be the folder of a finished run",
        "--model=run --format=x": "value should be one of",
        "--model=run --top_k=0": "0 is not a positive integer",
        "--model=run --output=empty": "`path` must not exist",
        "--model=run --output=text.txt/1": "text.txt",
        "--model=run junk": "unknown argument 'junk'",
    },
    "pack": {
        "": "--data_dir is missing",
        "--data_dir=clips": "--output is missing",
        "--data_dir=nowhere --output=out": "`root` must be an existing folder",
        "--data_dir=clips --output=text.txt": "text.txt",
        "--data_dir=clips --output=out --worker=5/3": "--worker must be k/n with k from 1 to n",
        "--data_dir=clips --output=out --quality=101": "101 is not an integer in the range",
        "--data_dir=clips --output=out --split=x": "`split` must be one of",
        "--data_dir=clips --output=out junk": "unknown argument 'junk'",
    },
    "check_data": {
        "": "--data_dir is missing",
        "--data_dir=nowhere": "`root` must be an existing folder",
        "--data_dir=clips --split=x": "`split` must be one of",
        "--data_dir=clips --num_frames=0": "0 is not a positive integer",
        "--data_dir=clips --output=text.txt": "text.txt",
        "--data_dir=clips junk": "unknown argument 'junk'",
    },
    "reproduce": {
        "--tables=99": "`tables` must be any of",
        "--epochs=1": "`epochs` must be above 4",
        "--batch_size=100000": "`batch_size` must be at most 1600",
        "--report_only": "`output` holds no results",
        "--network=x": "value should be one of",
        "junk": "unknown argument 'junk'",
    },
    "benchmark": {
        "--what=x": "value should be one of",
        "--depths=a": "flag --depths=.*whole numbers",
        "--depths=1,1": "`depths` must be four positive integers",
        "--width=0": "0 is not a positive integer",
        "--rounds=0": "0 is not a positive integer",
        "--batch_sizes=0": "0 is not a positive integer",
        "--num_frames=0": "0 is not a positive integer",
        "--image_size=-1": "-1 is not a positive integer",
        "--what=pipeline --video=nowhere.mp4": "nowhere.mp4",
        "--what=pipeline --workers=0": "0 is not a positive integer",
        "junk": "unknown argument 'junk'",
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_as_many_cases_as_promised():
    assert len(CASES) + len(OTHERS) >= 60
    assert sum(map(len, FLAGS.values())) >= 20


@pytest.mark.parametrize("function, fixed, name, value", CASES)
def test_a_wrong_value_is_refused_by_the_arguments_name(function, fixed, name, value, folder):
    # The network is built where it is first used, not when the cases are collected.
    arguments = {key: tiny() if each is TINY else each for key, each in fixed.items()}
    with pytest.raises(ValueError) as error:
        function(**{**arguments, name: value})
    message = str(error.value)
    assert f"`{name}`" in message and "\n" not in message
    assert message.endswith(f"Received: {name}={value!r}")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("case", OTHERS)
def test_what_does_not_fit_is_told(case, folder):
    function, message = OTHERS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        function()
    assert os.listdir(folder) == []


def test_what_is_no_model_is_not_made_one(folder):
    (folder / "text.txt").write_text("text")
    with pytest.raises(ValueError, match="`path` must be a .keras file. Received: path='text.txt'"):
        model_file.annotate("text.txt", NAMES, CLIP)
    assert (folder / "text.txt").read_text() == "text"


# Runs commands as `python training/<name>.py` does, but imports what they all import once: that takes longer
# than all the rest.
_RUN = """
import json, os, runpy, sys, tempfile, traceback
import keras, matplotlib.figure, tensorflow
from keras_stm import data, evaluation, export, inference, video_classifier

for command, arguments in json.load(sys.stdin):
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if not pid:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
            sys.argv = [command, *arguments]
            sys.path.insert(0, os.path.dirname(command))
            code = 0
            try:
                runpy.run_path(command, run_name="__main__")
            except SystemExit as error:
                code = error.code
                if isinstance(code, str):
                    print(code, file=sys.stderr)
                    code = 1
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code or 0)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        text = output.read().decode(errors="replace")
        print(json.dumps([os.waitstatus_to_exitcode(status), text]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the commands are told of."""
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


def content(folder):
    return {path: path.is_dir() or path.read_bytes() for path in sorted(folder.rglob("*"))}


def environment(**more):
    return {**os.environ, "KERAS_BACKEND": "tensorflow", **more}


@pytest.mark.parametrize("command", FLAGS)
def test_wrong_flags_are_told_in_a_line_and_nothing_is_written(command, place):
    before = content(place)
    cases = [(str(TRAINING / f"{command}.py"), arguments.split()) for arguments in FLAGS[command]]
    process = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        text=True,
        cwd=place,
        env=environment(),
        check=True,
    )
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    for (arguments, message), (code, output) in zip(FLAGS[command].items(), answers, strict=True):
        assert code in (1, 2), (arguments, output)
        assert re.search(message, output), (arguments, output)
        assert "Traceback" not in output, (arguments, output)
    assert content(place) == before


@pytest.mark.parametrize("command", FLAGS)
def test_an_unknown_flag_ends_a_command_in_a_line(command, place):
    before = content(place)
    process = subprocess.run(
        [sys.executable, str(TRAINING / f"{command}.py"), "--unknown=1"],
        capture_output=True,
        text=True,
        cwd=place,
        env=environment(),
    )
    assert process.returncode == 1
    assert "Unknown command line flag 'unknown'" in process.stderr
    assert "Traceback" not in process.stderr and process.stdout == ""
    assert content(place) == before
