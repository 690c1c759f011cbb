"""Text files that list clips to exclude."""

from keras_stm.arguments import ArgumentError
from keras_stm.data.catalog.annotations import read_text


def read_exclude(path):
    """Returns the paths in a file of clips to exclude: one per line, comments start with #.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        lines = read_text(path, errors="surrogateescape").split("\n")
    except ValueError as error:
        raise ArgumentError("exclude", path, f"cannot be read: {error}") from error
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]
