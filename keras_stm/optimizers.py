import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_stm")
class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` whose `weight_decay` is PyTorch's, as the paper trains with.

    The decay `weight_decay * weight` is added to the (clipped) gradient and so goes through the
    momentum. `keras.optimizers.SGD` shrinks the weights beside the step instead, which at the same
    value and momentum 0.9 is about ten times weaker.

    It acts on every trainable weight, unless `exclude_from_weight_decay` names some.

    Args: as of `keras.optimizers.SGD`.
    """

    def _apply_weight_decay(self, variables):
        # Keras' hook for decoupled decay; ours is part of the gradient.
        pass

    def update_step(self, gradient, variable, learning_rate):
        if self.weight_decay is not None and self._use_weight_decay(variable):
            decay = ops.cast(self.weight_decay, variable.dtype)
            gradient = ops.add(ops.cast(gradient, variable.dtype), ops.multiply(variable, decay))
        super().update_step(gradient, variable, learning_rate)
