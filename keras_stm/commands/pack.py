"""Packs a data set into shards of JPEG frames, from which `keras-stm fit` reads clips several times faster.

Frames keep their size, or are scaled down to a short side of --short_side; JPEGs that need not be scaled are
copied byte for byte. Clips that cannot be read to their end are left out and named.

  keras-stm pack --data_dir=FOLDER --output=PACKED                          # FOLDER/<class>/*.mp4
  keras-stm pack --data_dir=FOLDER --output=PACKED --dataset=something_v2   # as it was unpacked
  keras-stm pack --data_dir=FOLDER --output=PACKED --worker=3/16            # third of 16 machines
  keras-stm fit --data_dir=PACKED

PACKED may be a path that TensorFlow knows, as gs://bucket/folder. The same command again goes on after the
last whole shard of one that was stopped.
"""

import re

from absl import flags

from keras_stm.arguments import ArgumentError
from keras_stm.commands import main as commands
from keras_stm.commands.flags import define_class_order, define_data, define_max_unreadable, define_workers
from keras_stm.data.packing import pack
from keras_stm.data.paths import absolute
from keras_stm.train.devices import hide_gpus
from keras_stm.train.presets import PRESETS

STOPPED = "stopped. The same command goes on after the last whole shard."


def define_flags(values):
    define_data(values, packed=False)
    flags.DEFINE_string("output", None, "Folder for the shards, also a gs:// path.", flag_values=values)
    define_class_order(values)
    flags.DEFINE_string(
        "exclude", None, "Text file of clips to leave out, as for `keras-stm fit`.", flag_values=values
    )
    flags.DEFINE_list(
        "split",
        None,
        "Which of train, validation and test to pack. Default: all that exist.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "short_side", 256, "Short side to scale larger frames down to.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "quality",
        95,
        "Of the JPEGs; 90 needs a quarter less space.",
        lower_bound=1,
        upper_bound=100,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_shards",
        None,
        "Of each split. Default: one for a hundred clips.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "worker", "1/1", "3/16 is the third of 16 that share --output, on any machines.", flag_values=values
    )
    define_workers(values)
    define_max_unreadable(values)


def main(argv):
    return commands.run(argv, define_flags, _run, __doc__, stopped=STOPPED)


def _run(values, paths):
    for name, what in (("data_dir", "the folder of the data set"), ("output", "the folder for the shards")):
        if not values[name].value:
            raise ValueError(f"--{name} is missing: {what}")
    # Of which a training may be using the memory.
    hide_gpus()
    is_finished = pack(
        values.data_dir,
        values.output,
        dataset=values.dataset,
        fold=values.fold,
        class_order=values.class_order,
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
        print(f"Try next:\n  keras-stm fit{preset} --data_dir={absolute(values.output)}")


def parse_worker(text):
    """`(3, 16)` of `"3/16"`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ArgumentError("worker", text, "must be k/n with k from 1 to n, as 3/16")
    return int(match[1]), int(match[2])
