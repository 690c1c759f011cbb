"""Files that are complete or not there at all."""

import contextlib
import os


@contextlib.contextmanager
def replacing(path):
    """Yields a path to write; what is there becomes `path` once the block ends without an error."""
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".partial-{name}")
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
