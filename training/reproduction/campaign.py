"""A campaign of reproduce.py: it fills a folder with the missing runs of its settings, and with a report."""

import dataclasses
import json
import os
import sys
import time

import keras

from keras_stm.arguments import ArgumentError
from keras_stm.data import arrow_of_time
from keras_stm.differences import differences
from keras_stm.progress import Progress, tell
from keras_stm.replacing import replacing
from reproduction import counts, pool, report, runs
from reproduction.pool import Job
from reproduction.tables import NAMES, plan

_SETTINGS = "settings.json"


def reproduce(settings, output, tables, seeds, command, variants=None, processes=1, report_only=False):
    """Trains the missing runs and writes the report.

    Args:
        settings: `Settings`.
        output: the folder.
        tables: names of tables, of `tables.NAMES`.
        seeds: runs of each network, see `tables.plan`.
        command: the command line to record in the files of results.
        variants: names of the networks to train, of `runs.VARIANTS`; `None` means all.
        processes: number of networks to train at the same time.
        report_only: whether to write only the report.

    Raises:
        ValueError: if a table does not exist, a setting leaves nothing to train on, the folder holds other
            files or results of other settings, or another process uses it.
        RuntimeError: if a run failed.
    """
    unknown = sorted(set(tables) - set(NAMES))
    if unknown:
        raise ArgumentError("tables", tables, f"must be any of {', '.join(NAMES)}")
    if settings.epochs <= settings.plain_epochs:
        raise ArgumentError(
            "epochs", settings.epochs, f"must be above {settings.plain_epochs}, the epochs of plain clips"
        )
    if settings.batch_size > settings.num_train:
        raise ArgumentError(
            "batch_size", settings.batch_size, f"must be at most {settings.num_train}, the number of clips"
        )
    output = os.path.expanduser(output)
    if report_only and not os.path.exists(os.path.join(output, _SETTINGS)):
        raise ArgumentError("output", output, "holds no results to report")
    claim(output, settings)
    results = runs.Results(os.path.join(output, "results"), command)
    with results.lock():
        try:
            if not report_only:
                if {"8", "9"} & set(tables):
                    measure(settings, results)
                train(plan(settings, tables, seeds, variants), settings, results, processes)
        finally:
            # Written after Ctrl-C, too. It covers all finished runs, those of earlier commands included.
            report.write(settings, results, tables, output)
            print(f"Report: {os.path.join(output, report.TABLES_FILE)}")


class Pace:
    """The progress of all trainings together: a line for each run, and a bar in a terminal.

    Args:
        total: cost of all trainings.
    """

    def __init__(self, total):
        self.total = total
        self.before = self.done = 0.0
        self.start = time.monotonic()
        self.bar = Progress(round(total), "step")

    def start_at(self, cost):
        """Sets the cost that is done already, because later calls of `show` count from 0 again."""
        self.before = cost

    def show(self, done):
        """Shows the cost done since `start_at`."""
        self.done = self.before + done
        self.bar.update(round(self.done))

    def tell(self, line):
        """Prints a line, with the time left if the output is no terminal."""
        if not sys.stdout.isatty():
            left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
            line = f"{line}; about {left / 60:.0f} minutes left"
        tell(line)


def claim(output, settings):
    """Claims the folder for these settings, and creates it if necessary.

    Args:
        output: the folder.
        settings: `Settings`.

    Raises:
        ValueError: if the folder holds results of other settings, or other files.
    """
    path = os.path.join(output, _SETTINGS)
    # JSON turns tuples into lists; compare the form that will be read back.
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
        different = differences(theirs, mine)
        if different:
            raise ValueError(
                f"{output} holds results of other settings ({'; '.join(different)}); pass another `output`."
            )
        return
    if os.path.isdir(output) and os.listdir(output):
        raise ValueError(f"{output} holds files but no results of this command; pass another `output`.")
    os.makedirs(output, exist_ok=True)
    with replacing(path) as partial, open(partial, "w") as file:
        json.dump(mine, file, indent=2)


def measure(settings, results):
    """Counts and times the published networks, unless their results exist."""
    missing = [
        Job(name, _measure, (name, function, settings, results))
        for name, function in (
            ("counts", counts.count),
            ("speed", counts.measure_speed),
        )
        if not results.has(name)
    ]
    # In another process, because this one would keep GPU memory that the trainings need.
    pool.run(
        missing,
        1,
        settings.mixed_precision,
        lambda job, _: print(f"{job.name} of the published networks: finished", flush=True),
    )


def _measure(name, function, settings, results):
    results.write(name, function(settings))


def train(planned, settings, results, processes):
    """Trains the runs that are not finished, and prints an estimate of the time left."""
    missing = [run for run in planned if not results.is_finished(run)]
    if not missing:
        print(f"All {len(planned)} runs are finished.")
        return
    print(f"{len(missing)} of {len(planned)} runs are left to train")
    stills = [] if results.has_stills() else [_stills_job(settings, results)]
    jobs = [
        Job(run.name, runs.train, (run, settings, results), run.cost(settings), run.steps(settings))
        for run in missing
    ]
    pace = Pace(sum(job.cost for job in stills + jobs))

    def on_stills(job, record):
        pace.start_at(job.cost)
        pace.tell(f"{job.name}: appearance {record['history']['val_appearance_accuracy'][-1]:.1%}")

    def on_run(job, record):
        motion, appearance = (record["test"][task] for task in ("motion", "appearance"))
        pace.tell(f"{job.name}: motion {motion:.1%}, appearance {appearance:.1%}")

    def is_ready(job):
        origin = job.arguments[0].origin(settings)
        return origin is None or results.is_finished(origin)

    pool.run(stills, 1, settings.mixed_precision, on_stills, show=pace.show)
    pool.run(jobs, processes, settings.mixed_precision, on_run, is_ready, pace.show)


def _stills_job(settings, results):
    steps = settings.still_epochs * settings.still_steps
    # In the unit of `Run.cost`: steps on `batch_size` clips of 8 frames.
    cost = steps * settings.still_batch_size / (settings.batch_size * runs.NUM_FRAMES)
    return Job(runs.STILLS, runs.train_on_stills, (settings, results), cost, steps)
