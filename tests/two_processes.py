"""Trains in two processes on this machine, as on two hosts of a cluster; each argument goes to both.

python tests/two_processes.py --output=saved_models/two --epochs=2
"""

import os
import socket
import subprocess
import sys

FIT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "training", "fit.py")


def cluster(count):
    """The flags by which each of so many processes finds the others."""
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
        # The terminal has sent it to both.
        codes = [process.wait() for process in processes]
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
