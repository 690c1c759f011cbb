"""What goes into a model and what comes out of it, as frames, pixels and names.

Which frames and pixels of a video those are is needed twice, by `keras_stm.data` and in the graph of an
exported model: what says so here takes integers, or integer tensors of TensorFlow.
"""

import numpy as np
from keras import ops

from keras_stm.arguments import ArgumentError, lines, positive_int, standardize_data_format

# Of ImageNet's RGB pixels divided by 255, as torchvision trains with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Which frames make a clip: one of each of T equal segments (section 4.2), or dense ones.
SAMPLING = ("segments", "dense")
# Frames that a dense clip spans, as TSM's on Kinetics.
DENSE_WINDOW = 64
# JPEG images are decoded smaller by the largest ratio that leaves the short side this many pixels.
JPEG_RATIOS = (1, 2, 4, 8)
JPEG_SHORT_SIDE = 256


def center_indices(total_frames, segments):
    """The middle frame of each segment, `(segments,)`; see `keras_stm.data.segments.center_indices`."""
    # In integers: the float form of the published codes is off by one for some lengths.
    return (2 * np.arange(segments) + 1) * total_frames // (2 * segments)


def dense_window(total_frames, segments):
    """Frames that a dense clip spans; see `keras_stm.data.segments.dense_indices`."""
    return _minimum(total_frames, max(DENSE_WINDOW, segments))


def resize_size(image_size):
    """The short side in pixels that goes with crops of `image_size`: 256 with the paper's 224."""
    return round(image_size * 256 / 224)


def short_side_shape(height, width, size):
    """Height and width once the short side is `size` pixels, the other rounded to the nearest."""
    short = _minimum(height, width)
    return tuple((2 * side * size + short) // (2 * short) for side in (height, width))


def center_box(height, width, size):
    """Box `(top, left, height, width)` of the middle `size` x `size` pixels, an odd one left at the end."""
    return (height - size) // 2, (width - size) // 2, size, size


def _minimum(first, second):
    # min() does not take tensors.
    return (first + second - abs(first - second)) // 2


def preprocess_input(clip, data_format=None):
    """Pixels as the models take them: divided by 255, minus ImageNet's mean, over its deviation.

    The channels stay RGB, unlike those of `keras.applications.resnet.preprocess_input`.

    Args:
        clip: RGB pixels from 0 to 255, an array or tensor `(..., 3)`, or `(..., 3, height, width)`
            with `"channels_first"`.
        data_format: `"channels_last"` or `"channels_first"`; default Keras' global setting.

    Returns:
        float32 of the same shape, a NumPy array where `clip` is one.

    Raises:
        ValueError: if `clip` is no array, its channels are not three or `data_format` is not as above.
    """
    shape = (3,) if standardize_data_format(data_format) == "channels_last" else (3, 1, 1)
    found = getattr(clip, "shape", None)
    if found is None:
        raise ArgumentError("clip", clip, "must be an array or tensor")
    if len(found) < len(shape) or found[-len(shape)] != 3:
        raise ArgumentError(
            "clip", clip, f"must have 3 channels, on axis {-len(shape)}", f"clip.shape={tuple(found)}"
        )
    mean, std = (np.reshape(np.array(value, "float32") * 255, shape) for value in (MEAN, STD))
    if isinstance(clip, np.ndarray):
        return (clip.astype("float32") - mean) / std
    # As tensors: PyTorch's would go through NumPy, and cannot from a GPU.
    mean, std = ops.convert_to_tensor(mean), ops.convert_to_tensor(std)
    return (ops.cast(clip, "float32") - mean) / std


def decode_predictions(scores, class_names, top=5):
    """The best classes of each clip by name.

    Args:
        scores: `(batch, classes)`, as a model gives them.
        class_names: one name per class, in the model's order.
        top: how many to return; fewer where there are fewer classes.

    Returns:
        For each clip a list of `(name, score)`, best first.

    Raises:
        ValueError: if `scores` and `class_names` do not fit, or an argument is not as above.
    """
    positive_int("top", top)
    class_names = lines("class_names", class_names)
    scores = ops.convert_to_numpy(scores)
    if scores.ndim != 2 or scores.shape[1] != len(class_names):
        raise ArgumentError(
            "scores",
            scores,
            f"must be (batch, {len(class_names)}), a column for each of `class_names`",
            f"scores.shape={scores.shape}",
        )
    # Stable, so that ties go to the earlier class on every machine.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [(class_names[index], float(row[index])) for index in indices]
        for row, indices in zip(scores, best, strict=True)
    ]
