"""How every command runs: it parses its flags, and says in one line what went wrong."""

import os
import re
import sys

from keras_stm.commands.flags import parse

STOPPED = "stopped; nothing was written."


class Stopped(SystemExit):
    """A command was stopped by Ctrl-C. Its process does not wait for the videos that are being read."""


def run(argv, define_flags, command, usage, takes_paths=False, stopped=STOPPED):
    """Runs a command; what goes wrong ends it with one line.

    Args:
        argv: the command's name, with which messages begin, then its arguments.
        define_flags, usage, takes_paths: as of `flags.parse`.
        command: function of the parsed flags and the list of the arguments that are no flags.
        stopped: what Ctrl-C ends with.

    Returns:
        What `command` returns, the exit status.

    Raises:
        SystemExit: with the line that says what went wrong.
    """
    values, paths = parse(define_flags, argv, usage, takes_paths)
    name = os.path.basename(argv[0])
    try:
        return command(values, paths)
    except KeyboardInterrupt:
        raise Stopped(f"\n{name}: {stopped}") from None
    except Exception as error:
        sys.exit(f"{name}: {explain(error)}")


def explain(error):
    """An error in a line, or in a few where it lists clips; one that is a fault of ours is raised again."""
    if isinstance(error, ValueError | ImportError | OSError | RuntimeError):
        return str(error)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and isinstance(error, tensorflow.errors.OpError):
        # What the pipeline meets in a worker comes back inside TensorFlow's own error.
        reason = re.search(r"ValueError: (.+)", error.message)
        return reason[1] if reason else error.message.splitlines()[0]
    raise error
