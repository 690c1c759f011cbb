"""The command line of a command: flags of its own, so that several commands can run in one process."""

import os
import sys

from absl import flags, logging


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
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    return values, paths


def _describe(values):
    # Without the names of the modules that the flags were defined in.
    lines = values.get_help(include_special_flags=False).splitlines()
    return "\n".join(line for line in lines if not line or line.startswith(" ")).strip("\n")
