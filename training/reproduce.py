"""Runs the paper's ablations on the embedded data set's harder variant, each table beside the paper's.

Clips are arrays made from a seed: no files and, under jax and torch, no TensorFlow; filelock and matplotlib
are needed. Writes into its folder results/ (a JSON file and the scores of the test clips for each run),
tables.md, a picture for each table and summary.json.

  python training/reproduce.py --processes=2       # two hours on two cores; may be stopped
  python training/reproduce.py --tables=5,6 --seeds=3
  python training/reproduce.py --quick             # everything tiny: does it work?
  python training/reproduce.py --network=resnet50 --mixed_precision=bfloat16   # wants a GPU

The same command again goes on with the runs that are missing; one that was stopped starts anew. The report is
of all that is there.
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

# What --quick sets.
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
    flags.DEFINE_string(
        "output", os.path.join("saved_models", "reproduce"), "Folder to fill.", flag_values=values
    )
    flags.DEFINE_boolean("quick", False, "Everything tiny, to see that it works.", flag_values=values)
    flags.DEFINE_enum(
        "network",
        "small",
        ["small", "resnet50"],
        "small: all tables. resnet50: TSN and STM of the published size, 112 pixels, 3 seeds, for Table 5.",
        flag_values=values,
    )
    flags.DEFINE_list("tables", None, f"Some of {','.join(NAMES)}. Default: all.", flag_values=values)
    flags.DEFINE_integer(
        "seeds",
        None,
        f"Runs of each network. Default: 5 for Tables 5 and 6. The others have at most {FEW_SEEDS}.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "image_size", None, "Height and width of a clip in pixels.", lower_bound=32, flag_values=values
    )
    flags.DEFINE_integer("epochs", None, "Passes over the training clips.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("batch_size", None, "Clips of a training step.", lower_bound=2, flag_values=values)
    flags.DEFINE_float(
        "learning_rate",
        None,
        "Its peak for a batch of 64 clips; that of the runs is in proportion.",
        lower_bound=0.0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "processes",
        1,
        "Networks trained at a time, each with its part of the cores. 1 is for a GPU.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "report_only", False, "Write the report of what is there; train nothing.", flag_values=values
    )
    flags.DEFINE_enum(
        "mixed_precision", "none", ["none", "bfloat16"], "bfloat16 is for a GPU.", flag_values=values
    )


def main(argv):
    stopped = "stopped. The same command goes on with the runs that are missing."
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
    """`Settings` of the flags."""
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
