"""Worker processes of the benchmark: the side that asks and the side that answers.

A worker holds one Keras backend, or all libraries that keras_stm is compared with. It serves one request at a
time: a call of a method of `steps.Steps`. Requests and answers are lines of JSON.
"""

import json
import os
import signal
import subprocess
import sys

import keras_stm_command

OTHERS = "others"


class WorkerError(Exception):
    """An error in a worker process.

    Attributes:
        dead: name of the process if it has ended, else `None`.
    """

    def __init__(self, message, dead=None):
        super().__init__(message)
        self.dead = dead


class Worker:
    """A worker process. The first call starts it, and the next call after its death starts another.

    Args:
        name: a Keras backend, or `OTHERS`.
        options: dictionary of the arguments of `steps.Steps`.
    """

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.process = None

    def call(self, method, **arguments):
        """Calls a method of `steps.Steps` in the process and returns its result.

        Raises:
            WorkerError: if the method fails or the process ends.
        """
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
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            raise WorkerError(f"the process has ended: {how}", dead=self.name)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["result"]

    def _start(self):
        environment = {
            # The processes share a GPU, so none of them may reserve all of its memory.
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
        """Ends the process and returns its exit status, or `None` without a process."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.stdout.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            # Waiting first keeps the exit status of a process that has ended without `kill`.
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def serve(name, options):
    """Answers requests until stdin is closed.

    Args:
        name: a Keras backend, or `OTHERS`.
        options: dictionary of the arguments of `steps.Steps`.
    """
    # The command handles Ctrl-C, and then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    # Libraries then print to stderr, and their output does not mix with the answers.
    os.dup2(2, 1)
    steps = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            steps = steps or make_steps(name, options)
            answer = {"result": getattr(steps, method)(**arguments)}
        except Exception as error:  # libraries raise errors of any type
            answer = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        print(json.dumps(answer), file=answers, flush=True)


def make_steps(name, options):
    """Returns the `steps.Steps` of a worker."""
    if name == OTHERS:
        from benchmarks.other_steps import OtherSteps

        return OtherSteps(**options)
    with keras_stm_command.without_start_up_lines():
        from benchmarks.keras_steps import KerasSteps

    return KerasSteps(**options)


if __name__ == "__main__":
    # The command's path: modules of this folder are imported as `benchmarks.<name>`.
    sys.path[0] = os.path.dirname(sys.path[0])
    serve(sys.argv[1], json.loads(sys.argv[2]))
