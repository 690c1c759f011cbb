"""Resizing of clips in NumPy.

The functions of the backends are no alternative: they keep memory for each new size of a video. Products of
matrices are none either, because their threads would wait for each other where several videos are read at
the same time.
"""

import numpy as np


def resize(clip, height, width, box=None):
    """Scales a clip, bilinear and antialiased: `tf.image.resize` with `antialias=True`.

    Args:
        clip: array `(T, H, W, 3)`, uint8 or float32.
        height: new height in pixels.
        width: new width in pixels.
        box: `(top, left, height, width)` of the part of the scaled frames to compute; `None` is all.

    Returns:
        float32 array `(T, height, width, 3)`, or of the size of `box`, with values in the same range.
    """
    top, left, height_of_box, width_of_box = box or (0, 0, height, width)
    row_taps = _taps(clip.shape[1], height, top, height_of_box)
    column_taps = _taps(clip.shape[2], width, left, width_of_box)
    first, last = (limit([pixels for pixels, _ in column_taps]) for limit in (np.min, np.max))
    column_taps = [(pixels - first, weights) for pixels, weights in column_taps]
    resized = np.empty((len(clip), height_of_box, width_of_box, 3), "float32")
    # One frame at a time fits into the processor's cache.
    for frame, target in zip(clip[:, :, first : last + 1], resized, strict=True):
        rows = _weighted_sum(frame.reshape(len(frame), -1), row_taps)
        # Columns become rows, because long contiguous rows are fast to combine.
        columns = rows.reshape(height_of_box, -1, 3).transpose(1, 0, 2)
        columns = _weighted_sum(columns.reshape(-1, height_of_box * 3), column_taps)
        target[:] = columns.reshape(width_of_box, height_of_box, 3).transpose(1, 0, 2)
    return resized


def _taps(from_size, to_size, start, size):
    """Returns which pixels of a side make up the pixels of the resized side.

    The weights of a resized pixel are a triangle around its position. Half the width of the triangle is the
    distance between resized pixels, but at least one pixel.

    Args:
        from_size: number of pixels before resizing.
        to_size: number of pixels after resizing.
        start: index of the first resized pixel to compute.
        size: number of resized pixels to compute.

    Returns:
        List of `(pixels, weights)`, both `(size,)`. A resized pixel is the sum over the list of its pixel
        times its weight.
    """
    scale = from_size / to_size
    support = max(scale, 1)
    centers = (np.arange(start, start + size) + 0.5) * scale
    # One pixel more than the triangle covers at most.
    offsets = np.arange(int(np.ceil(2 * support)) + 1)
    pixels = np.floor(centers - support).astype("int64")[:, np.newaxis] + offsets
    weights = np.maximum(1 - np.abs(pixels + 0.5 - centers[:, np.newaxis]) / support, 0)
    weights[(pixels < 0) | (pixels >= from_size)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    pixels = np.clip(pixels, 0, from_size - 1)
    return [(pixels[:, tap], weights[:, tap].astype("float32")) for tap in offsets if weights[:, tap].any()]


def _weighted_sum(rows, taps):
    """Returns the sum of `weights * rows[pixels]` over `taps`, float32."""
    # One array for all products: a new one for each would take longer than the product.
    product = np.empty((len(taps[0][0]), rows.shape[1]), "float32")
    total = np.zeros_like(product)
    for pixels, weights in taps:
        np.multiply(rows[pixels], weights[:, np.newaxis], out=product)
        total += product
    return total
