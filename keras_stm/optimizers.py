"""SGD with the weight decay of PyTorch."""

import math
import numbers

import keras
from keras import ops

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError

# TSM's parameter groups: end of a weight's path -> factors of the learning rate and of the weight decay.
TSM_GROUPS = {
    "predictions/kernel": (5.0, 1.0),
    "predictions/bias": (10.0, 0.0),
    "bias": (2.0, 0.0),
    "gamma": (1.0, 0.0),
    "beta": (1.0, 0.0),
}


@keras.saving.register_keras_serializable(package="keras_stm")
class SGD(keras_compat.WithoutDecoupledDecay, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with PyTorch's `weight_decay`, which the paper trains with.

    The decay `weight_decay * weight` is added to the (clipped) gradient, and therefore goes through the
    momentum. `keras.optimizers.SGD` shrinks the weights separately from the step. At the same value and
    momentum 0.9, its decay is about ten times weaker.

    Every trainable weight decays, except for weights that `exclude_from_weight_decay` names.

    Args:
        *args, **kwargs: see `keras.optimizers.SGD`.
        groups: dictionary from the end of a weight's path to `(factor of the learning rate, factor of the
            weight decay)`, for example `TSM_GROUPS`. The first matching entry applies. Weights without a
            match have the factors 1.

    Raises:
        ValueError: if `groups` is not such a dictionary, a factor is not a finite number of at least 0, or
            `keras.optimizers.SGD` rejects an argument.
    """

    def __init__(self, *args, groups=None, **kwargs):
        super().__init__(*args, **kwargs)
        groups = {} if groups is None else groups
        if not isinstance(groups, dict) or not all(map(_is_group, groups.items())):
            raise ArgumentError(
                "groups",
                groups,
                "must be a dictionary from the ends of paths to pairs of factors of at least 0",
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
