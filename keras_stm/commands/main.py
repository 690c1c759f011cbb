"""Runs a command: parses its flags and reports an error in one line."""

import os
import re
import sys

from absl import logging

from keras_stm.commands.flags import parse
from keras_stm.file_names import without_control

STOPPED = "stopped; nothing was written."


class Stopped(SystemExit):
    """A command was stopped by Ctrl-C; its process ends without waiting for videos that are being read."""


def run(argv, define_flags, command, usage, takes_paths=False, stopped=STOPPED):
    """Runs a command; an error ends it with one line.

    Args:
        argv: the command's name, with which messages begin, then its arguments.
        define_flags: see `flags.parse`.
        command: function of the parsed flags and the list of the arguments that are not flags.
        usage: see `flags.parse`.
        takes_paths: see `flags.parse`.
        stopped: message after Ctrl-C.

    Returns:
        The result of `command`: the exit status.

    Raises:
        SystemExit: an error occurred; with a line that explains it.
    """
    values, paths = parse(define_flags, argv, usage, takes_paths)
    for stream in (sys.stdout, sys.stderr):
        # File names may be invalid UTF-8, and a terminal may lack some characters of names.
        stream.reconfigure(errors="surrogateescape" if stream.encoding == "utf-8" else "replace")
    logging.get_absl_logger().addFilter(_without_control)
    name = os.path.basename(argv[0])
    try:
        return command(values, paths)
    except KeyboardInterrupt:
        raise Stopped(f"\n{name}: {stopped}") from None
    except BrokenPipeError:
        # The reader of the output has enough of it, which is no error.
        raise
    except Exception as error:
        sys.exit(without_control(f"{name}: {explain(error)}"))


def _without_control(record):
    record.msg, record.args = without_control(record.getMessage()), ()
    return True


def explain(error):
    """Returns an error's message, a line or a few with lists of clips; raises unexpected errors again."""
    if isinstance(error, ValueError | ImportError | OSError | RuntimeError):
        return str(error)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and isinstance(error, tensorflow.errors.OpError):
        # TensorFlow wraps the errors of pipeline workers in its own error.
        reason = re.search(r"ValueError: (.+)", error.message)
        return reason[1] if reason else error.message.splitlines()[0]
    raise error
