"""Writes files and folders that are either complete or absent."""

import contextlib
import os
import tempfile
import uuid

# Part of the names of incomplete files and folders.
PARTIAL = ".partial-"


@contextlib.contextmanager
def replacing(path, shared=False):
    """Yields a temporary path to write to, and renames it to `path` if the block ends without an error.

    Args:
        path: path of the file, or a URL that `tf.io.gfile` supports.
        shared: whether other processes may write the same file. If true, each process has its own temporary
            path: `path`, `PARTIAL` and a random number. If false, the temporary path is always the same, so
            that the next call replaces the file that a killed process has left.
    """
    folder, name = os.path.split(path)
    partial = f"{path}{PARTIAL}{uuid.uuid4().hex}" if shared else os.path.join(folder, f"{PARTIAL}{name}")
    if "://" in path:
        import tensorflow as tf

        try:
            yield partial
            tf.io.gfile.rename(partial, path, overwrite=True)
        finally:
            if tf.io.gfile.exists(partial):
                tf.io.gfile.remove(partial)
        return
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        # The error of a full disk does not name the file.
        if error.errno and not error.filename:
            error.filename = path
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


@contextlib.contextmanager
def replacing_folder(path, overwrite=True):
    """Yields an empty folder to fill, and renames it to `path` if the block ends without an error.

    Args:
        path: path of the folder. Missing parent folders are created.
        overwrite: whether an existing folder is replaced. If false, an existing folder must be empty.

    Raises:
        OSError: the folder exists, is not empty and `overwrite` is false.
    """
    parent, name = os.path.split(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{PARTIAL}{name}-", dir=parent, ignore_cleanup_errors=True
    ) as temporary:
        folder = os.path.join(temporary, "complete")
        os.mkdir(folder)
        yield folder
        if os.path.isdir(path) and overwrite:
            os.rename(path, os.path.join(temporary, "replaced"))
        elif os.path.isdir(path):
            os.rmdir(path)
        os.rename(folder, path)
