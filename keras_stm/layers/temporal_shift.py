"""The temporal shift of TSM."""

import keras
from keras import ops

from keras_stm.arguments import ArgumentError, positive_int, standardize_data_format
from keras_stm.layers.per_frame import channel_axis, clip_channels, register


@register
class TemporalShift(keras.layers.Layer):
    """The temporal shift of TSM (Lin et al., 2019), a baseline of the paper's Tables 1 and 9.

    The first `channels // shift_div` channels read the next frame. As many channels after them read the
    previous frame. The other channels read their own frame. Frames beyond the ends are zero. STM's initial
    temporal kernel does the opposite: its first channels read the previous frame.

    Args:
        shift_div: at least 2. `2 / shift_div` of the channels are shifted.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.

    Input and output shape: `(batch, time, height, width, channels)`, or
        `(batch, time, channels, height, width)` with `"channels_first"`.

    Raises:
        ValueError: if an argument is invalid.
    """

    def __init__(self, shift_div=8, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.shift_div = positive_int("shift_div", shift_div)
        if shift_div < 2:
            raise ArgumentError("shift_div", shift_div, "must be at least 2")
        self.data_format = standardize_data_format(data_format)

    def build(self, input_shape):
        clip_channels(input_shape, self.data_format)

    def call(self, clip):
        axis = channel_axis(self.data_format)
        part = clip.shape[axis] // self.shift_div
        following, previous, still = ops.split(clip, [part, 2 * part], axis=axis)
        rest = [(0, 0)] * 3
        return ops.concatenate(
            [
                ops.pad(following, [(0, 0), (0, 1), *rest])[:, 1:],
                ops.pad(previous, [(0, 0), (1, 0), *rest])[:, :-1],
                still,
            ],
            axis=axis,
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"shift_div": self.shift_div, "data_format": self.data_format}
        return {**super().get_config(), **config}
