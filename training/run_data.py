"""The clips of a run: opened, looked into, in the order of classes that its weights know, as batches."""

import concurrent.futures
import hashlib
import json
import os
import sys

from absl import logging

from keras_stm.cache import cache_folder
from keras_stm.data import LeftOut, VideoError, arrow_of_time, make_pipeline, open_dataset, steps_per_epoch
from keras_stm.data.frames import read_frames
from keras_stm.data.packed import is_packed

# Clips of a split that are looked into before training: all of a small set.
_LOOKED_INTO = 1000
_LISTED = 5
# Fields of the settings that `make_pipeline` takes under the same name.
_CLIP = ("num_frames", "image_size", "sampling")
_AUGMENTATION = ("seed", "scales", "flip", "color_jitter", "random_erasing", "mix_up", "cut_mix")


class RunData:
    """Training and validation clips.

    Args:
        settings: `config.Config`.
        max_unreadable: share of the clips of a split that may be unreadable.
        workers: clips read at the same time.

    Attributes:
        embedded: whether they are those of the embedded data set.
        is_packed: whether they come from packed shards.
        train, validation: `Dataset`, without the clips that were found to be unreadable.
        batch_size: that of the settings, or the number of training clips where there are fewer.
        left_out: `LeftOut` of both.
        has_head: whether the head of the weights to start from is for these classes.

    Raises:
        ValueError: if there is no such data, or too little that can be read.
    """

    def __init__(self, settings, max_unreadable, workers):
        self.settings = settings
        self.workers = workers
        self.embedded = settings.data_dir is None
        self.is_packed = not self.embedded and is_packed(settings.data_dir)
        excluded = read_exclude(settings.exclude) if settings.exclude else []
        self.train, self.validation = self._open(excluded)
        for dataset in (self.train, self.validation):
            _report_missing(dataset)
        self.left_out = LeftOut(len(self.train.records) + len(self.validation.records), max_unreadable, print)
        if not self.is_packed:
            # Packing has left out what cannot be read.
            self._look_into(excluded)
        self._take_classes_of_weights()
        self.batch_size = min(settings.batch_size, len(self.train.records))
        if self.batch_size < settings.batch_size:
            print(f"Batches of {self.batch_size} clips, as there are no more to train on.")

    def steps_per_epoch(self):
        return steps_per_epoch(self.train, self.batch_size)

    def training_batches(self, initial_epoch):
        return make_pipeline(
            self.train,
            training=True,
            initial_epoch=initial_epoch,
            epochs=self.settings.epochs,
            left_out=self.left_out,
            **{name: getattr(self.settings, name) for name in _AUGMENTATION},
            **self._options(),
        )

    def validation_batches(self):
        return make_pipeline(self.validation, left_out=self.left_out, **self._options())

    def one_hot(self):
        """Whether labels are distributions over the classes."""
        return bool(self.settings.label_smoothing or self.settings.mix_up or self.settings.cut_mix)

    def _options(self):
        clip = {name: getattr(self.settings, name) for name in _CLIP}
        return {"batch_size": self.batch_size, "workers": self.workers, "one_hot": self.one_hot(), **clip}

    def _open(self, exclude):
        settings = self.settings
        name, root, options = settings.dataset, settings.data_dir, {}
        if self.embedded:
            if settings.dataset != "folder":
                raise ValueError(f"--data_dir is missing: the folder of {settings.dataset}.")
            root = cache_folder(os.path.join("datasets", f"arrow_of_time-{arrow_of_time.FORMAT}"))
            print(f"Embedded data set, made in half a minute where it is not there yet: {root}", flush=True)
            arrow_of_time.make_dataset(root, progress=sys.stdout.isatty())
        elif self.is_packed:
            name = "packed"
        elif name in ("ucf101", "hmdb51"):
            options["fold"] = settings.fold
        elif name == "something_v1":
            options["class_order"] = settings.class_order
        try:
            return [
                open_dataset(name, root, split=split, exclude=exclude, **options)
                for split in ("train", "validation")
            ]
        except ValueError as error:
            raise ValueError(f"--data_dir: {error}") from error

    def _look_into(self, excluded):
        """Finds out before anything is written what can be read, and leaves out what cannot."""
        for dataset in (self.train, self.validation):
            paths = [path for path, _ in dataset.records]
            paths = paths[:: -(-len(paths) // _LOOKED_INTO)]
            with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
                for path, error in zip(paths, pool.map(_first_frame_error, paths), strict=True):
                    if error is not None:
                        self.left_out.add(path, error)
        if self.left_out.reasons:
            self.train, self.validation = self._open([*excluded, *self.left_out.reasons])

    def _take_classes_of_weights(self):
        """Brings the labels into the order of the run that the weights come from."""
        names_file = os.path.join(
            os.path.dirname(os.path.expanduser(self.settings.weights)), "class_names.txt"
        )
        self.has_head = True
        if self.settings.weights in ("none", "imagenet") or not os.path.isfile(names_file):
            return
        with open(names_file, encoding="utf-8") as file:
            names = tuple(file.read().splitlines())
        if set(names) == set(self.train.class_names):
            self.train, self.validation = (d.with_class_names(names) for d in (self.train, self.validation))
        else:
            logging.warning("%s are for other classes: their head starts anew.", self.settings.weights)
            self.has_head = False


def clips_fingerprint(dataset):
    """A number that changes with the clips and their labels, not with the folder they are in."""
    paths = [path for path, _ in dataset.records]
    root = os.path.commonpath(paths)
    content = json.dumps([(os.path.relpath(path, root), label) for path, label in dataset.records])
    return f"{len(paths)}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def read_exclude(path):
    """Paths in a file of clips to leave out, one a line; comments start with #.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"`exclude` cannot be read: {error}. Received: exclude={path!r}") from error
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def _report_missing(dataset):
    missing = dataset.missing
    if missing:
        more = ", ..." if len(missing) > _LISTED else ""
        total = len(missing) + len(dataset.records)
        print(f"{len(missing)} of {total} clips are not there: {', '.join(missing[:_LISTED])}{more}")


def _first_frame_error(path):
    try:
        read_frames(path, [0])
    except VideoError as error:
        return error
    return None
