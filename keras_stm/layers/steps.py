"""Layers that compute one frame after the other with the layers of a causal model."""

import keras
from keras import ops

from keras_stm.layers.per_frame import on_one_frame, register


class Step(keras.layers.Wrapper):
    """Base class of the steps that share the layer of a model.

    A call of the layer itself would add a node to it, and `layer.output` would be ambiguous in `model`.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, **kwargs})

    def build(self, input_shape):
        # The layer is built: it belongs to a model, or comes from a file.
        pass


@register
class FrameStep(Step):
    """A layer of clips, applied to one frame `(batch, ...)`."""

    def call(self, frame):
        return on_one_frame(self.layer, frame)


@register
class BlockStep(Step):
    """A causal block, applied to one frame and its state. See `STMBlock.step`.

    It takes `{"frame": frame, "frames": number of frames so far, "past": {branch: state}}` and returns the
    output for this frame and the next `past`.
    """

    def call(self, inputs):
        has_past = ops.cast(inputs["frames"] > 0, self.compute_dtype)
        return self.layer.step(inputs["frame"], inputs["past"], ops.reshape(has_past, (-1, 1, 1, 1)))


@register
class ConsensusStep(keras.layers.Layer):
    """The mean of the logits of the last frames, in float32.

    It takes `{"logits": (batch, classes), "frames": number of frames so far, "past": the last logits}` and
    returns the mean, the next `past`, and the next number of frames.
    """

    def __init__(self, num_frames, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_frames = num_frames

    def call(self, inputs):
        logits = ops.expand_dims(inputs["logits"], 1)
        past = ops.concatenate([inputs["past"][:, 1:], logits], 1)
        # The number stops here: a float counts up to 2**24 only.
        frames = ops.minimum(inputs["frames"] + 1, self.num_frames)
        return ops.sum(past, 1) / frames, past, frames

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}
