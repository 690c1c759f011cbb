"""Preprocessing of videos, as functions that TensorFlow traces into a graph."""

import numpy as np

from keras_stm import preprocessing

# Limit of a JPEG file, twice the pixels of 8K video: a tiny file may state any size, and exhaust the memory.
_MAX_PIXELS = 2**26
# Sides of frames are padded to a multiple of this number of pixels before products of matrices, because
# TensorFlow on a CPU compiles and keeps a kernel for each new shape of a product.
_SIDE_STEP = 64


def prepare_clips(clip, num_frames, image_size, resize_size, sampling):
    """Preprocesses clips like `keras_stm.data.load_clip`, in a graph.

    Args:
        clip: uint8 tensor `(N, F, H, W, 3)`, with any F, H and W.
        num_frames: see `keras_stm.export.save`.
        image_size: see `keras_stm.export.save`.
        resize_size: see `keras_stm.export.save`.
        sampling: see `keras_stm.export.save`.

    Returns:
        float32 tensor `(N, num_frames, image_size, image_size, 3)`.
    """
    import tensorflow as tf

    shape = tf.shape(clip)
    batch, total_frames, height, width = shape[0], shape[1], shape[2], shape[3]
    checks = [
        tf.debugging.Assert(total_frames > 0, ["`clip` has no frames (N, F, H, W, 3): F is 0"]),
        tf.debugging.Assert(height * width > 0, ["`clip` has no pixels (N, F, H, W, 3): H or W is 0"]),
    ]
    with tf.control_dependencies(checks):
        clip = tf.gather(clip, frame_indices(total_frames, num_frames, sampling), axis=1)
        # Otherwise divisions by them fail before the check, with a message that does not help.
        height, width = tf.identity(height), tf.identity(width)

    shape = preprocessing.short_side_shape(height, width, resize_size)
    top, left, *_ = preprocessing.center_box(*shape, image_size)
    # Without negative numbers, whose integer division ONNX rounds differently.
    padded_height, padded_width = (
        (side + _SIDE_STEP - 1) // _SIDE_STEP * _SIDE_STEP for side in (height, width)
    )
    rows = resize_weights(height, shape[0], top, image_size, padded_height)
    columns = resize_weights(width, shape[1], left, image_size, padded_width)
    clip = tf.pad(clip, [(0, 0), (0, 0), (0, padded_height - height), (0, padded_width - width), (0, 0)])
    # Each side is resized by a matrix product, because other runtimes do not support tf.image.resize with
    # antialias=True.
    clip = tf.reshape(tf.cast(clip, tf.float32), (batch * num_frames, padded_height, padded_width * 3))
    clip = tf.reshape(tf.matmul(rows, clip), (batch * num_frames * image_size, padded_width, 3))
    # Channels move to the rows, because a product with only three columns is slow.
    clip = tf.reshape(tf.transpose(clip, (0, 2, 1)), (-1, padded_width))
    clip = tf.reshape(tf.matmul(clip, columns, transpose_b=True), (-1, 3, image_size))
    clip = tf.reshape(tf.transpose(clip, (0, 2, 1)), (batch, num_frames, image_size, image_size, 3))
    mean, std = (np.array(value, "float32") * 255 for value in (preprocessing.MEAN, preprocessing.STD))
    return (clip - mean) / std


def check_clips(clips):
    """Returns preprocessed clips unchanged; fails if they are empty, or have NaN or infinity."""
    import tensorflow as tf

    checks = [
        tf.debugging.Assert(
            tf.size(clips) > 0,
            ["a request must have clips (N, T, H, W, 3), but has", tf.shape(clips)],
            summarize=5,
        ),
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(clips)), ["`clip` must be finite, but has NaN or infinity"]
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(clips)


def frame_indices(total_frames, num_frames, sampling):
    """Returns the indices of `keras_stm.data.segments.clip_indices` without `rng`, as an int32 tensor."""
    import tensorflow as tf

    centers = preprocessing.center_indices(total_frames, num_frames)
    if sampling == "segments":
        return centers
    window = preprocessing.dense_window(total_frames, num_frames)
    dense = tf.range(num_frames) * (window // num_frames) + (total_frames - window) // 2
    return tf.where(total_frames < num_frames, centers, dense)


def resize_weights(from_size, to_size, start, size, padded_size):
    """Returns `size` rows of the matrix that resizes a side like `tf.image.resize(antialias=True)`.

    Each row is a triangle around the position of its output pixel, with the distance between output pixels,
    but at least one input pixel, as half its width.

    Args:
        from_size: number of pixels before resizing, an integer tensor.
        to_size: number of pixels after resizing, an integer tensor.
        start: index of the first output pixel to compute.
        size: number of output pixels to compute.
        padded_size: number of columns, an integer tensor; those from `from_size` on are 0.

    Returns:
        float32 tensor `(size, padded_size)`.
    """
    import tensorflow as tf

    scale = tf.cast(from_size, tf.float32) / tf.cast(to_size, tf.float32)
    centers = (tf.cast(start + tf.range(size), tf.float32) + 0.5) * scale
    pixels = tf.range(padded_size)
    distances = tf.abs(tf.cast(pixels, tf.float32) + 0.5 - centers[:, tf.newaxis]) / tf.maximum(scale, 1.0)
    weights = tf.nn.relu(1 - distances) * tf.cast(pixels < from_size, tf.float32)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def decode_clip(images, num_frames, sampling):
    """Selects the frames of one clip from a video, and decodes them like `keras_stm.data.images.decode`.

    EXIF orientation is not applied.

    Args:
        images: tensor of strings `(F,)`, JPEG files.
        num_frames: see `keras_stm.export.save`.
        sampling: see `keras_stm.export.save`.

    Returns:
        uint8 tensor `(num_frames, H, W, 3)`.
    """
    import tensorflow as tf

    total_frames = tf.shape(images)[0]
    check = tf.debugging.Assert(total_frames > 0, ["`images` has no frames (N, F): F is 0"])
    with tf.control_dependencies([check]):
        images = tf.gather(images, frame_indices(total_frames, num_frames, sampling))
    is_jpeg = tf.strings.substr(images, 0, 3) == b"\xff\xd8\xff"
    check = tf.debugging.Assert(tf.reduce_all(is_jpeg), ["`images` must be JPEG files (N, F)"])
    with tf.control_dependencies([check]):
        sizes = tf.map_fn(
            lambda image: tf.io.extract_jpeg_shape(image)[:2], images, fn_output_signature=tf.int32
        )
    is_equal = tf.reduce_all(sizes == sizes[:1])
    num_pixels = tf.reduce_prod(tf.cast(sizes, tf.int64), axis=1)
    checks = [
        tf.debugging.Assert(is_equal, ["`images` of one video must have one size, but have sizes", sizes]),
        tf.debugging.Assert(
            tf.reduce_all(num_pixels <= _MAX_PIXELS),
            [f"`images` must have at most {_MAX_PIXELS} pixels, but have", num_pixels],
        ),
    ]

    def decode(ratio):
        return tf.map_fn(
            # TensorFlow's default method darkens every frame.
            lambda image: tf.io.decode_jpeg(image, 3, ratio, dct_method="INTEGER_ACCURATE"),
            images,
            fn_output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
        )

    with tf.control_dependencies(checks):
        ratios = np.array(preprocessing.JPEG_RATIOS[1:])
        large_enough = -(-tf.reduce_min(sizes) // ratios) >= preprocessing.JPEG_SHORT_SIDE
        branches = [lambda ratio=ratio: decode(ratio) for ratio in preprocessing.JPEG_RATIOS]
        return tf.switch_case(tf.math.count_nonzero(large_enough, dtype=tf.int32), branches)
