"""The clips of a split, and the order of their classes."""

import collections
import dataclasses
import hashlib
import json
import os

from absl import logging

from keras_stm.arguments import ArgumentError, one_of
from keras_stm.class_names import fingerprint

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
    """

    records: list
    class_names: tuple
    missing: tuple = ()
    set_apart: bool = False

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

    def part(self, split, validation_split, seed, folder):
        """Returns the clips of one split, if training and validation clips are stored together.

        Args:
            split: `"train"` or `"validation"`.
            validation_split: share of each class that is for validation, above 0 and below 1.
            seed: chooses the validation clips. The choice depends only on it and on the paths
                relative to `folder`.
            folder: the folder that holds the clips. Moving it does not change the choice.

        Raises:
            ValueError: `split` is `"test"`, or the split is empty, because no class has two clips.
        """
        one_of("split", split, ("train", "validation"))

        def rank(path):
            return hashlib.sha256(os.fsencode(f"{seed}/{os.path.relpath(path, folder)}")).digest()

        paths_of = collections.defaultdict(list)
        for path, label in self.records:
            paths_of[label].append(path)
        apart = set()
        for paths in paths_of.values():
            count = min(max(1, round(len(paths) * validation_split)), len(paths) - 1)
            apart.update(sorted(paths, key=rank)[:count])
        records = [record for record in self.records if (record[0] in apart) == (split == "validation")]
        if not records:
            raise ArgumentError(
                "root", folder, "must hold at least two clips of some class, so that one is for validation"
            )
        return dataclasses.replace(self, records=records, set_apart=True)


def _shortened(names):
    listed = list(map(repr, names))[:_LISTED]
    more = [f"{len(names) - len(listed)} more"] if len(names) > len(listed) else []
    return ", ".join([*listed, *more]) or "none"
