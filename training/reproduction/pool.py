"""Jobs of reproduce.py in processes of their own, several at a time, each with its part of the cores."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import typing

from absl import logging

import keras_stm_command

# For TensorFlow, and for NumPy, oneDNN and PyTorch; JAX has no such setting.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
# In a process of the pool: what all its processes have done so far, in units of cost.
_done = None


class Job(typing.NamedTuple):
    """A call, `function(*arguments)`, that a process can be sent, and a name for it.

    Where it has a `cost`, in any unit, it trains for `steps`, and is given `callbacks=` that count them.
    """

    name: str
    function: typing.Callable
    arguments: tuple
    cost: float = 0.0
    steps: int = 1


def run(jobs, processes, mixed_precision, on_end, is_ready=lambda job: True, show=lambda done: None):
    """Does jobs, each as soon as it is ready and a process is free.

    Where this is left by an exception, Ctrl-C's too, the processes are stopped.

    Args:
        jobs: list of `Job`.
        processes: how many at a time.
        mixed_precision: `"none"` or `"bfloat16"`.
        on_end: called with a job that has ended and what it returned.
        is_ready: whether what a job needs is there; asked again and again.
        show: called about once a second with the cost of what is done.

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
    # Neither TensorFlow nor CUDA bears a fork.
    context = multiprocessing.get_context("spawn")
    done = context.Value("d", 0.0)
    others = multiprocessing.active_children()
    before = {name: os.environ.get(name) for name in _THREADS}
    if processes > 1:
        # Inherited, as a backend reads them before anything else could tell it.
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
    """Has processes ignore it that are started meanwhile: a terminal sends it to all."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _begin(done, mixed_precision):
    global _done
    _done = done
    # TensorFlow warns of the number of models.
    logging.set_verbosity(logging.ERROR)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if mixed_precision != "none":
        # Not at the top: a backend takes seconds to load, and not every job needs one.
        import keras

        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")


def _end_with_parent():
    """Leaves no process behind when the first one is killed, which frees the folder for the next command."""
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

            # Each job sets its own; this loads TensorFlow where it is installed, under every backend.
            keras.utils.set_random_seed(0)
        # A process does many jobs; what a backend keeps of earlier models would add up.
        keras.utils.clear_session()
        counting = keras.callbacks.LambdaCallback(on_train_batch_end=count)
        return job.function(*job.arguments, callbacks=[counting])
    except Exception as error:
        # Not all of a backend's errors can be sent to another process.
        raise RuntimeError(f"{job.name}: {type(error).__name__}: {error}") from error
