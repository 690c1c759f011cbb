import math
import numbers

import keras
from keras import ops

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError

# TSM's parameter groups: part of a weight's path -> factors of the learning rate and of the decay.
TSM_GROUPS = {
    "predictions/kernel": (5.0, 1.0),
    "predictions/bias": (10.0, 0.0),
    "bias": (2.0, 0.0),
    "gamma": (1.0, 0.0),
    "beta": (1.0, 0.0),
}


@keras.saving.register_keras_serializable(package="keras_stm")
class SGD(keras_compat.WithoutDecoupledDecay, keras.optimizers.SGD):
    """`keras.optimizers.SGD` whose `weight_decay` is PyTorch's, as the paper trains with.

    The decay `weight_decay * weight` is added to the (clipped) gradient and so goes through the
    momentum. `keras.optimizers.SGD` shrinks the weights beside the step instead, which at the same
    value and momentum 0.9 is about ten times weaker.

    It acts on every trainable weight, unless `exclude_from_weight_decay` names some.

    Args:
        *args, **kwargs: as of `keras.optimizers.SGD`.
        groups: dictionary of the end of a weight's path -> `(factor of the learning rate, factor of
            the weight decay)`; the first that fits counts, as in `TSM_GROUPS`. Other weights have 1.

    Raises:
        ValueError: if `groups` is not as above, its factors numbers of at least 0, or as
            `keras.optimizers.SGD`.
    """

    def __init__(self, *args, groups=None, **kwargs):
        super().__init__(*args, **kwargs)
        groups = {} if groups is None else groups
        if not isinstance(groups, dict) or not all(map(_is_group, groups.items())):
            raise ArgumentError(
                "groups",
                groups,
                "must be a dictionary of the ends of paths to pairs of factors of at least 0",
            )
        self.groups = dict(groups)

    def update_step(self, gradient, variable, learning_rate):
        path = keras_compat.path_of(self, variable)
        fitting = (factors for end, factors in self.groups.items() if path.endswith(end))
        rate_factor, decay_factor = next(fitting, (1.0, 1.0))
        learning_rate = ops.multiply(learning_rate, rate_factor)
        if self.weight_decay is not None and keras_compat.decays(self, variable):
            decay = ops.cast(self.weight_decay * decay_factor, variable.dtype)
            gradient = ops.add(ops.cast(gradient, variable.dtype), ops.multiply(variable, decay))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


def _is_group(item):
    end, factors = item
    return (
        isinstance(end, str)
        and isinstance(factors, list | tuple)
        and len(factors) == 2
        and all(isinstance(factor, numbers.Real) and 0 <= factor < math.inf for factor in factors)
    )
