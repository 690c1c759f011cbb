"""2-D layers that are applied to every frame of a clip. All blocks consist of them."""

import functools
import itertools
import math

import keras
from keras import ops

from keras_stm.arguments import ArgumentError


def register(cls):
    """Registers a layer class, so that `.keras` files load without `custom_objects`."""
    return keras.saving.register_keras_serializable(package="keras_stm")(cls)


def channel_axis(data_format):
    """Returns the axis of the channels in a clip `(batch, time, ...)`."""
    return -1 if data_format == "channels_last" else 2


def frame_channel_axis(data_format):
    """Returns the axis of the channels in frames `(batch, ...)`, without time."""
    return -1 if data_format == "channels_last" else 1


def clip_channels(shape, data_format):
    """Returns the number of channels of clips of a `shape`.

    Raises:
        ValueError: if `shape` is not the shape of clips, or its number of channels is unknown.
    """
    axis = channel_axis(data_format)
    if len(shape) != 5 or not shape[axis]:
        layout = "height, width, channels" if axis == -1 else "channels, height, width"
        raise ArgumentError(
            "clip",
            shape,
            f"must be (batch, time, {layout}) with a known number of channels",
            f"clip.shape={tuple(shape)}",
        )
    return shape[axis]


@register
class PerFrame(keras.layers.Wrapper):
    """Applies a 2-D layer to every frame of a clip.

    Time is folded into the batch at no cost. `keras.layers.TimeDistributed` would loop over the frames.

    Args:
        layer: a layer from `(batch, ...)` to `(batch, ...)` that processes samples independently.

    Input shape: `(batch, time, *frame)`. Any dimension except the channels may be `None`.

    Output shape: `(batch, time, *output)`, where `output` is the layer's output shape for a frame.
    """

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Do not build the inner layer yet: built alone, its weights' paths would lack this layer's name, and
        # files identify weights by their paths.
        layer = {**config["layer"], "build_config": None}
        return super().from_config({**config, "layer": layer}, custom_objects)

    def build(self, input_shape):
        super().build((None, *input_shape[2:]))

    def call(self, clip):
        batch, time, *frame = ops.shape(clip)
        frames = self.layer(ops.reshape(clip, (-1, *frame)))
        # No -1 here: it cannot be inferred when `time` is 0.
        return ops.reshape(frames, (batch, time, *ops.shape(frames)[1:]))

    def compute_output_shape(self, input_shape):
        batch, time, *frame = input_shape
        return (batch, time, *self.layer.compute_output_shape((None, *frame))[1:])


def on_one_frame(layer, frame, **kwargs):
    """Applies a layer of clips, which treats frames independently, to one frame of each clip.

    Args:
        layer: a `PerFrame`, or another layer of clips.
        frame: `(batch, ...)`, without the axis of time.
        kwargs: further arguments of the layer's call.
    """
    if isinstance(layer, PerFrame):
        # Devices without a 5-D convolution can run the inner layer.
        return layer.layer(frame, **kwargs)
    return ops.squeeze(layer(ops.expand_dims(frame, 1), **kwargs), 1)


@register
class SymmetricConv2D(keras.layers.Conv2D):
    """`Conv2D` whose `padding="same"` pads both sides by `kernel_size // 2`, like PyTorch.

    Keras pads the bottom and the right more if a strided kernel meets an even size. The published weights
    were trained with equal padding. The output size is the same.
    """

    def call(self, inputs):
        if not self.use_bias or self.data_format == "channels_last":
            return super().call(inputs)
        # Under TensorFlow, Keras adds a bias that comes second along the width if the width equals `filters`.
        outputs = ops.add(ops.reshape(self.bias, (1, -1, 1, 1)), self.convolution_op(inputs, self.kernel))
        return self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        last = self.data_format == "channels_last"
        strides, padding = list(self.strides), self.padding
        if last and self.kernel_size == (1, 1) and keras.backend.backend() == "jax":
            # A 1x1 convolution is a matrix product. As a product, XLA computes the network 1.5 times as fast
            # on a CPU. TensorFlow computes both alike. PyTorch computes batches of clips 1.3 times as fast as
            # convolutions, and twice as fast in bfloat16, but single frames of a stream 5% slower.
            (inputs,) = places_of_windows(inputs, self.kernel_size, strides)
            return ops.matmul(inputs, kernel[0, 0])
        if padding == "same" and max(strides) > 1:
            sides = [(size // 2, size // 2) for size in self.kernel_size]
            inputs = ops.pad(inputs, [(0, 0), *sides, (0, 0)] if last else [(0, 0), (0, 0), *sides])
            padding = "valid"
        elif padding == "same" and last and keras.backend.backend() == "jax" and _is_cpu():
            return _conv_with_gradient_by_products(inputs, kernel)
        return on_frames(
            ops.conv, inputs, kernel, strides=strides, padding=padding, data_format=self.data_format
        )


def _conv_with_gradient_by_products(frames, kernel):
    """Computes a convolution under JAX, with a faster gradient of the kernel.

    It requires stride 1, channels last, odd kernel sizes and zero padding to the same size.

    On a CPU, XLA's own gradient of the kernel takes two to five times as long as one matrix product per
    position in the kernel. It would take a quarter of a training step.
    """
    import jax

    @ops.custom_gradient
    def conv(frames, kernel):
        outputs, gradient_of_frames = jax.vjp(
            lambda frames: ops.conv(frames, kernel, 1, "same", "channels_last"), frames
        )
        sizes = kernel.shape[:2]

        def gradient(upstream):
            # Shift the upstream gradient, not the frames: XLA would shift the frames ahead of time, and keep
            # all shifts of all layers.
            padded = ops.pad(upstream, [(0, 0), *((size // 2, size // 2) for size in sizes), (0, 0)])
            columns = ops.transpose(ops.reshape(frames, (-1, frames.shape[-1])))
            of_kernel = [
                ops.matmul(columns, ops.reshape(place, (-1, upstream.shape[-1])))
                for place in reversed(places_of_windows(padded, sizes, (1, 1)))
            ]
            return *gradient_of_frames(upstream), ops.reshape(ops.stack(of_kernel), kernel.shape)

        return outputs, gradient

    return conv(frames, kernel)


@register
class FrameMaxPool2D(keras.layers.MaxPooling2D):
    """`MaxPooling2D`, computed in the form that is fast on each backend."""

    def call(self, inputs):
        return on_frames(
            maximum_of_places if keras.backend.backend() == "jax" else ops.max_pool,
            inputs,
            self.pool_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
        )


def maximum_of_places(frames, pool_size, strides, padding, data_format):
    """Computes `ops.max_pool` as the maximum over the positions in a window.

    On a CPU, XLA's own gradient takes 3 to 15 times as long, and needs additional indices and copies. Here
    equal maxima share the gradient. In `ops.max_pool`, the first of them receives all of it.
    """
    if padding == "same":
        axes = (1, 2) if data_format == "channels_last" else (2, 3)
        pads = [(0, 0)] * 4
        for axis, size, step in zip(axes, pool_size, strides, strict=True):
            length = ops.shape(frames)[axis]
            missing = max((length - 1) // step * step + size - length, 0)
            pads[axis] = (missing // 2, missing - missing // 2)
        frames = ops.pad(frames, pads, constant_values=-math.inf)
    return functools.reduce(ops.maximum, places_of_windows(frames, pool_size, strides, data_format))


def places_of_windows(frames, sizes, strides, data_format="channels_last"):
    """Returns one array per position in a window: the values of all windows at this position.

    The windows have the size `sizes` and move by `strides`.
    """
    first = 1 if data_format == "channels_last" else 2
    slices = []
    for length, size, step in zip(ops.shape(frames)[first:], sizes, strides, strict=False):
        reach = (length - size) // step * step + 1
        slices.append([slice(place, place + reach, step) for place in range(size)])
    return [frames[(slice(None),) * first + place] for place in itertools.product(*slices)]


@register
class FrameDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`DepthwiseConv2D`, computed in the form that is fast on each backend.

    The stride must be 1, with zero padding to the same size and no bias.
    """

    def call(self, inputs):
        kernel = ops.cast(self.kernel[..., 0], inputs.dtype)
        return depthwise_conv(inputs, kernel, self.data_format)


def depthwise_conv(frames, kernel, data_format):
    """Computes a depthwise convolution with zero padding to the same size.

    Args:
        frames: `(batch, height, width, channels)` or `(batch, channels, height, width)`.
        kernel: `(kernel_height, kernel_width, channels)`. Both sizes must be odd.
        data_format: of the frames, `"channels_last"` or `"channels_first"`.
    """
    if keras.backend.backend() != "jax":
        return on_frames(
            ops.depthwise_conv, frames, kernel[..., None], padding="same", data_format=data_format
        )
    # On a CPU, XLA's own depthwise convolution is 5 to 20 times slower than shifted products, which XLA fuses
    # into one loop.
    if data_format == "channels_last":
        return _shifted_products(frames, kernel)
    return ops.moveaxis(_shifted_products(ops.moveaxis(frames, 1, -1), kernel), -1, 1)


def _shifted_products(frames, kernel):
    """Computes `depthwise_conv` for channels-last frames."""
    shape = ops.shape(frames)
    rows, columns = kernel.shape[:2]
    sides = [(rows // 2, rows // 2), (columns // 2, columns // 2)]
    # Shift the products, not the frames: the gradient would keep a copy of each shift of the frames. Multiply
    # in the flat shape that 1x1 convolutions use: the gradient would keep a copy of any other shape.
    flat = ops.reshape(frames, (-1, shape[-1]))

    def product(row, column):
        shifted = ops.pad(ops.reshape(flat * kernel[row, column], shape), [(0, 0), *sides, (0, 0)])
        return shifted[:, row : row + shape[1], column : column + shape[2]]

    return sum(product(row, column) for row in range(rows) for column in range(columns))


def on_frames(function, frames, *args, data_format, **kwargs):
    """Applies a convolution or pooling of `keras.ops` to frames, in the layout that the backend computes in.

    TensorFlow on a CPU has no channels-first convolution, or only with oneDNN and in some dtypes. The frames
    are transposed for it.

    Under PyTorch, Keras would copy channels-last frames to channels first and back. A transposed view avoids
    the copies, because PyTorch's kernels follow the layout in memory.
    """
    computed, backend = data_format, keras.backend.backend()
    if backend == "torch":
        computed = "channels_first"
    elif backend == "tensorflow" and data_format == "channels_first" and _is_cpu():
        computed = "channels_last"
    if computed == data_format:
        return function(frames, *args, data_format=data_format, **kwargs)
    there, back = (0, 3, 1, 2), (0, 2, 3, 1)
    if computed == "channels_last":
        there, back = back, there
    frames = function(ops.transpose(frames, there), *args, data_format=computed, **kwargs)
    return ops.transpose(frames, back)


@functools.cache
def _is_cpu():
    return keras.distribution.list_devices()[0].startswith("cpu")


def frame_conv(
    filters, kernel_size, strides=1, *, name, dtype, data_format, initializer=None, use_bias=False
):
    """Returns a convolution that is applied to every frame.

    By default it has no bias, like all convolutions of the network until BatchNormalization is folded.

    The default initializer is He normal with fan-out, the usual start of a ResNet that is trained from
    scratch. The paper trains only from ImageNet weights and describes no initializer.
    """
    # Each kernel needs a new initializer, also from callers: the same one would draw the same numbers again.
    he_normal = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    conv = SymmetricConv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=initializer or he_normal,
        data_format=data_format,
        dtype=dtype,
        name="conv",
    )
    return PerFrame(conv, name=name, dtype=dtype)
