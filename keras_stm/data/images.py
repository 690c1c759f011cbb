"""Decodes the bytes of images into upright frames, at the smallest size that is still large enough.

TensorFlow decodes JPEG, because it is fast and scales while it decodes. Pillow decodes PNG, BMP and WebP.
"""

import io

import numpy as np

from keras_stm.data.video import too_large
from keras_stm.preprocessing import JPEG_RATIOS, JPEG_SHORT_SIDE

# Maximum pixels along a side: JPEG stores it in 16 bits.
MAX_SIDE = 65535
_JPEG = b"\xff\xd8\xff"
_ORIENTATION = 0x0112
# EXIF orientation -> how to turn and mirror the stored pixels.
_UPRIGHT = {
    1: lambda frame: frame,
    2: lambda frame: frame[:, ::-1],
    3: lambda frame: frame[::-1, ::-1],
    4: lambda frame: frame[::-1],
    5: lambda frame: frame.swapaxes(0, 1),
    6: lambda frame: frame.swapaxes(0, 1)[:, ::-1],
    7: lambda frame: frame[::-1, ::-1].swapaxes(0, 1),
    8: lambda frame: frame.swapaxes(0, 1)[::-1],
}


class ImageError(ValueError):
    """An image that cannot be decoded.

    Attributes:
        index: index of the image in the clip.
        reason: what is wrong with it.
        kind: one of `video.KINDS`.
    """

    def __init__(self, reason, kind="unreadable", index=None):
        super().__init__(reason, kind, index)
        self.index = index
        self.reason = reason
        self.kind = kind

    def __str__(self):
        return f"image {self.index} {self.reason}"


def is_jpeg(image):
    """Returns whether the bytes of an image are those of a JPEG, whatever the file is called."""
    return image.startswith(_JPEG)


def decode(images, short_side=JPEG_SHORT_SIDE):
    """Decodes the frames of a clip, scaled down by 2, 4 or 8 if that leaves `short_side` pixels.

    Args:
        images: bytes of one JPEG, PNG, BMP or WebP per frame, at least one, all of the same upright size.
        short_side: minimum pixels of the short side after scaling. Smaller images keep their size.

    Returns:
        uint8 array `(len(images), height, width, 3)`, RGB, turned and mirrored as EXIF says. Grey and
        CMYK images are converted, and transparency is dropped.

    Raises:
        ImageError: an image is damaged, differs in size from the first, or exceeds the limits of
            `video.too_large`.
        ImportError: TensorFlow, or Pillow for other formats than JPEG, is not installed.
    """
    frames = []
    for i, image in enumerate(images):
        try:
            # The size in the header is checked first, because decoding allocates memory for it.
            size, load = (_open_jpeg if is_jpeg(image) else _open_other)(image)
            if i == 0:
                first = size
                ratio = max((r for r in JPEG_RATIOS if -(-min(size) // r) >= short_side), default=1)
                reason = too_large(1, *size) or too_large(len(images), *(-(-side // ratio) for side in size))
                if reason:
                    raise ImageError(f"is too large: {reason}", "too large")
            # Before EXIF is applied, images of one upright size may differ by a quarter turn.
            frame = _load_upright(load, ratio) if sorted(size) == sorted(first) else None
            if frame is None or (frames and frame.shape != frames[0].shape):
                raise ImageError("differs in size from the first image")
            frames.append(frame)
        except ImageError as error:
            error.index = i
            raise
    return np.stack(frames)


def _load_upright(load, ratio):
    frame, orientation = load(ratio)
    # Other values are invalid, and viewers ignore them.
    return _UPRIGHT.get(orientation, _UPRIGHT[1])(frame)


def _open_jpeg(image):
    """Returns the stored size of a JPEG, and a function that decodes it.

    Returns:
        `[height, width]`, and a function from the ratio to scale down by to `(frame, orientation)`.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("Decoding JPEG frames needs TensorFlow: pip install tensorflow") from error

    damaged = "is not a JPEG, or is damaged"
    size, orientation = read_jpeg_header(image)
    if size is None:
        try:
            # This takes an eighth of the time of decoding.
            size = tf.io.extract_jpeg_shape(image).numpy()[:2].tolist()
        except tf.errors.InvalidArgumentError as error:
            raise ImageError(damaged) from error

    def load(ratio):
        try:
            # TensorFlow's default method darkens every frame, and is hardly faster.
            frame = tf.io.decode_jpeg(image, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
        except tf.errors.InvalidArgumentError as error:
            raise ImageError(damaged) from error
        return frame.numpy(), orientation

    return size, load


def read_jpeg_header(image):
    """Returns `[height, width]` of a JPEG as stored, `None` if it is not found, and its EXIF orientation."""
    size, orientation = None, None
    for marker, content in _jpeg_segments(image):
        # These markers start a frame of any coding, except for three that mark other things.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(content) >= 5:
            size = size or [int.from_bytes(content[i : i + 2]) for i in (1, 3)]
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = orientation or _read_orientation(content[6:])
    return size, orientation or 1


def _jpeg_segments(image):
    """Yields the marker and the content of each segment of a JPEG before its pixels."""
    place = 2
    while image[place : place + 1] == b"\xff":
        # The format allows any number of fill bytes before a marker.
        while image[place + 1 : place + 2] == b"\xff":
            place += 1
        length = int.from_bytes(image[place + 2 : place + 4])
        if length < 2 or image[place + 1] == 0xDA:
            return
        yield image[place + 1], image[place + 4 : place + 2 + length]
        place += 2 + length


def _read_orientation(tiff):
    """Returns the orientation in the first directory of EXIF data, or `None`."""
    order = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None:
        return None

    def number(start, size):
        return int.from_bytes(tiff[start : start + size], order)

    directory = number(4, 4)
    for i in range(number(directory, 2)):
        entry = directory + 2 + 12 * i
        if entry + 12 > len(tiff):
            break
        if number(entry, 2) == _ORIENTATION:
            # Type 3 is the usual one, 16 bits; some software writes 8 or 32 bits.
            return number(entry + 8, {1: 1, 4: 4}.get(number(entry + 2, 2), 2))
    return None


def _open_other(image):
    """Does the same as `_open_jpeg` for a PNG, BMP or WebP."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Decoding frames other than JPEG needs Pillow: pip install pillow") from error

    def guarded(function, *arguments):
        try:
            return function(*arguments)
        except Image.DecompressionBombError as error:
            raise ImageError(f"is too large: {error}", "too large") from error
        except Exception as error:
            # Pillow raises errors of many types if a file is damaged.
            raise ImageError("is not a JPEG, PNG, BMP or WebP image, or is damaged") from error

    def load(ratio):
        pixels = opened
        if pixels.mode.startswith("I"):
            # Grey images of 16 bits: conversion would clip their values to 255.
            pixels = Image.fromarray((np.asarray(pixels) >> 8).astype("uint8"))
        return np.asarray(pixels.convert("RGB").reduce(ratio)), opened.getexif().get(_ORIENTATION, 1)

    opened = guarded(Image.open, io.BytesIO(image), "r", ("PNG", "BMP", "WEBP"))
    return [opened.height, opened.width], lambda ratio: guarded(load, ratio)
