"""Packs a data set into shards of JPEG frames, from which `keras-stm fit` reads clips several times faster.

Frames keep their size, or are scaled down to a short side of --short_side. JPEGs that need no scaling are
copied byte for byte. Clips that cannot be read to the end are listed and skipped.

  keras-stm pack --data_dir=FOLDER --output=PACKED                          # FOLDER/<class>/*.mp4
  keras-stm pack --data_dir=FOLDER --output=PACKED --dataset=something_v2   # in its original layout
  keras-stm pack --data_dir=FOLDER --output=PACKED --worker=3/16            # the third of 16 machines
  keras-stm fit --data_dir=PACKED

PACKED may be any path that TensorFlow can open, such as gs://bucket/folder. Repeat the same command to resume
a stopped one after its last completed shard.
"""

import re

from absl import flags

from keras_stm.arguments import ArgumentError
from keras_stm.commands import main as commands
from keras_stm.commands.flags import (
    define_class_order,
    define_data,
    define_exclude,
    define_max_unreadable,
    define_workers,
)
from keras_stm.data.packing import pack
from keras_stm.data.paths import absolute
from keras_stm.progress import tell
from keras_stm.train.devices import hide_gpus
from keras_stm.train.presets import PRESETS

# See `keras_stm.commands`.
LOADS = ()
STOPPED = "stopped. Repeat the command to resume after the last completed shard."


def define_flags(values):
    """Defines the flags of the command."""
    define_data(values, packed=False)
    flags.DEFINE_string("output", None, "Folder or gs:// path for the shards.", flag_values=values)
    define_class_order(values)
    define_exclude(values)
    flags.DEFINE_list(
        "split",
        None,
        "Splits to pack, out of train, validation and test. Default: all that exist.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "short_side",
        256,
        "Short side in pixels; larger frames are scaled down to it.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "quality",
        95,
        "Quality of the JPEGs; 90 needs a quarter less space than 95.",
        lower_bound=1,
        upper_bound=100,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_shards",
        None,
        "Number of shards of each split. Default: one for every 100 clips.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "worker",
        "1/1",
        "Part of the work to do: 3/16 is the third of 16 parts. Run every part with the same --output, on "
        "any machines.",
        flag_values=values,
    )
    define_workers(values)
    define_max_unreadable(values)


def main(argv):
    """Runs the command; returns its exit status."""
    return commands.run(argv, define_flags, _run, __doc__, stopped=STOPPED)


def _run(values, paths):
    for name, what in (
        ("data_dir", "pass the folder of the data set"),
        ("output", "pass a folder for the shards"),
    ):
        if not values[name].value:
            raise ValueError(f"--{name} is missing: {what}")
    # A training may be using the GPUs' memory.
    hide_gpus()
    is_finished = pack(
        values.data_dir,
        values.output,
        dataset=values.dataset,
        fold=values.fold,
        class_order=values.class_order,
        group_by=values.group_by,
        exclude=values.exclude,
        splits=values.split,
        short_side=values.short_side,
        quality=values.quality,
        num_shards=values.num_shards,
        worker=parse_worker(values.worker),
        workers=values.workers,
        max_unreadable=values.max_unreadable,
    )
    if is_finished:
        preset = f" --preset={values.dataset}" if values.dataset in PRESETS else ""
        tell(f"Try next:\n  keras-stm fit{preset} --data_dir={absolute(values.output)}")


def parse_worker(text):
    """Returns `(3, 16)` for `"3/16"`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ArgumentError("worker", text, "must be k/n with k from 1 to n, like 3/16")
    return int(match[1]), int(match[2])
