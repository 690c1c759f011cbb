"""Names of clips -> their paths."""

import os

from keras_stm.arguments import ArgumentError
from keras_stm.data.dataset import Dataset

_LISTED = 3


def find_splits(root, names):
    """What `root` holds of each split, a file or a folder.

    Args:
        root: folder.
        names: dictionary of split -> the names that it may have.

    Returns:
        Dictionary of split -> path, of the splits that are there.

    Raises:
        ValueError: a split is there under two names.
    """
    found = {}
    for split, accepted in names.items():
        # Whatever it is: a broken link, or a folder in place of a list, shall not pass for nothing.
        there = [name for name in accepted if os.path.lexists(os.path.join(root, name))]
        if len(there) > 1:
            raise ArgumentError("root", root, f"must hold one of {' and '.join(there)}")
        if there:
            found[split] = os.path.join(root, there[0])
    return found


def find_clips(root, names, depth):
    """Paths of the clips that lie in `root` or up to `depth` folders deeper.

    Args:
        root: folder.
        names: names of files or folders; each may start with the folder that it is in, as
            `"Archery/v_Archery_g01_c01.avi"`.
        depth: number of folders; one that holds clips is not searched deeper.

    Returns:
        Dictionary of name -> path, without the clips that are not there.
    """
    paths = {}
    root = os.path.normpath(root)
    # Folders are listed, as looking for each of 240,000 clips takes minutes on a network's disk.
    for folder, subfolders, files in os.walk(root, followlinks=True):
        inside = os.path.basename(folder)
        clips = {
            name: os.path.join(folder, entry)
            for entry in [*subfolders, *files]
            for name in (entry, f"{inside}/{entry}")
            if name in names
        }
        for name, path in clips.items():
            paths.setdefault(name, path)
        if clips or os.path.relpath(folder, root).count(os.sep) + (folder != root) >= depth:
            subfolders.clear()
        subfolders.sort()
    return paths


def to_dataset(root, labels, paths, class_names, exclude):
    """`Dataset` of the clips of a list that are there.

    Args:
        root: folder that those are missing from that are not there.
        labels: dictionary of name -> label, in the order of the list.
        paths: dictionary of name -> path; a name that is not in it is missing.
        class_names: tuple of str.
        exclude: set of absolute paths to leave out.

    Raises:
        ValueError: no clip is left.
    """
    missing = tuple(os.path.join(root, name) for name in labels if name not in paths)
    if not paths:
        some = ", ".join(list(labels)[:_LISTED])
        raise ArgumentError(
            "root",
            root,
            f"must hold the clips that its lists name, but none of the {len(labels)} is there, such as "
            f"{some}",
        )
    records = [(paths[name], label) for name, label in labels.items() if name in paths]
    return Dataset(records, class_names, missing).without(exclude)
