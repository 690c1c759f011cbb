"""The clips of a run: opened, looked into, in the order of classes that its weights know, as batches."""

import dataclasses
import os

from absl import logging

from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder
from keras_stm.data import LeftOut, VideoError, arrow_of_time, make_pipeline, open_dataset, steps_per_epoch
from keras_stm.data.exclude import read_exclude
from keras_stm.data.frames import read_frames
from keras_stm.data.parallel import in_order
from keras_stm.data.pipeline import batch_paths
from keras_stm.data.shards import is_packed, read_settings
from keras_stm.model_file import read_class_names

# Clips of a split that are looked into before training: all of a small set.
_LOOKED_INTO = 1000
_LISTED = 5
# Fields of the settings that `make_pipeline` takes under the same name.
_CLIP = ("num_frames", "image_size", "sampling")
_AUGMENTATION = ("seed", "scales", "flip", "color_jitter", "random_erasing", "mix_up", "cut_mix")


class RunData:
    """Training and validation clips.

    Args:
        settings: `Config`, its paths absolute.
        max_unreadable: share of all clips that may be unreadable.
        workers: clips read at the same time.
        devices: `Devices` to share the batches; one where it is `None`.

    Attributes:
        settings: those given; of packed clips, with the data set that they were packed from.
        embedded: whether they are those of the embedded data set.
        is_packed: whether they come from packed shards.
        train, validation: `Dataset`, without the clips that were found to be unreadable.
        batch_size: that of the settings, or what there are training clips for.
        step_size: clips of a training step, over all devices: the batch, or a part of it where gradients
            are accumulated.
        left_out: `LeftOut` of both.
        missing: paths of the clips that the data set's lists name and that are not there.
        has_head: whether the head of the weights to start from is for these classes.

    Raises:
        ValueError: if there is no such data, too little that can be read, or the batches cannot be shared.
    """

    def __init__(self, settings, max_unreadable, workers, devices=None):
        self.workers = workers
        self._num_devices, self._shard = (devices.count, devices.shard) if devices else (1, (0, 1))
        self.embedded = settings.data_dir is None
        self.is_packed = not self.embedded and is_packed(settings.data_dir)
        self.settings = packed_settings(settings) if self.is_packed else settings
        excluded = read_exclude(settings.exclude) if settings.exclude else []
        self.train, self.validation = self._open(excluded)
        self.missing = self._report_missing()
        self.left_out = LeftOut(len(self.train.records) + len(self.validation.records), max_unreadable, print)
        if not self.is_packed:
            # Packing has left out what cannot be read.
            self._look_into(excluded)
        self._take_classes_of_weights()
        self.batch_size = self._fit_batch_size()
        self.step_size = self.batch_size // settings.gradient_accumulation_steps

    def steps_per_epoch(self):
        return self.settings.gradient_accumulation_steps * steps_per_epoch(self.train, self.batch_size)

    @property
    def clip_shape(self):
        """`(T, H, W, 3)`."""
        return self.settings.num_frames, self.settings.image_size, self.settings.image_size, 3

    def training_batches(self, initial_epoch):
        return make_pipeline(
            self.train,
            training=True,
            initial_epoch=initial_epoch,
            epochs=self.settings.epochs,
            steps=self.steps_per_epoch(),
            left_out=self.left_out,
            **{name: getattr(self.settings, name) for name in _AUGMENTATION},
            **self._options(),
        )

    def batch_paths(self, epoch, step):
        """The clips that this process reads for a training step, both counted from 0."""
        return batch_paths(
            self.train,
            epoch,
            step,
            batch_size=self.step_size,
            seed=self.settings.seed,
            steps=self.steps_per_epoch(),
            shard=self._shard,
            left_out=self.left_out.reasons,
        )

    def validation_batches(self):
        return make_pipeline(self.validation, left_out=self.left_out, **self._options())

    def one_hot(self):
        """Whether labels are distributions over the classes."""
        return bool(self.settings.label_smoothing or self.settings.mix_up or self.settings.cut_mix)

    def _options(self):
        clip = {name: getattr(self.settings, name) for name in _CLIP}
        return {
            "batch_size": self.step_size,
            "workers": self.workers,
            "one_hot": self.one_hot(),
            "shard": self._shard,
            **clip,
        }

    def _fit_batch_size(self):
        """That of the settings, or a smaller one where there are not as many clips to train on."""
        parts = self._num_devices * self.settings.gradient_accumulation_steps
        wanted, clips = self.settings.batch_size, len(self.train.records)
        if wanted % parts:
            raise ArgumentError(
                "batch_size",
                wanted,
                f"must be a multiple of {parts}, the devices ({self._num_devices}) times "
                "--gradient_accumulation_steps; --distribution=none takes one device",
            )
        if clips < parts:
            raise ValueError(
                f"--data_dir: {clips} clips to train on are too few for {self._num_devices} devices and "
                f"{self.settings.gradient_accumulation_steps} steps a batch."
            )
        if clips < wanted:
            wanted = clips - clips % parts
            print(f"Batches of {wanted} clips, as there are no more to train on.")
        return wanted

    def _open(self, exclude):
        return open_splits(self.settings, ("train", "validation"), exclude)

    def _report_missing(self):
        # Where validation is set apart from a list, both know all that the list lacks.
        missing = tuple(dict.fromkeys((*self.train.missing, *self.validation.missing)))
        if missing:
            more = ", ..." if len(missing) > _LISTED else ""
            total = len(self.train.records) + len(self.validation.records) + len(missing)
            listed = ", ".join(missing[:_LISTED]) + more
            print(f"{len(missing)} of {total} clips are not there: {listed}")
        return missing

    def _look_into(self, excluded):
        """Finds out before anything is written what can be read, and leaves out what cannot."""
        for dataset in (self.train, self.validation):
            paths = [path for path, _ in dataset.records]
            paths = paths[:: -(-len(paths) // _LOOKED_INTO)]
            errors = in_order(_first_frame_error, paths, self.workers)
            for path, error in zip(paths, errors, strict=True):
                if error is not None:
                    self.left_out.add(path, error)
        if self.left_out.reasons:
            try:
                self.train, self.validation = self._open([*excluded, *self.left_out.reasons])
            except ValueError as error:
                count = len(self.left_out.reasons)
                raise ValueError(
                    f"{error}. {count} clips had been left out, as they cannot be read."
                ) from error

    def _take_classes_of_weights(self):
        """Brings the labels into the order of the run that the weights come from."""
        self.has_head = True
        weights = self.settings.weights
        if weights in ("none", "imagenet"):
            return
        names = read_class_names(weights)
        if names is None:
            logging.warning("%s do not tell their classes: a head for as many is taken as it is.", weights)
        elif set(names) == set(self.train.class_names):
            self.train, self.validation = (d.with_class_names(names) for d in (self.train, self.validation))
        else:
            logging.warning("%s are for other classes: their head starts anew.", weights)
            self.has_head = False


def open_splits(settings, splits, exclude=()):
    """Splits of the data set that the settings name.

    Args:
        settings: `Config`; of packed clips, what `packed_settings` returns.
        splits: names as `open_dataset` knows them.
        exclude: paths of clips to leave out.

    Returns:
        List of `Dataset`.

    Raises:
        ValueError: there is no such data.
    """
    name, root, options = settings.dataset, settings.data_dir, {}
    if root is None:
        if name != "folder":
            raise ValueError(f"--data_dir is missing: the folder of {name}.")
        root = cache_folder(os.path.join("datasets", f"arrow_of_time-{arrow_of_time.FORMAT}"))
        print(f"Embedded data set, made in half a minute where it is not there yet: {root}", flush=True)
        arrow_of_time.make_dataset(root)
    elif is_packed(root):
        name = "packed"
    elif name in ("ucf101", "hmdb51"):
        options["fold"] = settings.fold
    elif name == "something_v1":
        options["class_order"] = settings.class_order
    try:
        return [open_dataset(name, root, split=split, exclude=exclude, **options) for split in splits]
    except ValueError as error:
        raise ValueError(f"--data_dir: {error}") from error


def missing_reasons(paths):
    """`{path: what is said of it}` of clips that a data set's lists name and that are not there."""
    return {path: f"{path}: in the data set's lists, but not there" for path in paths}


def packed_settings(settings):
    """The settings with the data set that was packed; where they name another one, `ValueError`."""
    packing = read_settings(settings.data_dir)
    if settings.exclude:
        raise ArgumentError(
            "exclude", settings.exclude, "is for clips that are not packed yet: give it to `keras-stm pack`"
        )
    packed = {name: packing[name] for name in ("dataset", "fold", "class_order")}
    # A folder is what presets say that are for any data.
    for name, value in packed.items() if settings.dataset != "folder" else ():
        if getattr(settings, name) != value:
            raise ArgumentError(
                name, getattr(settings, name), f"must be {value!r}, which was packed into {settings.data_dir}"
            )
    return dataclasses.replace(settings, **packed)


def _first_frame_error(path):
    try:
        read_frames(path, [0])
    except VideoError as error:
        return error
    return None
