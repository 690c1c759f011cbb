"""Paths of data sets, which may be URLs."""

import os


def is_url(path):
    """Whether a path is for `tf.io.gfile` alone, as `gs://bucket/folder`."""
    return "://" in path


def absolute(path):
    """The same file or folder from every working directory, `~` replaced; URLs and `None` as they are."""
    if path is None or is_url(path):
        return path
    return os.path.abspath(os.path.expanduser(path))
