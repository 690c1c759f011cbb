import importlib

# Scripts of the repository; the other commands are part of the package.
SCRIPTS = ("benchmark", "reproduce")


def find_command(name):
    """Returns the module of a command, which has `main(argv)`."""
    return importlib.import_module(name if name in SCRIPTS else f"keras_stm.commands.{name}")
