"""Compares the speed of networks on this machine: keras_stm with each backend, and other libraries.

  python training/benchmark.py --json=speed.json     # all networks and kinds, with clips of one shape
  python training/benchmark.py --full                # with more clip shapes: hours on a few cores
  python training/benchmark.py --batch_sizes=1 --kinds=plain,folded,openvino --backends=tensorflow,jax
  python training/benchmark.py --quick               # tiny networks: only checks that the command works
  python training/benchmark.py --what=pipeline       # reading clips, compared with bare decoding
  python training/benchmark.py --what=soak           # memory growth while 10,000 clips are read
  python training/benchmark.py --what=stream         # a frame of a stream, step by step and by the clip again
  python training/benchmark.py --what=startup        # `keras-stm predict` up to its first answer

Each round times all steps in turn, so the ratios hold although the machine's speed drifts. A ratio is the
median of the rounds, printed with their range. Speeds are relative to TSN, which has no temporal layer: TSN
is 1.00, and higher is faster. The memory of a training step is compared, too.

Kinds that measure keras_stm with each backend:

- plain: inference
- folded: inference with BatchNorm folded into the convolutions
- bfloat16: the same in bfloat16, as `--precision=bfloat16` of the commands
- saved_model: inference of the exported SavedModel, only under TensorFlow
- training: a training step
- startup: the time to import keras_stm and to build a network

Kinds that measure other libraries for comparison:

- torch_eager, torch_compile: inference of the same network in plain PyTorch; with the kind training, also a
  training step
- torch_bfloat16: inference of the same network in plain PyTorch, in bfloat16
- openvino, onnxruntime: inference of the exported model

Kinds that cannot be measured here, such as those of missing packages, are skipped; the report says why.
Ctrl-C ends the measurement of networks early, and the report then holds the results so far. The exit status
is 1 if a measurement failed or nothing was measured.
"""

import os
import signal
import sys
import types

from absl import flags

import keras_stm_command
from benchmarks import networks
from benchmarks.steps import NETWORKS

if __name__ == "__main__":
    # keras_stm loads a backend. Other processes measure networks, so any installed backend will do here.
    os.environ.setdefault("KERAS_BACKEND", next(filter(networks.is_installed, networks.BACKENDS), ""))

with keras_stm_command.without_start_up_lines():
    from benchmarks import first_answer, report, stream
    from keras_stm.commands.main import run

# Defaults of the flags, and the values that --quick and --full set in their place.
_DEFAULTS = {
    "networks": list(NETWORKS),
    "kinds": list(networks.KINDS),
    "compared_networks": ["TSN", "STM"],
    "num_frames": ["8"],
    "batch_sizes": ["2"],
    "training_batch_size": 2,
    "image_size": 224,
    "depths": ["3", "4", "6", "3"],
    "width": 64,
    "rounds": 5,
}
_QUICK = {
    "num_frames": ["4"],
    "batch_sizes": ["1", "2"],
    "image_size": 32,
    "depths": ["1", "1", "1", "1"],
    "width": 8,
    "rounds": 2,
}
_FULL = {"num_frames": ["8", "16"], "batch_sizes": ["1", "16"]}


def define_flags(values):
    """Defines the command's flags in a `flags.FlagValues`."""
    flags.DEFINE_enum(
        "what",
        "networks",
        ["networks", "pipeline", "soak", "stream", "startup"],
        "What to measure.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "backends",
        None,
        "networks, stream, startup: Keras backends. Default: all installed ones.",
        flag_values=values,
    )
    for name, help in {
        "networks": "networks: any of " + ", ".join(NETWORKS) + ".",
        "kinds": "networks: any of " + ", ".join(networks.KINDS) + ".",
        "compared_networks": "networks: part of --networks to measure as saved_model and in other libraries.",
        "num_frames": "networks, stream, startup: frames in a clip; only networks measure several numbers.",
        "batch_sizes": "networks: clips in an inference step; each number is measured.",
        "depths": "networks, stream, startup: blocks in each of the four stages.",
    }.items():
        flags.DEFINE_list(name, _DEFAULTS[name], help, flag_values=values)
    for name, help in {
        "training_batch_size": "networks: clips in a training step.",
        "image_size": "networks, stream, startup: height and width of a clip in pixels.",
        "width": "networks, stream, startup: filters of the first convolution.",
        "rounds": "networks, pipeline, stream, startup: how often each speed is measured.",
    }.items():
        flags.DEFINE_integer(name, _DEFAULTS[name], help, lower_bound=1, flag_values=values)
    flags.DEFINE_enum(
        "mixed_precision",
        "none",
        ["none", "bfloat16"],
        "networks, stream: the type to compute in; none means float32.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "jit_compile",
        None,
        "networks: Keras's jit_compile. Default: off under TensorFlow on a CPU, where it is slow, else auto.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "quick",
        False,
        "networks, stream, startup: measure tiny networks; flags that are given take precedence.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "full",
        False,
        "networks: set --num_frames=8,16 --batch_sizes=1,16, unless these flags are given. The defaults, "
        "--num_frames=8 --batch_sizes=2, take a small part of the time.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json",
        None,
        "networks: file to write all numbers and raw times to; an existing file is replaced.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "video",
        None,
        "pipeline: video to measure with. Default: a generated one of ten seconds.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "workers",
        os.cpu_count(),
        "pipeline, soak: clips read at the same time.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer("reads", 10_000, "soak: clips to read.", lower_bound=100, flag_values=values)
    _define_checks(values)


def _define_checks(values):
    for name, choices in {
        "backends": networks.BACKENDS,
        "networks": NETWORKS,
        "kinds": networks.KINDS,
        "compared_networks": NETWORKS,
    }.items():
        flags.register_validator(
            name, lambda names, choices=choices: check_names(names, choices), flag_values=values
        )
    for name in ("num_frames", "batch_sizes"):
        flags.register_validator(name, check_numbers, flag_values=values)
    flags.register_validator("depths", check_depths, flag_values=values)


def check_names(values, choices):
    """Returns true if all values are among the choices; raises `flags.ValidationError` otherwise."""
    if values is None:
        return True
    for value in values or [""]:
        if value not in choices:
            raise flags.ValidationError(f"{value!r} is not one of {', '.join(choices)}")
    return True


def check_numbers(values):
    """Returns true if all values are positive integers; raises `flags.ValidationError` otherwise."""
    for value in values or [""]:
        if not (value.isdecimal() and int(value)):
            raise flags.ValidationError(f"{value or 'nothing'} is not a positive integer")
    return True


def check_depths(values):
    """Returns true for four positive integers; raises `flags.ValidationError` otherwise."""
    if not all(map(str.isdecimal, values)):
        raise flags.ValidationError("must be whole numbers with commas between them")
    if len(values) != 4 or not all(map(int, values)):
        raise flags.ValidationError("`depths` must be four positive integers")
    return True


def main(argv):
    """Runs the command and returns its exit status."""
    return run(argv, define_flags, _measure, __doc__, stopped="stopped.")


def _measure(values, _):
    """Runs the measurement that `--what` chooses and returns the exit status."""
    if values.what == "networks":
        return measure_networks(read_options(values), values.json)
    if values.what == "stream":
        return stream.measure(read_options(values))
    if values.what == "startup":
        return first_answer.measure(read_options(values))
    # The pipeline needs TensorFlow and PyAV; networks can be measured without them.
    with keras_stm_command.without_start_up_lines():
        from benchmarks import pipeline

    if values.what == "soak":
        return pipeline.soak(values.reads, values.workers)
    return pipeline.measure(values.video, values.workers, values.rounds)


def read_options(values):
    """Returns the flags of `--what=networks` as a namespace.

    `--quick` and `--full` replace the defaults of flags that are not given.

    Raises:
        ValueError: if a backend is not installed.
    """
    names = (*_DEFAULTS, "backends", "mixed_precision", "jit_compile")
    options = {name: values[name].value for name in names}
    for given, defaults in ((values.quick, _QUICK), (values.full, _FULL)):
        if given:
            options.update({name: value for name, value in defaults.items() if not values[name].present})
    for name in ("num_frames", "batch_sizes", "depths"):
        options[name] = [int(value) for value in options[name]]
    for name in ("num_frames", "batch_sizes", "networks", "kinds", "compared_networks"):
        options[name] = list(dict.fromkeys(options[name]))
    installed = [name for name in networks.BACKENDS if networks.is_installed(name)]
    options["backends"] = list(dict.fromkeys(options["backends"] or installed))
    for name in options["backends"] or networks.BACKENDS:
        if name not in installed:
            raise ValueError(f"--backends: {name} is not installed")
    # 4096 is large enough to reach the peak. A step on a GPU takes milliseconds, and is repeated for 0.2 s.
    options["matrix_size"] = 256 if values.quick else 4096
    options["least_seconds"] = 0 if values.quick else 0.2
    return types.SimpleNamespace(**options)


def measure_networks(options, json):
    """Measures networks, prints the tables and returns the exit status.

    Args:
        options: namespace that `read_options` returns.
        json: file for all numbers, or `None`.

    Raises:
        ValueError: if `json` cannot be written.
    """
    if json is not None:
        folder = os.path.dirname(os.path.abspath(json))
        if not os.path.isdir(folder):
            raise ValueError(f"--json={json}: there is no folder {folder}")
        if os.path.isdir(json) or not json:
            raise ValueError(f"--json={json}: must be a file, not a folder")
    # SIGTERM then acts like Ctrl-C, so that the processes are stopped and temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A copy: `networks.measure` drops what cannot be measured, and the report needs the options as given.
    results = networks.measure(types.SimpleNamespace(**vars(options)))
    summary = report.summarize(results, options)
    print(report.format_report(summary))
    if json:
        report.write_json(summary, json)
    for line in results["errors"]:
        print(f"benchmark.py: ERROR: {line}", file=sys.stderr)
    return 1 if results["errors"] or not (results["rows"] or results["startup"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
