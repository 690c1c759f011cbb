"""The devices that take part in a run, and the processes that they belong to.

TensorFlow and JAX train on all devices of a machine, JAX also on those of several, with a process on each.
"""

import contextlib
import os
import pickle
import sys
import typing

import keras
import numpy as np

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError

DISTRIBUTIONS = ("auto", "none", "mirrored", "data_parallel")

# How Keras and Slurm tell a process that there are others.
_NUM_PROCESSES_VARIABLES = ("KERAS_DISTRIBUTION_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS")


class Processes(typing.NamedTuple):
    """How the processes of a run find each other: the flags, or `None` each where the environment tells it.

    `source` is what says that there are several.
    """

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    source: str


def find_processes(coordinator=None, num_processes=None, process_id=None):
    """Whether this process is one of several, as flags or, without them, the environment tell.

    Args:
        coordinator, num_processes, process_id: all or none, see the flags.

    Returns:
        `Processes`, or `None`.

    Raises:
        ValueError: the arguments do not go together.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None):
        for name in _NUM_PROCESSES_VARIABLES:
            if os.environ.get(name, "1") != "1":
                return Processes(*given, f"{name}={os.environ[name]}")
        return None
    if None in given:
        raise ArgumentError(
            "coordinator",
            coordinator,
            "goes with `num_processes` and `process_id`",
            f"coordinator={coordinator!r}, num_processes={num_processes!r}, process_id={process_id!r}",
        )
    if process_id >= num_processes:
        raise ArgumentError(
            "process_id", process_id, f"must be less than the {num_processes} of `num_processes`"
        )
    return Processes(*given, f"--num_processes={num_processes}") if num_processes > 1 else None


def start(distribution="auto", processes=None):
    """Finds the devices, and the other processes where there are several.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        processes: what `find_processes` returns; `None` where this process is alone.

    Returns:
        `Devices`.

    Raises:
        ValueError: the backend cannot do it.
    """
    backend = keras.backend.backend()
    if processes and (backend != "jax" or distribution not in ("auto", "data_parallel")):
        raise ArgumentError(
            "distribution",
            distribution,
            f"must be 'data_parallel', with KERAS_BACKEND=jax: {processes.source} asks for several "
            "processes, in which "
            "Keras trains with JAX alone",
            f"distribution={distribution!r}, backend={backend!r}",
        )
    if backend == "torch":
        return _start_torch(distribution)
    if backend == "tensorflow":
        import tensorflow as tf  # here, so that other backends predict without it

        if distribution == "data_parallel":
            raise _elsewhere(distribution, "jax", "mirrored")
        gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
        if distribution == "none" or (distribution == "auto" and len(gpus) < 2):
            return Devices()
        names = gpus or [device.name for device in tf.config.list_logical_devices("CPU")]
        return Devices(len(names), strategy=tf.distribute.MirroredStrategy(names))
    if distribution == "mirrored":
        raise _elsewhere(distribution, "tensorflow", "data_parallel")
    if processes:
        keras.distribution.initialize(processes.coordinator, processes.num_processes, processes.process_id)
    devices = keras.distribution.list_devices()
    if distribution == "none" or (distribution == "auto" and len(devices) < 2):
        return Devices()
    # Each process reads its own part of the data.
    strategy = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Devices(len(devices), strategy.data_shard_id, strategy.num_processes, strategy)


class Devices:
    """The devices of a run.

    Args:
        count: devices of all processes together.
        process, num_processes: which of the processes this is, and how many there are.
        strategy: `tf.distribute.Strategy` or `keras.distribution.Distribution`, `None` for one device.

    Attributes:
        count, process, num_processes: as given.
        is_first: whether this process is the one that writes.
        shard: `(process, num_processes)`, the part of the data that this process reads.
    """

    def __init__(self, count=1, process=0, num_processes=1, strategy=None):
        self.count = count
        self.process = process
        self.num_processes = num_processes
        self._strategy = strategy

    @property
    def is_first(self):
        return self.process == 0

    @property
    def shard(self):
        return self.process, self.num_processes

    @property
    def is_mirrored(self):
        return self._strategy is not None and keras.backend.backend() == "tensorflow"

    def scope(self):
        """Context in which a model is built, trained and used on the devices."""
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()

    def check(self, settings):
        """Raises `ValueError` where a `config.Config` asks for what cannot be done on these devices."""
        if self.is_mirrored:
            for name, is_wrong, reason in (
                (
                    "gradient_accumulation_steps",
                    lambda n: n > 1,
                    "Keras cannot accumulate gradients over them",
                ),
                ("clip_norm", lambda norm: norm, "Keras clips each one's gradient before it adds them"),
                (
                    "mixed_precision",
                    lambda kind: kind == "float16",
                    "Keras looks for overflow on the first one alone; bfloat16 goes",
                ),
            ):
                value = getattr(settings, name)
                if is_wrong(value):
                    raise ArgumentError(
                        name,
                        value,
                        f"does not go with mirrored devices: {reason}. KERAS_BACKEND=jax with "
                        "--distribution=data_parallel can, and --distribution=none on one device",
                    )

    def synchronize(self, model):
        """Lets the BatchNormalization of a model see the whole batch, as JAX does by itself.

        Such a model cannot be saved: it would load under TensorFlow alone.
        """
        if self.is_mirrored:
            for layer in keras_compat.flatten_layers(model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    def gather(self, value):
        """A list of each process's `value`, anything that can be pickled, in all of them."""
        if self.num_processes == 1:
            return [value]
        from jax.experimental import multihost_utils

        content = np.frombuffer(pickle.dumps(value), "uint8")
        sizes = multihost_utils.process_allgather(np.array([len(content)])).ravel()
        padded = np.pad(content, (0, max(sizes) - len(content)))
        contents = multihost_utils.process_allgather(padded)
        return [pickle.loads(row[:size].tobytes()) for row, size in zip(contents, sizes, strict=True)]

    def from_first(self, function):
        """What `function()` returns in the first process, or the error that it raises, in all of them."""
        if self.num_processes == 1:
            return function()
        answer = error = None
        if self.is_first:
            try:
                answer = function()
            except Exception as raised:  # Any: the others would wait for ever.
                error = raised
        answer, error = self.gather((answer, error))[0]
        if error:
            raise error
        return answer

    def array_from_first(self, array, shape, dtype):
        """The array that the first process has, in all of them; the others give `None`."""
        if self.num_processes == 1:
            return array
        from jax.experimental import multihost_utils

        return multihost_utils.broadcast_one_to_all(np.zeros(shape, dtype) if array is None else array)

    def agree_to_stop(self, step, is_asked):
        """Whether all processes end after this step. Each asks between all of its steps.

        One alone does if it `is_asked` to; several soon after SIGTERM came to any of them.
        """
        if self.num_processes == 1:
            return is_asked
        from jax.experimental import multihost_utils

        if not multihost_utils.reached_preemption_sync_point(step):
            return False
        # The others may still need this process for their part of the step.
        self.gather(None)
        return True

    def leave(self, message):
        """Ends this process of several with a message, and so the others."""
        print(message, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # Not `sys.exit`: JAX would wait in it for the others, which wait for this one.
        os._exit(1)


def hide_gpus():
    """Keeps TensorFlow, which only reads data, from the memory of the GPUs."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def leave_gpus_to_backend():
    """Hides the GPUs from TensorFlow where another backend computes."""
    if keras.backend.backend() != "tensorflow":
        hide_gpus()


def _start_torch(distribution):
    alternatives = (
        "KERAS_BACKEND=tensorflow with --distribution=mirrored, or KERAS_BACKEND=jax with "
        "--distribution=data_parallel, and the same weights"
    )
    if distribution in ("mirrored", "data_parallel"):
        raise ArgumentError(
            "distribution",
            distribution,
            f"must be 'none' under PyTorch, which Keras trains on one device. Several: {alternatives}",
        )
    import torch

    if distribution == "auto" and torch.cuda.device_count() > 1:
        print(f"One of {torch.cuda.device_count()} GPUs is used. All: {alternatives}.")
    return Devices()


def _elsewhere(distribution, backend, alternative):
    return ArgumentError(
        "distribution",
        distribution,
        f"{distribution!r} needs KERAS_BACKEND={backend}; with {keras.backend.backend()} it is "
        f"--distribution={alternative}",
    )
