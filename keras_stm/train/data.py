"""The clips of a run: opens them, checks them, puts the classes in the weights' order, makes batches."""

import dataclasses
import functools
import os
import shlex

from absl import logging

from keras_stm import hub
from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder
from keras_stm.data import (
    LeftOut,
    VideoError,
    arrow_of_time,
    class_balance,
    make_pipeline,
    open_dataset,
    steps_per_epoch,
)
from keras_stm.data.dataset import describe_unused
from keras_stm.data.exclude import read_exclude
from keras_stm.data.frames import read_frames
from keras_stm.data.parallel import in_order
from keras_stm.data.pipeline import batch_paths, check_history
from keras_stm.data.shards import is_packed, read_settings
from keras_stm.data.streams import typical_rate
from keras_stm.model_file import MODEL, read_class_names
from keras_stm.progress import counted, tell
from keras_stm.weights.published import class_names, is_published

# Fields of `Config` that say which clips a data set has, and their usual values.
CLIPS_OF_DATA = {
    "dataset": "folder",
    "data_dir": None,
    "exclude": None,
    "group_by": None,
    "fold": 1,
    "class_order": "sorted",
}
# Largest number of clips of a split that are checked before training.
_LOOKED_INTO = 1000
_LISTED = 5
# Fields of the settings that `make_pipeline` accepts under the same name.
_CLIP = ("num_frames", "image_size", "sampling")
_TRAINING = ("seed", "sampling_weights")
_AUGMENTATION = ("scales", "flip", "color_jitter", "random_erasing", "mix_up", "cut_mix")


class RunData:
    """The training and validation clips of a run.

    Args:
        settings: `Config` with absolute paths.
        max_unreadable: share of all clips that may be unreadable.
        workers: number of clips read at the same time.
        devices: `Devices` that share the batches; `None` is one device.

    Attributes:
        settings: the given settings, with the counted epochs; for packed clips, with the data set that was
            packed.
        embedded: whether the clips are from the embedded data set.
        is_packed: whether the clips come from packed shards.
        train, validation: `Dataset`, without the clips that were found to be unreadable.
        batch_size: batch size of the settings, or less if there are fewer training clips.
        step_size: clips per training step, over all devices: a batch, or a part of it if gradients are
            accumulated.
        left_out: `LeftOut` of both splits.
        missing: paths of clips that the data set lists but that do not exist.
        has_head: whether the head of the initial weights is for these classes.

    Raises:
        ValueError: there is no such data, too few clips are readable, or the devices cannot share the
            batches.
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
        self._report_unused()
        self.left_out = LeftOut(len(self.train.records) + len(self.validation.records), max_unreadable, tell)
        if not self.is_packed:
            # Packing already skipped unreadable clips.
            self._look_into(excluded)
        self._take_classes_of_weights()
        self.batch_size = self._fit_batch_size()
        self.step_size = self.batch_size // settings.gradient_accumulation_steps
        if settings.history:
            # Before the run starts: history comes in its last epochs.
            check_history(
                settings.history, settings.num_frames, batch_size=self.step_size, num_shards=self._shard[1]
            )
        self.settings = self.settings.with_counted_epochs(self.updates_per_epoch())

    def updates_per_epoch(self):
        """Returns the number of updates of the weights in an epoch."""
        return steps_per_epoch(self.train, self.batch_size)

    def steps_per_epoch(self):
        """Returns the number of training steps in an epoch."""
        return self.settings.gradient_accumulation_steps * self.updates_per_epoch()

    @property
    def clip_shape(self):
        """The shape of a clip, `(T, H, W, 3)`."""
        return self.settings.num_frames, self.settings.image_size, self.settings.image_size, 3

    def last_epoch_like(self, epoch):
        """Returns the epoch, exclusive, up to which training clips are as long as in an epoch from 0."""
        start = self.settings.history_start
        return start if epoch < start else self.settings.epochs

    def training_batches(self, initial_epoch):
        """Returns the training batches from an epoch on, counted from 0, as a `tf.data.Dataset`.

        They end with `last_epoch_like(initial_epoch)`, exclusive: batches of one data set have one shape.
        """
        return make_pipeline(
            self.train,
            training=True,
            initial_epoch=initial_epoch,
            epochs=self.last_epoch_like(initial_epoch),
            history=self.settings.history if initial_epoch >= self.settings.history_start else 0,
            steps=self.steps_per_epoch(),
            left_out=self.left_out,
            **{name: getattr(self.settings, name) for name in (*_TRAINING, *_AUGMENTATION)},
            **self._options(),
        )

    def batch_paths(self, epoch, step):
        """Returns paths of the clips that this process reads for a training step; both count from 0."""
        return batch_paths(
            self.train,
            epoch,
            step,
            batch_size=self.step_size,
            **{name: getattr(self.settings, name) for name in _TRAINING},
            steps=self.steps_per_epoch(),
            shard=self._shard,
            left_out=self.left_out.reasons,
        )

    def rate(self):
        """Returns the frames a second of a typical training clip, or `None`; see `typical_rate`."""
        settings = self.settings
        return typical_rate(self.train, settings.num_frames, settings.sampling, self.workers)

    def validation_batches(self):
        """Returns the validation batches as a `tf.data.Dataset`."""
        return make_pipeline(self.validation, left_out=self.left_out, **self._options())

    def one_hot(self):
        """Returns whether labels are distributions over the classes."""
        settings = self.settings
        is_weighted = settings.class_weights != "none"
        return bool(is_weighted or settings.label_smoothing or settings.mix_up or settings.cut_mix)

    def class_weights(self):
        """Returns the weight of each class in the loss, a float array, or `None` for equal weights."""
        if self.settings.class_weights == "none":
            return None
        return class_balance.class_weights(
            [label for _, label in self.train.records],
            len(self.train.class_names),
            self.settings.sampling_weights,
        )

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
        """Returns the batch size of the settings, or a smaller one if there are fewer training clips."""
        parts = self._num_devices * self.settings.gradient_accumulation_steps
        wanted, clips = self.settings.batch_size, len(self.train.records)
        if wanted % parts:
            raise ArgumentError(
                "batch_size",
                wanted,
                f"must be a multiple of {parts}: the number of devices ({self._num_devices}) times "
                "`gradient_accumulation_steps`. `distribution` 'none' uses one device",
            )
        if clips < parts:
            raise ValueError(
                f"`data_dir` has {clips} clips to train on, too few for {self._num_devices} devices and "
                f"{self.settings.gradient_accumulation_steps} `gradient_accumulation_steps`."
            )
        if clips < wanted:
            wanted = clips - clips % parts
            only = counted(clips, "clip")
            print(f"Batches are of {counted(wanted, 'clip')}, because there are only {only} to train on.")
        return wanted

    def _open(self, exclude):
        return open_splits(self.settings, ("train", "validation"), exclude)

    def _report_missing(self):
        # If validation is split off from a list, both splits report all missing clips of the list.
        missing = tuple(dict.fromkeys((*self.train.missing, *self.validation.missing)))
        if missing:
            more = ", ..." if len(missing) > _LISTED else ""
            total = len(self.train.records) + len(self.validation.records) + len(missing)
            listed = ", ".join(missing[:_LISTED]) + more
            tell(f"Clips that do not exist: {len(missing):,} of {total:,}: {listed}")
        return missing

    def _report_unused(self):
        unused = describe_unused([*self.train.unused, *self.validation.unused])
        if unused:
            tell(unused)
        if self.train.set_apart:
            count = len(self.validation.records)
            total = count + len(self.train.records)
            print(f"There is no validation split: it gets {count:,} of {total:,} training clips.")

    def _look_into(self, excluded):
        """Checks clips before anything is written, and skips unreadable ones."""
        for dataset in (self.train, self.validation):
            paths = [path for path, _ in dataset.records]
            paths = paths[:: -(-len(paths) // _LOOKED_INTO)]
            errors = in_order(functools.partial(_first_frame_error, dataset), paths, self.workers)
            for path, error in zip(paths, errors, strict=True):
                if error is not None:
                    self.left_out.add(path, error)
        if self.left_out.reasons:
            try:
                self.train, self.validation = self._open([*excluded, *self.left_out.reasons])
            except ValueError as error:
                count = len(self.left_out.reasons)
                raise ValueError(f"{error}. {count} unreadable clips were skipped.") from error

    def _take_classes_of_weights(self):
        """Puts the classes in the order of the run that the initial weights come from."""
        self.has_head = True
        weights = self.settings.weights
        if weights in ("none", "imagenet"):
            return
        names = _class_names_of(weights)
        if names is None:
            logging.warning(
                "%s does not name its classes: its head is used if the number of classes is the same.",
                weights,
            )
        elif set(names) == set(self.train.class_names):
            self.train, self.validation = (d.with_class_names(names) for d in (self.train, self.validation))
        else:
            logging.warning("%s is for other classes: the head starts from random weights.", weights)
            self.has_head = False


def _class_names_of(weights):
    """Returns the class names of the initial weights, or `None` if these do not tell them."""
    if is_published(weights):
        return class_names(weights)
    return read_class_names(hub.download(weights, MODEL) if hub.is_address(weights) else weights)


def open_splits(settings, splits, exclude=()):
    """Opens splits of the data set that the settings name.

    Args:
        settings: `Config`; for packed clips, the result of `packed_settings`.
        splits: names of splits, see `open_dataset`.
        exclude: paths of clips to skip.

    Returns:
        List of `Dataset`.

    Raises:
        ValueError: there is no such data.
    """
    name, root, options = settings.dataset, settings.data_dir, {}
    if root is None:
        if name != "folder":
            raise ValueError(f"`data_dir` is missing: pass the folder of {name}.")
        root = cache_folder(os.path.join("datasets", f"arrow_of_time-{arrow_of_time.FORMAT}"))
        print(
            f"Using the embedded data set in {root}; creating it the first time takes half a minute.",
            flush=True,
        )
        arrow_of_time.make_dataset(root)
    elif is_packed(root):
        name = "packed"
    elif name in ("ucf101", "hmdb51"):
        options["fold"] = settings.fold
    elif name == "something_v1":
        options["class_order"] = settings.class_order
    if settings.group_by is not None:
        # Other data sets raise an error: no clips are set apart there.
        options["group_by"] = settings.group_by
    try:
        return [open_dataset(name, root, split=split, exclude=exclude, **options) for split in splits]
    except ValueError as error:
        raise ValueError(f"`data_dir`: {error}") from error


def data_flags(values):
    """Returns the flags of the clips of a data set as text for a shell, without those at their usual values.

    Args:
        values: dictionary with some fields of `CLIPS_OF_DATA`.
    """
    flags = [
        f"--{name}={values[name]}"
        for name, usual in CLIPS_OF_DATA.items()
        if name in values and values[name] != usual
    ]
    return shlex.join(flags)


def missing_reasons(paths):
    """Returns `{path: reason}` of clips that a data set lists but that do not exist."""
    return {path: f"{path}: listed by the data set, but does not exist" for path in paths}


def packed_settings(settings):
    """Returns the settings with the packed data set; raises `ValueError` if they name another one."""
    packing = read_settings(settings.data_dir)
    for name in ("exclude", "group_by"):
        if getattr(settings, name):
            expected = "does not apply to packed clips: pass it to `keras-stm pack`"
            raise ArgumentError(name, getattr(settings, name), expected)
    packed = {name: packing[name] for name in ("dataset", "fold", "class_order")}
    # Presets for any data set say "folder": that does not contradict the packed data set.
    for name, value in packed.items() if settings.dataset != "folder" else ():
        if getattr(settings, name) != value:
            raise ArgumentError(
                name, getattr(settings, name), f"must be {value!r}, which was packed into {settings.data_dir}"
            )
    return dataclasses.replace(settings, **packed)


def _first_frame_error(dataset, path):
    def choose_first(count):
        dataset.check_num_frames(path, count)
        return [0]

    try:
        read_frames(path, choose_first)
    except VideoError as error:
        return error
    return None
