"""Checks of arguments. Every message names the argument, what it accepts and what it received."""

import numbers

import keras


def one_of(name, value, accepted):
    """Returns `value`, or raises `ValueError` where it is not among `accepted`."""
    if value not in accepted:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, accepted))}. Received: {name}={value!r}"
        )
    return value


def positive_int(name, value):
    """Returns `value` as an `int`, or raises `ValueError` where it is no integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def subset_of(name, value, accepted):
    """Returns `value` as a tuple in the order of `accepted`, without repeats.

    Raises `ValueError` where it is no list or tuple, or holds anything else.
    """
    if not isinstance(value, list | tuple) or not all(item in accepted for item in value):
        raise ValueError(
            f"`{name}` must be a tuple of any of {', '.join(map(repr, accepted))}. Received: {name}={value!r}"
        )
    return tuple(item for item in accepted if item in value)


def standardize_data_format(data_format):
    """`data_format`, or Keras' global one where it is `None`.

    Raises:
        ValueError: if it is neither `"channels_last"` nor `"channels_first"`.
    """
    if data_format is None:
        return keras.config.image_data_format()
    return one_of("data_format", data_format, ("channels_last", "channels_first"))
