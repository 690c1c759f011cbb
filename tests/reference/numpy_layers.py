"""The layers of the paper as plain NumPy loops: slow, but simple enough to check by reading.

Clips are `(batch, time, height, width, channels)`. `weights` maps the weight names of the Keras layers to
arrays in Keras's layout. Nothing else is shared with `keras_stm`.
"""

import numpy as np


def below(weights, prefix):
    """Returns the weights of the child `prefix`, without its name."""
    prefix += "/"
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def relu(x):
    return np.maximum(x, 0)


def batch_norm(clip, weights):
    scale = weights["gamma"] / np.sqrt(weights["moving_variance"] + 1e-5)
    return (clip - weights["moving_mean"]) * scale + weights["beta"]


def window(clip, row, column, size):
    """Returns the `size` x `size` pixels around (row, column), with zeros beyond the border."""
    batch, time, height, width, channels = clip.shape
    out = np.zeros((batch, time, size, size, channels))
    for i in range(size):
        for j in range(size):
            y, x = row + i - size // 2, column + j - size // 2
            if 0 <= y < height and 0 <= x < width:
                out[:, :, i, j] = clip[:, :, y, x]
    return out


def conv(clip, kernel, stride=1):
    """2-D convolution of each frame, with equal padding on all sides. `kernel` is (k, k, in, out)."""
    batch, time, height, width, _ = clip.shape
    rows, columns = range(0, height, stride), range(0, width, stride)
    out = np.zeros((batch, time, len(rows), len(columns), kernel.shape[-1]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            pixels = window(clip, row, column, kernel.shape[0])
            out[:, :, i, j] = np.einsum("btyxc,yxcd->btd", pixels, kernel)
    return out


def depthwise_conv(clip, kernel):
    """Convolution with one 2-D kernel per channel. `kernel` is (k, k, channels, 1)."""
    out = np.zeros(clip.shape)
    for row in range(clip.shape[2]):
        for column in range(clip.shape[3]):
            pixels = window(clip, row, column, kernel.shape[0])
            out[:, :, row, column] = np.einsum("btyxc,yxc->btc", pixels, kernel[..., 0])
    return out


def max_pool(clip, size):
    """Maxima of `size` x `size` squares. Squares at the border can be smaller, but none is skipped."""
    rows, columns = range(0, clip.shape[2], size), range(0, clip.shape[3], size)
    out = np.zeros((*clip.shape[:2], len(rows), len(columns), clip.shape[-1]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            square = clip[:, :, row : row + size, column : column + size]
            out[:, :, i, j] = square.max(axis=(2, 3))
    return out


def temporal_conv(clip, kernel, causal=False):
    """Convolution over time. `kernel` is (3, channels), or (3, in, out) for an ordinary convolution."""
    out = np.zeros(clip.shape)
    for t in range(clip.shape[1]):
        for tap in range(3):
            source = t + tap - (2 if causal else 1)
            if 0 <= source < clip.shape[1]:
                frame = clip[:, source]
                out[:, t] += frame * kernel[tap] if kernel.ndim == 2 else frame @ kernel[tap]
    return out


def temporal_shift(clip, shift_div=8, causal=False):
    part = clip.shape[-1] // shift_div
    out = np.zeros(clip.shape)
    for t in range(clip.shape[1]):
        for channel in range(clip.shape[-1]):
            source = t + (not causal) if channel < part else t - 1 if channel < 2 * part else t
            if 0 <= source < clip.shape[1]:
                out[:, t, ..., channel] = clip[:, source, ..., channel]
    return out


def cstm(clip, weights, strides=1):
    if "temporal_conv/kernel" in weights:
        clip = temporal_conv(clip, weights["temporal_conv/kernel"])
    clip = conv(clip, weights["conv/conv/kernel"], strides)
    return relu(batch_norm(clip, below(weights, "bn")))


def cmm(clip, weights, strides=1, causal=False):
    features = conv(clip, weights["reduce_conv/conv/kernel"])
    features = batch_norm(features, below(weights, "reduce_bn"))
    moved = depthwise_conv(features, weights["motion_conv/conv/kernel"])
    motion = np.zeros(features.shape)
    for t in range(clip.shape[1] - 1):
        motion[:, t + causal] = moved[:, t + 1] - features[:, t]
    motion = conv(motion, weights["restore_conv/conv/kernel"])
    return max_pool(motion, strides) if strides > 1 else motion


def stm_block(clip, weights, strides=1, fusion="sum", shift_div=None):
    """The block with the branches that `weights` contains. With `shift_div` it is the block of TSM."""
    shortcut = clip
    if "shortcut_conv/conv/kernel" in weights:
        shortcut = conv(clip, weights["shortcut_conv/conv/kernel"], strides)
        shortcut = batch_norm(shortcut, below(weights, "shortcut_bn"))
    if shift_div:
        clip = temporal_shift(clip, shift_div)
    clip = conv(clip, weights["reduce_conv/conv/kernel"])
    clip = relu(batch_norm(clip, below(weights, "reduce_bn")))
    features = cstm(clip, below(weights, "cstm"), strides)
    if below(weights, "cmm"):
        motion = cmm(clip, below(weights, "cmm"), strides)
        if fusion == "sum":
            features = features + motion
        elif fusion == "mean":
            features = (features + motion) / 2
        elif fusion == "concat":
            features = np.concatenate([features, motion], axis=-1)
            features = conv(features, weights["fusion_conv/conv/kernel"])
    residual = conv(features, weights["restore_conv/conv/kernel"])
    return relu(batch_norm(residual, below(weights, "restore_bn")) + shortcut)
