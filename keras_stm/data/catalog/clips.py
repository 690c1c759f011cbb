"""Finds the paths of clips by their names."""

import os

from keras_stm.arguments import ArgumentError
from keras_stm.data.dataset import Dataset
from keras_stm.data.searching import is_video

# Names of each split, in any case, of folders and of lists.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
_LISTED = 3


def find_splits(root, names):
    """Finds the file or folder of each split in `root`.

    Args:
        root: folder.
        names: dictionary of split -> accepted names in lower case; any case is accepted.

    Returns:
        Dictionary of split -> path, of the splits that exist. It is empty if `root` cannot be read.

    Raises:
        ValueError: a split exists under two names.
    """
    try:
        present = sorted(os.listdir(root))
    except OSError:
        return {}
    found = {}
    for split, accepted in names.items():
        # Anything with the name counts: a broken link, or a folder in place of a list, is an error later.
        there = [name for name in present if name.lower() in accepted]
        if len(there) > 1:
            raise ArgumentError("root", root, f"must hold only one of {' and '.join(there)}")
        if there:
            found[split] = os.path.join(root, there[0])
    return found


def find_clips(root, names, depth):
    """Finds the paths of clips in `root` or up to `depth` folders deeper.

    A video is also found with another ending, or with a second one, like `x.mp4.webm`.

    Args:
        root: folder.
        names: names of files or folders. Each may start with its parent folder, like
            `"Archery/v_Archery_g01_c01.avi"`.
        depth: number of folders. A folder that holds clips is not searched deeper.

    Returns:
        Dictionary of name -> path, without clips that do not exist.
    """
    name_of = {_without_video_endings(name): name for name in names}
    paths = {}
    root = os.path.normpath(root)
    # Folders are listed, because testing each of 240,000 paths takes minutes on a network disk.
    for folder, subfolders, files in os.walk(root, followlinks=True):
        inside = os.path.basename(folder)
        clips = {}
        for entry in sorted([*subfolders, *files]):
            for place in (entry, f"{inside}/{entry}"):
                # A folder of frames is not taken for a video of the same name.
                stem = _without_video_endings(place)
                name = place if place in names else name_of.get(stem) if stem != place else None
                if name is not None and (name == place or name not in clips):
                    clips[name] = os.path.join(folder, entry)
        for name, path in clips.items():
            paths.setdefault(name, path)
        if clips or os.path.relpath(folder, root).count(os.sep) + (folder != root) >= depth:
            subfolders.clear()
        subfolders.sort()
    return paths


def _without_video_endings(name):
    while is_video(name):
        name = name.rpartition(".")[0]
    return name


def to_dataset(root, labels, paths, class_names, exclude):
    """Returns the `Dataset` of the clips of a list that exist.

    Args:
        root: folder that missing clips are expected in.
        labels: dictionary of name -> label, in the order of the list.
        paths: dictionary of name -> path. Clips that are not in it are missing.
        class_names: tuple of str.
        exclude: set of absolute paths to exclude.

    Raises:
        ValueError: no clip remains.
    """
    missing = tuple(os.path.join(root, name) for name in labels if name not in paths)
    if not paths:
        some = ", ".join(list(labels)[:_LISTED])
        raise ArgumentError(
            "root",
            root,
            f"must hold the clips that its lists name, but none of the {len(labels)} exists, for example "
            f"{some}",
        )
    records = [(paths[name], label) for name, label in labels.items() if name in paths]
    return Dataset(records, class_names, missing).without(exclude)
