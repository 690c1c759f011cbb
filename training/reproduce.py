"""Runs the paper's ablations on the embedded data set's harder variant, and compares them with the paper.

Clips are arrays generated from seeds: the command needs no video files and, under jax and torch, no
TensorFlow. It needs filelock and matplotlib. It fills a folder with tables.md, a picture of each table,
summary.json and results/, which holds a JSON file and the scores of the test clips for each run.

  python training/reproduce.py --processes=2       # two hours on two cores; can be stopped and resumed
  python training/reproduce.py --tables=5,6 --seeds=3
  python training/reproduce.py --quick             # tiny networks: only checks that the command works
  python training/reproduce.py --network=resnet50 --mixed_precision=bfloat16   # meant for a GPU

The same command, run again, trains the missing runs. A run that was stopped starts from its beginning. The
report covers all finished runs in the folder.
"""

import dataclasses
import os
import shlex
import sys

from absl import flags

import keras_stm_command

with keras_stm_command.without_start_up_lines():
    from keras_stm.commands.main import run
    from reproduction import campaign
    from reproduction.runs import Settings
    from reproduction.tables import FEW_SEEDS, NAMES

# Settings of --quick.
TINY = {
    "depths": (2, 1, 1, 1),
    "width": 4,
    "reduction": 1,
    "image_size": 32,
    "num_stills": 32,
    "still_epochs": 1,
    "num_train": 16,
    "num_validation": 8,
    "num_test": 8,
    "epochs": 1,
    "plain_epochs": 0,
    "batch_size": 16,
    "published": ((1, 1, 1, 1), 16),
    "published_size": 64,
    "eager": True,
}


def define_flags(values):
    """Defines the command's flags in a `flags.FlagValues`."""
    flags.DEFINE_string(
        "output", os.path.join("saved_models", "reproduce"), "Output folder.", flag_values=values
    )
    flags.DEFINE_boolean(
        "quick", False, "Train tiny networks, to check that the command works.", flag_values=values
    )
    flags.DEFINE_enum(
        "network",
        "small",
        ["small", "resnet50"],
        "small: all networks in a small size. resnet50: TSN and STM of the published size at 112 pixels.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "tables",
        None,
        f"Tables to fill, any of {','.join(NAMES)}. Default: all, or 5 with --network=resnet50.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seeds",
        None,
        "Runs of each network. Default: 5, or 3 with --network=resnet50, or 1 with --quick. Tables other "
        f"than 5 and 6 use at most {FEW_SEEDS}.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "image_size", None, "Height and width of a clip in pixels.", lower_bound=32, flag_values=values
    )
    flags.DEFINE_integer("epochs", None, "Passes over the training clips.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("batch_size", None, "Clips in a training step.", lower_bound=2, flag_values=values)
    flags.DEFINE_float(
        "learning_rate",
        None,
        "Peak learning rate for a batch of 64 clips; it is scaled in proportion to the batch size.",
        lower_bound=0.0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "processes",
        1,
        "Networks trained at the same time, each with its share of the cores. Use 1 on a GPU.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "report_only", False, "Write the report of the finished runs; train nothing.", flag_values=values
    )
    flags.DEFINE_enum(
        "mixed_precision",
        "none",
        ["none", "bfloat16"],
        "The type to compute in; none means float32. bfloat16 is meant for a GPU.",
        flag_values=values,
    )


def main(argv):
    """Runs the command."""
    stopped = "stopped. Run the same command again to train the missing runs."
    return run(argv, define_flags, lambda values, _: _reproduce(values, argv), __doc__, stopped=stopped)


def _reproduce(values, argv):
    small = values.network == "small"
    campaign.reproduce(
        settings_from_flags(values),
        values.output,
        tables=values.tables or (NAMES if small else ["5"]),
        seeds=values.seeds or (1 if values.quick else 5 if small else 3),
        command=shlex.join(["python", *argv]),
        variants=None if small else ("tsn", "stm"),
        processes=values.processes,
        report_only=values.report_only,
    )


def settings_from_flags(values):
    """Returns the `Settings` that the flags describe."""
    settings = Settings()
    if values.network == "resnet50":
        depths, width = settings.published
        settings = dataclasses.replace(settings, depths=depths, width=width, reduction=16, image_size=112)
    if values.quick:
        settings = dataclasses.replace(settings, **TINY)
    given = {
        "image_size": values.image_size,
        "epochs": values.epochs,
        "batch_size": values.batch_size,
        "learning_rate": values.learning_rate,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(settings, mixed_precision=values.mixed_precision, **given)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
