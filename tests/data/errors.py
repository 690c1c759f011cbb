import contextlib

import pytest

from keras_stm.arguments import ArgumentError


@contextlib.contextmanager
def argument_error(name, value):
    """Fails unless what is inside refuses the argument of this name for its value."""
    with pytest.raises(ArgumentError) as error:
        yield
    assert error.value.name == name
    # NaN is not itself, and arrays compare one by one.
    assert repr(error.value.value) == repr(value)
    message = str(error.value)
    assert message.startswith(f"`{name}` ") and ". Received: " in message and "\n" not in message
