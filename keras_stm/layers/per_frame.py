"""2-D layers on clips: the pieces that every block is made of."""

import functools
import itertools
import math

import keras
from keras import ops

from keras_stm.arguments import ArgumentError


def register(cls):
    """Makes a layer load from a `.keras` file without `custom_objects`."""
    return keras.saving.register_keras_serializable(package="keras_stm")(cls)


def channel_axis(data_format):
    """Axis of the channels in a clip `(batch, time, ...)`."""
    return -1 if data_format == "channels_last" else 2


def clip_channels(shape, data_format):
    """Number of channels of clips of a `shape`; raises `ValueError` where it is not that of clips."""
    axis = channel_axis(data_format)
    if len(shape) != 5 or not shape[axis]:
        layout = "height, width, channels" if axis == -1 else "channels, height, width"
        raise ArgumentError(
            "clip",
            shape,
            f"must be (batch, time, {layout}) of a known number of channels",
            f"clip.shape={tuple(shape)}",
        )
    return shape[axis]


@register
class PerFrame(keras.layers.Wrapper):
    """Applies a 2-D layer to every frame of a clip.

    Time is folded into the batch, which costs nothing; `keras.layers.TimeDistributed` would loop.

    Args:
        layer: a layer from `(batch, ...)` to `(batch, ...)` that treats samples independently.

    Input shape: `(batch, time, *frame)`, any dimension but the channels may be `None`.

    Output shape: `(batch, time, *layer's output for a frame)`.
    """

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Not built yet: alone it would name its weights without this layer's name, by which files know them.
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


@register
class SymmetricConv2D(keras.layers.Conv2D):
    """`Conv2D` whose `padding="same"` pads both sides alike, `kernel_size // 2` as PyTorch does.

    Keras pads only the bottom and the right where a strided kernel meets an even size, and gives
    other numbers than the published weights were trained with. The output has the same size.
    """

    def convolution_op(self, inputs, kernel):
        last = self.data_format == "channels_last"
        strides, padding = list(self.strides), self.padding
        if last and self.kernel_size == (1, 1) and keras.backend.backend() != "tensorflow":
            # The same as a matrix product, with which XLA computes the network 1.5 times as fast on a CPU and
            # PyTorch need not reorder the kernel in each step. TensorFlow computes both alike.
            if max(strides) > 1:
                inputs = inputs[:, :: strides[0], :: strides[1]]
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
    """A convolution under JAX: stride 1, channels last, zero padded to the same size, both kernel sizes odd.

    XLA's own gradient of the kernel takes two to five times as long on a CPU as a product of matrices for
    each place in it: a quarter of a step of training.
    """
    import jax

    @ops.custom_gradient
    def conv(frames, kernel):
        outputs, gradient_of_frames = jax.vjp(
            lambda frames: ops.conv(frames, kernel, 1, "same", "channels_last"), frames
        )
        sizes = kernel.shape[:2]

        def gradient(upstream):
            # What comes from above is shifted and not the frames, or XLA would do it ahead of time, and keep
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
    """`MaxPooling2D` in the form that is fast on each backend."""

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
    """`ops.max_pool` as the maximum over the places of a window.

    XLA's own gradient takes 3 to 15 times as long on a CPU, and indices and copies besides. Of equal maxima,
    each gets a share of the gradient, where it would be the first that gets it all.
    """
    if padding == "same":
        axes = (1, 2) if data_format == "channels_last" else (2, 3)
        pads = [(0, 0)] * 4
        for axis, size, step in zip(axes, pool_size, strides, strict=True):
            length = ops.shape(frames)[axis]
            missing = max((-(-length // step) - 1) * step + size - length, 0)
            pads[axis] = (missing // 2, missing - missing // 2)
        frames = ops.pad(frames, pads, constant_values=-math.inf)
    return functools.reduce(ops.maximum, places_of_windows(frames, pool_size, strides, data_format))


def places_of_windows(frames, sizes, strides, data_format="channels_last"):
    """For each place in windows of `sizes` that move by `strides`, what all windows have there."""
    first = 1 if data_format == "channels_last" else 2
    slices = []
    for length, size, step in zip(ops.shape(frames)[first:], sizes, strides, strict=False):
        reach = (length - size) // step * step + 1
        slices.append([slice(place, place + reach, step) for place in range(size)])
    return [frames[(slice(None),) * first + place] for place in itertools.product(*slices)]


@register
class FrameDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`DepthwiseConv2D`, stride 1, zero padded, without bias, in the form that is fast on each backend."""

    def call(self, inputs):
        kernel = ops.cast(self.kernel[..., 0], inputs.dtype)
        return depthwise_conv(inputs, kernel, self.data_format)


def depthwise_conv(frames, kernel, data_format):
    """Depthwise convolution, zero padded to the same size.

    Args:
        frames: `(batch, height, width, channels)` or `(batch, channels, height, width)`.
        kernel: `(kernel_height, kernel_width, channels)`, both sizes odd.
        data_format: `"channels_last"` or `"channels_first"`, of the frames.
    """
    if keras.backend.backend() != "jax":
        return on_frames(
            ops.depthwise_conv, frames, kernel[..., None], padding="same", data_format=data_format
        )
    # XLA computes a depthwise convolution of its own on a CPU 5 to 20 times slower than shifted products, of
    # which it makes one loop.
    if data_format == "channels_last":
        return _shifted_products(frames, kernel)
    return ops.moveaxis(_shifted_products(ops.moveaxis(frames, 1, -1), kernel), -1, 1)


def _shifted_products(frames, kernel):
    """`depthwise_conv`, channels last."""
    shape = ops.shape(frames)
    rows, columns = kernel.shape[:2]
    sides = [(rows // 2, rows // 2), (columns // 2, columns // 2)]
    # The products are shifted and not the frames, and made in the shape in which 1x1 convolutions take the
    # frames: the gradient would keep a copy of each shift, and of that shape.
    flat = ops.reshape(frames, (-1, shape[-1]))

    def product(row, column):
        shifted = ops.pad(ops.reshape(flat * kernel[row, column], shape), [(0, 0), *sides, (0, 0)])
        return shifted[:, row : row + shape[1], column : column + shape[2]]

    return sum(product(row, column) for row in range(rows) for column in range(columns))


def on_frames(function, frames, *args, data_format, **kwargs):
    """A convolution or pooling of `keras.ops` on frames, in the layout that the backend computes it in.

    TensorFlow on a CPU has no channels-first convolution, or only with oneDNN and in some dtypes: frames are
    transposed for it. Under PyTorch Keras would copy channels-last frames to channels first and back. A
    transposed view is the same without a copy, as PyTorch's kernels go by the layout in memory.
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
    """A convolution on every frame; without bias, as all of the network are until BatchNorm is folded.

    It starts from He normal, fan-out, unless told otherwise: the usual start of a ResNet that is trained
    from scratch. The paper only trains from ImageNet weights and describes none.
    """
    # A new object for each kernel, here and wherever one is given: it draws the same numbers again.
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
