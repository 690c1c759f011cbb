"""File names that are not UTF-8, which Python holds as text with lone surrogates."""

from keras_stm.arguments import ArgumentError


def open_text(path, mode="r", newline=None):
    """Opens a UTF-8 text file. File names in it keep their bytes that are not UTF-8."""
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline=newline)


def printable(text):
    r"""Returns text in which bytes that are not UTF-8 are escapes like `\udce9`."""
    return text.encode(errors="backslashreplace").decode()


def utf8_path(name, value):
    """Returns `value`, or raises `ValueError` if it is a path that TensorFlow cannot write to."""
    if printable(value) != value:
        raise ArgumentError(name, value, "must be a path in UTF-8, because TensorFlow writes there")
    return value
