"""The residual block of TSM."""

from keras_stm.layers.per_frame import register
from keras_stm.layers.stm_block import STMBlock
from keras_stm.layers.temporal_shift import TemporalShift


@register
class TSMBlock(STMBlock):
    """The ordinary bottleneck with a `TemporalShift` before the first 1x1 of its residual branch.

    See `STMBlock` for the shapes.

    Args:
        filters, strides, data_format, use_batch_norm: see `STMBlock`.
        shift_div, causal: see `TemporalShift`.
    """

    def __init__(
        self,
        filters,
        strides=1,
        shift_div=8,
        data_format=None,
        use_batch_norm=True,
        causal=False,
        **kwargs,
    ):
        super().__init__(
            filters,
            strides,
            branches=(),
            data_format=data_format,
            use_batch_norm=use_batch_norm,
            causal=causal,
            **kwargs,
        )
        self.shift = TemporalShift(
            shift_div, data_format=data_format, causal=causal, name="shift", dtype=self.dtype_policy
        )

    def build(self, input_shape):
        self.shift.build(input_shape)
        super().build(input_shape)

    def residual(self, clip, training):
        return super().residual(self.shift(clip), training)

    @property
    def looks_ahead(self):
        """Whether the output for a frame depends on a later frame."""
        return not self.causal

    def state_shapes(self, frame_shape):
        """Returns `{"shift": shape}`, see `STMBlock.state_shapes`."""
        channels = frame_shape[-1 if self.data_format == "channels_last" else 0]
        return {"shift": self._with_channels(frame_shape, channels // self.shift.shift_div)}

    def residual_step(self, frame, past, has_past):
        """Computes the residual branch of `STMBlock.step`."""
        frame, shifted = self.shift.step(frame, past["shift"])
        residual, _ = super().residual_step(frame, {}, has_past)
        return residual, {"shift": shifted}

    def get_config(self):
        config = super().get_config()
        for name in ("branches", "fusion", "temporal_conv", "reduction"):
            del config[name]
        return {**config, "shift_div": self.shift.shift_div}
