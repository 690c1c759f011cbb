import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_stm.data import frame_folder, images
from keras_stm.data.frame_folder import count_frames, list_frames, probe, read_frames
from keras_stm.data.video import VideoError
from tests.data.errors import argument_error
from tests.data.videos import state_jpeg_size


def encode(brightness, height=20, width=30):
    pixels = np.full((height, width, 3), brightness, "uint8")
    return tf.io.encode_jpeg(pixels).numpy()


@pytest.fixture
def folder(tmp_path):
    """Twelve frames in the layout of Something-Something v1; frame i has brightness 20 * i."""
    for i in range(12):
        (tmp_path / f"{i + 1:05d}.jpg").write_bytes(encode(20 * i))
    return tmp_path


def brightness(frames):
    return frames.mean(axis=(1, 2, 3)).round().astype(int).tolist()


def test_frames_are_those_of_their_names_in_order(folder):
    assert count_frames(folder) == 12
    frames = read_frames(folder, range(12))
    assert frames.dtype == np.uint8 and frames.shape == (12, 20, 30, 3)
    assert brightness(frames) == [20 * i for i in range(12)]


def test_indices_may_repeat_and_come_in_any_order(folder):
    assert brightness(read_frames(folder, [7, 7, 0, 11, 3])) == [140, 140, 0, 220, 60]


def test_repeated_frames_are_decoded_once(folder, monkeypatch):
    decode = images.decode
    decoded = []
    monkeypatch.setattr(images, "decode", lambda files: decoded.append(len(files)) or decode(files))
    assert len(read_frames(str(folder), [1, 2, 1, 2, 1])) == 5
    assert decoded == [2]


def test_indices_may_be_a_function_of_the_number_of_frames(folder):
    assert brightness(read_frames(folder, lambda total_frames: [total_frames - 1, 0])) == [220, 0]


def test_only_the_frames_asked_for_are_read(folder):
    (folder / "00005.jpg").write_bytes(b"damaged")
    assert brightness(read_frames(folder, [3, 5])) == [60, 100]


def test_large_frames_are_scaled_down(tmp_path):
    (tmp_path / "00001.jpg").write_bytes(encode(9, 600, 800))
    assert read_frames(tmp_path, [0]).shape == (1, 300, 400, 3)
    assert probe(tmp_path) == (1, 600, 800, None, None)


def test_files_that_are_no_frames_are_ignored(folder):
    for name in ("thumbs.db", "00001.tif", "._00001.jpg", "README.txt"):
        (folder / name).touch()
    (folder / "00013.JPEG").write_bytes(encode(240))
    assert list_frames(folder) == [*(f"{i:05d}.jpg" for i in range(1, 13)), "00013.JPEG"]
    assert probe(folder) == (13, 20, 30, None, None)


@pytest.mark.parametrize("read", [count_frames, probe, lambda folder: read_frames(folder, [0])])
@pytest.mark.parametrize("name,kind", [("missing", "missing"), ("file", "missing"), ("empty", "unreadable")])
def test_what_is_no_folder_of_frames_is_named(tmp_path, read, name, kind):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError) as error:
        read(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert error.value.kind == kind


def test_damaged_frame_is_named(folder):
    path = folder / "00005.jpg"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(VideoError, match=f"^{folder}: 00005.jpg ") as error:
        read_frames(folder, [0, 4, 6])
    assert error.value.kind == "unreadable"


def test_frame_of_another_size_is_named(folder):
    (folder / "00005.jpg").write_bytes(encode(0, 30, 20))
    with pytest.raises(VideoError, match="00005.jpg differs in size") as error:
        read_frames(folder, [0, 4, 6])
    assert error.value.kind == "unreadable"


def test_frame_that_vanishes_is_missing(folder, monkeypatch):
    names = [*list_frames(folder), "00099.jpg"]
    monkeypatch.setattr(frame_folder, "list_frames", lambda folder: names)
    with pytest.raises(VideoError, match="00099.jpg ") as error:
        read_frames(folder, [12])
    assert error.value.kind == "missing"


def test_frame_that_is_too_large_is_named(folder):
    (folder / "00005.jpg").write_bytes(state_jpeg_size(encode(0), 65500, 65500))
    with pytest.raises(VideoError, match="00005.jpg .*65500x65500") as error:
        read_frames(folder, [4])
    assert error.value.kind == "too large"


def test_more_frames_than_a_clip_may_have_are_too_large(folder):
    with pytest.raises(VideoError, match="1200000 .*30x20 .*2,147,483,648") as error:
        read_frames(folder, [0] * 1_200_000)
    assert error.value.kind == "too large"


def test_files_larger_than_a_clip_may_be_are_not_read(folder):
    # The file is sparse: the zeros take no disk space.
    os.truncate(folder / "00005.jpg", 2**31)
    with pytest.raises(VideoError, match="2,147,483,648") as error:
        read_frames(folder, [0, 5, 4])
    assert error.value.kind == "too large"


def test_pipe_named_like_a_frame_is_not_waited_for(folder):
    (folder / "00005.jpg").unlink()
    os.mkfifo(folder / "00005.jpg")
    with pytest.raises(VideoError, match="00005.jpg "):
        read_frames(folder, [4])


@pytest.mark.parametrize("indices", [[12], [-1], []])
def test_indices_out_of_range_are_refused(folder, indices):
    with argument_error("indices", indices):
        read_frames(folder, indices)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".webp", ".JPG"])
def test_frames_have_the_usual_formats(tmp_path, ending):
    """Frame i has brightness 40 * i; the numbers are not padded."""
    for i in range(1, 4):
        Image.new("RGB", (30, 20), (40 * i,) * 3).save(tmp_path / f"{8 + i}{ending}")
    assert abs(np.subtract(brightness(read_frames(tmp_path, range(3))), [40, 80, 120])).max() <= 2
    assert probe(tmp_path) == (3, 20, 30, None, None)


def test_a_file_is_read_by_its_content_whatever_its_ending(folder):
    Image.new("RGB", (30, 20), (77, 77, 77)).save(folder / "00005.jpg", "PNG")
    assert brightness(read_frames(folder, [3, 4])) == [60, 77]


def test_images_of_several_kinds_are_told_apart_or_refused(folder):
    for i in range(3):
        for axis in "xy":
            (folder / f"flow_{axis}_{i:05d}.jpg").write_bytes(encode(9))
    assert count_frames(folder) == 12
    for path in folder.glob("0*.jpg"):
        path.unlink()
    with pytest.raises(VideoError, match=r"^.*: the folder holds .*flow_x_#.jpg, flow_y_#.jpg") as error:
        count_frames(folder)
    assert error.value.kind == "unreadable"


def test_the_size_of_frames_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 600)).save(tmp_path / "1.jpg", exif=exif)
    assert read_frames(tmp_path, [0]).shape == (1, 400, 300, 3)
    assert probe(tmp_path) == (1, 800, 600, None, None)
