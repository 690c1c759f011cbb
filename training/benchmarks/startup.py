"""How long our package takes to import, and a network to build, beside Keras itself."""

import os
import subprocess
import sys

from benchmarks.worker import WorkerError

LIBRARIES = ("keras", "keras_stm")
_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure(options, workers, note):
    """Imports in fresh processes and builds a ResNet-50 in one, in turn.

    Args:
        options: namespace with `backends` and `rounds`.
        workers: `{backend: Worker}`.
        note: function of what failed and the error.

    Returns:
        A list of dictionaries: `backend`, `what` ("import" or "build"), and `seconds`,
        `{library: list of the rounds}`.
    """
    rows = []
    for backend in options.backends:
        timers = {
            "import": lambda library, backend=backend: time_import(library, backend),
            "build": lambda library, backend=backend: workers[backend].call("start_up", library=library),
        }
        for what, time_one in timers.items():
            print(f"benchmark.py: start-up, {backend}: {what}", file=sys.stderr, flush=True)
            seconds = {library: [] for library in LIBRARIES}
            try:
                # Round 0 reads the files from the disk, and does not count.
                for number in range(options.rounds + 1):
                    for library in LIBRARIES[:: 1 if number % 2 else -1]:
                        taken = time_one(library)
                        if number:
                            seconds[library].append(taken)
            except WorkerError as error:
                note(f"start-up, {backend}: {what}", error)
                continue
            rows.append({"backend": backend, "what": what, "seconds": seconds})
    return rows


def time_import(library, backend):
    process = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(library)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise WorkerError((process.stderr.strip().splitlines() or ["no message"])[-1])
    return float(process.stdout.splitlines()[-1])
