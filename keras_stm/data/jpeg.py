"""JPEG bytes -> frames, decoded at the smallest size that is still large enough."""

import numpy as np

from keras_stm.data.video import too_large
from keras_stm.preprocessing import JPEG_RATIOS, JPEG_SHORT_SIDE

# Pixels along a side, at most: the format has 16 bits for it.
MAX_SIDE = 65535


class JpegError(ValueError):
    """An image that cannot be decoded: `index`, its place in the clip, `reason`, and `kind` as of videos."""

    def __init__(self, index, reason, kind="unreadable"):
        super().__init__(f"image {index} {reason}")
        self.index = index
        self.reason = reason
        self.kind = kind


def decode(images, short_side=JPEG_SHORT_SIDE):
    """Decodes the frames of a clip, smaller by 2, 4 or 8 where that leaves `short_side` pixels.

    Args:
        images: the bytes of one JPEG a frame, at least one, all of one size.
        short_side: pixels to leave at least on the short side; smaller images keep their size.

    Returns:
        uint8 array `(len(images), height, width, 3)`, RGB, from grey and CMYK images too.

    Raises:
        JpegError: an image is damaged, or not as large as the first, or more than `video.too_large` allows.
        ImportError: TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("Frames in JPEG files are decoded by TensorFlow: pip install tensorflow") from error

    frames = []
    for i, image in enumerate(images):
        try:
            # By the header, as decoding takes memory for what it states.
            size = stated_size(image) or tf.io.extract_jpeg_shape(image).numpy()[:2].tolist()
            if i == 0:
                first = size
                ratio = max((r for r in JPEG_RATIOS if -(-min(size) // r) >= short_side), default=1)
                reason = too_large(1, *size) or too_large(len(images), *(-(-side // ratio) for side in size))
                if reason:
                    raise JpegError(i, f"is too large: {reason}", "too large")
            if size != first:
                raise JpegError(i, "is not as large as the first")
            # TensorFlow's default method darkens every frame, and is hardly faster.
            frame = tf.io.decode_jpeg(image, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
            frames.append(frame.numpy())
        except tf.errors.InvalidArgumentError as error:
            raise JpegError(i, "is no JPEG, or damaged") from error
    return np.stack(frames)


def stated_size(image):
    """`[height, width]` by an ordinary header, or `None`. Asking TensorFlow takes an eighth of decoding."""
    place = 2
    while image[place : place + 1] == b"\xff" and len(image) >= place + 9:
        marker = image[place + 1]
        # The start of a frame, of whichever coding; the three between are other tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return [int.from_bytes(image[i : i + 2]) for i in (place + 5, place + 7)]
        place += 2 + int.from_bytes(image[place + 2 : place + 4])
    return None
