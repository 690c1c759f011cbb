"""The clips of a split, and the order of their classes."""

import collections
import dataclasses
import hashlib
import json
import os

from absl import logging

from keras_stm.arguments import ArgumentError, one_of
from keras_stm.class_names import fingerprint
from keras_stm.data import grouping
from keras_stm.data.video import VideoError

SPLITS = ("train", "validation", "test")
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Attributes:
        records: list of `(path, label)`. The path names a video file, a folder of frames, or a clip
            in a packed shard. The label is an index into `class_names`, or `None` if a test set has
            no labels.
        class_names: tuple of str, the same for every split.
        missing: tuple of the paths that the data set's lists name but that do not exist. If
            validation is set apart from a list, these are the missing paths of the whole list.
        set_apart: whether validation was set apart from the training clips. The clips of each split
            then depend on which clips exist; see `open_dataset`.
        unused: tuple of the paths of files and folders among the clips that are no clips.
        stated_frames: dictionary of path -> number of frames that the data set's lists state.
    """

    records: list
    class_names: tuple
    missing: tuple = ()
    set_apart: bool = False
    unused: tuple = ()
    stated_frames: dict = dataclasses.field(default_factory=dict)

    @property
    def fingerprint(self):
        """16 hex digits that identify the class names and their order.

        They are the first digits of `sha256sum class_names.txt`, for a file with one name per line.
        """
        return fingerprint(self.class_names)

    def clips_fingerprint(self):
        """Returns text that changes with the clips and their labels, but not with their folder."""
        paths = [path for path, _ in self.records]
        root = os.path.commonpath(paths)
        content = json.dumps([(os.path.relpath(path, root), label) for path, label in self.records])
        return f"{len(paths)}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def with_class_names(self, class_names):
        """Returns the same clips, with labels for another order of the class names.

        Args:
            class_names: the names in the order of a model's scores.

        Returns:
            `Dataset`, which is this one if the order is the same. Otherwise a warning is logged.

        Raises:
            ValueError: the names differ from those of the data set.
        """
        class_names = tuple(class_names)
        if class_names == self.class_names:
            return self
        here, there = collections.Counter(self.class_names), collections.Counter(class_names)
        given = fingerprint(class_names)
        if here != there:
            raise ArgumentError(
                "class_names",
                class_names,
                "must be those of the data set, in any order. Only in the data set: "
                f"{_shortened(here - there)}. Only in `class_names`: {_shortened(there - here)}. The data "
                f"set's fingerprint is {self.fingerprint}",
                f"class_names of fingerprint {given}",
            )
        logging.warning(
            "Labels follow the given order of the class names (fingerprint %s), not the data set's (%s).",
            given,
            self.fingerprint,
        )
        label_of = {name: label for label, name in enumerate(class_names)}
        records = [
            (path, None if label is None else label_of[self.class_names[label]])
            for path, label in self.records
        ]
        return dataclasses.replace(self, records=records, class_names=class_names)

    def without(self, paths):
        """Returns the data set without the clips at some paths.

        Args:
            paths: set of absolute paths. Paths that are not in the data set are ignored.

        Raises:
            ValueError: no clip remains.
        """
        if not paths:
            return self
        records = [record for record in self.records if os.path.abspath(record[0]) not in paths]
        if not records:
            raise ArgumentError(
                "exclude",
                paths,
                "must leave at least one clip",
                f"exclude of all {len(self.records)} clips",
            )
        missing = tuple(path for path in self.missing if os.path.abspath(path) not in paths)
        return dataclasses.replace(self, records=records, missing=missing)

    def check_num_frames(self, path, count):
        """Raises `VideoError` if the clip at `path` has another number of frames than its list states.

        Such a clip counts as unreadable: one broken copy must not stop a run, and if many differ, the run
        stops with a list of them. Reading it anyway could show images that are no frames of the clip.
        """
        stated = self.stated_frames.get(path, count)
        if count != stated:
            kind = "truncated" if count < stated else "unreadable"
            raise VideoError(path, kind, f"holds {count} frames, but the list states {stated}")

    def part(self, split, validation_split, seed, folder, group_of=None):
        """Returns the clips of one split, if training and validation clips are stored together.

        Args:
            split: `"train"` or `"validation"`.
            validation_split: share of each class that is for validation, above 0 and below 1.
            seed: chooses the validation clips. The choice depends only on it and on the paths
                relative to `folder`.
            folder: the folder that holds the clips. Moving it does not change the choice.
            group_of: function from a path to the key of its group; all clips of a group stay in one split.
                `None` is one group per clip.

        Raises:
            ValueError: `split` is `"test"`, or the split is empty, because no class has two clips or two
                groups.
        """
        one_of("split", split, ("train", "validation"))

        def rank(name):
            return hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()

        if group_of is None:
            apart = self._choose_clips(validation_split, lambda path: rank(os.path.relpath(path, folder)))
        else:
            keys = {path: group_of(path) for path, _ in self.records}
            labels_of = collections.defaultdict(collections.Counter)
            for path, label in self.records:
                labels_of[keys[path]][label] += 1
            chosen = grouping.choose(labels_of, validation_split, rank)
            apart = {path for path, key in keys.items() if key in chosen}
        records = [record for record in self.records if (record[0] in apart) == (split == "validation")]
        if not records:
            units = "clips" if group_of is None else "groups by `group_by`"
            raise ArgumentError(
                "root",
                folder,
                f"must hold at least two {units} of some class, so that one is for validation",
            )
        return dataclasses.replace(self, records=records, set_apart=True)

    def _choose_clips(self, validation_split, rank):
        """Returns the paths of the clips that `part` sets apart without groups."""
        paths_of = collections.defaultdict(list)
        for path, label in self.records:
            paths_of[label].append(path)
        apart = set()
        for paths in paths_of.values():
            count = min(max(1, round(len(paths) * validation_split)), len(paths) - 1)
            apart.update(sorted(paths, key=rank)[:count])
        return apart


def describe_unused(paths):
    """Returns a line that counts and names what a data set does not use, or `None` if it uses all.

    Args:
        paths: paths of the files and folders. A path may come several times.
    """
    paths = list(dict.fromkeys(paths))
    if not paths:
        return None
    more = ", ..." if len(paths) > _LISTED else ""
    return f"Not used, because no clip of a class ({len(paths):,}): {', '.join(paths[:_LISTED])}{more}"


def _shortened(names):
    listed = list(map(repr, names))[:_LISTED]
    more = [f"{len(names) - len(listed)} more"] if len(names) > len(listed) else []
    return ", ".join([*listed, *more]) or "none"
