import contextlib

import pytest

from keras_stm.arguments import ArgumentError


@contextlib.contextmanager
def argument_error(name, value):
    """Fails unless the block raises an `ArgumentError` for this argument and value."""
    with pytest.raises(ArgumentError) as error:
        yield
    assert error.value.name == name
    # Compare by `repr`, as NaN is not equal to itself and arrays compare element by element.
    assert repr(error.value.value) == repr(value)
    message = str(error.value)
    assert message.startswith(f"`{name}` ") and ". Received: " in message and "\n" not in message
