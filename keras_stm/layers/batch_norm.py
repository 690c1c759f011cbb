import keras
from keras import ops

from keras_stm.layers.per_frame import channel_axis, register


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, but that it trains with the one kernel that TensorFlow and PyTorch have for it.

    Keras computes it in a dozen operations that each read and write the whole feature map, which takes longer
    than the convolution before it. XLA joins them by itself, so that under JAX this is Keras' own. So it is
    where not both kernels serve: channels first, weights that are not float32, statistics that are fixed or
    not those of this batch alone (`trainable`, `synchronized`, `renorm`, a mask), one value a channel, fewer
    than four dimensions, no `scale` or no `center`.

    Its name is Keras' own, too: files of weights call a layer by its class.

    Arguments, shapes and weights: as of `keras.layers.BatchNormalization`.
    """

    def call(self, inputs, training=None, mask=None):
        kernel = _KERNELS.get(keras.backend.backend())
        fits = (
            len(inputs.shape) > 3
            and self.axis in (-1, len(inputs.shape) - 1)
            and keras.backend.standardize_dtype(inputs.dtype) == self.compute_dtype != "float64"
            and self.variable_dtype == "float32"
            and any(size != 1 for size in inputs.shape[:-1])
            and not (self.synchronized or self.renorm or mask is not None)
            and self.scale
            and self.center
        )
        if not (kernel and training and self.trainable and fits):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.convert_to_tensor(weight) for weight in (self.gamma, self.beta))
        outputs, mean, variance = kernel(inputs, gamma, beta, self.epsilon)
        for statistic, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            # As a tensor, by which PyTorch multiplies without moving a number to the GPU.
            before = ops.convert_to_tensor(statistic)
            statistic.assign(before * self.momentum + value * (1 - self.momentum))
        return outputs


# Both kernels give the variance of all there is as estimated from this batch, which divides by one value less
# than the mean of squares does, and Keras keeps that.


def _tensorflow(inputs, gamma, beta, epsilon):
    import tensorflow as tf

    shape = ops.shape(inputs)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=ops.reshape(inputs, (-1, *shape[-3:])),
        scale=gamma,
        offset=beta,
        mean=[],
        variance=[],
        epsilon=epsilon,
    )
    number = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    return ops.reshape(outputs, shape), mean, variance * ((number - 1) / number)


def _torch(inputs, gamma, beta, epsilon):
    import torch

    # As rows it is fastest on a CPU.
    rows = inputs.reshape(-1, inputs.shape[-1])
    mean, variance = torch.zeros_like(gamma), torch.zeros_like(gamma)
    outputs = torch.nn.functional.batch_norm(
        rows, mean, variance, gamma, beta, training=True, momentum=1.0, eps=epsilon
    )
    number = max(len(rows), 1)
    return outputs.reshape(inputs.shape), mean, variance * ((number - 1) / number)


_KERNELS = {"tensorflow": _tensorflow, "torch": _torch}


def batch_norm(*, name, dtype, data_format, used=True):
    """BatchNormalization over batch, time and space, with PyTorch's epsilon and momentum.

    Not `used`, as where it was folded into the convolution before it, it passes on what it gets.
    """
    if not used:
        return keras.layers.Identity(name=name, dtype=dtype)
    return BatchNormalization(
        axis=channel_axis(data_format), momentum=0.9, epsilon=1e-5, name=name, dtype=dtype
    )
