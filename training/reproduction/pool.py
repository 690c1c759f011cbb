"""Runs the jobs of reproduce.py in processes, several at the same time, each with its share of the cores."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import typing

from absl import logging

import keras_stm_command

# Numbers of threads: two of TensorFlow, one of NumPy, oneDNN and PyTorch. JAX cannot be limited like this.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
# In a process of the pool: the cost of the work that all processes of the pool have done so far.
_done = None


class Job(typing.NamedTuple):
    """A call, `function(*arguments)`, that can be sent to a process, and its name.

    A job with a `cost`, in any unit, trains for `steps` steps. Its function also receives `callbacks=`, which
    count the steps.
    """

    name: str
    function: typing.Callable
    arguments: tuple
    cost: float = 0.0
    steps: int = 1


def run(jobs, processes, mixed_precision, on_end, is_ready=lambda job: True, show=lambda done: None):
    """Runs each job as soon as it is ready and a process is free.

    An exception, including that of Ctrl-C, stops all processes.

    Args:
        jobs: list of `Job`.
        processes: number of jobs at the same time.
        mixed_precision: `"none"` or `"bfloat16"`.
        on_end: function that is called with each finished job and its result.
        is_ready: function that returns whether a job can start; it is called repeatedly.
        show: function that is called about once a second with the cost of the work done so far.

    Raises:
        RuntimeError: if a job failed, or a process was killed.
    """
    waiting, running = list(jobs), {}
    with _pool(processes, mixed_precision) as (pool, done):
        while waiting or running:
            ready = [job for job in waiting if is_ready(job)][: processes - len(running)]
            for job in ready:
                waiting.remove(job)
                with _deaf_to_ctrl_c():
                    running[pool.submit(_do, job)] = job
            ended, _ = concurrent.futures.wait(running, 1, concurrent.futures.FIRST_COMPLETED)
            show(done.value)
            for future in ended:
                on_end(running.pop(future), future.result())


@contextlib.contextmanager
def _pool(processes, mixed_precision):
    # TensorFlow and CUDA do not work in forked processes.
    context = multiprocessing.get_context("spawn")
    done = context.Value("d", 0.0)
    others = multiprocessing.active_children()
    before = {name: os.environ.get(name) for name in _THREADS}
    if processes > 1:
        # The processes inherit the environment, which a backend reads while it is loaded.
        os.environ.update(dict.fromkeys(_THREADS, str(max(os.cpu_count() // processes, 1))))
    try:
        with concurrent.futures.ProcessPoolExecutor(
            processes, context, _begin, (done, mixed_precision)
        ) as pool:
            try:
                yield pool, done
            except BaseException:
                for process in multiprocessing.active_children():
                    if process not in others:
                        process.terminate()
                raise
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _deaf_to_ctrl_c():
    """Makes processes that start meanwhile ignore Ctrl-C, because a terminal sends it to all processes."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _begin(done, mixed_precision):
    global _done
    _done = done
    # TensorFlow warns about the number of models.
    logging.set_verbosity(logging.ERROR)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if mixed_precision != "none":
        # Imported here, because a backend takes seconds to load and not every job needs one.
        import keras

        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")


def _end_with_parent():
    """Ends this process when the command is killed, so that the next command can use the folder."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _do(job):
    def count(batch, logs):
        with _done.get_lock():
            _done.value += job.cost / job.steps

    try:
        if not job.cost:
            return job.function(*job.arguments)
        with keras_stm_command.without_start_up_lines():
            import keras

            # Each job sets its own seed. This call loads TensorFlow, if it is installed, under every backend.
            keras.utils.set_random_seed(0)
        # A process runs many jobs, and a backend would accumulate state of earlier models.
        keras.utils.clear_session()
        counting = keras.callbacks.LambdaCallback(on_train_batch_end=count)
        return job.function(*job.arguments, callbacks=[counting])
    except Exception as error:
        # Some errors of backends cannot be sent to another process.
        raise RuntimeError(f"{job.name}: {type(error).__name__}: {error}") from error
