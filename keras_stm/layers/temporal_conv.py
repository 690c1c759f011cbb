"""The temporal convolution of CSTM."""

import keras
import numpy as np
from keras import ops

from keras_stm.arguments import one_of, standardize_data_format
from keras_stm.layers.per_frame import (
    clip_channels,
    depthwise_conv,
    frame_channel_axis,
    on_frames,
    register,
)

KINDS = ("channelwise", "ordinary")


def shift_taps(channels):
    """Returns the initial taps `(3, channels)` for frames t-1, t and t+1 (paper, section 4.2).

    The first quarter of the channels reads the previous frame, and the last quarter reads the next frame.
    The half between reads the current frame. In a causal convolution, the same taps are those of frames
    t-2, t-1 and t.
    """
    taps = np.zeros((3, channels), "float32")
    quarter = channels // 4
    taps[0, :quarter] = 1
    taps[1, quarter : channels - quarter] = 1
    taps[2, channels - quarter :] = 1
    return taps


def convolve_strip(clip, kernel, data_format, causal=False):
    """Convolves a clip over time, as an image of time x pixels with a (3, 1) kernel.

    The kernel is `(3, channels)`, or `(3, channels, channels)` for an ordinary convolution. If `causal` is
    true, its taps belong to frames t-2, t-1 and t: the result is the same, one frame later.
    """
    if data_format == "channels_first":
        clip = ops.moveaxis(clip, 2, -1)
    batch, time, height, width, channels = ops.shape(clip)
    strip = ops.reshape(clip, (batch, time, height * width, channels))
    if causal:
        strip = ops.pad(strip, [(0, 0), (1, 0), (0, 0), (0, 0)])
    kernel = kernel[:, None]
    if len(kernel.shape) == 3:
        strip = depthwise_conv(strip, kernel, "channels_last")
    else:
        strip = on_frames(ops.conv, strip, kernel, padding="same", data_format="channels_last")
    if causal:
        strip = strip[:, :-1]
    clip = ops.reshape(strip, (batch, time, height, width, channels))
    return ops.moveaxis(clip, -1, 2) if data_format == "channels_first" else clip


@register
class TemporalConv(keras.layers.Layer):
    """Convolution over time with kernel 3, zero padding and no bias (paper, Eq. 1 and Table 8).

    Args:
        kind: `"channelwise"` for one kernel per channel, or `"ordinary"` for a dense kernel over all
            channels. The ordinary kernel starts with the channel-wise taps on its diagonal.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        causal: if true, the kernel reads frames t-2, t-1 and t instead of t-1, t and t+1.

    Input and output shape: `(batch, time, height, width, channels)`, or
        `(batch, time, channels, height, width)` with `"channels_first"`.
    """

    def __init__(self, kind="channelwise", data_format=None, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.kind = one_of("kind", kind, KINDS)
        self.data_format = standardize_data_format(data_format)
        self.causal = one_of("causal", causal, (True, False))

    def build(self, input_shape):
        channels = clip_channels(input_shape, self.data_format)
        taps = shift_taps(channels)
        if self.kind == "ordinary":
            taps = taps[:, :, None] * np.eye(channels, dtype="float32")
        self.kernel = self.add_weight(
            name="kernel",
            shape=taps.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(taps, dtype),
        )

    def call(self, clip):
        return convolve_strip(clip, ops.convert_to_tensor(self.kernel), self.data_format, self.causal)

    def step(self, frame, past):
        """Computes the next frame of a causal convolution.

        Args:
            frame: `(batch, height, width, channels)`, or channels first.
            past: the two frames before it, joined along the channels; zeros in front of the first frame.

        Returns:
            The output for this frame, and `past` for the next one.
        """
        axis = frame_channel_axis(self.data_format)
        before, previous = ops.split(past, 2, axis)
        kernel = ops.convert_to_tensor(self.kernel)
        if self.kind == "ordinary":
            # A dense kernel over time is a 1x1 convolution of the joined frames.
            joined = ops.concatenate([past, frame], axis)
            kernel = ops.reshape(kernel, (1, 1, -1, kernel.shape[-1]))
            output = on_frames(ops.conv, joined, kernel, data_format=self.data_format)
        else:
            taps = ops.reshape(kernel, (3, -1, 1, 1)) if axis == 1 else kernel
            output = before * taps[0] + previous * taps[1] + frame * taps[2]
        return output, ops.concatenate([previous, frame], axis)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"kind": self.kind, "data_format": self.data_format, "causal": self.causal}
        return {**super().get_config(), **config}
