"""Measures networks in turn: each backend in a process of its own, and all other libraries in one more.

A setting is one shape of clips. All steps of a setting are first prepared in their processes. Each round then
times every step once. A drift of the machine's speed affects all steps, so the ratios within a round hold.
"""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import typing

import numpy as np

from benchmarks import startup
from benchmarks.worker import OTHERS, Worker, WorkerError

BACKENDS = ("tensorflow", "jax", "torch")
# Kinds of keras_stm: as built, with BatchNorm folded, the same in bfloat16, as exported SavedModel, and a
# training step.
OWN_KINDS = ("plain", "folded", "bfloat16", "saved_model", "training")
# Kinds that compute in bfloat16 beside the others, which compute in float32.
BFLOAT16_KINDS = ("bfloat16", "torch_bfloat16")
_TORCH_KINDS = ("torch_eager", "torch_compile")
# The file or folder of the export that each kind reads.
_EXPORTS = {"saved_model": "saved_model", "openvino": "float", "onnxruntime": "model.onnx"}
OTHER_KINDS = (*_TORCH_KINDS, "torch_bfloat16", "openvino", "onnxruntime")
KINDS = (*OWN_KINDS, *OTHER_KINDS, "startup")

# Packages that a kind needs in addition to the backends. TensorFlow writes the exported models.
_PACKAGES = {
    "saved_model": ("tensorflow",),
    "torch_eager": ("torch",),
    "torch_compile": ("torch",),
    "torch_bfloat16": ("torch",),
    "openvino": ("openvino", "tensorflow"),
    "onnxruntime": ("onnxruntime", "tensorflow", "tf2onnx", "onnx"),
}
# Seconds to wait before a step is timed: threads of the previous library may still spin and slow it down.
PAUSE = 0.02


class Setting(typing.NamedTuple):
    """A task, "inference" or "training", and the shape of its clips."""

    task: str
    frames: int
    batch: int

    def __str__(self):
        return f"{self.task}, {self.frames} frames, batch {self.batch}"


class Entry(typing.NamedTuple):
    """A step to measure: its worker process, its kind and its network."""

    worker: str
    kind: str
    network: str

    def __str__(self):
        return " ".join(self[1:] if self.worker == OTHERS else self)

    @property
    def key(self):
        """The step's key in its process."""
        return f"{self.kind} {self.network}"


def is_installed(package):
    """Returns whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def leave_out(options):
    """Returns `{kind: reason}` for the chosen kinds that cannot be measured here."""
    reasons = {}
    for kind in options.kinds:
        missing = [package for package in _PACKAGES.get(kind, ()) if not is_installed(package)]
        if missing:
            reasons[kind] = f"{', '.join(missing)} not installed"
        elif kind in _EXPORTS and options.mixed_precision != "none":
            reasons[kind] = "the export computes in float32"
        elif kind in BFLOAT16_KINDS and options.mixed_precision != "none":
            reasons[kind] = "all kinds compute in bfloat16"
        elif kind == "saved_model" and "tensorflow" not in options.backends:
            reasons[kind] = "it is measured only under tensorflow"
        elif kind == "torch_compile" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
            reasons[kind] = "it needs a C++ compiler"
    return reasons


def plan(options, task):
    """Returns the entries of a setting; networks to be compared with each other are adjacent."""
    compared = [network for network in options.networks if network in options.compared_networks]
    entries = []
    for backend in options.backends:
        for kind in options.kinds:
            if kind not in OWN_KINDS or (kind == "training") != (task == "training"):
                continue
            if kind == "saved_model" and backend != "tensorflow":
                continue
            networks = compared if kind == "saved_model" else options.networks
            entries += [Entry(backend, kind, network) for network in networks]
    for kind in options.kinds:
        if kind in _TORCH_KINDS or (kind in OTHER_KINDS and task == "inference"):
            entries += [Entry(OTHERS, kind, network) for network in compared]
    # Training in plain PyTorch is measured only for comparison with the kind `training`.
    return entries if task == "inference" or "training" in options.kinds else []


def measure(options):
    """Measures all steps that the options choose.

    Args:
        options: namespace of the command's flags. Kinds and backends that cannot be measured are removed.

    Returns:
        A dictionary: `rows`, one for each step with the `seconds` of its rounds; `startup`, see
        `startup.measure`; `products`, lists of FLOP/s of large matrix products, by backend or "numpy";
        `left_out`, the skipped kinds and the reasons; `errors`, a list of lines.
    """
    left_out = leave_out(options)
    for kind, reason in left_out.items():
        progress(f"{kind} is skipped: {reason}")
    options.kinds = [kind for kind in options.kinds if kind not in left_out]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        benchmark = Benchmark(options, folder)
        stack.callback(benchmark.stop)
        benchmark.find_devices()
        startups = []
        if "startup" in options.kinds:
            startups = startup.measure(options, benchmark.workers, benchmark.note)
        try:
            for frames in options.num_frames:
                for batch in options.batch_sizes:
                    benchmark.measure_setting(Setting("inference", frames, batch))
                benchmark.measure_setting(Setting("training", frames, options.training_batch_size))
        except KeyboardInterrupt:
            benchmark.note("stopped", "the remaining steps are not measured")
    return {
        "rows": benchmark.rows,
        "startup": startups,
        "products": benchmark.products,
        "left_out": left_out,
        "errors": benchmark.errors,
    }


class Benchmark:
    """The worker processes and their results so far.

    Args:
        options: namespace of the command's flags.
        folder: an existing folder for exported models.
    """

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        steps = {
            name: getattr(options, name)
            for name in ("depths", "width", "image_size", "mixed_precision", "jit_compile", "least_seconds")
        }
        self.workers = {name: Worker(name, steps) for name in (*BACKENDS, OTHERS)}
        self.rows = []
        self.errors = []
        self.products = {}
        self._multiplying = []
        self._counts = {}

    def stop(self):
        """Ends all processes."""
        for worker in self.workers.values():
            worker.stop()

    def note(self, what, error):
        """Records and prints an error."""
        self.errors.append(f"{what}: {error}")
        progress(f"ERROR: {self.errors[-1]}")

    def find_devices(self):
        """Removes backends that do not start, and finds the backends whose matrix products are measured."""
        working = []
        for backend in self.options.backends:
            try:
                on_gpu = self.workers[backend].call("is_on_gpu")
            except WorkerError as error:
                self.note(backend, error)
                continue
            working.append(backend)
            # NumPy uses neither a GPU nor bfloat16.
            if on_gpu or self.options.mixed_precision != "none":
                self._multiplying.append(backend)
        self.options.backends = working

    def measure_setting(self, setting):
        """Measures all steps of a setting, and adds a row for each."""
        running = plan(self.options, setting.task)
        if not running:
            return
        # Counting comes first: a process that dies while counting would lose its prepared steps.
        counts = {network: self.count(network, setting.frames) for _, _, network in running}
        self.ask("prepare", setting, running)
        rows = {
            entry: {
                **setting._asdict(),
                "backend": None if entry.worker == OTHERS else entry.worker,
                "kind": entry.kind,
                "network": entry.network,
                **counts[entry.network],
                "seconds": [],
                "memory_mib": None,
            }
            for entry in running
        }
        try:
            for number in range(self.options.rounds):
                progress(f"{setting}: round {number + 1} of {self.options.rounds}")
                self.multiply()
                # The order is reversed in every second round, so that no step always follows the same step.
                for entry, seconds in self.ask("time", setting, running, backwards=number % 2 == 1).items():
                    rows[entry]["seconds"].append(seconds)
            for worker in self.workers.values():
                if worker.process is not None:
                    try:
                        worker.call("clear")
                    except WorkerError as error:
                        self.note(worker.name, error)
            if setting.task == "training":
                for entry in running:
                    rows[entry]["memory_mib"] = self.memory(entry, setting)
        finally:
            # Ctrl-C keeps the rounds that were measured before it.
            self.rows += [rows[entry] for entry in running if rows[entry]["seconds"]]

    def ask(self, method, setting, running, backwards=False):
        """Calls a method for each entry in `running`, and removes the entries that fail from `running`.

        Returns:
            `{entry: answer}` for the remaining entries.
        """
        answers = {}
        for entry in running[:: -1 if backwards else 1]:
            if entry not in running:
                continue  # its process has died
            try:
                if method == "prepare":
                    progress(f"{setting}: preparing {entry}")
                    arguments = self.arguments(entry, setting)
                else:
                    arguments = {"key": entry.key}
                    time.sleep(PAUSE)
                answers[entry] = self.workers[entry.worker].call(method, **arguments)
            except WorkerError as error:
                self.note(f"{setting}: {entry}", error)
                running[:] = [each for each in running if each != entry and each.worker != error.dead]
        return {entry: answer for entry, answer in answers.items() if entry in running}

    def arguments(self, entry, setting):
        """Returns the arguments of `steps.Steps.prepare` for an entry."""
        path = None
        if entry.kind in _EXPORTS:
            path = os.path.join(self.export(entry.network, setting.frames), _EXPORTS[entry.kind])
        return {
            "key": entry.key,
            **setting._asdict(),
            "kind": entry.kind,
            "network": entry.network,
            "path": path,
        }

    def memory(self, entry, setting):
        """Returns the MiB that a step takes, or `None` if it cannot be measured.

        The step runs in a fresh process, because allocators keep the memory of earlier steps.
        """
        progress(f"{setting}: memory of {entry}")
        worker = Worker(entry.worker, self.workers[entry.worker].options)
        try:
            return worker.call("memory", **self.arguments(entry, setting))
        except WorkerError as error:
            self.note(f"{setting}: memory of {entry}", error)
        finally:
            worker.stop()

    def export(self, network, frames):
        """Returns the folder with the export of a network, which TensorFlow writes on first use."""
        folder = os.path.join(self.folder, f"{network}-{frames}")
        if not os.path.exists(folder):
            progress(f"exporting {network}, {frames} frames")
            self.workers["tensorflow"].call(
                "export",
                network=network,
                frames=frames,
                folder=folder,
                onnx="onnxruntime" in self.options.kinds,
            )
        return folder

    def count(self, network, frames):
        """Returns the multiply-adds and parameters of a network, `None` if they cannot be counted."""
        if (network, frames) not in self._counts:
            counts = {"macs": None, "parameters": None}
            for backend in self.options.backends[:1]:
                try:
                    counts = self.workers[backend].call("count", network=network, frames=frames)
                except WorkerError as error:
                    self.note(f"counting {network}", error)
            self._counts[network, frames] = counts
        return self._counts[network, frames]

    def multiply(self):
        """Measures large matrix products with NumPy, and with backends on a GPU or in bfloat16."""
        size = self.options.matrix_size
        for backend in self._multiplying:
            try:
                speed = self.workers[backend].call("multiply", size=size)
                self.products.setdefault(backend, []).append(speed)
            except WorkerError as error:
                self.note(f"{backend}: matrix product", error)
                self._multiplying.remove(backend)
        matrix = np.random.default_rng(0).standard_normal((size, size), "float32")
        start = time.perf_counter()
        matrix @ matrix
        self.products.setdefault("numpy", []).append(2 * size**3 / (time.perf_counter() - start))


def progress(line):
    """Prints a line to stderr."""
    print(f"benchmark.py: {line}", file=sys.stderr, flush=True)
