"""BatchNormalization with the fused training kernels of TensorFlow and PyTorch."""

import keras
from keras import ops

from keras_stm.layers.per_frame import channel_axis, register


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """Uses the backend's fused training kernel where it applies, and Keras's implementation elsewhere.

    Keras computes a training step of this layer in a dozen operations. Each of them reads and writes the
    whole feature map, which takes longer than the convolution before it. TensorFlow and PyTorch have one
    kernel for all of them.

    Keras's implementation is used:

    - under JAX, because XLA fuses the operations automatically;
    - in inference and with `trainable=False`, where the statistics are fixed;
    - with `synchronized`, `renorm` or a mask, where the statistics are not those of this batch alone;
    - channels first, in float64, and with weights that are not float32;
    - on inputs of fewer than four dimensions, or with a single value per channel;
    - without `scale` or without `center`.

    The class has the same name as Keras's, because weight files store a layer under the name of its class.

    See `keras.layers.BatchNormalization` for arguments, shapes and weights.
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
            # PyTorch multiplies a tensor by a Python number without copying the number to the GPU first. A
            # Keras variable would convert the number to a tensor.
            before = ops.convert_to_tensor(statistic)
            statistic.assign(before * self.momentum + value * (1 - self.momentum))
        return outputs


# Both kernels return the unbiased variance, which divides by n - 1. Keras keeps the biased variance, which
# divides by n.


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

    # On a CPU, PyTorch is fastest with a 2-D input.
    rows = inputs.reshape(-1, inputs.shape[-1])
    mean, variance = torch.zeros_like(gamma), torch.zeros_like(gamma)
    outputs = torch.nn.functional.batch_norm(
        rows, mean, variance, gamma, beta, training=True, momentum=1.0, eps=epsilon
    )
    number = max(len(rows), 1)
    return outputs.reshape(inputs.shape), mean, variance * ((number - 1) / number)


_KERNELS = {"tensorflow": _tensorflow, "torch": _torch}


def batch_norm(*, name, dtype, data_format, used=True):
    """Returns a BatchNormalization over batch, time and space, with PyTorch's epsilon and momentum.

    If `used` is false, returns an identity layer instead, for example after BatchNormalization was folded
    into the convolution before it.
    """
    if not used:
        return keras.layers.Identity(name=name, dtype=dtype)
    return BatchNormalization(
        axis=channel_axis(data_format), momentum=0.9, epsilon=1e-5, name=name, dtype=dtype
    )
