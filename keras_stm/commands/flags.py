"""Flags of a command: each command has its own, so that several can run in one process."""

import dataclasses
import functools
import os
import sys

from absl import flags, logging

from keras_stm.arguments import ArgumentError
from keras_stm.train import config
from keras_stm.train.devices import DISTRIBUTIONS
from keras_stm.train.presets import MODELS, PRESETS


def parse(define_flags, argv, usage, takes_paths=False):
    """Parses the arguments of a command.

    Args:
        define_flags: function that defines the command's flags in a `flags.FlagValues`.
        argv: the command's name, then its arguments.
        usage: text that `--help` prints above the flags.
        takes_paths: whether the command takes arguments that are no flags.

    Returns:
        The `flags.FlagValues`, and the list of the arguments that are no flags.

    Raises:
        SystemExit: with a line about the first wrong argument, or after `--help`.
    """
    name = os.path.basename(argv[0])
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=values)
    try:
        _, *paths = values(argv)
    except flags.Error as error:
        sys.exit(f"{name}: {error}; see --help")
    if values.help:
        print(f"{usage}\nFlags:\n{_describe(values)}")
        sys.exit()
    if paths and not takes_paths:
        sys.exit(f"{name}: unknown argument {paths[0]!r}: all arguments are flags, see --help")
    # Or absl would say before a line of ours that its own flags were not parsed.
    flags.FLAGS.mark_as_parsed()
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    return values, paths


def _describe(values):
    # Without the names of the modules that the flags were defined in.
    lines = values.get_help(include_special_flags=False).splitlines()
    return "\n".join(line for line in lines if not line or line.startswith(" ")).strip("\n")


def define_settings(values):
    """Defines `--preset`, `--config` and a flag for each field of `config.Config`."""
    flags.DEFINE_enum(
        "preset", None, list(PRESETS), "Settings to start from. Default: small.", flag_values=values
    )
    flags.DEFINE_string(
        "config",
        None,
        "The config.json of a run: settings to start from, in place of a preset.",
        flag_values=values,
    )
    for field in dataclasses.fields(config.Config):
        define = _definer(field)
        help = f"{field.metadata['help']}{_preset_values(field.name)}"
        define(name=field.name, default=None, help=help, flag_values=values)


def _definer(field):
    """absl's function that defines a flag of the field's type, with what the field accepts."""
    accepts = field.metadata
    choices = MODELS if field.name == "model" else accepts["choices"]
    if choices:
        return functools.partial(flags.DEFINE_enum, enum_values=list(choices))
    if accepts["items"]:
        serializer = flags.CsvListSerializer(",")
        return functools.partial(flags.DEFINE, _NumbersParser(accepts["items"]), serializer=serializer)
    if field.type is bool:
        return flags.DEFINE_boolean
    if field.type in (int, float):
        define = flags.DEFINE_integer if field.type is int else flags.DEFINE_float
        return functools.partial(define, lower_bound=accepts["at_least"], upper_bound=accepts["at_most"])
    return flags.DEFINE_string


class _NumbersParser(flags.ArgumentParser):
    """A flag of several numbers, as in `--decay_epochs=30,40,45`."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def parse(self, argument):
        if not isinstance(argument, str):
            return tuple(argument)
        try:
            return tuple(self.kind(item) for item in argument.split(",") if item)
        except ValueError:
            raise ValueError(f"must be numbers with commas between them, not {argument!r}") from None

    def flag_type(self):
        return f"comma separated list of {self.kind.__name__}"


def _preset_values(name):
    """What the presets say about a field, where it is not the same for all."""
    presets = {}
    for preset, settings in PRESETS.items():
        value = getattr(settings, name)
        shown = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else value
        presets.setdefault(shown, []).append(preset)
    if len(presets) == 1:
        (value,) = presets
        return "" if value is None else f" Presets: {value}."
    return " Presets: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in presets.items()) + "."


def read_settings(values):
    """The preset, or the saved settings, with what the flags override.

    Args:
        values: parsed flags of `define_settings`.

    Returns:
        `config.Config`.

    Raises:
        ArgumentError: if both are given, or the file holds no settings.
    """
    if values.config and values.preset:
        raise ArgumentError("preset", values.preset, "and `config` exclude each other")
    settings = config.read(values.config) if values.config else PRESETS[values.preset or "small"]
    found = {field.name: values[field.name].value for field in dataclasses.fields(config.Config)}
    given = {name: value for name, value in found.items() if value is not None}
    return dataclasses.replace(settings, **given)


def define_distribution(values):
    flags.DEFINE_enum(
        "distribution",
        "auto",
        DISTRIBUTIONS,
        "Devices to use: 'mirrored', all of this machine, under TensorFlow; 'data_parallel', all of every "
        "process, under JAX; 'none', one; 'auto', all where there are several GPUs, or TPUs under JAX. The "
        "batch is split evenly over them.",
        flag_values=values,
    )


def define_data(values, packed=True, optional=False):
    """Defines the flags of a data set: `--data_dir`, `--dataset`, `--fold`.

    Args:
        values: `flags.FlagValues`.
        packed: whether it may be packed.
        optional: whether the embedded data set stands in for it.
    """
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of the data set"
        + (", or one that `keras-stm pack` wrote." if packed else ".")
        + (" Default: the embedded data set." if optional else ""),
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dataset",
        "folder",
        list(config.DATASETS),
        "What --data_dir holds, as for `keras-stm fit`."
        + (" A packed folder is known by itself." if packed else ""),
        flag_values=values,
    )
    flags.DEFINE_integer(
        "fold", 1, "Split of UCF-101 and HMDB-51.", lower_bound=1, upper_bound=3, flag_values=values
    )


def define_class_order(values):
    flags.DEFINE_enum(
        "class_order",
        "sorted",
        ["sorted", "raw"],
        "Something-Something v1: order of its classes, as for `keras-stm fit`.",
        flag_values=values,
    )


def define_max_unreadable(values):
    flags.DEFINE_float(
        "max_unreadable",
        0.5,
        "Stop once more than this share of the clips turned out to be unreadable.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )


def define_workers(values):
    flags.DEFINE_integer(
        "workers",
        None,
        "Clips read at the same time, by each process. Default: the number of processors.",
        lower_bound=1,
        flag_values=values,
    )
