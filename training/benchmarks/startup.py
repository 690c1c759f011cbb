"""Start-up time of keras_stm compared with Keras: importing the package and building a network."""

import os
import subprocess
import sys

from benchmarks.worker import WorkerError

LIBRARIES = ("keras", "keras_stm")
_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure(options, workers, note):
    """Times imports in fresh processes, and builds of a ResNet-50 in one process, of both libraries in turn.

    Args:
        options: namespace with `backends` and `rounds`.
        workers: `{backend: Worker}`.
        note: function that is called with the name of a failed measurement and the error.

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
                # Round 0 reads the files from the disk and is not counted.
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
    """Returns the seconds that the import of a library takes in a fresh process.

    Raises:
        WorkerError: if the import fails.
    """
    process = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(library)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise WorkerError((process.stderr.strip().splitlines() or ["no message"])[-1])
    return float(process.stdout.splitlines()[-1])
