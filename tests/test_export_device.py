"""`keras_stm.export.save_device`: the folders answer like the model, in Python and without this package."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import keras_stm
from keras_stm import inference
from keras_stm.arguments import ArgumentError
from keras_stm.data import views
from keras_stm.export import exported
from keras_stm.formats import MODELS, PRECISIONS
from tests.reference.backend import compute, numpy
from tests.test_export import REAL_CLIPS, small_causal

T, SIZE = 4, 32
NAMES = ("left", "right", "gr\x1b]0;ößer")
PACKAGES = {"onnx": "onnxruntime", "openvino": "nncf", "litert": "ai_edge_litert"}
# How far the scores of a random network may be from those in float32.
TOLERANCES = {"float32": 1e-4, "float16": 5e-2, "int8": 0.3}

# Runs a file like `python FILE ...`, where the packages of training are not installed.
WITHOUT_PACKAGES = """
import runpy, sys
sys.modules.update(dict.fromkeys(["keras", "tensorflow", "jax", "torch", "keras_stm"]))
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def trained(trained_run):
    return inference.load(trained_run)


@pytest.fixture(scope="module")
def real(clips):
    """Preprocessed clips of the classes of `trained`."""
    paths = sorted(pathlib.Path(clips).rglob("*.mp4"))
    return np.concatenate([views.load_clip(path, T, SIZE) for path in paths[:: len(paths) // 8]])


def small_stm():
    return keras_stm.STMResNet((1, 1, 1, 1), width=16, classes=3)


def clips_of(count):
    return np.random.default_rng(0).normal(size=(count, T, SIZE, SIZE, 3)).astype("float32")


def save(model, path, format, **arguments):
    pytest.importorskip(PACKAGES[format])
    arguments = {"class_names": NAMES, "num_frames": T, "image_size": SIZE, **arguments}
    keras_stm.export.save_device(model, str(path), format, **arguments)
    return path


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("format", MODELS)
def test_a_clip_has_the_scores_of_the_model(format, precision, trained, real, tmp_path):
    path = save(trained.model, tmp_path / "export", format, precision=precision, clips=real, class_names=None)
    loaded = exported.load(path)
    difference = np.abs(loaded.model(real) - numpy(compute(trained.model, real))).max()
    assert difference < TOLERANCES[precision]
    # Lower precisions are not the same file under another name.
    assert precision == "float32" or difference > 1e-5
    assert loaded[1:5] == (tuple("01234567"), T, SIZE, "segments")


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("format", MODELS)
def test_a_step_has_the_scores_of_the_clip(format, precision, tmp_path):
    model, clips = small_causal(), clips_of(8)
    path = save(model, tmp_path / "export", format, precision=precision, stream=True, clips=clips)
    found, expected = exported.load(path).model(clips), numpy(compute(model, clips))
    np.testing.assert_allclose(found, expected, atol=TOLERANCES[precision] * np.abs(expected).max())


def test_streams_go_on_and_start_anew_alone(tmp_path):
    model, frames = small_causal(), clips_of(2).swapaxes(0, 1)
    loaded = exported.load(save(model, tmp_path / "export", "onnx", stream=True))
    step = loaded.model.step_fn(T, SIZE, 2)
    expected = inference.step_fn(model, SIZE, T, 2)
    for frame, starts in zip(
        frames, [[True, True], [False, False], [False, True], [False, False]], strict=True
    ):
        starts = np.array(starts)
        np.testing.assert_allclose(step(frame, starts), expected(frame, starts), atol=1e-4)


def test_small_devices_need_no_further_operations(tmp_path):
    path = save(small_stm(), tmp_path / "export", "litert")
    from ai_edge_litert.interpreter import Interpreter

    operations = Interpreter(str(path / "model.tflite"))._get_ops_details()
    assert operations and not [each for each in operations if "Flex" in each["op_name"]]


def classify(folder, *arguments):
    command = [sys.executable, "-c", WITHOUT_PACKAGES, str(folder / "classify.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="no real clips next to the checkout")
def test_the_folder_classifies_as_in_python_with_neither_keras_nor_tensorflow(tmp_path):
    model = small_stm()
    path = save(model, tmp_path / "export", "onnx", sampling="dense")
    (clip, *_) = sorted(REAL_CLIPS.iterdir())
    videos = tmp_path / "videos" / "deep"
    videos.mkdir(parents=True)
    (videos / "a.mp4").write_bytes(clip.read_bytes())
    (videos / "b.mp4").write_bytes(b"no video")
    done = classify(path, tmp_path / "videos")
    assert done.returncode == 1 and "b.mp4: " in done.stderr and "Traceback" not in done.stderr
    name, *lines = done.stdout.splitlines()
    assert name == str(videos / "a.mp4")
    expected = keras_stm.VideoClassifier(model, NAMES, num_frames=T, image_size=SIZE, sampling="dense")(clip)
    for line, row in zip(lines, expected, strict=True):
        score, label = line.split(maxsplit=1)
        assert label == row["label"].replace("\x1b", "?")
        assert float(score) == pytest.approx(row["score"], abs=1e-3)


def test_a_step_watches_a_source_and_names_each_change(clips, tmp_path):
    video = next(pathlib.Path(clips).rglob("*.mp4"))
    model = small_causal()
    path = save(model, tmp_path / "export", "onnx", stream=True, rate=5)
    done = classify(path, f"--camera={video}")
    assert done.returncode == 0, done.stderr
    classifier = keras_stm.VideoClassifier(model, NAMES, num_frames=T, image_size=SIZE)
    expected = []
    for answer in classifier.stream(video, rate=5):
        best = answer["predictions"][0]
        if not expected or expected[-1][1] != best["label"]:
            expected.append((answer["time"], best["label"], best["score"]))
    assert len(expected) == len(done.stdout.splitlines())
    for line, (seconds, label, score) in zip(done.stdout.splitlines(), expected, strict=True):
        found = line.split(maxsplit=3)
        assert float(found[0]) == pytest.approx(seconds, abs=0.01)
        assert float(found[2]) == pytest.approx(score, abs=1e-3)
        assert found[3] == label.replace("\x1b", "?")
    done = classify(path, "--camera=http://localhost:1/x")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "http://localhost:1/x" in done.stderr
    assert "exported with --stream" in classify(save(model, tmp_path / "clip", "onnx"), "--camera=x").stderr


def test_int8_needs_clips_and_other_arguments_are_checked(tmp_path):
    model = small_stm()
    with pytest.raises(ArgumentError, match=r"`clips` must be an array \(N, \(4, 32, 32, 3\)\) for int8"):
        save(model, tmp_path / "export", "onnx", precision="int8")
    with pytest.raises(ArgumentError, match="Received: format='tflite'"):
        keras_stm.export.save_device(model, tmp_path / "export", "tflite")
    with pytest.raises(ArgumentError, match="causal=True"):
        save(model, tmp_path / "export", "onnx", stream=True)
    assert os.listdir(tmp_path) == []


def test_an_export_refuses_other_clips_and_a_folder_without_a_model(tmp_path):
    path = save(small_stm(), tmp_path / "export", "onnx")
    with pytest.raises(ArgumentError, match="those of the export export, 4 and 32. Received: num_frames=5"):
        exported.load(path).model(np.zeros((1, 5, SIZE, SIZE, 3), "float32"))
    (path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ArgumentError, match="contains no model that can be loaded"):
        exported.load(path)
    (path / "settings.json").write_text(json.dumps({"class_names": []}))
    with pytest.raises(ArgumentError, match="`path` must be a folder that `keras-stm export` wrote"):
        exported.load(path)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(ImportError, match="pip install nncf"):
        keras_stm.export.save_device(
            small_stm(), tmp_path / "a", "openvino", "int8", None, T, SIZE, clips=clips_of(1)
        )
