"""Flags of a command; each command has its own set, so that several commands can run in one process."""

import dataclasses
import functools
import os
import sys

from absl import flags, logging

from keras_stm.arguments import ArgumentError
from keras_stm.precisions import PRECISIONS
from keras_stm.train import config
from keras_stm.train.devices import DISTRIBUTIONS
from keras_stm.train.presets import MODELS, PRESETS


def parse(define_flags, argv, usage, takes_paths=False):
    """Parses the arguments of a command.

    Args:
        define_flags: function that defines the command's flags in a `flags.FlagValues`.
        argv: the command's name, then its arguments.
        usage: text that `--help` prints above the flags.
        takes_paths: whether the command accepts arguments that are not flags.

    Returns:
        The `flags.FlagValues`, and the list of the arguments that are not flags.

    Raises:
        SystemExit: an argument is wrong (with a line about the first one), or after `--help`.
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
        sys.exit(f"{name}: unknown argument {paths[0]!r}: this command accepts only flags, see --help")
    # Otherwise absl would log that its own flags were not parsed.
    flags.FLAGS.mark_as_parsed()
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    return values, paths


def _describe(values):
    # Without the names of the modules that define the flags.
    lines = values.get_help(include_special_flags=False).splitlines()
    return "\n".join(line for line in lines if not line or line.startswith(" ")).strip("\n")


def define_settings(values):
    """Defines `--preset`, `--config` and a flag for each field of `config.Config`."""
    flags.DEFINE_enum(
        "preset",
        None,
        list(PRESETS),
        "Settings to start from. Default: small; without --data_dir those of arrow_of_time.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "config",
        None,
        "The config.json of a run: settings to start from, instead of a preset.",
        flag_values=values,
    )
    for field in dataclasses.fields(config.Config):
        define = _definer(field)
        help = f"{field.metadata['help']}{_preset_values(field.name)}"
        define(name=field.name, default=None, help=help, flag_values=values)


def _definer(field):
    """Returns absl's function that defines a flag of the field's type and accepted values."""
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
    """A flag of several numbers, like `--decay_epochs=30,40,45`."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def parse(self, argument):
        if not isinstance(argument, str):
            return tuple(argument)
        try:
            return tuple(self.kind(item) for item in argument.split(",") if item)
        except ValueError:
            raise ValueError(f"must be numbers separated by commas, not {argument!r}") from None

    def flag_type(self):
        return f"comma separated list of {self.kind.__name__}"


def _preset_values(name):
    """Returns a sentence for the help: the values of a field in the presets."""
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
    """Reads the settings: the preset or the saved settings, overridden by the flags.

    Without `--data_dir`, the default is the preset of the embedded data set. `small` would make the best
    epoch's weights the result, chosen by the very clips that measure it.

    Args:
        values: parsed flags of `define_settings`.

    Returns:
        `config.Config`.

    Raises:
        ArgumentError: both a preset and saved settings, or two lengths are given, or the file holds no
            settings.
    """
    if values.config and values.preset:
        raise ArgumentError("preset", values.preset, "must not be passed together with `config`")
    default = "small" if values.data_dir else "arrow_of_time"
    settings = config.read(values.config) if values.config else PRESETS[values.preset or default]
    found = {field.name: values[field.name].value for field in dataclasses.fields(config.Config)}
    given = {name: value for name, value in found.items() if value is not None}
    if given.get("updates"):
        if given.setdefault("epochs", 0):
            expected = f"must not be passed together with `epochs`, {given['epochs']}"
            raise ArgumentError("updates", given["updates"], expected)
    return dataclasses.replace(settings, **given)


def define_model(values, default=None):
    """Defines `--model`.

    Args:
        values: `flags.FlagValues`.
        default: the model if the flag is not given. `None`: see `required_model`.
    """
    flags.DEFINE_string(
        "model",
        default,
        "Folder of a run of `keras-stm fit`, the .keras file in it, or the name of a published model, such "
        "as tsm_resnet50/kinetics400 or hf://user/name, which is downloaded once.",
        flag_values=values,
    )


def required_model(values):
    """Returns the value of `--model`.

    Raises:
        ValueError: it is missing.
    """
    if not values.model:
        raise ValueError(
            "--model is missing: pass the folder of a run, a .keras file or the name of a published model"
        )
    return values.model


def define_distribution(values):
    """Defines `--distribution`."""
    flags.DEFINE_enum(
        "distribution",
        "auto",
        DISTRIBUTIONS,
        "Devices to use. 'mirrored': all devices of this machine (TensorFlow). 'data_parallel': all devices "
        "of all processes (JAX). 'none': one device. 'auto': all GPUs, or TPUs with JAX, if there are "
        "several. The batch is split evenly over the devices.",
        flag_values=values,
    )


def define_precision(values):
    """Defines `--precision`."""
    flags.DEFINE_enum(
        "precision",
        "float32",
        PRECISIONS,
        "Type that the model computes in. With TensorFlow and PyTorch, 'bfloat16' is nearly twice as fast on "
        "processors with instructions for it, such as AVX512-BF16 or AMX; on others, and with JAX on a CPU, "
        "it is slower. Scores differ in the third digit. "
        "'float32' leaves a model as it was trained, also in mixed precision.",
        flag_values=values,
    )


def given(values, names):
    """Returns `{name: value}` of flags, with `None` for those that are not on the command line."""
    return {name: values[name].value if values[name].present else None for name in names}


def define_data(values, packed=True, default=None):
    """Defines the flags of a data set: `--data_dir`, `--dataset`, `--group_by`, `--fold`.

    Args:
        values: `flags.FlagValues`.
        packed: whether the data set may be packed.
        default: description of the default data set, if there is one.
    """
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder or file of the data set"
        + (", or a folder that `keras-stm pack` wrote." if packed else ".")
        + (f" Default: {default}." if default else ""),
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dataset",
        "folder",
        list(config.DATASETS),
        "What --data_dir holds, see `keras-stm fit --help`."
        + (" A packed folder is recognised automatically." if packed else ""),
        flag_values=values,
    )
    flags.DEFINE_string(
        "group_by",
        None,
        "Clips that stay together if validation clips are set apart, see `keras-stm fit --help`.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "fold",
        1,
        "Which of the three published train/test splits of UCF-101 and HMDB-51 to use.",
        lower_bound=1,
        upper_bound=3,
        flag_values=values,
    )


def define_class_order(values):
    """Defines `--class_order`."""
    flags.DEFINE_enum(
        "class_order",
        "sorted",
        ["sorted", "raw"],
        "Class order of Something-Something v1, see `keras-stm fit --help`.",
        flag_values=values,
    )


def define_exclude(values):
    """Defines `--exclude`."""
    flags.DEFINE_string(
        "exclude",
        None,
        "Text file of clips to skip, as `keras-stm check-data` writes it.",
        flag_values=values,
    )


def define_max_unreadable(values):
    """Defines `--max_unreadable`."""
    flags.DEFINE_float(
        "max_unreadable",
        0.5,
        "Stop if more than this share of the clips is unreadable.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )


def define_workers(values):
    """Defines `--workers`."""
    flags.DEFINE_integer(
        "workers",
        None,
        "Number of clips that each process reads at the same time. Default: the number of processors.",
        lower_bound=1,
        flag_values=values,
    )
