"""A causal model as a step from frame to frame."""

import keras
from keras import ops

from keras_stm.arguments import ArgumentError, positive_int
from keras_stm.layers.per_frame import PerFrame, register
from keras_stm.layers.steps import BlockStep, ConsensusStep, FrameStep
from keras_stm.layers.stm_block import STMBlock
from keras_stm.models.chain import layers_of_chain

# Layers that treat each frame alone, besides blocks.
_FRAME_LAYERS = (
    PerFrame,
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.Identity,
    keras.layers.ReLU,
)


@register
class StreamModel(keras.Model):
    """A functional model that takes a dictionary of both arrays and tensors, which Keras refuses."""

    def __call__(self, inputs, **kwargs):  # noqa: D102 (documented by Keras)
        return super().__call__(keras.tree.map_structure(_as_tensor, inputs), **kwargs)


def _as_tensor(value):
    return value if keras.backend.is_keras_tensor(value) else ops.convert_to_tensor(value)


def stream_model(model, image_size=224, num_frames=8):
    """Returns a model of one step: it takes one frame and a state, and returns scores and the next state.

    `T` steps from `initial_state` give the scores of the causal `model` on the whole clip of `T` frames, for
    `T` up to `num_frames`. Later scores are those of the mean of the last `num_frames` logits.

    ```python
    stream = keras_stm.stream_model(model, image_size=224)
    state = keras_stm.initial_state(stream)
    for frame in frames:  # preprocessed, (1, 224, 224, 3)
        state = stream({"frame": frame, **state})
        scores = state.pop("scores")
    ```

    Args:
        model: a model of this package with a classifier and `causal=True`, or TSN, which never mixes frames.
            Further layers may follow that treat frames or scores alone.
        image_size: height and width of a frame.
        num_frames: number of frames whose logits are averaged.

    Returns:
        A functional `keras.Model` that shares the weights of `model`. It computes in inference mode.

        Inputs are a dictionary: `"frame"` `(batch, image_size, image_size, channels)`, preprocessed like the
        clips of `model`; the states of the blocks, such as `"conv2_block1_cstm"`
        `(batch, height, width, 2 * filters)` and `"conv2_block1_cmm"`; `"consensus"`
        `(batch, num_frames, classes)`, the last logits; and `"frames"` `(batch, 1)`, the number of frames
        so far, up to `num_frames`. Frames and states of blocks are channels first if the model is.

        Outputs are a dictionary: `"scores"` `(batch, classes)`, and the next states under their names.

    Raises:
        ValueError: if an argument is invalid, a frame's scores depend on later frames, or `model` has no
            classifier or a layer of an unknown kind.
    """
    image_size, num_frames = positive_int("image_size", image_size), positive_int("num_frames", num_frames)
    layers = layers_of_chain(model)
    if looks_ahead(model):
        raise ArgumentError("model", model.name, "must be made with causal=True")
    _, *frame_shape = model.input_shape[1:]
    space = slice(1, 3) if _is_channels_first(layers) else slice(0, 2)
    if any(size not in (None, image_size) for size in frame_shape[space]):
        raise ArgumentError("image_size", image_size, f"must fit the model's {model.input_shape}")
    frame_shape[space] = [image_size, image_size]

    frame = keras.Input(frame_shape, name="frame", dtype=model.inputs[0].dtype)
    frames = keras.Input((1,), name="frames", dtype="float32")
    inputs = {"frame": frame, "frames": frames}
    outputs = {}
    x = frame
    for layer in layers:
        if isinstance(layer, STMBlock):
            past = {
                branch: keras.Input(shape, name=f"{layer.name}_{branch}", dtype=layer.compute_dtype)
                for branch, shape in layer.state_shapes(x.shape[1:]).items()
            }
            x, following = BlockStep(layer)({"frame": x, "frames": frames, "past": past})
            inputs |= {f"{layer.name}_{branch}": state for branch, state in past.items()}
            outputs |= {f"{layer.name}_{branch}": state for branch, state in following.items()}
        elif isinstance(layer, keras.layers.GlobalAveragePooling1D) and "consensus" not in inputs:
            past = keras.Input((num_frames, x.shape[-1]), name="consensus", dtype="float32")
            inputs["consensus"] = past
            step = ConsensusStep(num_frames, name="consensus_step")
            x, outputs["consensus"], outputs["frames"] = step({"logits": x, "frames": frames, "past": past})
        elif isinstance(layer, _FRAME_LAYERS):
            x = FrameStep(layer)(x)
        else:
            raise ArgumentError(
                "model", layer.name, "must consist of layers that are known to treat each frame alone"
            )
    if "consensus" not in inputs:
        raise ArgumentError("model", model.name, "must end in a classifier")
    return StreamModel(inputs, {"scores": x, **outputs}, name=f"{model.name}_stream")


def initial_state(stream, batch_size=1):
    """Returns the state in front of the first frame: a dictionary of zeros.

    A row of zeros in each state resets that stream of the batch.

    Args:
        stream: a model from `stream_model`.
        batch_size: number of streams that are computed together.

    Raises:
        ValueError: if an argument is invalid.
    """
    batch_size = positive_int("batch_size", batch_size)
    inputs = getattr(stream, "input", None)
    if not isinstance(inputs, dict) or "frame" not in inputs:
        raise ArgumentError("stream", stream, "must be a model from stream_model")
    return {
        name: ops.zeros((batch_size, *tensor.shape[1:]), tensor.dtype)
        for name, tensor in inputs.items()
        if name != "frame"
    }


def looks_ahead(model):
    """Returns whether the scores of a frame depend on later frames, in a model of this package."""
    return any(isinstance(layer, STMBlock) and layer.looks_ahead for layer in layers_of_chain(model))


def _is_channels_first(layers):
    return any(isinstance(layer, STMBlock) and layer.data_format == "channels_first" for layer in layers)
