"""The inputs and outputs of a model: frames, pixels and class names.

Both `keras_stm.data` and the graph of an exported model select frames and pixels of a video. The functions
here that select them accept integers or integer tensors of TensorFlow.
"""

import numpy as np

from keras_stm.arguments import ArgumentError, lines, positive_int, standardize_data_format

# Mean and deviation of ImageNet's RGB pixels divided by 255, as in torchvision's training.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# How the frames of a clip are sampled: one from each of T equal segments (paper, section 4.2), or densely.
SAMPLING = ("segments", "dense")
# Number of frames that a dense clip spans, like TSM's clips of Kinetics.
DENSE_WINDOW = 64
# Seconds of a clip if the model does not state the rate of its frames, as in Something-Something or Jester.
CLIP_SECONDS = 3
# JPEG images are decoded smaller, by the largest ratio that leaves the short side at least this many pixels.
JPEG_RATIOS = (1, 2, 4, 8)
JPEG_SHORT_SIDE = 256


def center_indices(total_frames, segments):
    """Returns the middle frame of each segment. See `keras_stm.data.segments.center_indices`."""
    # Use integers: the floating-point form in the published code is off by one for some lengths.
    return (2 * np.arange(segments) + 1) * total_frames // (2 * segments)


def dense_window(total_frames, segments):
    """Returns the number of frames that a dense clip spans. See `keras_stm.data.segments.dense_indices`."""
    return _minimum(total_frames, max(DENSE_WINDOW, segments))


def resize_size(image_size):
    """Returns the short side in pixels before crops of `image_size`: 256 for the paper's 224."""
    return round(image_size * 256 / 224)


def short_side_shape(height, width, size):
    """Returns height and width with a short side of `size` pixels. The other side is rounded to nearest."""
    short = _minimum(height, width)
    return tuple((2 * side * size + short) // (2 * short) for side in (height, width))


def center_box(height, width, size):
    """Returns the box `(top, left, height, width)` of the middle `size` x `size` pixels.

    If the margin is odd, the additional pixel is at the bottom or right.
    """
    return (height - size) // 2, (width - size) // 2, size, size


def _minimum(first, second):
    # min() does not accept tensors.
    return (first + second - abs(first - second)) // 2


def preprocess_input(clip, data_format=None):
    """Normalizes pixels for the models: divided by 255, minus ImageNet's mean, divided by its deviation.

    The channels stay RGB, unlike those of `keras.applications.resnet.preprocess_input`.

    Args:
        clip: RGB pixels from 0 to 255, an array or tensor `(..., 3)`, or `(..., 3, height, width)`
            with `"channels_first"`.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.

    Returns:
        float32 of the same shape: a NumPy array if `clip` is one, otherwise a tensor.

    Raises:
        ValueError: if `clip` is not an array or tensor, does not have three channels, or `data_format` is
            invalid.
    """
    shape = (3,) if standardize_data_format(data_format) == "channels_last" else (3, 1, 1)
    found = getattr(clip, "shape", None)
    if found is None:
        raise ArgumentError("clip", clip, "must be an array or tensor")
    if len(found) < len(shape) or found[-len(shape)] != 3:
        raise ArgumentError(
            "clip", clip, f"must have 3 channels on axis {-len(shape)}", f"clip.shape={tuple(found)}"
        )
    mean, std = (np.reshape(np.array(value, "float32") * 255, shape) for value in (MEAN, STD))
    if isinstance(clip, np.ndarray):
        return (clip.astype("float32") - mean) / std
    from keras import ops

    # PyTorch would convert its tensor to NumPy to combine it with an array, which fails for a GPU's tensor.
    mean, std = ops.convert_to_tensor(mean), ops.convert_to_tensor(std)
    return (ops.cast(clip, "float32") - mean) / std


def decode_predictions(scores, class_names, top=5):
    """Returns the names and scores of the best classes of each clip.

    Args:
        scores: `(batch, classes)`, the output of a model.
        class_names: one name per class, in the model's order.
        top: number of classes to return, or all if there are fewer.

    Returns:
        A list of `(name, score)` for each clip, best first.

    Raises:
        ValueError: if `scores` and `class_names` do not match, or an argument is invalid.
    """
    from keras import ops

    positive_int("top", top)
    class_names = lines("class_names", class_names)
    scores = ops.convert_to_numpy(scores)
    if scores.ndim != 2 or scores.shape[1] != len(class_names):
        raise ArgumentError(
            "scores",
            scores,
            f"must be (batch, {len(class_names)}), with a column for each of `class_names`",
            f"scores.shape={scores.shape}",
        )
    # A stable sort ranks the earlier class first in a tie, on every machine.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [(class_names[index], float(row[index])) for index in indices]
        for row, indices in zip(scores, best, strict=True)
    ]
