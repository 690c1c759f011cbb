"""Compares the speed of networks, with each backend and with what one would otherwise use, on this machine.

  python training/benchmark.py --json=speed.json     # all networks and kinds, with clips of one shape
  python training/benchmark.py --full                # with more shapes: hours on a few cores
  python training/benchmark.py --batch_sizes=1 --kinds=plain,folded,openvino --backends=tensorflow,jax
  python training/benchmark.py --quick               # tiny networks: only whether it runs
  python training/benchmark.py --what=pipeline       # reading clips, against bare decoding
  python training/benchmark.py --what=soak           # what reading 10,000 clips leaves in memory

All whose speed is compared is measured in turn, so that a ratio holds although the machine's speed drifts;
each ratio is the median of the rounds, with their range. TSN, which has no temporal layer, is 1.00; higher
is faster. What a step of training takes of memory is compared, too. Kinds of our own, of each backend:

- plain, folded: inference, folded with BatchNorm in the convolutions
- saved_model: inference of our export, under TensorFlow
- training: a step of training
- startup: the time to import keras_stm and to build a network

and of others, which ours is compared with:

- torch_eager, torch_compile: the same network in plain PyTorch; with training its step, too
- openvino, onnxruntime: inference of our export

What is not installed is left out, and said. Stopped by Ctrl-C, it reports what it has measured. Exit status:
1 where something failed or nothing was measured.
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
    # keras_stm loads a backend. Networks are measured in other processes: any will do here that is there.
    os.environ.setdefault("KERAS_BACKEND", next(filter(networks.is_installed, networks.BACKENDS), ""))

with keras_stm_command.without_start_up_lines():
    from benchmarks import report
    from keras_stm.commands.main import run

# Defaults of the flags, and those of --quick and --full.
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
    flags.DEFINE_enum(
        "what", "networks", ["networks", "pipeline", "soak"], "What to measure.", flag_values=values
    )
    flags.DEFINE_list(
        "backends", None, "networks: Keras backends. Default: all that are installed.", flag_values=values
    )
    for name, help in {
        "networks": "networks: any of " + ", ".join(NETWORKS) + ".",
        "kinds": "networks: any of " + ", ".join(networks.KINDS) + ".",
        "compared_networks": "networks: those of --networks to measure as saved_model and with others.",
        "num_frames": "networks: frames of a clip, each in turn.",
        "batch_sizes": "networks: clips of a step of inference, each in turn.",
        "depths": "networks: blocks of the four stages.",
    }.items():
        flags.DEFINE_list(name, _DEFAULTS[name], help, flag_values=values)
    for name, help in {
        "training_batch_size": "networks: clips of a step of training.",
        "image_size": "networks: height and width of a clip in pixels.",
        "width": "networks: width of the networks.",
        "rounds": "Times that each is measured.",
    }.items():
        flags.DEFINE_integer(name, _DEFAULTS[name], help, lower_bound=1, flag_values=values)
    flags.DEFINE_enum(
        "mixed_precision",
        "none",
        ["none", "bfloat16"],
        "networks: the type to compute in; none is float32.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "jit_compile", None, "networks: as of Keras. Default: what is fast.", flag_values=values
    )
    flags.DEFINE_boolean(
        "quick", False, "networks: tiny ones, unless other flags say more.", flag_values=values
    )
    flags.DEFINE_boolean(
        "full",
        False,
        "networks: --num_frames=8,16 --batch_sizes=1,16, unless these flags say more. Without it "
        "--num_frames=8 --batch_sizes=2, which takes a small part of the time.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json", None, "networks: file for all numbers and raw times; it is replaced.", flag_values=values
    )
    flags.DEFINE_string(
        "video", None, "pipeline: file to measure with. Default: one is made.", flag_values=values
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
    if values is None:
        return True
    for value in values or [""]:
        if value not in choices:
            raise flags.ValidationError(f"{value!r} is not one of {', '.join(choices)}")
    return True


def check_numbers(values):
    for value in values or [""]:
        if not (value.isdecimal() and int(value)):
            raise flags.ValidationError(f"{value or 'nothing'} is not a positive integer")
    return True


def check_depths(values):
    if not all(map(str.isdecimal, values)):
        raise flags.ValidationError("must be whole numbers with commas between them")
    if len(values) != 4 or not all(map(int, values)):
        raise flags.ValidationError("`depths` must be four positive integers")
    return True


def main(argv):
    return run(argv, define_flags, _measure, __doc__, stopped="stopped.")


def _measure(values, _):
    """Returns the exit status."""
    if values.what == "networks":
        return measure_networks(read_options(values), values.json)
    # It needs TensorFlow and PyAV, without which networks are measured.
    with keras_stm_command.without_start_up_lines():
        from benchmarks import pipeline

    if values.what == "soak":
        return pipeline.soak(values.reads, values.workers)
    return pipeline.measure(values.video, values.workers, values.rounds)


def read_options(values):
    """The flags of networks as a namespace, those of --quick and --full where not given themselves."""
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
    # Large enough to be as fast as it gets; a step on a GPU takes a few milliseconds only.
    options["matrix_size"] = 256 if values.quick else 4096
    options["least_seconds"] = 0 if values.quick else 0.2
    return types.SimpleNamespace(**options)


def measure_networks(options, json):
    """Prints the tables, and returns the exit status."""
    if json is not None:
        folder = os.path.dirname(os.path.abspath(json))
        if not os.path.isdir(folder):
            raise ValueError(f"--json={json}: there is no folder {folder}")
        if os.path.isdir(json) or not json:
            raise ValueError(f"--json={json} is a folder")
    # Ended as by Ctrl-C, with its processes and its files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What there is to measure is decided there, and the flags are kept as they were given.
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
