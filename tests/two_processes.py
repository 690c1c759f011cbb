"""Trains in two processes on one machine, as on two hosts of a cluster. Both receive all arguments.

python tests/two_processes.py --output=saved_models/two --epochs=2
"""

import os
import socket
import subprocess
import sys

FIT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "training", "fit.py")


def cluster(count):
    """Returns, for each of `count` processes, the flags with which it finds the others."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    return [
        [f"--coordinator={coordinator}", f"--num_processes={count}", f"--process_id={i}"]
        for i in range(count)
    ]


def main(arguments):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    processes = [
        subprocess.Popen([sys.executable, FIT, *arguments, *flags], env=environment) for flags in cluster(2)
    ]
    try:
        codes = [process.wait() for process in processes]
    except KeyboardInterrupt:
        # The terminal sends Ctrl-C to both processes: wait until they end.
        codes = [process.wait() for process in processes]
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
