"""Set-ups of devices and processes on which the commands are tested."""

import os
import signal
import subprocess
import sys
import time

from tests.system import narrow_commands
from tests.two_processes import cluster

# Maps a name to the environment of the processes, their arguments and their number.
SETUPS = {
    "tensorflow": ({"KERAS_BACKEND": "tensorflow"}, [], 1),
    "mirrored": ({"KERAS_BACKEND": "tensorflow", "LOGICAL_CPUS": "2"}, ["--distribution=mirrored"], 1),
    "jax": ({"KERAS_BACKEND": "jax"}, [], 1),
    "data_parallel": (
        {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        ["--distribution=data_parallel"],
        1,
    ),
    "two_processes": ({"KERAS_BACKEND": "jax"}, ["--distribution=data_parallel"], 2),
    "torch": ({"KERAS_BACKEND": "torch"}, [], 1),
}

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def start(setup, *commands, kill=None, killed=0, number=signal.SIGKILL):
    """Starts the processes of a run.

    Args:
        setup: key of `SETUPS`.
        *commands: lists of a command's name and its arguments. Each process runs all commands in turn.
        kill: moment at which a process kills itself, see `narrow_commands`; `None` for never.
        killed: index of the process that kills itself.
        number: signal with which it kills itself.

    Returns:
        List of `subprocess.Popen`, with stdout and stderr together in `stdout`.
    """
    environment, more, count = SETUPS[setup]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([ROOT, os.path.join(ROOT, "training")]),
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
        **environment,
    }
    killing = {"KILL": kill, "KILL_SIGNAL": number.name} if kill else {}
    return [
        subprocess.Popen(
            [sys.executable, narrow_commands.__file__, *_join(commands, [*more, *flags])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests that run in the background ignore Ctrl-C, and their child processes would inherit this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env={**environment, **(killing if i == killed else {})},
        )
        for i, flags in enumerate(cluster(count) if count > 1 else [[]])
    ]


def _join(commands, more):
    joined = []
    for command in commands:
        joined += [*map(str, command), *more, "--"]
    return joined


def finish(processes, timeout=300):
    """Waits until all processes end. Returns their exit statuses and their outputs."""
    deadline = time.monotonic() + timeout
    try:
        outputs = [process.communicate(timeout=deadline - time.monotonic())[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def run(setup, *commands, **options):
    """Runs commands until they end. Returns the output of the first process."""
    codes, outputs = finish(start(setup, *commands, **options))
    assert not any(codes), "\n".join(outputs)
    return outputs[0]
