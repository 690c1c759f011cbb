"""Measures networks in turn: each backend in a process of its own, what they are compared with in another.

All steps of a setting, one shape of clips, are prepared in their processes and then timed round by round,
each once a round, so that a drift of the machine's speed meets all of them and ratios within a round hold.
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
# Of our own: as it is built, with BatchNorm folded, as our export, and a step of training.
OWN_KINDS = ("plain", "folded", "saved_model", "training")
_TORCH_KINDS = ("torch_eager", "torch_compile")
# File or folder of the export that each reads.
_EXPORTS = {"saved_model": "saved_model", "openvino": "float", "onnxruntime": "model.onnx"}
OTHER_KINDS = (*_TORCH_KINDS, "openvino", "onnxruntime")
KINDS = (*OWN_KINDS, *OTHER_KINDS, "startup")

# What a kind needs beside the backends; the export is TensorFlow's.
_PACKAGES = {
    "saved_model": ("tensorflow",),
    "torch_eager": ("torch",),
    "torch_compile": ("torch",),
    "openvino": ("openvino", "tensorflow"),
    "onnxruntime": ("onnxruntime", "tensorflow", "tf2onnx", "onnx"),
}
# Threads of one library may wait actively for a while when it has finished, and would slow the next.
PAUSE = 0.02


class Setting(typing.NamedTuple):
    """Clips of one shape: `task` is "inference" or "training"."""

    task: str
    frames: int
    batch: int

    def __str__(self):
        return f"{self.task}, {self.frames} frames, batch {self.batch}"


class Entry(typing.NamedTuple):
    """A step to measure: the process that has it, the kind and the network."""

    worker: str
    kind: str
    network: str

    def __str__(self):
        return " ".join(self[1:] if self.worker == OTHERS else self)

    @property
    def key(self):
        return f"{self.kind} {self.network}"


def is_installed(package):
    return importlib.util.find_spec(package) is not None


def leave_out(options):
    """`{kind: reason}` of the chosen kinds that cannot be measured here."""
    reasons = {}
    for kind in options.kinds:
        missing = [package for package in _PACKAGES.get(kind, ()) if not is_installed(package)]
        if missing:
            reasons[kind] = f"{', '.join(missing)} not installed"
        elif kind in _EXPORTS and options.mixed_precision != "none":
            reasons[kind] = "the export computes in float32"
        elif kind == "saved_model" and "tensorflow" not in options.backends:
            reasons[kind] = "it is measured under tensorflow"
        elif kind == "torch_compile" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
            reasons[kind] = "it needs a C++ compiler"
    return reasons


def plan(options, task):
    """The entries of a setting, those whose ratio counts beside each other."""
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
    # PyTorch trains beside a backend, not alone.
    return entries if task == "inference" or "training" in options.kinds else []


def measure(options):
    """Measures all that is chosen.

    Args:
        options: namespace of the command's flags.

    Returns:
        A dictionary: `rows`, one for each step with the `seconds` of its rounds; `startup`, see
        `startup.measure`; `products`, FLOP/s of large products of matrices, by who computed them;
        `left_out`, reasons by kind; `errors`, a list of lines.
    """
    left_out = leave_out(options)
    for kind, reason in left_out.items():
        progress(f"{kind} is left out: {reason}")
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
            benchmark.note("stopped", "what was to follow is not measured")
    return {
        "rows": benchmark.rows,
        "startup": startups,
        "products": benchmark.products,
        "left_out": left_out,
        "errors": benchmark.errors,
    }


class Benchmark:
    """The processes and what they have measured so far."""

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
        for worker in self.workers.values():
            worker.stop()

    def note(self, what, error):
        self.errors.append(f"{what}: {error}")
        progress(f"ERROR: {self.errors[-1]}")

    def find_devices(self):
        """Leaves out backends that do not start, and finds those whose products of matrices count."""
        working = []
        for backend in self.options.backends:
            try:
                on_gpu = self.workers[backend].call("is_on_gpu")
            except WorkerError as error:
                self.note(backend, error)
                continue
            working.append(backend)
            # NumPy knows neither a GPU nor bfloat16.
            if on_gpu or self.options.mixed_precision != "none":
                self._multiplying.append(backend)
        self.options.backends = working

    def measure_setting(self, setting):
        running = plan(self.options, setting.task)
        if not running:
            return
        # Before anything is prepared, which would be lost with a process that counting ends.
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
                # Forwards and backwards, so that none always follows the same.
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
            # Also what was measured before a Ctrl-C.
            self.rows += [rows[entry] for entry in running if rows[entry]["seconds"]]

    def ask(self, method, setting, running, backwards=False):
        """Calls a method for each entry that is `running`, and takes those that fail out of it.

        Returns:
            `{entry: answer}`.
        """
        answers = {}
        for entry in running[:: -1 if backwards else 1]:
            if entry not in running:
                continue  # it was lost with its process
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
        """MiB that a step takes, in a process of its own: allocators keep what other steps have taken."""
        progress(f"{setting}: memory of {entry}")
        worker = Worker(entry.worker, self.workers[entry.worker].options)
        try:
            return worker.call("memory", **self.arguments(entry, setting))
        except WorkerError as error:
            self.note(f"{setting}: memory of {entry}", error)
        finally:
            worker.stop()

    def export(self, network, frames):
        """Folder with our export of a network, which TensorFlow writes when it is first needed."""
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
        """Multiply-adds and parameters of a network, `None` each where no backend works."""
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
        """Measures products of large matrices, on all that networks are computed on."""
        size = self.options.matrix_size
        for backend in self._multiplying:
            try:
                speed = self.workers[backend].call("multiply", size=size)
                self.products.setdefault(backend, []).append(speed)
            except WorkerError as error:
                self.note(f"{backend}: product of matrices", error)
                self._multiplying.remove(backend)
        matrix = np.random.default_rng(0).standard_normal((size, size), "float32")
        start = time.perf_counter()
        matrix @ matrix
        self.products.setdefault("numpy", []).append(2 * size**3 / (time.perf_counter() - start))


def progress(line):
    print(f"benchmark.py: {line}", file=sys.stderr, flush=True)
