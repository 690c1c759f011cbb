"""A process of the benchmark from both of its ends. Requests and answers are lines of JSON.

It holds one backend of Keras, or all else that ours is compared with, and does one thing at a time when it is
asked to: a call of a method of `steps.Steps`.
"""

import json
import os
import signal
import subprocess
import sys

import keras_stm_command

OTHERS = "others"


class WorkerError(Exception):
    """What went wrong in a process; `dead` is its name where it has ended."""

    def __init__(self, message, dead=None):
        super().__init__(message)
        self.dead = dead


class Worker:
    """A process, started when it is first called, and anew when it is called after it has died.

    Args:
        name: a backend of Keras, or `OTHERS`.
        options: dictionary of the arguments of `steps.Steps`.
    """

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.process = None

    def call(self, method, **arguments):
        """Returns what the method returns; raises `WorkerError` where it fails or the process ends."""
        if self.process is None:
            self.process = self._start()
        try:
            self.process.stdin.write(json.dumps([method, arguments]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.stop()
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"it exited with {code}"
            raise WorkerError(f"its process has ended: {how}", dead=self.name)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["result"]

    def _start(self):
        environment = {
            # The processes share a GPU, and none may take all of its memory.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **os.environ,
        }
        if self.name != OTHERS:
            environment["KERAS_BACKEND"] = self.name
        return subprocess.Popen(
            [sys.executable, __file__, self.name, json.dumps(self.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def stop(self):
        """Ends the process, if there is one, and returns its exit status."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.stdout.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            # A process that has died of itself is not killed, so that its status is told.
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def serve(name, options):
    """Answers requests until there are no more."""
    # Ctrl-C is for the command that asks, which then ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print goes to stderr, and not between the answers.
    os.dup2(2, 1)
    steps = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            steps = steps or make_steps(name, options)
            answer = {"result": getattr(steps, method)(**arguments)}
        except Exception as error:  # of any library
            answer = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        print(json.dumps(answer), file=answers, flush=True)


def make_steps(name, options):
    if name == OTHERS:
        from benchmarks.other_steps import OtherSteps

        return OtherSteps(**options)
    with keras_stm_command.without_start_up_lines():
        from benchmarks.keras_steps import KerasSteps

    return KerasSteps(**options)


if __name__ == "__main__":
    # As where the command runs: a module of this folder is no top-level one.
    sys.path[0] = os.path.dirname(sys.path[0])
    serve(sys.argv[1], json.loads(sys.argv[2]))
