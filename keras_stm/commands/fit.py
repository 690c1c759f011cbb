"""Trains a model on video files and writes all that is needed to use it into one folder.

Without arguments: a small STM on the embedded data set (arrow of time), a few minutes on two cores.

  keras-stm fit
  keras-stm fit --model=tsn_small                         # the baseline that cannot see order
  keras-stm fit --data_dir=FOLDER                         # your clips: FOLDER/<class>/*.mp4, or
                                                          # FOLDER/train/<class> and FOLDER/val/<class>
  keras-stm fit --data_dir=FOLDER --preset=finetune
  keras-stm fit --data_dir=FOLDER --preset=something_v2   # or another set as it unpacks
  keras-stm fit --config=RUN/config.json                  # an earlier run's settings

The same command again resumes a run that was stopped.
"""

import contextlib
import functools
import os
import signal
import sys
import traceback

from absl import flags

from keras_stm.commands import main as commands
from keras_stm.commands.flags import (
    define_distribution,
    define_max_unreadable,
    define_settings,
    define_workers,
    read_settings,
)
from keras_stm.train.devices import find_processes, start
from keras_stm.train.run import fit

STOPPED = "stopped. The same command, without --overwrite, goes on from the last whole epoch."


def define_flags(values):
    define_settings(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run. Default: saved_models/<preset>-<model>. A run that was stopped there is resumed.",
        flag_values=values,
    )
    flags.DEFINE_boolean("overwrite", False, "Replace an earlier run in that folder.", flag_values=values)
    flags.DEFINE_boolean("tensorboard", False, "Also log to <output>/tensorboard.", flag_values=values)
    define_workers(values)
    define_max_unreadable(values)
    flags.DEFINE_integer(
        "max_to_keep",
        1,
        "How many of the last epochs' checkpoints are kept until the run is finished, beside the best one's. "
        "The run is resumed from the newest that is not damaged.",
        lower_bound=1,
        flag_values=values,
    )
    define_distribution(values)
    _define_processes(values)


def _define_processes(values):
    flags.DEFINE_string(
        "coordinator",
        None,
        "Several processes, JAX: host:port of the first one. Not needed under Slurm, nor with Keras' "
        "variables KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "Several processes: how many, each with this command.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "process_id",
        None,
        "Several processes: which one this is, from 0; 0 writes the files.",
        lower_bound=0,
        flag_values=values,
    )


def main(argv):
    command = functools.partial(_fit, os.path.basename(argv[0]))
    return commands.run(argv, define_flags, command, __doc__, stopped=STOPPED)


def _fit(name, values, paths):
    config = read_settings(values)
    preset = values.preset or ("config" if values.config else "small")
    devices = start(values.distribution, _find_processes(values))
    with _one_of_several(name, devices) if devices.num_processes > 1 else _stopped_by_sigterm():
        fit(
            config,
            values.output or os.path.join("saved_models", f"{preset}-{config.model}"),
            overwrite=values.overwrite,
            tensorboard=values.tensorboard,
            workers=values.workers,
            max_unreadable=values.max_unreadable,
            max_to_keep=values.max_to_keep,
            devices=devices,
        )


def _find_processes(values):
    given = [values[name].value for name in ("coordinator", "num_processes", "process_id")]
    # A cluster may start several runs side by side.
    alone = values.distribution == "none" and given == [None] * 3
    return None if alone else find_processes(*given)


@contextlib.contextmanager
def _stopped_by_sigterm():
    """Context in which SIGTERM, as a cluster sends it before it takes a machine away, stops like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _one_of_several(name, devices):
    """Context in which the first process alone prints, and an error in this one ends the others."""
    if not devices.is_first:
        sys.stdout = open(os.devnull, "w")
    try:
        yield
    except KeyboardInterrupt:
        devices.leave(f"\n{name}: {STOPPED}")
    except Exception as error:
        try:
            devices.leave(f"{name}: {commands.explain(error)}")
        except Exception:
            devices.leave(traceback.format_exc())
