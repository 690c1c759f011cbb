"""Keras's cache folder."""

import os


def cache_folder(name):
    """Returns the path of `name` in Keras's cache folder, `$KERAS_HOME` or by default `~/.keras`."""
    return os.path.join(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras")), name)
