"""Names from files may have control characters, and bytes that are not UTF-8: lone surrogates in Python."""

import re

from keras_stm.arguments import ArgumentError


def open_text(path, mode="r", newline=None):
    """Opens a UTF-8 text file. File names in it keep their bytes that are not UTF-8."""
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline=newline)


# C0 without tab and line feed, DEL, C1, and the characters that change the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def without_control(text):
    r"""Returns text in which control characters are escapes like `\x1b`.

    A terminal would obey them, and a name in a file could change its title or what is shown.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable(text):
    r"""Returns text in which control characters and bytes that are not UTF-8 are escapes like `\udce9`."""
    return without_control(text).encode(errors="backslashreplace").decode()


def utf8_path(name, value):
    """Returns `value`, or raises `ValueError` if it is a path that TensorFlow cannot write to."""
    if printable(value) != value:
        raise ArgumentError(name, value, "must be a path in UTF-8, because TensorFlow writes there")
    return value
