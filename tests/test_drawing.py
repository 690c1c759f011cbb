"""Pictures of one clip: the arguments of the figures, and the errors for clips that cannot be drawn."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_stm import drawing, inference, plots
from keras_stm.arguments import ArgumentError
from keras_stm.data import VideoError, arrow_of_time, segments
from keras_stm.data.views import read_views
from keras_stm.models import TSNResNet
from tests.data.videos import write_audio, write_video

FEATURES = "features-conv2_block1.png"


@pytest.fixture(scope="module")
def trained(trained_run):
    return inference.load(trained_run)


@pytest.fixture
def run(trained, monkeypatch):
    """Path of a run. `inference.load` is patched to return `trained`, so nothing is loaded again."""
    monkeypatch.setattr(inference, "load", lambda path: trained)
    return "runs/my_run"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "my.clip.mp4", num_frames=12)


@pytest.fixture
def asked(monkeypatch):
    """Arguments of the plot functions, which are patched to return empty figures: `{function: arguments}`."""
    asked = {}
    for name in ("plot_block", "plot_grad_cam"):

        def plot(*args, name=name):
            asked[name] = args
            return Figure()

        monkeypatch.setattr(plots, name, plot)
    return asked


def test_frames_are_named_by_their_place_and_time_in_the_video(run, video, tmp_path, asked):
    drawing.draw(video, run, str(tmp_path))
    # The video has 12 frames at 10 frames/s. The middle frame of each of 4 segments is shown.
    expected = ["frame 1\n0.1 s", "frame 4\n0.4 s", "frame 7\n0.7 s", "frame 10\n1.0 s"]
    _, clip, block, names, title = asked["plot_block"]
    assert (block, names, title) == ("conv2_block1", expected, "my.clip.mp4 in conv2_block1 of my_run")
    assert clip.shape == (1, 4, 32, 32, 3)
    _, _, class_names, class_name, names, title = asked["plot_grad_cam"]
    assert (class_names, class_name, names) == (arrow_of_time.CLASS_NAMES, None, expected)
    assert title == "my.clip.mp4: Grad-CAM of my_run"


def test_a_dense_model_gets_the_frames_that_it_was_trained_on(
    trained, run, video, tmp_path, asked, monkeypatch
):
    dense = trained._replace(sampling="dense")
    monkeypatch.setattr(inference, "load", lambda path: dense)
    drawing.draw(video, run, str(tmp_path))
    indices = segments.dense_indices(12, 4)
    assert [name.split("\n")[0] for name in asked["plot_block"][3]] == [f"frame {i}" for i in indices]
    np.testing.assert_array_equal(asked["plot_block"][1], read_views(video, 4, 32, sampling="dense"))


def test_a_folder_of_frames_is_drawn_without_times(run, tmp_path, asked, monkeypatch):
    from PIL import Image

    folder = tmp_path / "frames.of.it"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((40, 48, 3), 50 * i, "uint8")).save(folder / f"{i + 1:05d}.jpg")
    monkeypatch.chdir(tmp_path)
    drawing.draw(f"{folder}/", run, "new/pictures")
    assert asked["plot_block"][3] == [f"frame {i}" for i in range(4)]
    assert os.path.isfile(tmp_path / "new" / "pictures" / drawing.GRAD_CAM)


def broken(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    return str(tmp_path / "text.mp4")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: str(folder / "none.mp4"), "none.mp4: "),
        (broken, "text.mp4: "),
        (lambda folder: write_audio(folder / "sound.mp4"), "sound.mp4: "),
        (str, "clips: .*jpg"),
    ],
)
def test_a_clip_that_cannot_be_read_is_named(make, message, run, tmp_path):
    output = tmp_path / "out"
    clips = tmp_path / "clips"
    clips.mkdir()
    with pytest.raises(VideoError, match=message):
        drawing.draw(make(clips), run, str(output))
    assert not output.exists()


def test_nothing_is_written_where_a_block_or_a_class_does_not_exist(run, video, tmp_path):
    output = tmp_path / "out"
    for name, value in (("block", "conv9"), ("class_name", "sing")):
        with pytest.raises(ArgumentError) as error:
            drawing.draw(video, run, str(output), **{name: value})
        assert (error.value.name, error.value.value) == (name, value)
    assert not output.exists()


def test_tsn_has_no_block_to_draw(trained, video, tmp_path, asked, monkeypatch):
    tsn = trained._replace(model=TSNResNet((1, 1, 1, 1), 16, classes=8))
    monkeypatch.setattr(inference, "load", lambda path: tsn)
    published = "tsn_resnet50/kinetics400"
    assert drawing.draw(video, published, str(tmp_path)) == [str(tmp_path / drawing.GRAD_CAM)]
    assert asked["plot_grad_cam"][-1] == f"my.clip.mp4: Grad-CAM of {published}"
    monkeypatch.undo()
    monkeypatch.setattr(inference, "load", lambda path: tsn)
    with pytest.raises(ArgumentError, match="TSN") as error:
        drawing.draw(video, published, str(tmp_path / "out"), "conv2_block1")
    assert error.value.name == "model"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(output, run, video, tmp_path, asked):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=output):
        drawing.draw(video, run, str(tmp_path / output))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_picture_that_cannot_be_finished_leaves_the_earlier_one(run, video, tmp_path, asked, monkeypatch):
    earlier = tmp_path / FEATURES
    earlier.write_text("earlier")

    def full(self, file, **options):
        with open(file, "w") as half:
            half.write("half")
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="No space left"):
        drawing.draw(video, run, str(tmp_path))
    assert os.listdir(tmp_path) == [FEATURES]
    assert earlier.read_text() == "earlier"


def test_a_frame_has_a_time_where_the_rate_is_known():
    assert drawing.frame_name(30, 12.0) == "frame 30\n2.5 s"
    assert drawing.frame_name(30, None) == "frame 30"
