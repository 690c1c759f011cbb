"""CSTM, the Channel-wise SpatioTemporal Module."""

from keras import ops

from keras_stm.arguments import one_of, positive_int, standardize_data_format
from keras_stm.layers.batch_norm import batch_norm
from keras_stm.layers.composite import Composite
from keras_stm.layers.per_frame import (
    clip_channels,
    frame_conv,
    on_one_frame,
    register,
)
from keras_stm.layers.temporal_conv import KINDS, TemporalConv


@register
class CSTM(Composite):
    """Channel-wise SpatioTemporal Module (paper, section 3.1, Eq. 1).

    ```
    clip -> temporal conv, kernel 3 -> 3x3 conv, strides -> BatchNorm -> ReLU
    ```

    Args:
        filters: number of output channels.
        strides: spatial strides of the 3x3 convolution. Time is never strided.
        temporal_conv: `"channelwise"` as in the paper, or `"ordinary"` for the dense convolution of
            Table 8. `None` omits the temporal convolution and keeps the plain 3x3 of a residual block.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        use_batch_norm: if false, there is no BatchNormalization and the convolution before it has a
            bias instead. See `keras_stm.fold_batch_norm`.
        causal: if true, the temporal convolution reads no later frame, see `TemporalConv`.

    Input shape: `(batch, time, height, width, channels)`, or
        `(batch, time, channels, height, width)` with `"channels_first"`. Time, height and width
        may be `None`.

    Output shape: `(batch, time, ceil(height / strides), ceil(width / strides), filters)`, or the
        same in channels-first order.

    Raises:
        ValueError: if an argument is invalid.
    """

    def __init__(
        self,
        filters,
        strides=1,
        temporal_conv="channelwise",
        data_format=None,
        use_batch_norm=True,
        causal=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        one_of("temporal_conv", temporal_conv, (*KINDS, None))
        self.filters = positive_int("filters", filters)
        self.strides = positive_int("strides", strides)
        self.data_format = standardize_data_format(data_format)
        self.use_batch_norm = one_of("use_batch_norm", use_batch_norm, (True, False))
        self.causal = one_of("causal", causal, (True, False))
        shared = {"dtype": self.dtype_policy, "data_format": self.data_format}
        self.temporal_conv = None
        if temporal_conv:
            self.temporal_conv = TemporalConv(temporal_conv, causal=causal, name="temporal_conv", **shared)
        self.conv = frame_conv(filters, 3, strides, name="conv", use_bias=not use_batch_norm, **shared)
        self.bn = batch_norm(name="bn", used=use_batch_norm, **shared)

    def build(self, input_shape):
        clip_channels(input_shape, self.data_format)
        if self.temporal_conv:
            self.temporal_conv.build(input_shape)
        self.conv.build(input_shape)
        self.bn.build(self.conv.compute_output_shape(input_shape))

    def call(self, clip, training=None):
        if self.temporal_conv:
            clip = self.temporal_conv(clip)
        return ops.relu(self.bn(self.conv(clip), training=training))

    def step(self, frame, past):
        """Computes the next frame of a causal CSTM.

        See `TemporalConv.step`. Without a temporal convolution, `past` is `None`.
        """
        if self.temporal_conv:
            frame, past = self.temporal_conv.step(frame, past)
        return ops.relu(on_one_frame(self.bn, on_one_frame(self.conv, frame), training=False)), past

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        config = {
            "filters": self.filters,
            "strides": self.strides,
            "temporal_conv": self.temporal_conv.kind if self.temporal_conv else None,
            "data_format": self.data_format,
            "use_batch_norm": self.use_batch_norm,
            "causal": self.causal,
        }
        return {**super().get_config(), **config}
