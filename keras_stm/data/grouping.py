"""Groups of clips that come from one source video, so that a split does not divide them."""

import collections
import os
import re

from keras_stm.arguments import ArgumentError

PARENT = "parent"
# A name that ends with two numbered words, like `person01_clip03` or `v_Archery_g01_c01`.
_NUMBERED = re.compile(r"(?:.*[\W_])?([^\W\d_]+[\W_]*)\d+([\W_]+[^\W\d_]+[\W_]*)\d+")


def key_function(group_by, root, folder, has_class_folders, paths):
    """Returns a function from the path of a clip to the key of its group, or `None` without `group_by`.

    Args:
        group_by: see `open_dataset`.
        root: folder that the regular expression sees paths relative to.
        folder: folder that holds the clips.
        has_class_folders: whether `folder` holds a folder for each class. The name of the class is not part
            of a key, so that a group may have clips of several classes.
        paths: list of the paths of all clips.

    Raises:
        ValueError: `group_by` is neither `"parent"` nor a regular expression, or no clip has a key.
    """
    if group_by is None:
        return None
    key = _parent_key(folder, has_class_folders) if group_by == PARENT else _matched_key(group_by, root)
    if not any(key(path) is not None for path in paths):
        what = (
            "needs folders of clips below the classes"
            if group_by == PARENT
            else "must match the path of a clip"
        )
        example = os.path.relpath(paths[0], root)
        raise ArgumentError("group_by", group_by, f"{what}; a clip is {example}")
    # No path has a zero byte, so no other clip has the key of a clip that is alone.
    return lambda path: f"\0{os.path.relpath(path, folder)}" if key(path) is None else key(path)


def check_use(group_by, validation):
    """Raises `ValueError` if `group_by` has no effect, because there are validation clips.

    Args:
        group_by: see `open_dataset`.
        validation: path of the validation clips, or `None`.
    """
    if group_by is not None and validation is not None:
        expected = f"is for data without a validation split, but there is {validation}"
        raise ArgumentError("group_by", group_by, expected)


def _parent_key(folder, has_class_folders):
    return lambda path: parent(os.path.relpath(path, folder), has_class_folders) or None


def _matched_key(group_by, root):
    try:
        pattern = re.compile(group_by)
    except (re.error, TypeError) as error:
        expected = f"must be {PARENT!r} or a regular expression ({error})"
        raise ArgumentError("group_by", group_by, expected) from error

    def key(path):
        match = pattern.search(os.path.relpath(path, root))
        if not match:
            return None
        # Of alternatives with a group each, only one takes part.
        return next((group for group in match.groups() if group is not None), match[0])

    return key


def parent(name, has_class_folders):
    """Returns the folder of a clip below its class folder, or an empty string if it is in none."""
    return os.sep.join(name.split(os.sep)[1 if has_class_folders else 0 : -1])


def choose(labels_of, share, rank):
    """Chooses groups that together have about `share` of the clips of each class, and never all.

    Args:
        labels_of: dictionary of group -> `Counter` of the labels of its clips.
        share: share of each class, above 0 and below 1.
        rank: function from a group to a value; groups of lower values are tried first.

    Returns:
        Set of groups. A class has a clip in it if its groups allow that.
    """
    total = sum(labels_of.values(), collections.Counter())
    wanted = {label: max(1, round(count * share)) for label, count in total.items()}
    taken, chosen = collections.Counter(), set()
    ranked = sorted(labels_of, key=rank)

    def leaves_all_classes(group):
        return all(taken[label] + count < total[label] for label, count in labels_of[group].items())

    def change(group):
        """Returns how much worse the shares of the classes become; negative is better."""
        return sum(
            ((taken[label] + count - wanted[label]) ** 2 - (taken[label] - wanted[label]) ** 2)
            / total[label] ** 2
            for label, count in labels_of[group].items()
        )

    def take(group):
        chosen.add(group)
        taken.update(labels_of[group])

    for group in ranked:
        if leaves_all_classes(group) and change(group) < 0:
            take(group)
    for label in sorted(total, key=total.get):
        # The groups of this class are large: the one that fits best is better than no validation clip.
        fitting = [group for group in ranked if labels_of[group][label] and leaves_all_classes(group)]
        if not taken[label] and fitting:
            take(min(fitting, key=change))
    return chosen


def suggest(names, has_class_folders):
    """Returns a value of `group_by` that the names of clips suggest, or `None`.

    Args:
        names: paths of the clips, relative to the folder of the data set.
        has_class_folders: see `key_function`.
    """
    folders = [parent(name, has_class_folders) for name in names]
    if has_class_folders and _are_groups(filter(None, folders), names):
        return PARENT
    stems = (os.path.splitext(os.path.basename(name))[0] for name in names)
    words = collections.Counter(match.groups() for match in map(_NUMBERED.fullmatch, stems) if match)
    if not words:
        return None
    (((group, clip), _),) = words.most_common(1)
    suggestion = rf"([^/]*{re.escape(group)}\d+){re.escape(clip)}\d+"
    found = (re.search(suggestion, name) for name in names)
    return suggestion if _are_groups((match[1] for match in found if match), names) else None


def _are_groups(keys, names):
    """Returns whether at least half of the clips belong to two or more groups, not all with one clip."""
    counts = collections.Counter(keys)
    return len(counts) > 1 and max(counts.values()) > 1 and counts.total() >= len(names) / 2
