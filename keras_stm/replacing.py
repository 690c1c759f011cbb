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
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
