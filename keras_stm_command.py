"""Entry point of the commands, beside the package: importing `keras_stm` would load TensorFlow first.

Sets what TensorFlow reads from the environment when it is loaded, and keeps its lines at the start away.
"""

import contextlib
import importlib
import os
import re
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On processors without VNNI, as AMD's before Zen 4, TensorFlow leaves oneDNN out unless told; with it these
# networks train 1.5 times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Command -> what it does, in the order in which a person needs them.
COMMANDS = {
    "fit": "train a model on a folder of clips, or on a data set of the paper",
    "evaluate": "measure how good a trained model is",
    "predict": "name what happens in videos",
    "export": "write a model for serving",
    "visualize": "draw what a model sees in a clip",
    "check-data": "find broken, short and double clips before a long training",
    "pack": "pack a data set into shards, which are read several times as fast",
}
_NEEDED = "What the commands need: pip install 'keras_stm[train]', and the package of KERAS_BACKEND."
_START_UP = re.compile(r"WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} 00:00:")


def main():
    """Runs `keras-stm <command> ...`."""
    name, arguments = "keras-stm", sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = (f"  {command:<11} {what}" for command, what in COMMANDS.items())
        print(
            "keras-stm COMMAND [flags]", "", *lines, "", "keras-stm COMMAND --help shows its flags.", sep="\n"
        )
        sys.exit(0 if arguments else 1)
    command, *arguments = arguments
    if command not in COMMANDS:
        sys.exit(f"{name}: unknown command {command!r}: it is one of {', '.join(COMMANDS)}")
    run(command.replace("-", "_"), [f"{name} {command}", *arguments])


def run(command, argv):
    """Runs one command.

    Args:
        command: its module in `keras_stm.commands`.
        argv: the name that messages begin with, and the arguments.
    """
    name = os.path.basename(argv[0])
    try:
        with without_start_up_lines():
            main = importlib.import_module("keras_stm.commands.main")
            module = importlib.import_module(f"keras_stm.commands.{command}")
    except ImportError as error:
        sys.exit(f"{name}: {error}. {_NEEDED}")
    except ValueError as error:
        # Keras knows no such KERAS_BACKEND.
        sys.exit(f"{name}: {error}")
    try:
        sys.exit(module.main(argv))
    except main.Stopped as end:
        sys.stdout.flush()
        print(end.code, file=sys.stderr, flush=True)
        # Not sys.exit, which waits until the videos that are being read have been.
        os._exit(1)


@contextlib.contextmanager
def without_start_up_lines():
    """Context in which TensorFlow is loaded; its lines about oneDNN and CUDA are left out.

    TensorFlow 2.21 writes them before it looks at TF_CPP_MIN_LOG_LEVEL. A person who has set a lower level
    gets them.
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
