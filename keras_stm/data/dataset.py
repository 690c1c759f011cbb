"""The clips of a split, and the order of their classes."""

import collections
import dataclasses
import hashlib
import json
import os

from absl import logging

from keras_stm.arguments import ArgumentError
from keras_stm.class_names import fingerprint

SPLITS = ("train", "validation", "test")
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Attributes:
        records: list of `(path, label)`. The path is a video file, a folder of frames, or a clip in
            a packed shard; the label an index into `class_names`, or `None` where a test set has
            none.
        class_names: tuple of str, the same for every split.
        missing: tuple of the paths that the data set's lists name and that are not there; where
            validation is set apart from a list, those of the whole list.
        set_apart: whether training and validation lie together, so that which clips are whose hangs on
            which are there: see `open_dataset`.
    """

    records: list
    class_names: tuple
    missing: tuple = ()
    set_apart: bool = False

    @property
    def fingerprint(self):
        """16 hex digits that stand for the class names and their order.

        They are the first of `sha256sum class_names.txt`, a file with one name a line.
        """
        return fingerprint(self.class_names)

    def clips_fingerprint(self):
        """Text that changes with the clips and their labels, not with the folder that they are in."""
        paths = [path for path, _ in self.records]
        root = os.path.commonpath(paths)
        content = json.dumps([(os.path.relpath(path, root), label) for path, label in self.records])
        return f"{len(paths)}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def with_class_names(self, class_names):
        """The same clips, labelled by another order of the same class names.

        Args:
            class_names: the names in the order that a model scores them.

        Returns:
            `Dataset`, this one where the order is the same. Where it is not, a line is logged.

        Raises:
            ValueError: the names are others than these.
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
        """The same data set without the clips at some paths.

        Args:
            paths: set of absolute paths; those that are not in the data set do no harm.

        Raises:
            ValueError: no clip is left.
        """
        if not paths:
            return self
        records = [record for record in self.records if os.path.abspath(record[0]) not in paths]
        if not records:
            raise ArgumentError(
                "exclude",
                paths,
                "must leave a clip of those that are there",
                f"exclude of all {len(self.records)}",
            )
        missing = tuple(path for path in self.missing if os.path.abspath(path) not in paths)
        return dataclasses.replace(self, records=records, missing=missing)

    def part(self, split, validation_split, seed, folder):
        """The clips for `split`, where those for training and validation lie together.

        Args:
            split: `"train"` or `"validation"`.
            validation_split: the part of each class, above 0 and below 1, that is for validation.
            seed: chooses which clips these are, from their paths within `folder` alone.
            folder: the folder that they are in, which may move.

        Raises:
            ValueError: there are no two clips of a class.
        """

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
                "root", folder, "must hold two clips of some class to set one apart for validation"
            )
        return dataclasses.replace(self, records=records, set_apart=True)


def _shortened(names):
    listed = list(map(repr, names))[:_LISTED]
    more = [f"{len(names) - len(listed)} more"] if len(names) > len(listed) else []
    return ", ".join([*listed, *more]) or "none"
