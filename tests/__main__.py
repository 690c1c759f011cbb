"""Runs the tests under one backend after the other, until a run fails.

python -m tests                         # under TensorFlow, JAX and PyTorch
python -m tests jax                     # under one of them
python -m tests torch -k cmm            # passes other arguments to pytest
"""

import os
import pathlib
import subprocess
import sys

BACKENDS = ("tensorflow", "jax", "torch")


def main(arguments):
    chosen = [name for name in BACKENDS if name in arguments] or BACKENDS
    command = [sys.executable, "-m", "pytest", *(each for each in arguments if each not in BACKENDS)]
    for backend in chosen:
        print(f"Tests under KERAS_BACKEND={backend}", flush=True)
        environment = {**os.environ, "KERAS_BACKEND": backend}
        code = subprocess.run(command, env=environment, cwd=pathlib.Path(__file__).parents[1]).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
