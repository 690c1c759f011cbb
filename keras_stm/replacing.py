"""Files and folders that are complete or not there at all."""

import contextlib
import os
import tempfile
import uuid

# In the names of what is not complete.
PARTIAL = ".partial-"


@contextlib.contextmanager
def replacing(path, shared=False):
    """Yields a path to write a file to, which becomes `path` once the block ends without an error.

    Args:
        path: the file, or a URL that `tf.io.gfile` knows.
        shared: whether other processes may be writing the same file. Then each writes to a path of its own,
            `path`, `PARTIAL` and a number; without, to the same, so that what a kill leaves is replaced.
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
        # A full disk does not say which file it is about.
        if error.errno and not error.filename:
            error.filename = path
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


@contextlib.contextmanager
def replacing_folder(path, overwrite=True):
    """Yields an empty folder to fill, which becomes `path` once the block ends without an error.

    Args:
        path: the folder. The one that it is in is made where it is not there.
        overwrite: whether a folder that is there is replaced. If not, and it is not empty, `OSError`.
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
