import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_stm.data import jpeg
from tests.data.videos import state_jpeg_size


def image(height, width, channels=3):
    gradient = np.linspace(0, 255, height)[:, None, None] * np.linspace(0.5, 1, width)[:, None]
    return np.tile(gradient, channels).astype("uint8")


def encode(pixels):
    return tf.io.encode_jpeg(pixels, quality=100).numpy()


def test_small_images_keep_their_size_and_order():
    frames = np.stack([image(100, 176), image(100, 176)[::-1]])
    decoded = jpeg.decode([encode(frame) for frame in frames])
    assert decoded.dtype == np.uint8
    assert abs(decoded.astype(int) - frames).max() <= 4


@pytest.mark.parametrize(
    "height,width,short_side,expected",
    [
        (256, 340, 256, (256, 340)),
        (510, 700, 256, (510, 700)),
        # Halves are rounded up.
        (511, 700, 256, (256, 350)),
        (700, 511, 256, (350, 256)),
        (1020, 1100, 256, (510, 550)),
        (1024, 1100, 256, (256, 275)),
        (2600, 2048, 256, (325, 256)),
        (512, 5000, 32, (64, 625)),
        (200, 300, 100, (100, 150)),
        (200, 300, 1, (25, 38)),
    ],
)
def test_short_side_is_divided_as_often_as_it_stays_long_enough(height, width, short_side, expected):
    assert jpeg.decode([encode(image(height, width))], short_side).shape == (1, *expected, 3)


def test_default_leaves_256_pixels():
    assert jpeg.decode([encode(image(512, 512))]).shape == (1, 256, 256, 3)


def test_grey_images_become_rgb():
    grey = image(30, 40, channels=1)
    decoded = jpeg.decode([encode(grey)])[0]
    assert abs(decoded.astype(int) - grey).max() <= 4


def test_cmyk_images_become_rgb():
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow, which writes CMYK")
    file = io.BytesIO()
    pillow.fromarray(image(30, 40)).convert("CMYK").save(file, "JPEG", quality=100)
    assert abs(jpeg.decode([file.getvalue()])[0].astype(int) - image(30, 40)).max() <= 8


def test_works_in_the_threads_of_tf_data():
    images = [encode(image(20, 30))] * 4
    dataset = tf.data.Dataset.range(8).map(
        lambda _: tf.numpy_function(lambda: jpeg.decode(images), (), tf.uint8), num_parallel_calls=4
    )
    for frames in dataset:
        np.testing.assert_array_equal(frames, jpeg.decode(images))


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize(
    "damaged",
    [b"", b"garbage", encode(image(20, 30))[:-2], encode(image(20, 30))[:100], b"\x89PNG\r\n\x1a\n" * 9],
)
def test_damaged_images_are_named(index, damaged):
    images = [encode(image(20, 30))] * 3
    images[index] = damaged
    with pytest.raises(jpeg.JpegError, match=f"image {index} ") as error:
        jpeg.decode(images)
    assert error.value.index == index
    assert isinstance(error.value, ValueError)


def test_every_cut_is_found():
    whole = encode(image(20, 30))
    for length in range(len(whole)):
        with pytest.raises(jpeg.JpegError):
            jpeg.decode([whole[:length]])


@pytest.mark.parametrize(
    "height,width,reason",
    [
        (65500, 65500, "65500x65500 .*33,554,432"),
        (60000, 16, "16x60000 .*32 times"),
        (510, 16000, "88 .*16000x510 .*2,147,483,648"),
    ],
)
def test_size_that_a_header_states_is_checked_before_anything_is_decoded(monkeypatch, height, width, reason):
    images = [state_jpeg_size(encode(image(20, 30)), height, width)] * 88
    monkeypatch.setattr(tf.io, "decode_jpeg", None)
    with pytest.raises(jpeg.JpegError, match=f"image 0 .*{reason}") as error:
        jpeg.decode(images)
    assert error.value.kind == "too large"


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(9000), "comment": "a"}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_size_is_read_as_tensorflow_reads_it(options, mode):
    file = io.BytesIO()
    Image.fromarray(image(37, 53)).convert(mode).save(file, "jpeg", **options)
    assert jpeg.stated_size(file.getvalue()) == [37, 53]


def test_header_that_is_not_ordinary_is_left_to_tensorflow():
    usual = encode(image(20, 30))
    # The format allows any number of fill bytes before a marker.
    filled = usual[:2] + b"\xff\xff" + usual[2:]
    assert jpeg.stated_size(filled) is None
    np.testing.assert_array_equal(jpeg.decode([filled]), jpeg.decode([usual]))


def test_larger_image_behind_the_first_is_not_decoded(monkeypatch):
    small = encode(image(20, 30))
    decode_jpeg = tf.io.decode_jpeg
    monkeypatch.setattr(
        tf.io, "decode_jpeg", lambda data, **arguments: data == small and decode_jpeg(data, **arguments)
    )
    with pytest.raises(jpeg.JpegError, match="image 1 "):
        jpeg.decode([small, state_jpeg_size(small, 65500, 65500)])


def test_image_of_another_size_is_named():
    images = [encode(image(20, 30)), encode(image(20, 30)), encode(image(30, 20))]
    with pytest.raises(jpeg.JpegError, match="image 2 "):
        jpeg.decode(images)
