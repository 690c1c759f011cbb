"""Format of `class_names.txt`, and its fingerprint."""

import hashlib


def index_names(count):
    """Returns names for classes that have none: their indices."""
    return tuple(str(index) for index in range(count))


def to_lines(class_names):
    """Returns the bytes of `class_names.txt`: one name per line, in UTF-8."""
    return "".join(f"{name}\n" for name in class_names).encode()


def is_line(name):
    """Returns whether a name stays the same if it is written as one line of a text file and read again."""
    return name.encode(errors="replace").decode().splitlines() == [name]


def fingerprint(class_names):
    """Returns the first 16 hex digits of `sha256sum class_names.txt`, which depend on names and order."""
    return hashlib.sha256(to_lines(class_names)).hexdigest()[:16]
