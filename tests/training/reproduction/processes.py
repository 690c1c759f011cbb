"""Runs `training/reproduce.py` in a process."""

import os
import subprocess
import sys

import reproduce


def in_process(backend, folder, *flags):
    """Runs the command in a process. Neither it nor its child processes can load TensorFlow or PyAV."""
    for name in ("tensorflow", "av"):
        (folder / f"{name}.py").write_text("raise ImportError('not to be loaded here')")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, reproduce.__file__, f"--output={folder / 'reproduce'}", *flags],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
