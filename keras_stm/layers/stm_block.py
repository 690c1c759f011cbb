"""The residual block of STM."""

from keras import ops

from keras_stm.arguments import one_of, positive_int, standardize_data_format, subset_of
from keras_stm.layers.batch_norm import batch_norm
from keras_stm.layers.cmm import CMM
from keras_stm.layers.composite import Composite
from keras_stm.layers.cstm import CSTM
from keras_stm.layers.per_frame import (
    channel_axis,
    clip_channels,
    frame_channel_axis,
    frame_conv,
    on_one_frame,
    register,
)
from keras_stm.layers.temporal_conv import KINDS

BRANCHES = ("cstm", "cmm")
FUSIONS = ("sum", "concat", "mean")


@register
class STMBlock(Composite):
    """The STM block: a residual bottleneck around CSTM and CMM (paper, section 3.3, Fig. 3).

    ```
    clip --> 1x1 conv, filters -> BN -> ReLU --+--> CSTM --+
      |                                        |           +--> fusion -> 1x1 conv, 4 filters -> BN
      |                                        +--> CMM ---+                                     |
      +----> identity, or 1x1 conv, 4 filters, strides -> BN ----------------------------------- + --> ReLU
    ```

    The shortcut is a convolution if `strides` is above 1 or the number of channels changes.

    Args:
        filters: width of the bottleneck. The output has `4 * filters` channels.
        strides: spatial strides, applied inside CSTM and CMM (ResNet v1.5). Time is never strided.
        branches: any of `"cstm"` and `"cmm"` (Table 5). Without `"cstm"`, CSTM has no temporal
            convolution, only its 3x3 convolution. `()` is the ordinary block of TSN.
        fusion: how the outputs of both branches are fused: `"sum"`, `"mean"`, or `"concat"` with a 1x1
            convolution back to `filters` (Table 6). It has no effect without `"cmm"`.
        temporal_conv: temporal convolution of CSTM, `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        use_batch_norm: if false, the block, CSTM and CMM have no BatchNormalization and the convolutions
            before them have a bias instead. See `keras_stm.fold_batch_norm`.
        causal: if true, no frame depends on a later one, see `CSTM` and `CMM`. The shapes of the weights
            are the same.

    Input shape: `(batch, time, height, width, channels)`, or
        `(batch, time, channels, height, width)` with `"channels_first"`. Time, height and width
        may be `None`.

    Output shape: `(batch, time, ceil(height / strides), ceil(width / strides), 4 * filters)`, or the
        same in channels-first order.

    Raises:
        ValueError: if an argument is invalid.
    """

    def __init__(
        self,
        filters,
        strides=1,
        branches=BRANCHES,
        fusion="sum",
        temporal_conv="channelwise",
        reduction=16,
        data_format=None,
        use_batch_norm=True,
        causal=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.strides = positive_int("strides", strides)
        self.branches = subset_of("branches", branches, BRANCHES)
        self.fusion = one_of("fusion", fusion, FUSIONS)
        self.temporal_conv = one_of("temporal_conv", temporal_conv, KINDS)
        self.reduction = positive_int("reduction", reduction)
        self.data_format = standardize_data_format(data_format)
        self.use_batch_norm = one_of("use_batch_norm", use_batch_norm, (True, False))
        self.causal = one_of("causal", causal, (True, False))

        shared = {"dtype": self.dtype_policy, "data_format": self.data_format}
        use_bias = not use_batch_norm
        self.reduce_conv = frame_conv(filters, 1, name="reduce_conv", use_bias=use_bias, **shared)
        self.reduce_bn = batch_norm(name="reduce_bn", used=use_batch_norm, **shared)
        self.cstm = CSTM(
            filters,
            strides,
            temporal_conv=temporal_conv if "cstm" in branches else None,
            use_batch_norm=use_batch_norm,
            causal=causal,
            name="cstm",
            **shared,
        )
        self.cmm = None
        self.fusion_conv = None
        if "cmm" in branches:
            self.cmm = CMM(
                filters,
                strides,
                reduction=reduction,
                use_batch_norm=use_batch_norm,
                causal=causal,
                name="cmm",
                **shared,
            )
            if fusion == "concat":
                self.fusion_conv = frame_conv(filters, 1, name="fusion_conv", **shared)
        self.restore_conv = frame_conv(4 * filters, 1, name="restore_conv", use_bias=use_bias, **shared)
        self.restore_bn = batch_norm(name="restore_bn", used=use_batch_norm, **shared)
        self.shortcut_conv = None
        self.shortcut_bn = None

    def build(self, input_shape):
        channels = clip_channels(input_shape, self.data_format)
        reduced = self.reduce_conv.compute_output_shape(input_shape)
        encoded = self.cstm.compute_output_shape(reduced)
        output = self.restore_conv.compute_output_shape(encoded)
        self.reduce_conv.build(input_shape)
        self.reduce_bn.build(reduced)
        self.cstm.build(reduced)
        if self.cmm:
            self.cmm.build(reduced)
        if self.fusion_conv:
            axis = channel_axis(self.data_format)
            joined = list(encoded)
            joined[axis] = 2 * self.filters
            self.fusion_conv.build(joined)
        self.restore_conv.build(encoded)
        self.restore_bn.build(output)
        # Compare channels, not shapes: a shape from a file is a list, and a list never equals a tuple.
        if self.strides > 1 or channels != 4 * self.filters:
            shared = {"dtype": self.dtype_policy, "data_format": self.data_format}
            self.shortcut_conv = frame_conv(
                4 * self.filters,
                1,
                self.strides,
                name="shortcut_conv",
                use_bias=not self.use_batch_norm,
                **shared,
            )
            self.shortcut_bn = batch_norm(name="shortcut_bn", used=self.use_batch_norm, **shared)
            self.shortcut_conv.build(input_shape)
            self.shortcut_bn.build(output)

    def encode(self, clip, training):
        """Returns the fused outputs of CSTM and CMM, `(batch, time, ..., filters)`."""
        features = self.cstm(clip, training=training)
        if not self.cmm:
            return features
        motion = self.cmm(clip, training=training)
        if self.fusion == "concat":
            axis = channel_axis(self.data_format)
            return self.fusion_conv(ops.concatenate([features, motion], axis=axis))
        return self._add(features, motion)

    def _add(self, features, motion):
        features = features + motion
        return features / 2 if self.fusion == "mean" else features

    def residual(self, clip, training):
        """Returns the residual branch before the shortcut is added, `(batch, time, ..., 4 * filters)`."""
        clip = ops.relu(self.reduce_bn(self.reduce_conv(clip), training=training))
        clip = self.encode(clip, training)
        return self.restore_bn(self.restore_conv(clip), training=training)

    def call(self, clip, training=None):
        shortcut = clip
        if self.shortcut_conv:
            shortcut = self.shortcut_bn(self.shortcut_conv(clip), training=training)
        return ops.relu(self.residual(clip, training) + shortcut)

    @property
    def looks_ahead(self):
        """Whether the output for a frame depends on a later frame."""
        return not self.causal and bool(self.cmm or self.cstm.temporal_conv)

    def state_shapes(self, frame_shape):
        """Returns the shapes of the state that `step` carries from frame to frame, without the batch.

        Args:
            frame_shape: `(height, width, channels)` of the block's input, or channels first.

        Returns:
            `{branch: shape}` with the branches `"cstm"` and `"cmm"` that the block has.
        """
        channels = {}
        if self.cstm.temporal_conv:
            channels["cstm"] = 2 * self.filters
        if self.cmm:
            channels["cmm"] = self.filters // self.reduction
        return {branch: self._with_channels(frame_shape, count) for branch, count in channels.items()}

    def _with_channels(self, frame_shape, channels):
        shape = list(frame_shape)
        shape[-1 if self.data_format == "channels_last" else 0] = channels
        return tuple(shape)

    def step(self, frame, past, has_past):
        """Computes the next frame of a causal block.

        Args:
            frame: `(batch, height, width, channels)`, or channels first.
            past: `{branch: state}` with the shapes of `state_shapes`; zeros in front of the first frame.
            has_past: 1 where there is a previous frame and 0 at the first one, `(batch, 1, 1, 1)`.

        Returns:
            The output for this frame, and `past` for the next one.
        """
        shortcut = frame
        if self.shortcut_conv:
            shortcut = self._convolve(self.shortcut_conv, self.shortcut_bn, frame)
        residual, past = self.residual_step(frame, past, has_past)
        return ops.relu(residual + shortcut), past

    def residual_step(self, frame, past, has_past):
        """Computes the residual branch of `step`."""
        following = {}
        frame = ops.relu(self._convolve(self.reduce_conv, self.reduce_bn, frame))
        features, state = self.cstm.step(frame, past.get("cstm"))
        if self.cstm.temporal_conv:
            following["cstm"] = state
        if self.cmm:
            motion, following["cmm"] = self.cmm.step(frame, past["cmm"], has_past)
            if self.fusion == "concat":
                joined = ops.concatenate([features, motion], frame_channel_axis(self.data_format))
                features = on_one_frame(self.fusion_conv, joined)
            else:
                features = self._add(features, motion)
        return self._convolve(self.restore_conv, self.restore_bn, features), following

    @staticmethod
    def _convolve(conv, batch_norm, frame):
        return on_one_frame(batch_norm, on_one_frame(conv, frame), training=False)

    def compute_output_shape(self, input_shape):
        reduced = self.reduce_conv.compute_output_shape(input_shape)
        return self.restore_conv.compute_output_shape(self.cstm.compute_output_shape(reduced))

    def get_config(self):
        config = {
            "filters": self.filters,
            "strides": self.strides,
            "branches": self.branches,
            "fusion": self.fusion,
            "temporal_conv": self.temporal_conv,
            "reduction": self.reduction,
            "data_format": self.data_format,
            "use_batch_norm": self.use_batch_norm,
            "causal": self.causal,
        }
        return {**super().get_config(), **config}
