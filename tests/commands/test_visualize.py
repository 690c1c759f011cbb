"""`keras-stm visualize`: where it writes, and what it rejects."""

import os

import matplotlib.image
import pytest

from keras_stm.commands import visualize
from keras_stm.drawing import GRAD_CAM
from tests.commands.process import keras_stm
from tests.data.videos import write_video

FEATURES = "features-conv2_block1.png"


def test_both_pictures_are_written_where_the_command_says(trained_run, tmp_path):
    """In a separate process."""
    video = write_video(tmp_path / "my.clip.mp4", num_frames=12)
    process = keras_stm("visualize", video, f"--model={trained_run}", "--class_name=recede", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    output = tmp_path / "saved_models" / "visualize-my.clip"
    assert process.stdout.splitlines() == [str(output / FEATURES), str(output / GRAD_CAM)]
    assert sorted(os.listdir(output)) == [FEATURES, GRAD_CAM]
    for file in output.iterdir():
        height, width, _ = matplotlib.image.imread(file).shape
        assert height > 400 and width > 900


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "one clip, .*not no argument$"),
        (["a.mp4", "b.mp4"], "one clip, .*not 2 arguments$"),
        (["a.mp4"], "--model is missing"),
        (["a.mp4", "--model=nowhere"], "Received: path='.*nowhere'$"),
    ],
)
def test_what_is_missing_or_too_much_is_told_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=rf"^keras-stm visualize: .*{message}") as error:
        visualize.main(["keras-stm visualize", *arguments])
    assert "\n" not in error.value.code
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "path, name",
    [("videos/my.clip.mp4", "my.clip"), ("frames.of.it", "frames.of.it"), ("x/../clip.", "clip")],
)
def test_pictures_are_written_into_a_folder_with_the_name_of_the_clip(
    path, name, tmp_path, monkeypatch, capsys
):
    (tmp_path / "frames.of.it").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_stm.drawing.draw", lambda *args: [str(args)])
    assert not visualize.main(["keras-stm visualize", path, "--model=run", "--class_name=clap"])
    output = os.path.join("saved_models", f"visualize-{name}")
    assert capsys.readouterr().out == f"{(path, 'run', output, None, 'clap')}\n"
