import keras
from keras import ops

from keras_stm.layers.per_frame import channel_axis, register


@register
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`BatchNormalization` that trains with the one kernel that TensorFlow and PyTorch have for it.

    Keras writes it as a dozen operations that each read and write the whole feature map: on a CPU half of a
    training step goes there. XLA joins them by itself, so that under JAX this is Keras' own. So it is where
    the kernel cannot take it: channels first, float64, statistics that are fixed or not those of this batch
    alone (`trainable`, `synchronized`, `renorm`, a mask), one value a channel, fewer than four dimensions, no
    `scale` or no `center`.

    Arguments, shapes and weights: as of `keras.layers.BatchNormalization`.
    """

    def call(self, inputs, training=None, mask=None):
        kernel = _KERNELS.get(keras.backend.backend())
        fits = (
            len(inputs.shape) > 3
            and self.axis in (-1, len(inputs.shape) - 1)
            and keras.backend.standardize_dtype(inputs.dtype) != "float64"
            and any(size != 1 for size in inputs.shape[:-1])
            and not (self.synchronized or self.renorm or mask is not None)
            and self.scale
            and self.center
        )
        if not (kernel and training and self.trainable and fits):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.convert_to_tensor(weight) for weight in (self.gamma, self.beta))
        outputs, mean, variance = kernel(inputs, gamma, beta, self.epsilon)
        # Both kernels give the estimate for all there is, which divides by one value less.
        number = ops.cast(ops.size(inputs), variance.dtype) / inputs.shape[-1]
        variance = variance * ((number - 1) / number)
        for statistic, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            statistic.assign(statistic * self.momentum + value * (1 - self.momentum))
        return outputs


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
    return ops.reshape(outputs, shape), mean, variance


def _torch(inputs, gamma, beta, epsilon):
    import torch

    mean, variance = torch.zeros_like(gamma), torch.zeros_like(gamma)
    outputs = torch.nn.functional.batch_norm(
        # As rows it is fastest on a CPU.
        inputs.reshape(-1, inputs.shape[-1]),
        mean,
        variance,
        gamma,
        beta,
        training=True,
        momentum=1.0,
        eps=epsilon,
    )
    return outputs.reshape(inputs.shape), mean, variance


_KERNELS = {"tensorflow": _tensorflow, "torch": _torch}


def batch_norm(*, name, dtype, data_format, used=True):
    """BatchNormalization over batch, time and space, with PyTorch's epsilon and momentum.

    Not `used`, as where it was folded into the convolution before it, it passes on what it gets.
    """
    if not used:
        return keras.layers.Identity(name=name, dtype=dtype)
    return FusedBatchNormalization(
        axis=channel_axis(data_format), momentum=0.9, epsilon=1e-5, name=name, dtype=dtype
    )
