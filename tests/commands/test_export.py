"""`keras-stm export`: what it writes and where, what it prints, and what it rejects."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_stm import export as keras_stm_export
from keras_stm import model_file
from keras_stm.commands import export
from keras_stm.data import segments
from keras_stm.train import exports
from tests.commands.process import keras_stm
from tests.reference.backend import numpy

NAMES = ("clap", "wave größer", "jump")
CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="dense")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file like that of `keras-stm fit`, with a fast model."""
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    # The model accepts only clips with the settings that the file records.
    clip = keras.Input((CLIP.num_frames, CLIP.image_size, CLIP.image_size, 3))
    x = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(clip)
    head = keras.layers.Dense(3, "softmax")
    model = keras.Model(clip, head(x))
    head.kernel.assign(np.random.default_rng(0).normal(0, 5, (3, 3)))
    model.save(path)
    model_file.annotate(path, NAMES, CLIP)
    return path


@pytest.fixture
def run(trained, tmp_path):
    """The folder of a run that has exported version 1."""
    folder = tmp_path / "my run"
    (folder / "serving" / "1").mkdir(parents=True)
    os.link(trained, folder / "model.keras")
    return folder


def test_the_next_version_is_written_and_the_commands_that_serve_it_are_shown(run, capsys):
    (run / "serving" / "notes").mkdir()
    export.main(["keras-stm export", f"--model={run}", "--top_k=2"])
    path = run / "serving" / "2"
    out = capsys.readouterr().out
    assert f'-v "{run}/serving:/models/my_run" -e MODEL_NAME=my_run' in out
    assert f'"@{path}/assets.extra/request.json" http://localhost:8501/v1/models/my_run:predict' in out

    loaded = tf.saved_model.load(str(path))
    # The frames that the file's sampling selects are red.
    frames = np.zeros((1, 100, 40, 50, 3), "uint8")
    frames[:, segments.dense_indices(100, 4), ..., 0] = 255
    model = keras.saving.load_model(run / "model.keras")
    red = (np.float32([255, 0, 0]) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    expected = numpy(model(np.tile(red.astype("float32"), (1, 4, 32, 32, 1))))
    answer = loaded.signatures["serving_default"](clip=frames)
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-4)
    best = np.argsort(-expected[0])[:2]
    assert [label.decode() for label in answer["labels"].numpy()[0]] == [NAMES[index] for index in best]


@pytest.fixture
def saved(monkeypatch):
    """The arguments of the exports that the command would write."""
    calls = []

    def save_web(model, path, *clip, **options):
        calls.append(("web", path, clip, options))

    def write_exports(model, output, formats, precisions, **options):
        calls.append((model, output, formats, precisions, options))
        row = exports.Row("onnx", "int8", "/exports/my onnx", 1, top1_drop=0.031)
        return ([row], []) if options["max_drop"] is None else ([], [row])

    monkeypatch.setattr(keras_stm_export, "save_web", save_web)
    monkeypatch.setattr(exports, "write_exports", write_exports)
    return calls


def test_formats_and_precisions_are_lists(run, saved, capsys):
    command = ["keras-stm export", f"--model={run}", "--format=onnx,litert", "--precision=int8,float32,int8"]
    status = export.main([*command, "--stream", "--rate=5", "--calibration_clips=9", "--data_dir=clips"])
    assert status == 0
    ((model, output, formats, precisions, options),) = saved
    assert (model, output) == (str(run), None)
    assert (formats, precisions) == (("onnx", "litert"), ("int8", "float32"))
    assert (options["stream"], options["rate"], options["calibration_clips"]) == (True, 5.0, 9)
    assert (options["data_dir"], options["dataset"], options["top_k"]) == ("clips", None, 5)
    out = capsys.readouterr().out
    assert "python '/exports/my onnx/classify.py' clip.mp4" in out


def test_a_refused_export_gives_an_exit_status_and_a_line(run, saved, capsys):
    assert export.main(["keras-stm export", f"--model={run}", "--format=onnx", "--max_drop=3"]) == 1
    assert capsys.readouterr().err == "onnx-int8: not written, because it loses 3.1 points\n"


def test_a_page_has_a_place_of_its_own_beside_the_model(run, saved, capsys):
    page = str(run / "web")
    export.main(["keras-stm export", f"--model={run}", "--format=web", "--rate=2.5", "--runtime=ort"])
    assert saved == [("web", page, (NAMES, 4, 32), {"rate": 2.5, "runtime": "ort"})]
    out = capsys.readouterr().out
    assert f"python3 -m http.server '--directory={page}'" in out and "http://localhost:8000" in out


def test_the_page_takes_frames_at_the_rate_of_the_training(run, saved, tmp_path):
    model = tmp_path / "other.keras"
    keras.saving.load_model(run / "model.keras").save(model)
    model_file.annotate(model, NAMES, CLIP._replace(rate=3.5))
    export.main(["keras-stm export", f"--model={model}", "--format=web"])
    ((_, _, _, options),) = saved
    assert options["rate"] == 3.5


@pytest.mark.parametrize(
    "names, version",
    [([], "1"), (["1"], "2"), (["1", "9", "10"], "11"), (["notes", ".partial-x"], "1"), (None, "1")],
)
def test_versions_count_up_from_the_highest(names, version, tmp_path):
    for name in names or []:
        (tmp_path / "serving" / name).mkdir(parents=True)
    assert export.next_version(str(tmp_path / "serving")) == str(tmp_path / "serving" / version)


def test_a_path_without_a_version_is_told_that_tf_serving_wants_one(capsys, tmp_path):
    export.report(str(tmp_path / "serving"))
    out = capsys.readouterr().out
    assert "--output=.../1" in out and "docker" not in out


def test_a_served_folder_of_any_name_names_the_model(capsys):
    export.report("/models/actions/3")
    assert '-v "/models/actions:/models/actions" -e MODEL_NAME=actions' in capsys.readouterr().out


def test_a_page_needs_a_rate(run):
    with pytest.raises(SystemExit, match="`rate` must be given.* Received: rate=None$"):
        export.main(["keras-stm export", f"--model={run}", "--format=web"])


def test_a_page_needs_a_causal_model(run):
    with pytest.raises(SystemExit, match="Received: model="):
        export.main(["keras-stm export", f"--model={run}", "--format=web", "--rate=4"])
    assert sorted(os.listdir(run)) == ["model.keras", "serving"]


def test_the_command_refuses_an_existing_path_in_one_line_and_leaves_it_alone(run, tmp_path):
    """In a separate process."""
    existing = run / "serving" / "1"
    process = keras_stm("export", f"--model={run}", f"--output={existing}", cwd=tmp_path)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("keras-stm export: ") and line.endswith(f"Received: path={str(existing)!r}")
    assert os.listdir(existing) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--model is missing"),
        (["--model=plain.keras", "clip.mp4"], "'clip.mp4'"),
        (["--model=plain.keras", "--top_k=0"], "top_k"),
        (["--model=plain.keras", "--format=onnx,tflite"], "flag --format=onnx,tflite: .*not 'tflite'"),
        (["--model=plain.keras", "--stream"], "--stream does not apply to --format=saved_model"),
        (["--model=plain.keras", "--format=onnx", "--top_k=2"], "--top_k does not apply to --format=onnx"),
        (["--model=nowhere"], ".*Received: path='.*nowhere'"),
        (["--model=plain.keras"], ".*class_names.txt.* Received: path='.*plain.keras'"),
    ],
)
def test_a_wrong_request_ends_in_a_line_and_writes_nothing(arguments, message, tmp_path, monkeypatch):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "plain.keras")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=rf"^keras-stm export: .*{message}") as error:
        export.main(["keras-stm export", *arguments])
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["plain.keras"]
