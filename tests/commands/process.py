"""Runs `keras-stm` in a separate process."""

import os
import subprocess
import sys

import keras_stm_command


def keras_stm(*arguments, cwd, **environment):
    """Runs `keras-stm` in the folder `cwd`; returns a `subprocess.CompletedProcess`."""
    command = ["-c", "import keras_stm_command; keras_stm_command.main()", *arguments]
    return run_python(*command, cwd=cwd, **environment)


def run_python(*arguments, cwd, **environment):
    """Runs Python in the folder `cwd`; returns a `subprocess.CompletedProcess`."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.path.dirname(keras_stm_command.__file__), **environment},
        timeout=300,
    )
