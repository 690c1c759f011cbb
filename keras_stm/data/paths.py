"""Paths of data sets, which may be URLs."""

import os


def is_url(path):
    """Returns whether only `tf.io.gfile` can open a path, like `gs://bucket/folder`."""
    return "://" in path


def absolute(path):
    """Returns an absolute path with `~` expanded; URLs and `None` stay unchanged."""
    if path is None or is_url(path):
        return path
    return os.path.abspath(os.path.expanduser(path))
