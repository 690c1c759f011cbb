import os


def cache_folder(name):
    """Path of `name` in Keras' own cache folder: `$KERAS_HOME`, by default `~/.keras`."""
    return os.path.join(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras")), name)
