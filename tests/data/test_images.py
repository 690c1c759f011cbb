import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_stm.data import images
from tests.data.videos import state_jpeg_size


def image(height, width, channels=3):
    gradient = np.linspace(0, 255, height)[:, None, None] * np.linspace(0.5, 1, width)[:, None]
    return np.tile(gradient, channels).astype("uint8")


def encode(pixels):
    return tf.io.encode_jpeg(pixels, quality=100).numpy()


def test_small_images_keep_their_size_and_order():
    frames = np.stack([image(100, 176), image(100, 176)[::-1]])
    decoded = images.decode([encode(frame) for frame in frames])
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
    assert images.decode([encode(image(height, width))], short_side).shape == (1, *expected, 3)


def test_default_leaves_256_pixels():
    assert images.decode([encode(image(512, 512))]).shape == (1, 256, 256, 3)


def test_grey_images_become_rgb():
    grey = image(30, 40, channels=1)
    decoded = images.decode([encode(grey)])[0]
    assert abs(decoded.astype(int) - grey).max() <= 4


def test_cmyk_images_become_rgb():
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow, which writes CMYK")
    file = io.BytesIO()
    pillow.fromarray(image(30, 40)).convert("CMYK").save(file, "JPEG", quality=100)
    assert abs(images.decode([file.getvalue()])[0].astype(int) - image(30, 40)).max() <= 8


def test_works_in_the_threads_of_tf_data():
    files = [encode(image(20, 30))] * 4
    dataset = tf.data.Dataset.range(8).map(
        lambda _: tf.numpy_function(lambda: images.decode(files), (), tf.uint8), num_parallel_calls=4
    )
    for frames in dataset:
        np.testing.assert_array_equal(frames, images.decode(files))


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize(
    "damaged",
    [b"", b"garbage", encode(image(20, 30))[:-2], encode(image(20, 30))[:100], b"\x89PNG\r\n\x1a\n" * 9],
)
def test_damaged_images_are_named(index, damaged):
    files = [encode(image(20, 30))] * 3
    files[index] = damaged
    with pytest.raises(images.ImageError, match=f"image {index} ") as error:
        images.decode(files)
    assert error.value.index == index
    assert isinstance(error.value, ValueError)


def test_every_cut_is_found():
    whole = encode(image(20, 30))
    for length in range(len(whole)):
        with pytest.raises(images.ImageError):
            images.decode([whole[:length]])


@pytest.mark.parametrize(
    "height,width,reason",
    [
        (65500, 65500, "65500x65500 .*33,554,432"),
        (60000, 16, "16x60000 .*32 times"),
        (510, 16000, "88 .*16000x510 .*2,147,483,648"),
    ],
)
def test_size_that_a_header_states_is_checked_before_anything_is_decoded(monkeypatch, height, width, reason):
    files = [state_jpeg_size(encode(image(20, 30)), height, width)] * 88
    monkeypatch.setattr(tf.io, "decode_jpeg", None)
    with pytest.raises(images.ImageError, match=f"image 0 .*{reason}") as error:
        images.decode(files)
    assert error.value.kind == "too large"


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(9000), "comment": "a"}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_size_is_read_as_tensorflow_reads_it(options, mode):
    file = io.BytesIO()
    Image.fromarray(image(37, 53)).convert(mode).save(file, "jpeg", **options)
    assert images.read_jpeg_header(file.getvalue()) == ([37, 53], 1)


def test_header_that_is_not_ordinary_is_left_to_tensorflow():
    usual = encode(image(20, 30))
    # A marker of a restart has no length. TensorFlow skips it.
    odd = usual[:2] + b"\xff\xd0" + usual[2:]
    assert images.read_jpeg_header(odd)[0] is None
    np.testing.assert_array_equal(images.decode([odd]), images.decode([usual]))


def test_fill_bytes_before_a_marker_are_skipped():
    usual = encode(image(20, 30))
    filled = usual[:2] + b"\xff\xff" + usual[2:]
    assert images.read_jpeg_header(filled)[0] == [20, 30]
    np.testing.assert_array_equal(images.decode([filled]), images.decode([usual]))


def test_larger_image_behind_the_first_is_not_decoded(monkeypatch):
    small = encode(image(20, 30))
    decode_jpeg = tf.io.decode_jpeg
    monkeypatch.setattr(
        tf.io, "decode_jpeg", lambda data, **arguments: data == small and decode_jpeg(data, **arguments)
    )
    with pytest.raises(images.ImageError, match="image 1 "):
        images.decode([small, state_jpeg_size(small, 65500, 65500)])


def test_image_of_another_size_is_named():
    files = [encode(image(20, 30)), encode(image(20, 30)), encode(image(30, 20))]
    with pytest.raises(images.ImageError, match="image 2 "):
        images.decode(files)


def lopsided(mode="RGB"):
    """Returns an image that differs from itself however it is turned or mirrored."""
    pixels = np.zeros((32, 48, 3), "uint8")
    pixels[:16, :16] = 250
    pixels[:16, 32:] = 120
    return Image.fromarray(pixels).convert(mode)


def encode_as(picture, file_format, **options):
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "file_format,mode,options",
    [
        ("JPEG", "RGB", {"quality": 100}),
        ("JPEG", "RGB", {"quality": 100, "progressive": True}),
        ("JPEG", "L", {"quality": 100}),
        ("JPEG", "CMYK", {"quality": 100}),
        ("PNG", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
    ],
)
def test_images_are_turned_and_mirrored_as_exif_says(file_format, mode, options):
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = encode_as(lopsided(mode), file_format, exif=exif, **options)
        # Pillow computes it independently; 0 and 9 are invalid.
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(image))).convert("RGB"))
        assert len({expected.shape, (32, 48, 3)}) == (2 if 5 <= orientation <= 8 else 1)
        decoded = images.decode([image])[0]
        assert abs(decoded.astype(int) - expected).max() <= 8


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind,size", [(1, 1), (3, 2), (4, 4)])
def test_exif_may_be_of_either_byte_order_and_any_integer_type(order, kind, size):
    def number(value, size):
        return value.to_bytes(size, order)

    entry = number(0x0112, 2) + number(kind, 2) + number(1, 4) + number(6, size).ljust(4, b"\0")
    tiff = {"little": b"II", "big": b"MM"}[order] + number(42, 2) + number(8, 4) + number(1, 2) + entry
    segment = b"Exif\0\0" + tiff
    jpeg = encode_as(lopsided(), "JPEG")
    turned = jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + jpeg[2:]
    assert images.decode([turned]).shape == (1, 48, 32, 3)
    # A directory that states more than there is, and one that lies outside.
    for wrong in (turned.replace(tiff, tiff[:-9] + bytes(9)), turned.replace(tiff[4:8], b"\xff" * 4)):
        assert images.decode([wrong]).shape == (1, 32, 48, 3)


def test_frames_of_one_upright_size_may_be_stored_in_different_ways():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = lopsided().transpose(Image.Transpose.ROTATE_270)
    files = [encode_as(upright, "PNG"), encode_as(lopsided(), "PNG", exif=exif), encode_as(upright, "JPEG")]
    frames = images.decode(files)
    np.testing.assert_array_equal(frames[0], frames[1])
    assert abs(frames[2].astype(int) - frames[0]).mean() < 4
    with pytest.raises(images.ImageError, match="image 1 differs in size"):
        images.decode([files[0], encode_as(lopsided(), "PNG")])


@pytest.mark.parametrize(
    "file_format,mode",
    [
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        *(("BMP", mode) for mode in ("RGB", "L", "P", "1")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_other_formats_become_rgb(file_format, mode):
    picture = Image.fromarray(image(30, 40)).convert(mode)
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = images.decode([encode_as(picture, file_format, **options)])
    np.testing.assert_array_equal(decoded[0], picture.convert("RGB"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_16_bits_the_high_ones_are_kept(channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (20, 30, channels), "uint16")
    decoded = images.decode([tf.io.encode_png(pixels).numpy()])[0]
    colours = pixels[..., :3] if channels > 2 else pixels[..., :1].repeat(3, axis=2)
    np.testing.assert_array_equal(decoded, colours >> 8)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_formats_are_scaled_down_alike(file_format):
    picture = Image.fromarray(image(511, 700))
    decoded = images.decode([encode_as(picture, file_format, quality=100)])[0]
    expected = np.asarray(picture.resize((350, 256), Image.Resampling.BOX))
    assert decoded.shape == (256, 350, 3) and abs(decoded.astype(int) - expected).mean() < 3


def test_cut_files_of_other_formats_are_found():
    for file_format in ("PNG", "BMP", "WEBP"):
        whole = encode_as(lopsided(), file_format)
        for length in range(0, len(whole) - 20, 9):
            with pytest.raises(images.ImageError) as error:
                images.decode([whole[:length]])
            assert error.value.kind == "unreadable"


@pytest.mark.parametrize("height,width", [(2**13, 2**13), (65000, 65000)])
@pytest.mark.filterwarnings("ignore:.*DecompressionBomb", "ignore:Image size")
def test_size_that_another_header_states_is_checked_before_anything_is_decoded(height, width):
    data = bytearray(encode_as(lopsided(), "BMP"))
    data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    with pytest.raises(images.ImageError) as error:
        images.decode([bytes(data)])
    assert error.value.kind == "too large"
