"""Trains a model on video files and writes one folder with everything needed to use the model.

Without arguments, it trains a small STM on the embedded data set (arrow of time). This takes a few minutes on
two cores.

  keras-stm fit
  keras-stm fit --model=tsn_small                         # the baseline that cannot see frame order
  keras-stm fit --data_dir=FOLDER                         # your clips: FOLDER/<class>/*.mp4, or
                                                          # FOLDER/train/<class> and FOLDER/val/<class>
  keras-stm fit --data_dir=FOLDER --preset=finetune --weights=kinetics400   # from video weights
  keras-stm fit --data_dir=FOLDER --preset=something_v2   # a data set in its original layout
  keras-stm fit --data_dir=spans.csv --dataset=spans      # parts of long videos: video,start,end,label
  keras-stm fit --config=RUN/config.json                  # settings of an earlier run

Repeat the same command to resume a run that was stopped.
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

# See `keras_stm.commands`.
LOADS = ("keras_stm.train.run",)
STOPPED = "stopped. Repeat the command without --overwrite to resume from the last completed epoch."


def define_flags(values):
    """Defines the flags of the command."""
    define_settings(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run. Default: saved_models/<preset>-<model>. An unfinished run there is resumed.",
        flag_values=values,
    )
    flags.DEFINE_boolean("overwrite", False, "Replace an earlier run in --output.", flag_values=values)
    flags.DEFINE_boolean(
        "tensorboard", False, "Also write TensorBoard logs to <output>/tensorboard.", flag_values=values
    )
    define_workers(values)
    define_max_unreadable(values)
    flags.DEFINE_integer(
        "max_to_keep",
        1,
        "Number of the latest epochs whose checkpoints are kept until the run is finished, in addition "
        "to the best epoch's. A run resumes from the newest checkpoint that is not damaged.",
        lower_bound=1,
        flag_values=values,
    )
    define_distribution(values)
    _define_processes(values)


def _define_processes(values):
    flags.DEFINE_string(
        "coordinator",
        None,
        "For several processes with JAX: host:port of the first process. Not needed under Slurm, or with "
        "Keras's variables KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "Number of processes, if there are several. Each process runs this command.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "process_id",
        None,
        "Index of this process, from 0, if there are several. Process 0 writes the files.",
        lower_bound=0,
        flag_values=values,
    )


def main(argv):
    """Runs the command; returns its exit status."""
    command = functools.partial(_fit, os.path.basename(argv[0]))
    return commands.run(argv, define_flags, command, __doc__, stopped=STOPPED)


def _fit(name, values, paths):
    from keras_stm.train.run import fit

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
    # A cluster may start several independent runs at the same time.
    alone = values.distribution == "none" and given == [None] * 3
    return None if alone else find_processes(*given)


@contextlib.contextmanager
def _stopped_by_sigterm():
    """Lets SIGTERM stop the block like Ctrl-C; a cluster sends it before it takes a machine away."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _one_of_several(name, devices):
    """Lets only the first process print, and lets an error in this process end the others."""
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
