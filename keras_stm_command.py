"""Entry point of the commands.

It is outside of the package, because importing `keras_stm` would load Keras and TensorFlow. Before that, this
module sets the environment variables that TensorFlow reads when it is loaded. It also hides TensorFlow's
start-up lines. Help is shown without Keras.
"""

import contextlib
import importlib.util
import os
import re
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On processors without VNNI, such as AMD's before Zen 4, TensorFlow uses oneDNN only if told to. With oneDNN,
# these networks train 1.5 times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Command -> its description, in the order in which users need them.
COMMANDS = {
    "fit": "train a model on a folder of clips, or on a data set of the paper",
    "evaluate": "evaluate a trained model by the protocols of the paper",
    "predict": "predict the classes of videos",
    "embed": "write the features of clips before the classifier",
    "export": "write a trained model for serving",
    "push": "upload a run to the Hugging Face Hub",
    "visualize": "draw what a model sees in a clip",
    "check-data": "find damaged, short and duplicate clips before a long training",
    "pack": "pack a data set into shards, which load several times faster",
}
_NEEDED = "The commands need: pip install 'keras_stm[train]', and the package of KERAS_BACKEND."
_START_UP = re.compile(r"WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} 00:00:")


@contextlib.contextmanager
def _quiet_on_closed_pipe():
    """Context that exits without a message if the reader of the output, such as `head`, closes the pipe."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes the output once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@_quiet_on_closed_pipe()
def main():
    """Runs `keras-stm <command> ...`."""
    name, arguments = "keras-stm", sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = (f"  {command:<11} {what}" for command, what in COMMANDS.items())
        print(
            "keras-stm COMMAND [flags]",
            "",
            *lines,
            "",
            "keras-stm COMMAND --help shows the flags of a command.",
            sep="\n",
        )
        sys.exit(0 if arguments else 1)
    command, *arguments = arguments
    if command not in COMMANDS:
        sys.exit(f"{name}: unknown command {command!r}: must be one of {', '.join(COMMANDS)}")
    run(command.replace("-", "_"), [f"{name} {command}", *arguments])


@_quiet_on_closed_pipe()
def run(command, argv):
    """Runs one command.

    Args:
        command: name of its module in `keras_stm.commands`.
        argv: the name with which messages begin, then the arguments.
    """
    name = os.path.basename(argv[0])
    try:
        shows_help = bool({"-h", "--help"} & set(argv))
        if shows_help:
            _leave_out_models()
        with without_start_up_lines():
            main = importlib.import_module("keras_stm.commands.main")
            module = importlib.import_module(f"keras_stm.commands.{command}")
            for needed in () if shows_help else module.LOADS:
                importlib.import_module(needed)
    except ImportError as error:
        sys.exit(f"{name}: {error}. {_NEEDED}")
    except ValueError as error:
        # KERAS_BACKEND is not a backend of Keras.
        sys.exit(f"{name}: {error}")
    try:
        sys.exit(module.main(argv))
    except main.Stopped as end:
        sys.stdout.flush()
        print(end.code, file=sys.stderr, flush=True)
        # Not sys.exit: it waits for the videos that are being read.
        os._exit(1)


def _leave_out_models():
    """Makes the modules of the package importable without its `__init__`, which loads models and Keras."""
    if "keras_stm" not in sys.modules:
        package = importlib.util.find_spec("keras_stm")
        sys.modules["keras_stm"] = importlib.util.module_from_spec(package)


@contextlib.contextmanager
def without_start_up_lines():
    """Hides TensorFlow's lines about oneDNN and CUDA within a `with` block that loads TensorFlow.

    TensorFlow 2.21 writes them before it reads TF_CPP_MIN_LOG_LEVEL. They are shown if the user has set
    TF_CPP_MIN_LOG_LEVEL to another value than 3.
    """
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "3":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines(keepends=True):
                if not _START_UP.match(line):
                    sys.stderr.write(line)
