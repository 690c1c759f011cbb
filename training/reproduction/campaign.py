"""A campaign of reproduce.py: a folder of settings, what is missing there trained, and its report."""

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
    """Trains what is not there yet, and writes the report.

    Args:
        settings: `Settings`.
        output: the folder.
        tables: names of tables, of `tables.NAMES`.
        seeds: runs of each network.
        command: what the files of results say that they were made by.
        variants: names of networks, of `runs.VARIANTS`, to leave it at; `None` is all.
        processes: how many networks to train at a time.
        report_only: whether to train nothing.

    Raises:
        ValueError: if there is no such table, a setting leaves nothing to train on, or the folder holds
            results of other settings.
        RuntimeError: if a run failed.
    """
    unknown = sorted(set(tables) - set(NAMES))
    if unknown:
        raise ArgumentError("tables", tables, f"must be any of {', '.join(NAMES)}")
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
    results = runs.Results(os.path.join(output, "results"), command)
    with results.lock():
        try:
            if not report_only:
                if {"8", "9"} & set(tables):
                    measure(settings, results)
                train(plan(settings, tables, seeds, variants), settings, results, processes)
        finally:
            # Also of what is there when it is stopped, by earlier commands as well.
            report.write(settings, results, tables, output)
            print(f"Report: {os.path.join(output, report.TABLES_FILE)}")


class Pace:
    """How far all training together has come: a line for each run, and a bar where a person watches.

    Args:
        total: cost of all.
    """

    def __init__(self, total):
        self.total = total
        self.before = self.done = 0.0
        self.start = time.monotonic()
        self.bar = Progress(round(total), "step")

    def start_at(self, cost):
        """Whoever calls `show` from now on counts from 0 again, behind so much."""
        self.before = cost

    def show(self, done):
        self.done = self.before + done
        self.bar.update(round(self.done))

    def tell(self, line):
        if not sys.stdout.isatty():
            left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
            line = f"{line}; about {left / 60:.0f} minutes left"
        tell(line)


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
        different = differences(theirs, mine)
        if different:
            raise ValueError(
                f"{output} holds results of other settings ({'; '.join(different)}); give another folder "
                "with --output."
            )
        return
    if os.path.isdir(output) and os.listdir(output):
        raise ValueError(f"{output} holds something else; give another folder with --output.")
    os.makedirs(output, exist_ok=True)
    with replacing(path) as partial, open(partial, "w") as file:
        json.dump(mine, file, indent=2)


def measure(settings, results):
    """Counts and times the published networks, where that was not done before."""
    missing = [
        Job(name, _measure, (name, function, settings, results))
        for name, function in (
            ("counts", counts.count),
            ("speed", counts.measure_speed),
        )
        if not results.has(name)
    ]
    # Not in this process: on a GPU its memory would lack in those that train.
    pool.run(
        missing,
        1,
        settings.mixed_precision,
        lambda job, _: print(f"{job.name} of the published networks", flush=True),
    )


def _measure(name, function, settings, results):
    results.write(name, function(settings))


def train(planned, settings, results, processes):
    """Trains the runs that have no files yet, with an estimate of the time left."""
    missing = [run for run in planned if not results.is_finished(run)]
    if not missing:
        print(f"All {len(planned)} runs are there.")
        return
    print(f"{len(missing)} of {len(planned)} runs to go")
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
    # As of runs: in steps of as many clips of 8 frames.
    cost = steps * settings.still_batch_size / (settings.batch_size * runs.NUM_FRAMES)
    return Job(runs.STILLS, runs.train_on_stills, (settings, results), cost, steps)
