"""`training/export.py`: what it writes where, what it says, and what it refuses."""

import os
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import export
import keras_stm
from keras_stm import model_file
from tests.reference.backend import BACKEND

NAMES = ("clap", "wave größer", "jump")
CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="dense")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file as fit.py writes it."""
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3).save(path)
    model_file.annotate(path, NAMES, CLIP)
    return path


@pytest.fixture
def run(trained, tmp_path):
    """The folder of a run that has exported version 1 and, as a person would, is kept beside others."""
    folder = tmp_path / "my run"
    (folder / "serving" / "1").mkdir(parents=True)
    os.link(trained, folder / "model.keras")
    return folder


def test_the_next_version_is_written_and_the_commands_that_serve_it_are_shown(run, capsys, monkeypatch):
    import tensorflow as tf

    (run / "serving" / "notes").mkdir()
    seen = {}
    save = keras_stm.export.save
    monkeypatch.setattr(
        keras_stm.export, "save", lambda *args, **options: (seen.update(options), save(*args, **options))
    )
    path = export.export(str(run), top_k=2)
    assert path == str(run / "serving" / "2")
    assert seen["sampling"] == "dense"
    out = capsys.readouterr().out
    assert f'-v "{run}/serving:/models/my_run" -e MODEL_NAME=my_run' in out
    assert (
        f'"@{run}/serving/2/assets.extra/request.json" http://localhost:8501/v1/models/my_run:predict' in out
    )

    loaded = tf.saved_model.load(path)
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, 40, 50, 3), "uint8")
    outputs = loaded.signatures["serving_default"](clip=frames)
    assert outputs["labels"].shape == (2, 2) and outputs["labels"].numpy()[0, 0].decode() in NAMES
    model = keras.saving.load_model(run / "model.keras")
    clip = np.random.default_rng(0).normal(size=(1, 4, 32, 32, 3)).astype("float32")
    scores = loaded.signatures["float"](clip=clip)["scores"]
    np.testing.assert_allclose(scores, model.predict(clip, verbose=0), atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the file is the same under every backend")
def test_onnx_is_written_beside_the_model(run, capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    path = export.export(str(run / "model.keras"), format="onnx")
    assert path == str(run / "model.onnx")
    assert [output.name for output in onnx.load(path).graph.output] == ["scores"]
    assert path in capsys.readouterr().out


@pytest.mark.parametrize(
    "names, version",
    [([], "1"), (["1"], "2"), (["1", "9", "10"], "11"), (["notes", ".export-x"], "1"), (None, "1")],
)
def test_versions_count_up_from_the_highest(names, version, tmp_path):
    for name in names or []:
        (tmp_path / "serving" / name).mkdir(parents=True)
    assert export.next_version(str(tmp_path / "serving")) == str(tmp_path / "serving" / version)


def test_a_path_without_a_version_is_told_that_tf_serving_wants_one(capsys, tmp_path):
    export.report(str(tmp_path / "serving"))
    out = capsys.readouterr().out
    assert "give --output=.../1" in out and "docker" not in out


def test_a_served_folder_of_any_name_names_the_model(capsys):
    export.report("/models/actions/3")
    assert '-v "/models/actions:/models/actions" -e MODEL_NAME=actions' in capsys.readouterr().out


def test_the_command_refuses_an_existing_path_in_one_line_and_leaves_it_alone(run, tmp_path):
    existing = run / "serving" / "1"
    process = subprocess.run(
        [sys.executable, export.__file__, f"--model={run}", f"--output={existing}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert process.returncode == 1
    lines = process.stderr.splitlines()
    assert [line for line in lines if not re.match(r"WARNING: All log|[IWE]\d{4} ", line)] == [
        f"export.py: `path` must not exist; remove it, or give another. Received: path={str(existing)!r}"
    ]
    assert os.listdir(existing) == []


@pytest.mark.parametrize(
    "model, argv, message",
    [
        (None, [], "export.py: --model is missing"),
        ("plain.keras", ["clip.mp4"], "export.py: unknown argument 'clip.mp4'"),
        ("nowhere", [], "export.py: `path` must be the folder of a finished run.*nowhere"),
        ("plain.keras", [], "export.py: `path` holds a model without class_names.txt"),
    ],
)
def test_a_wrong_request_ends_in_a_line_and_writes_nothing(model, argv, message, tmp_path, monkeypatch):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "plain.keras")
    monkeypatch.chdir(tmp_path)
    values = types.SimpleNamespace(model=model, output=None, format="saved_model", top_k=5)
    monkeypatch.setattr(export.flags, "FLAGS", values)
    with pytest.raises(SystemExit, match=message) as error:
        export.main(["export.py", *argv])
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["plain.keras"]
