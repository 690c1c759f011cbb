"""Checks of arguments. Every message names the argument, what it accepts and what it received.

Functions that need Keras import it themselves: the help of the commands uses this module without Keras.
"""

import collections.abc
import math
import numbers
import os

from keras_stm.class_names import is_line


class ArgumentError(ValueError):
    """Error of an argument with a value that is not accepted.

    Args:
        name: name of the argument.
        value: value of the argument.
        expected: what the value must be; continues the sentence that begins with the name.
        received: text that the message shows in place of `name=value`, if the value is not informative.

    Attributes:
        name: name of the argument.
        value: value of the argument.
    """

    def __init__(self, name, value, expected, received=None):
        # With all four in `args`, the error can be pickled and sent to another process.
        super().__init__(name, value, expected, received)
        self.name = name
        self.value = value

    def __str__(self):
        name, value, expected, received = self.args
        return f"`{name}` {expected}. Received: {received or f'{name}={value!r}'}"


def one_of(name, value, accepted):
    """Returns `value`, or raises `ValueError` if it is not among `accepted`."""
    if value not in accepted:
        raise ArgumentError(name, value, f"must be one of {', '.join(map(repr, accepted))}")
    return value


def positive_int(name, value):
    """Returns `value` as an `int`, or raises `ValueError` if it is not an integer of at least 1."""
    if not is_positive_int(value):
        raise ArgumentError(name, value, "must be a positive integer")
    return int(value)


def positive_number(name, value):
    """Returns `value` as a `float`, or raises `ValueError` if it is not a finite number above 0."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ArgumentError(name, value, "must be a positive number")
    return float(value)


def is_positive_int(value):
    """Returns whether `value` is an integer of at least 1; `True` does not count as an integer."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def lines(name, value):
    """Returns `value` as a tuple, or raises `ValueError` if it is not an iterable of one-line strings."""
    is_list = isinstance(value, collections.abc.Iterable) and not isinstance(value, str)
    items = tuple(value) if is_list else ()
    if not items or not all(isinstance(item, str) and is_line(item) for item in items):
        raise ArgumentError(name, value, "must be a list of strings, each of one line")
    return items


def absolute_path(name, value):
    """Returns `value` as an absolute path with `~` expanded, or raises `ValueError` if it is not a path."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ArgumentError(name, value, "must be a path")
    return os.path.abspath(os.path.expanduser(os.fspath(value)))


def keras_model(value):
    """Returns `value`, the argument `model`, or raises `ValueError` if it is not a `keras.Model`."""
    import keras

    if not isinstance(value, keras.Model):
        raise ArgumentError("model", value, "must be a keras.Model")
    return value


def functional_model(value):
    """Returns `value`, the argument `model`, as a functional model.

    A `Sequential` with a known input shape is converted to a functional model.

    Raises:
        ValueError: `value` is not a `keras.Model`, or neither functional nor such a `Sequential`.
    """
    import keras

    if isinstance(keras_model(value), keras.Sequential) and getattr(value, "inputs", None):
        return keras.Model(*value.inputs, *value.outputs, name=value.name)
    if not isinstance(value, keras.Function):
        raise ArgumentError(
            "model",
            value,
            "must be functional, or a Sequential with a known input shape",
            f"model={value.name!r} of {type(value).__name__}",
        )
    return value


def subset_of(name, value, accepted):
    """Returns `value` as a tuple in the order of `accepted`, without repeats.

    Raises `ValueError` if it is not a list or tuple, or holds other items.
    """
    if not isinstance(value, list | tuple) or not all(item in accepted for item in value):
        raise ArgumentError(name, value, f"must be a tuple with any of {', '.join(map(repr, accepted))}")
    return tuple(item for item in accepted if item in value)


def standardize_data_format(data_format):
    """Returns `data_format`, or Keras's global setting if it is `None`.

    Raises:
        ValueError: it is neither `"channels_last"` nor `"channels_first"`.
    """
    import keras

    if data_format is None:
        return keras.config.image_data_format()
    return one_of("data_format", data_format, ("channels_last", "channels_first"))


def standardize_dtype_policy(dtype):
    """Returns the `keras.DTypePolicy` of `dtype`: a policy, its name, or `None` for Keras's global policy.

    Raises:
        ValueError: `dtype` is not a policy, or does not compute in floating-point numbers.
    """
    import keras

    expected = "must be a floating-point dtype policy, its name, or None"
    try:
        policy = keras.dtype_policies.get(dtype)
    except (ValueError, TypeError) as error:
        raise ArgumentError("dtype", dtype, expected) from error
    if not isinstance(policy, keras.DTypePolicy) or "float" not in policy.compute_dtype:
        raise ArgumentError("dtype", dtype, expected)
    return policy
