"""Class names as every file of ours holds them, and the fingerprint of that file."""

import hashlib


def to_lines(class_names):
    """The bytes of `class_names.txt`: one name a line, in UTF-8."""
    return "".join(f"{name}\n" for name in class_names).encode()


def is_line(name):
    """Whether a name can be a line of a text file, and be read from it as it is."""
    return name.encode(errors="replace").decode().splitlines() == [name]


def fingerprint(class_names):
    """16 hex digits that stand for the names and their order, the first of `sha256sum class_names.txt`."""
    return hashlib.sha256(to_lines(class_names)).hexdigest()[:16]
