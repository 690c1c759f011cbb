"""The temporal shift of TSM."""

import keras
from keras import ops

from keras_stm.arguments import ArgumentError, one_of, positive_int, standardize_data_format
from keras_stm.layers.per_frame import channel_axis, clip_channels, frame_channel_axis, register


@register
class TemporalShift(keras.layers.Layer):
    """The temporal shift of TSM (Lin et al., 2019), a baseline of the paper's Tables 1 and 9.

    The first `channels // shift_div` channels read the next frame. As many channels after them read the
    previous frame. The other channels read their own frame. Frames beyond the ends are zero. STM's initial
    temporal kernel does the opposite: its first channels read the previous frame.

    A causal shift shifts only the channels that read the previous frame.

    Args:
        shift_div: at least 2. `2 / shift_div` of the channels are shifted, or `1 / shift_div` if `causal`.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        causal: if true, no channel reads the next frame.

    Input and output shape: `(batch, time, height, width, channels)`, or
        `(batch, time, channels, height, width)` with `"channels_first"`.

    Raises:
        ValueError: if an argument is invalid.
    """

    def __init__(self, shift_div=8, data_format=None, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.shift_div = positive_int("shift_div", shift_div)
        if shift_div < 2:
            raise ArgumentError("shift_div", shift_div, "must be at least 2")
        self.data_format = standardize_data_format(data_format)
        self.causal = one_of("causal", causal, (True, False))

    def build(self, input_shape):
        clip_channels(input_shape, self.data_format)

    def call(self, clip):
        axis = channel_axis(self.data_format)
        following, previous, still = self._split(clip, axis)
        rest = [(0, 0)] * 3
        if not self.causal:
            following = ops.pad(following, [(0, 0), (0, 1), *rest])[:, 1:]
        previous = ops.pad(previous, [(0, 0), (1, 0), *rest])[:, :-1]
        return ops.concatenate([following, previous, still], axis=axis)

    def step(self, frame, past):
        """Computes the next frame of a causal shift.

        Args:
            frame: `(batch, height, width, channels)`, or channels first.
            past: the shifted channels of the previous frame, `(batch, height, width, channels // shift_div)`.

        Returns:
            The output for this frame, and `past` for the next one.
        """
        axis = frame_channel_axis(self.data_format)
        following, previous, still = self._split(frame, axis)
        return ops.concatenate([following, past, still], axis=axis), previous

    def _split(self, clip, axis):
        part = clip.shape[axis] // self.shift_div
        return ops.split(clip, [part, 2 * part], axis=axis)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"shift_div": self.shift_div, "data_format": self.data_format, "causal": self.causal}
        return {**super().get_config(), **config}
