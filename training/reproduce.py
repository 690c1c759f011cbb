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
import json
import os
import shlex
import sys
import time

import before_tensorflow  # noqa: F401

# isort: split
import keras
from absl import flags

import command_line
import reproduce_counts
import reproduce_pool
import reproduce_report
import reproduce_runs
import reproduce_tables
import run_folder
from keras_stm.arguments import ArgumentError
from keras_stm.data import arrow_of_time
from reproduce_pool import Job
from reproduce_runs import Settings

_SETTINGS = "settings.json"
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
    flags.DEFINE_list(
        "tables", None, f"Some of {','.join(reproduce_tables.NAMES)}. Default: all.", flag_values=values
    )
    flags.DEFINE_integer(
        "seeds",
        None,
        f"Runs of each network. Default: 5 for Tables 5 and 6. The others have at most "
        f"{reproduce_tables.FEW_SEEDS}.",
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
    values, _ = command_line.parse(define_flags, argv, __doc__)
    small = values.network == "small"
    try:
        reproduce(
            settings_from_flags(values),
            values.output,
            tables=values.tables or (reproduce_tables.NAMES if small else ["5"]),
            seeds=values.seeds or (1 if values.quick else 5 if small else 3),
            command=shlex.join(["python", *argv]),
            variants=None if small else ("tsn", "stm"),
            processes=values.processes,
            report_only=values.report_only,
        )
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on with the runs that are missing.")
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        sys.exit(f"reproduce.py: {error}")


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


def reproduce(settings, output, tables, seeds, command, variants=None, processes=1, report_only=False):
    """Trains what is not there yet, and writes the report.

    Args:
        settings: `Settings`.
        output: the folder.
        tables: names of tables, of `reproduce_tables.NAMES`.
        seeds: runs of each network.
        command: what the files of results say that they were made by.
        variants: names of networks, of `reproduce_runs.VARIANTS`, to leave it at; `None` is all.
        processes: how many networks to train at a time.
        report_only: whether to train nothing.

    Raises:
        ValueError: if there is no such table, a setting leaves nothing to train on, or the folder holds
            results of other settings.
        RuntimeError: if a run failed.
    """
    unknown = sorted(set(tables) - set(reproduce_tables.NAMES))
    if unknown:
        raise ArgumentError("tables", tables, f"must be any of {', '.join(reproduce_tables.NAMES)}")
    if settings.epochs <= settings.plain_epochs:
        raise ArgumentError(
            "epochs", settings.epochs, f"must be above {settings.plain_epochs}, those of plain clips"
        )
    if settings.batch_size > settings.num_train:
        raise ArgumentError(
            "batch_size", settings.batch_size, f"must be at most {settings.num_train}, the number of clips"
        )
    output = os.path.expanduser(output)
    if report_only and not os.path.exists(os.path.join(output, _SETTINGS)):
        raise ArgumentError("output", output, "holds no results to report")
    claim(output, settings)
    results = reproduce_runs.Results(os.path.join(output, "results"), command)
    with results.lock():
        try:
            if not report_only:
                if {"8", "9"} & set(tables):
                    measure(settings, results)
                train(reproduce_tables.plan(settings, tables, seeds, variants), settings, results, processes)
        finally:
            # Also of what is there when it is stopped, by earlier commands as well.
            reproduce_report.write(settings, results, tables, output)
            print(f"Report: {os.path.join(output, reproduce_report.TABLES_FILE)}")


class Progress:
    """How far all training together has come: a line for each run, and a bar where a person watches.

    Args:
        total: cost of all.
    """

    def __init__(self, total):
        self.total = total
        self.before = self.done = 0.0
        self.start = time.monotonic()
        self.bar = keras.utils.Progbar(round(total), unit_name="step") if sys.stdout.isatty() else None

    def start_at(self, cost):
        """Whoever calls `show` from now on counts from 0 again, behind so much."""
        self.before = cost

    def show(self, done):
        self.done = self.before + done
        if self.bar is not None:
            # At its target it would begin a new line each time.
            self.bar.update(min(round(self.done), self.bar.target - 1))

    def tell(self, line):
        if self.bar is not None:
            print(f"\n{line}", flush=True)
        else:
            left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
            print(f"{line}; about {left / 60:.0f} minutes left", flush=True)


def claim(output, settings):
    """Makes the folder that of these settings; raises `ValueError` where it is that of others."""
    path = os.path.join(output, _SETTINGS)
    # As they will be read again: JSON knows no tuples.
    mine = json.loads(
        json.dumps(
            {
                **dataclasses.asdict(settings),
                "clips": arrow_of_time.FORMAT,
                "backend": keras.backend.backend(),
            }
        )
    )
    if os.path.exists(path):
        with open(path) as file:
            theirs = json.load(file)
        different = [
            f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} here"
            for name in sorted({*theirs, *mine})
            if theirs.get(name) != mine.get(name)
        ]
        if different:
            raise ValueError(
                f"{output} holds results of other settings ({'; '.join(different)}); give another folder "
                "with --output."
            )
        return
    if os.path.isdir(output) and os.listdir(output):
        raise ValueError(f"{output} holds something else; give another folder with --output.")
    os.makedirs(output, exist_ok=True)
    with run_folder.RunFolder(output, {}).replacing(_SETTINGS) as partial, open(partial, "w") as file:
        json.dump(mine, file, indent=2)


def measure(settings, results):
    """Counts and times the published networks, where that was not done before."""
    missing = [
        Job(name, _measure, (name, function, settings, results))
        for name, function in (
            ("counts", reproduce_counts.count),
            ("speed", reproduce_counts.measure_speed),
        )
        if not results.has(name)
    ]
    # Not in this process: on a GPU its memory would lack in those that train.
    reproduce_pool.run(
        missing,
        1,
        settings.mixed_precision,
        lambda job, _: print(f"{job.name} of the published networks", flush=True),
    )


def _measure(name, function, settings, results):
    results.write(name, function(settings))


def train(runs, settings, results, processes):
    """Trains the runs that have no files yet, with an estimate of the time left."""
    missing = [run for run in runs if not results.is_finished(run)]
    if not missing:
        print(f"All {len(runs)} runs are there.")
        return
    print(f"{len(missing)} of {len(runs)} runs to go")
    stills = [] if results.has_stills() else [_stills_job(settings, results)]
    jobs = [
        Job(run.name, reproduce_runs.train, (run, settings, results), run.cost(settings), run.steps(settings))
        for run in missing
    ]
    progress = Progress(sum(job.cost for job in stills + jobs))

    def on_stills(job, record):
        progress.start_at(job.cost)
        progress.tell(f"{job.name}: appearance {record['history']['val_appearance_accuracy'][-1]:.1%}")

    def on_run(job, record):
        motion, appearance = (record["test"][task] for task in ("motion", "appearance"))
        progress.tell(f"{job.name}: motion {motion:.1%}, appearance {appearance:.1%}")

    def is_ready(job):
        origin = job.arguments[0].origin(settings)
        return origin is None or results.is_finished(origin)

    reproduce_pool.run(stills, 1, settings.mixed_precision, on_stills, show=progress.show)
    reproduce_pool.run(jobs, processes, settings.mixed_precision, on_run, is_ready, progress.show)


def _stills_job(settings, results):
    steps = settings.still_epochs * settings.still_steps
    # As of runs: in steps of as many clips of 8 frames.
    cost = steps * settings.still_batch_size / (settings.batch_size * reproduce_runs.NUM_FRAMES)
    return Job(reproduce_runs.STILLS, reproduce_runs.train_on_stills, (settings, results), cost, steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
