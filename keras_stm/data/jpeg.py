"""Decodes JPEG bytes into frames, at the smallest size that is still large enough."""

import numpy as np

from keras_stm.data.video import too_large
from keras_stm.preprocessing import JPEG_RATIOS, JPEG_SHORT_SIDE

# Maximum pixels along a side: the format stores it in 16 bits.
MAX_SIDE = 65535


class JpegError(ValueError):
    """An image that cannot be decoded.

    Attributes:
        index: index of the image in the clip.
        reason: what is wrong with it.
        kind: one of `video.KINDS`.
    """

    def __init__(self, index, reason, kind="unreadable"):
        super().__init__(f"image {index} {reason}")
        self.index = index
        self.reason = reason
        self.kind = kind


def decode(images, short_side=JPEG_SHORT_SIDE):
    """Decodes the frames of a clip, scaled down by 2, 4 or 8 if that leaves `short_side` pixels.

    Args:
        images: bytes of one JPEG per frame, at least one, all of the same size.
        short_side: minimum pixels of the short side after scaling. Smaller images keep their size.

    Returns:
        uint8 array `(len(images), height, width, 3)`, RGB. Grey and CMYK images are converted.

    Raises:
        JpegError: an image is damaged, differs in size from the first, or exceeds the limits of
            `video.too_large`.
        ImportError: TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("Decoding JPEG frames needs TensorFlow: pip install tensorflow") from error

    frames = []
    for i, image in enumerate(images):
        try:
            # The size in the header is checked first, because decoding allocates memory for it.
            size = stated_size(image) or tf.io.extract_jpeg_shape(image).numpy()[:2].tolist()
            if i == 0:
                first = size
                ratio = max((r for r in JPEG_RATIOS if -(-min(size) // r) >= short_side), default=1)
                reason = too_large(1, *size) or too_large(len(images), *(-(-side // ratio) for side in size))
                if reason:
                    raise JpegError(i, f"is too large: {reason}", "too large")
            if size != first:
                raise JpegError(i, "differs in size from the first image")
            # TensorFlow's default method darkens every frame, and is hardly faster.
            frame = tf.io.decode_jpeg(image, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
            frames.append(frame.numpy())
        except tf.errors.InvalidArgumentError as error:
            raise JpegError(i, "is not a JPEG, or is damaged") from error
    return np.stack(frames)


def stated_size(image):
    """Returns `[height, width]` from an ordinary header, or `None`.

    Asking TensorFlow instead takes an eighth of the time of decoding.
    """
    place = 2
    while image[place : place + 1] == b"\xff" and len(image) >= place + 9:
        marker = image[place + 1]
        # These markers start a frame of any coding, except for three that mark other things.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return [int.from_bytes(image[i : i + 2]) for i in (place + 5, place + 7)]
        place += 2 + int.from_bytes(image[place + 2 : place + 4])
    return None
