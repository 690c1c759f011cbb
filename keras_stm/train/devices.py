"""The devices of a run, and the processes that they belong to.

TensorFlow and JAX train on all devices of a machine. JAX also trains on several machines, with a process on
each. Functions that need Keras import it themselves.
"""

import contextlib
import os
import pickle
import sys
import typing

import numpy as np

from keras_stm.arguments import ArgumentError

DISTRIBUTIONS = ("auto", "none", "mirrored", "data_parallel")

# Environment variables with which Keras and Slurm tell a process that there are others.
_NUM_PROCESSES_VARIABLES = ("KERAS_DISTRIBUTION_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS")


class Processes(typing.NamedTuple):
    """How the processes of a run find each other.

    Attributes:
        coordinator, num_processes, process_id: arguments of `find_processes`; `None` if the environment
            defines them.
        source: the argument or environment variable that asks for several processes.
    """

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    source: str


def find_processes(coordinator=None, num_processes=None, process_id=None):
    """Finds out from the arguments or, without any, the environment whether there are several processes.

    Args:
        coordinator: `host:port` of the first process.
        num_processes: number of processes.
        process_id: number of this process, from 0.

    Returns:
        `Processes`, or `None` if this process is alone.

    Raises:
        ValueError: some of the arguments are missing, or `process_id` is too large.
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
            "must be passed together with `num_processes` and `process_id`",
            f"coordinator={coordinator!r}, num_processes={num_processes!r}, process_id={process_id!r}",
        )
    if process_id >= num_processes:
        raise ArgumentError("process_id", process_id, f"must be less than `num_processes`, {num_processes}")
    return Processes(*given, f"num_processes={num_processes}") if num_processes > 1 else None


def start(distribution="auto", processes=None):
    """Finds the devices and, if there are several processes, connects to the others.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        processes: the result of `find_processes`; `None` if this process is alone.

    Returns:
        `Devices`.

    Raises:
        ValueError: the backend does not support it.
    """
    import keras

    backend = keras.backend.backend()
    if processes and (backend != "jax" or distribution not in ("auto", "data_parallel")):
        raise ArgumentError(
            "distribution",
            distribution,
            f"must be 'auto' or 'data_parallel', with KERAS_BACKEND=jax: {processes.source} asks for several "
            "processes, which "
            "Keras supports only with JAX",
            f"distribution={distribution!r}, backend={backend!r}",
        )
    if backend == "torch":
        return _start_torch(distribution)
    if backend == "tensorflow":
        import tensorflow as tf  # here: other backends can predict without it

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
        count: number of devices of all processes together.
        process: number of this process, from 0.
        num_processes: number of processes.
        strategy: `tf.distribute.Strategy` or `keras.distribution.Distribution`; `None` for one device.

    Attributes:
        count, process, num_processes: the arguments.
        is_first: whether this process is the first one, which writes the files.
        shard: `(process, num_processes)`, the part of the data that this process reads.
    """

    def __init__(self, count=1, process=0, num_processes=1, strategy=None):
        self.count = count
        self.process = process
        self.num_processes = num_processes
        self._strategy = strategy

    @property
    def is_first(self):
        """Whether this process is the first one, which writes the files."""
        return self.process == 0

    @property
    def shard(self):
        """The part of the data that this process reads, as `(process, num_processes)`."""
        return self.process, self.num_processes

    @property
    def is_mirrored(self):
        """Whether the devices have copies of the model under TensorFlow."""
        import keras

        return self._strategy is not None and keras.backend.backend() == "tensorflow"

    def scope(self):
        """Returns the context in which a model is built, trained and used on the devices."""
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()

    def check(self, settings):
        """Raises `ValueError` if these devices do not support a setting of a `config.Config`."""
        if self.is_mirrored:
            for name, is_wrong, reason in (
                (
                    "gradient_accumulation_steps",
                    lambda n: n > 1,
                    "Keras cannot accumulate gradients over them",
                ),
                ("clip_norm", lambda norm: norm, "Keras clips each device's gradient before it adds them"),
                (
                    "mixed_precision",
                    lambda kind: kind == "float16",
                    "Keras looks for overflow only on the first device; 'bfloat16' works",
                ),
            ):
                value = getattr(settings, name)
                if is_wrong(value):
                    raise ArgumentError(
                        name,
                        value,
                        f"is not supported on mirrored devices: {reason}. Use KERAS_BACKEND=jax with "
                        "`distribution` 'data_parallel', or one device with `distribution` 'none'",
                    )

    def synchronize(self, model):
        """Lets a model's BatchNormalization see the whole batch of all devices; JAX does so automatically.

        Do not save such a model: it would load only under TensorFlow.
        """
        import keras

        from keras_stm import keras_compat

        if self.is_mirrored:
            for layer in keras_compat.flatten_layers(model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    def gather(self, value):
        """Returns a list of the `value` of each process, in all processes; `value` must be picklable."""
        if self.num_processes == 1:
            return [value]
        from jax.experimental import multihost_utils

        content = np.frombuffer(pickle.dumps(value), "uint8")
        sizes = multihost_utils.process_allgather(np.array([len(content)])).ravel()
        padded = np.pad(content, (0, max(sizes) - len(content)))
        contents = multihost_utils.process_allgather(padded)
        return [pickle.loads(row[:size].tobytes()) for row, size in zip(contents, sizes, strict=True)]

    def from_first(self, function):
        """Calls `function` in the first process; returns its result or raises its error in all processes."""
        if self.num_processes == 1:
            return function()
        answer = error = None
        if self.is_first:
            try:
                answer = function()
            except Exception as raised:  # Any error: the others would wait forever.
                error = raised
        answer, error = self.gather((answer, error))[0]
        if error:
            raise error
        return answer

    def array_from_first(self, array, shape, dtype):
        """Returns the first process's array in all processes; the others pass `None`."""
        if self.num_processes == 1:
            return array
        from jax.experimental import multihost_utils

        return multihost_utils.broadcast_one_to_all(np.zeros(shape, dtype) if array is None else array)

    def agree_to_stop(self, step, is_asked):
        """Returns whether all processes end after this step; each must call it between all of its steps.

        A single process ends if `is_asked` is true. Several processes end soon after any of them received
        SIGTERM.
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
        """Prints a message and ends this process; the other processes end because of that."""
        print(message, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # Not `sys.exit`: in it, JAX would wait for the other processes, which wait for this one.
        os._exit(1)


def hide_gpus():
    """Hides the GPUs from TensorFlow: it then only reads data and must not allocate their memory."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def leave_gpus_to_backend():
    """Hides the GPUs from TensorFlow if another backend computes."""
    import keras

    if keras.backend.backend() != "tensorflow":
        hide_gpus()


def _start_torch(distribution):
    alternatives = (
        "KERAS_BACKEND=tensorflow with `distribution` 'mirrored', or KERAS_BACKEND=jax with "
        "`distribution` 'data_parallel'; the weights work with each backend"
    )
    if distribution in ("mirrored", "data_parallel"):
        raise ArgumentError(
            "distribution",
            distribution,
            f"must be 'auto' or 'none': Keras trains PyTorch on one device. For several: {alternatives}",
        )
    import torch

    if distribution == "auto" and torch.cuda.device_count() > 1:
        print(f"One of {torch.cuda.device_count()} GPUs is used. For all: {alternatives}.")
    return Devices()


def _elsewhere(distribution, backend, alternative):
    import keras

    return ArgumentError(
        "distribution",
        distribution,
        f"{distribution!r} needs KERAS_BACKEND={backend}; with KERAS_BACKEND={keras.backend.backend()}, use "
        f"{alternative!r}",
    )
