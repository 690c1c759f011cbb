"""Opens data sets with one folder per class, such as a user's own clips."""

import os

from keras_stm.arguments import ArgumentError
from keras_stm.data import grouping
from keras_stm.data.catalog.clips import SPLIT_NAMES, find_splits
from keras_stm.data.dataset import Dataset
from keras_stm.data.frame_folder import FRAME_EXTENSIONS
from keras_stm.data.searching import is_video, search, visible
from keras_stm.data.video import VIDEO_EXTENSIONS


def open_folder(root, split, exclude, *, validation_split, seed, group_by):
    """Opens class folders, directly in `root` or under `train`, `validation` and `test`.

    Records are sorted by class, then by name.
    """
    if not os.path.isdir(root):
        raise ArgumentError("root", root, "must be an existing folder")
    folders = _split_folders(root)
    grouping.check_use(group_by, folders.get("validation"))
    train_folder = folders.get("train", root)
    train, without_clips = _found_by_class(train_folder)
    if len(train) < 2:
        raise ArgumentError(
            "root",
            root,
            f"must hold at least two class folders with clips, found {len(train)} ({', '.join(train)})",
        )
    if split == "test" and "test" not in folders:
        raise ArgumentError(
            "split",
            split,
            f"must be 'train' or 'validation': {root} has no folder 'test' next to a folder 'train'",
        )
    folder = folders.get(split, train_folder)
    found = train
    if folder != train_folder:
        found, without_clips = _found_by_class(folder)
    unknown = sorted(set(found) - set(train))
    if unknown:
        raise ArgumentError(
            "root",
            root,
            f"must hold only classes of train for {split}, but train has no {', '.join(map(repr, unknown))}",
        )
    records = [
        (path, label) for label, name in enumerate(train) if name in found for path in found[name].clips
    ]
    unused = without_clips + [path for each in found.values() for path in each.unused]
    # Videos outside of the class folders have no label.
    unused += [entry.path for place in {root, folder} for entry in visible(place) if _is_loose(entry)]
    if folders:
        unused += set(_subfolders(root)) - set(folders.values())
    dataset = Dataset(records, tuple(train), unused=tuple(sorted(unused))).without(exclude)
    if split == "test" or "validation" in folders:
        return dataset
    paths = [path for path, _ in dataset.records]
    group_of = grouping.key_function(group_by, root, train_folder, True, paths)
    return dataset.part(split, validation_split, seed, train_folder, group_of)


def _split_folders(root):
    """Returns `{split: folder}` of the folders in `root`; none if `root` holds the classes themselves."""
    found = find_splits(root, SPLIT_NAMES)
    others = {split: path for split, path in found.items() if split != "train"}
    # One of these names may be a class beside others; both together are splits.
    is_split = len(others) > 1 or (others and set(_with_clips(root)) <= set(others.values()))
    if "train" not in found and is_split:
        names = " and ".join(map(os.path.basename, others.values()))
        raise ArgumentError("root", root, f"must hold a folder train beside {names}")
    # If `train` has clips but no class folders, it is a class itself, for example of trains.
    if not os.path.isdir(found.get("train", "")) or not _has_classes(found["train"]):
        return {}
    for path in found.values():
        if not os.path.isdir(path):
            # A link to a missing disk is an error, and does not count as no folder.
            raise ValueError(f"{path}: expected a folder of class folders")
    return found


def _has_classes(folder):
    return bool(_with_clips(folder))


def _with_clips(folder):
    return [each for each in _subfolders(folder) if search(each, may_be_clip=False).clips]


def _found_by_class(root):
    """Returns `{class name: searching.Found}`, sorted, and the list of the folders without a clip."""
    found_by_class, without_clips, images = {}, [], []
    for folder in _subfolders(root):
        found = search(folder, may_be_clip=False)
        if found.clips:
            found_by_class[os.path.basename(folder)] = found
        else:
            without_clips.append(folder)
            images += [path for path in found.unused if path.lower().endswith(FRAME_EXTENSIONS)]
    if not found_by_class:
        directly = f"; {images[0]} must lie in a folder of the frames of one clip" if images else ""
        raise ArgumentError(
            "root",
            root,
            f"must hold one folder of clips per class, but no folder in {root} holds a clip: a video "
            f"({', '.join(VIDEO_EXTENSIONS)}) or a folder of {', '.join(FRAME_EXTENSIONS)} files{directly}",
        )
    return found_by_class, without_clips


def _subfolders(folder):
    return sorted(entry.path for entry in visible(folder) if entry.is_dir())


def _is_loose(entry):
    return is_video(entry.name) and not entry.is_dir()
