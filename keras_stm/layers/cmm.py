"""CMM, the Channel-wise Motion Module."""

import keras
from keras import ops

from keras_stm.arguments import ArgumentError, one_of, positive_int, standardize_data_format
from keras_stm.layers.batch_norm import batch_norm
from keras_stm.layers.composite import Composite
from keras_stm.layers.per_frame import (
    FrameDepthwiseConv2D,
    FrameMaxPool2D,
    PerFrame,
    clip_channels,
    frame_conv,
    on_one_frame,
    register,
)


@register
class CMM(Composite):
    """Channel-wise Motion Module (paper, section 3.2, Eq. 2).

    ```
    clip -> 1x1 conv, filters / reduction -> BatchNorm = F
    H_t = (depthwise 3x3 conv of F_{t+1}) - F_t, and 0 for the last frame
    H -> 1x1 conv, filters -> max pool, strides
    ```

    A causal CMM has the same motion one frame later: `H_t = (conv of F_t) - F_{t-1}`, and 0 for the first
    frame.

    Args:
        filters: number of output channels.
        strides: spatial strides, applied by a max pool at the end. Time is never strided.
        reduction: the motion is computed on `filters // reduction` channels (the paper's r).
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        use_batch_norm: if false, there is no BatchNormalization and the convolution before it has a
            bias instead. See `keras_stm.fold_batch_norm`.
        causal: if true, the motion of a frame is that since the previous frame, not until the next one.

    Input shape: `(batch, time, height, width, channels)`, or
        `(batch, time, channels, height, width)` with `"channels_first"`. Time, height and width
        may be `None`.

    Output shape: `(batch, time, ceil(height / strides), ceil(width / strides), filters)`, or the
        same in channels-first order.

    Raises:
        ValueError: if an argument is invalid, or `reduction` exceeds `filters`.
    """

    def __init__(
        self,
        filters,
        strides=1,
        reduction=16,
        data_format=None,
        use_batch_norm=True,
        causal=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.strides = positive_int("strides", strides)
        self.reduction = positive_int("reduction", reduction)
        if reduction > filters:
            raise ArgumentError("reduction", reduction, f"must not exceed filters={filters}")
        self.data_format = standardize_data_format(data_format)
        self.use_batch_norm = one_of("use_batch_norm", use_batch_norm, (True, False))
        self.causal = one_of("causal", causal, (True, False))
        shared = {"dtype": self.dtype_policy, "data_format": self.data_format}

        # The published code keeps PyTorch's default for CMM: U(-b, b) with b = 1 / sqrt(fan_in).
        def uniform():
            return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")

        self.reduce_conv = frame_conv(
            filters // reduction,
            1,
            name="reduce_conv",
            initializer=uniform(),
            use_bias=not use_batch_norm,
            **shared,
        )
        self.reduce_bn = batch_norm(name="reduce_bn", used=use_batch_norm, **shared)
        motion_conv = FrameDepthwiseConv2D(
            3,
            padding="same",
            use_bias=False,
            # fan_in is 9 here, so b is 1 / 3. Keras would count the channels as well.
            depthwise_initializer=keras.initializers.RandomUniform(-1 / 3, 1 / 3),
            name="conv",
            **shared,
        )
        self.motion_conv = PerFrame(motion_conv, name="motion_conv", dtype=self.dtype_policy)
        self.restore_conv = frame_conv(filters, 1, name="restore_conv", initializer=uniform(), **shared)
        self.pool = None
        if strides > 1:
            # "same" rounds up, like the strided 3x3 of CSTM. Both outputs then match at any size.
            pool = FrameMaxPool2D(strides, padding="same", name="pool", **shared)
            self.pool = PerFrame(pool, name="pool", dtype=self.dtype_policy)

    def build(self, input_shape):
        clip_channels(input_shape, self.data_format)
        self.reduce_conv.build(input_shape)
        reduced = self.reduce_conv.compute_output_shape(input_shape)
        self.reduce_bn.build(reduced)
        self.motion_conv.build(reduced)
        self.restore_conv.build(reduced)
        if self.pool:
            self.pool.build(self.restore_conv.compute_output_shape(reduced))

    def call(self, clip, training=None):
        features = self.reduce_bn(self.reduce_conv(clip), training=training)
        motion = self._motion(self.motion_conv(features), features, training)
        motion = self.restore_conv(motion)
        return self.pool(motion) if self.pool else motion

    def _motion(self, convolved, features, training):
        rest = [(0, 0)] * 3
        if not training:
            # Small devices have no roll.
            motion = convolved[:, 1:] - features[:, :-1]
            return ops.pad(motion, [(0, 0), (1, 0) if self.causal else (0, 1), *rest])
        # The result of roll and mask is the same, and TensorFlow computes the gradients in less than half
        # the time.
        time = ops.shape(features)[1]
        if self.causal:
            motion = convolved - ops.roll(features, 1, axis=1)
            has_other = ops.arange(time) > 0
        else:
            motion = ops.roll(convolved, -1, axis=1) - features
            has_other = ops.arange(time) < time - 1
        return motion * ops.reshape(ops.cast(has_other, features.dtype), (-1, 1, 1, 1))

    def step(self, frame, past, has_past):
        """Computes the next frame of a causal CMM.

        Args:
            frame: `(batch, height, width, channels)`, or channels first.
            past: the reduced features of the previous frame, `(batch, height, width, filters // reduction)`.
            has_past: 1 where there is a previous frame and 0 at the first one, `(batch, 1, 1, 1)`.

        Returns:
            The output for this frame, and `past` for the next one.
        """
        features = on_one_frame(self.reduce_bn, on_one_frame(self.reduce_conv, frame), training=False)
        motion = (on_one_frame(self.motion_conv, features) - past) * has_past
        motion = on_one_frame(self.restore_conv, motion)
        return on_one_frame(self.pool, motion) if self.pool else motion, features

    def compute_output_shape(self, input_shape):
        shape = self.restore_conv.compute_output_shape(input_shape)
        return self.pool.compute_output_shape(shape) if self.pool else shape

    def get_config(self):
        config = {
            "filters": self.filters,
            "strides": self.strides,
            "reduction": self.reduction,
            "data_format": self.data_format,
            "use_batch_norm": self.use_batch_norm,
            "causal": self.causal,
        }
        return {**super().get_config(), **config}
