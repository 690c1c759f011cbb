"""The command that draws a clip: what it writes, and what it says of what it cannot draw."""

import os
import subprocess
import sys
import types

import keras
import matplotlib.image
import numpy as np
import pytest

import visualize
from keras_stm import model_file
from keras_stm.data import VideoError
from keras_stm.models import STMResNet, TSNResNet
from tests.data.videos import write_audio, write_video

NAMES = ("clap", "jump")
FEATURES = "features-conv2_block1.png"


def save(path, build, sampling="segments"):
    """A folder as a run leaves it, but for what drawing does not need."""
    path.mkdir()
    build((1, 1, 1, 1), 16, classes=2).save(path / "model.keras")
    model_file.annotate(path / "model.keras", NAMES, model_file.ClipSettings(4, 32, sampling))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.set_random_seed(0)
    return save(tmp_path_factory.mktemp("runs") / "my_run", STMResNet)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "my.clip.mp4", num_frames=12)


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, visualize.__file__, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def test_both_pictures_are_written_where_the_command_says(run, video, tmp_path):
    process = command(video, f"--model={run}", "--class_name=jump", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    output = tmp_path / "saved_models" / "visualize-my.clip"
    assert process.stdout.splitlines() == [str(output / FEATURES), str(output / visualize.GRAD_CAM)]
    assert sorted(os.listdir(output)) == [FEATURES, visualize.GRAD_CAM]
    for file in output.iterdir():
        height, width, _ = matplotlib.image.imread(file).shape
        assert height > 400 and width > 900


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give one clip, a video file or a folder of .jpg frames, not no argument"),
        (["a.mp4", "b.mp4"], "give one clip, a video file or a folder of .jpg frames, not 2 arguments"),
        (["a.mp4"], "--model is missing: the folder of a run of fit.py"),
    ],
)
def test_what_is_missing_or_too_much_is_told(arguments, message, monkeypatch):
    monkeypatch.setattr(visualize.flags, "FLAGS", types.SimpleNamespace(model=None))
    with pytest.raises(SystemExit) as error:
        visualize.main(["visualize.py", *arguments])
    assert error.value.code == f"visualize.py: {message}"


def test_an_error_is_told_in_one_line(tmp_path):
    process = command("a.mp4", "--model=nowhere", cwd=tmp_path)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith(
        "visualize.py: `path` must be the folder of a finished run"
    )
    assert not os.listdir(tmp_path)


def drawn(monkeypatch):
    """What the figures are asked to show, as `{function: arguments}`."""
    asked = {}
    for name in ("plot_block", "plot_grad_cam"):
        plot = getattr(visualize.visualization, name)
        monkeypatch.setattr(
            visualize.visualization,
            name,
            lambda *args, name=name, plot=plot: asked.update({name: args}) or plot(*args),
        )
    return asked


def test_frames_are_named_by_their_place_and_time_in_the_video(run, video, tmp_path, monkeypatch, capsys):
    asked = drawn(monkeypatch)
    visualize.visualize(video, run, str(tmp_path))
    # 12 frames at 10 a second; the middle one of each of 4 segments.
    expected = ["frame 1\n0.1 s", "frame 4\n0.4 s", "frame 7\n0.7 s", "frame 10\n1.0 s"]
    _, clip, block, names, title = asked["plot_block"]
    assert (block, names, title) == ("conv2_block1", expected, "my.clip.mp4 in conv2_block1 of my_run")
    assert clip.shape == (1, 4, 32, 32, 3)
    _, _, class_names, class_name, names, title = asked["plot_grad_cam"]
    assert (class_names, class_name, names) == (NAMES, None, expected)
    assert title == "my.clip.mp4: Grad-CAM of my_run"


def test_a_dense_model_gets_the_frames_that_it_was_trained_on(video, tmp_path, monkeypatch):
    run = save(tmp_path / "dense", STMResNet, sampling="dense")
    read = []
    monkeypatch.setattr(
        visualize, "read_views", lambda *args, **options: read.append(options) or np.zeros((1, 4, 32, 32, 3))
    )
    asked = drawn(monkeypatch)
    visualize.visualize(video, run, str(tmp_path / "out"))
    assert read == [{"sampling": "dense"}]
    assert asked["plot_block"][3][-1] == "frame 9\n0.9 s"


def test_a_folder_of_frames_is_drawn_without_times(run, tmp_path, monkeypatch):
    from PIL import Image

    folder = tmp_path / "frames.of.it"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((40, 48, 3), 50 * i, "uint8")).save(folder / f"{i + 1:05d}.jpg")
    asked = drawn(monkeypatch)
    monkeypatch.chdir(tmp_path)
    visualize.visualize(f"{folder}/", run)
    assert asked["plot_block"][3] == [f"frame {i}" for i in range(4)]
    assert os.path.isfile(tmp_path / "saved_models" / "visualize-frames.of.it" / visualize.GRAD_CAM)


def broken(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    return str(tmp_path / "text.mp4")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: str(folder / "none.mp4"), "none.mp4: no such file"),
        (broken, "text.mp4: not a video, or damaged"),
        (lambda folder: write_audio(folder / "sound.mp4"), "sound.mp4: holds no video stream"),
        (str, "a folder without .jpg files"),
    ],
)
def test_a_clip_that_cannot_be_read_is_named(make, message, run, tmp_path):
    output = tmp_path / "out"
    clips = tmp_path / "clips"
    clips.mkdir()
    with pytest.raises(VideoError, match=message):
        visualize.visualize(make(clips), run, str(output))
    assert not output.exists()


def test_nothing_is_written_where_a_block_or_a_class_does_not_exist(run, video, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(ValueError, match="`block` must be one of 'conv2_block1', .* Received: block='conv9'"):
        visualize.visualize(video, run, str(output), block="conv9")
    with pytest.raises(ValueError, match="`class_name` must be one of the 2 classes, as 'clap', 'jump'"):
        visualize.visualize(video, run, str(output), class_name="sing")
    assert not output.exists()


def test_tsn_has_no_block_to_draw(video, tmp_path):
    run = save(tmp_path / "tsn", TSNResNet)
    with pytest.raises(ValueError, match="`model` must have blocks with CSTM or CMM; those of TSN"):
        visualize.visualize(video, run, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(output, run, video, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=output):
        visualize.visualize(video, run, str(tmp_path / output))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_picture_that_cannot_be_finished_leaves_the_earlier_one(run, video, tmp_path, monkeypatch):
    earlier = tmp_path / FEATURES
    earlier.write_text("earlier")

    def full(self, file, **options):
        with open(file, "w") as half:
            half.write("half")
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="No space left"):
        visualize.visualize(video, run, str(tmp_path))
    assert os.listdir(tmp_path) == [FEATURES]
    assert earlier.read_text() == "earlier"


def test_a_frame_has_a_time_where_the_rate_is_known():
    assert visualize.frame_name(30, 12.0) == "frame 30\n2.5 s"
    assert visualize.frame_name(30, None) == "frame 30"
