"""The command line of a command: what it accepts and rejects; its flags are independent of others."""

import os
import re
import subprocess
import sys

import pytest
import tensorflow as tf
from absl import flags

import keras_stm_command
from keras_stm.arguments import ArgumentError
from keras_stm.commands import main
from keras_stm.commands.flags import parse as parse_flags
from tests.commands import find_command
from tests.commands.process import run_python

COMMANDS = (
    *("benchmark", "check_data", "embed", "evaluate", "export", "fit", "pack", "predict", "reproduce"),
    "visualize",
)


def define_flags(values):
    flags.DEFINE_integer("count", 1, "How many.", lower_bound=1, flag_values=values)
    flags.DEFINE_enum("kind", "a", ["a", "b"], "Which.", flag_values=values)


def parse(*arguments, **options):
    return parse_flags(define_flags, ["folder/name.py", *arguments], "What it does.", **options)


def test_a_command_has_flags_of_its_own():
    known = set(flags.FLAGS)
    first, _ = parse("--count=2", "--kind=b")
    second, paths = parse()
    assert (first.count, first.kind, second.count, second.kind, paths) == (2, "b", 1, "a", [])
    assert set(flags.FLAGS) == known


def test_what_is_no_flag_is_taken_where_asked():
    values, paths = parse("a.mp4", "--count=2", "b.mp4", takes_paths=True)
    assert (values.count, paths) == (2, ["a.mp4", "b.mp4"])


@pytest.mark.parametrize(
    "argument, part",
    [
        ("--unknown=1", "'unknown'"),
        ("--count=0", "--count=0"),
        ("--count=many", "--count=many"),
        ("--count", "count"),
        ("--kind=c", "--kind=c"),
        ("clip.mp4", "'clip.mp4'"),
    ],
)
def test_a_wrong_argument_ends_the_command_in_a_line(argument, part, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(argument)
    line = stop.value.code
    assert line.startswith("name.py: ") and part in line and "\n" not in line
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_what_a_command_does_and_its_flags(name, capsys):
    command = find_command(name)
    with pytest.raises(SystemExit) as stop:
        command.main([f"{name}.py", "--help"])
    assert not stop.value.code
    out = capsys.readouterr().out
    assert out.startswith(command.__doc__) and "--" in out.removeprefix(command.__doc__)


def test_help_needs_no_keras():
    """One process shows the help of all commands."""
    code = """
import sys
import keras_stm_command

for command in keras_stm_command.COMMANDS:
    sys.argv = ["keras-stm", command, "--help"]
    try:
        keras_stm_command.main()
    except SystemExit as end:
        assert not end.code, end.code
    found = {"keras", "tensorflow", "jax", "torch", "matplotlib"} & set(sys.modules)
    assert not found, (command, found)
"""
    done = run_python("-c", code, cwd=".")
    assert not done.returncode, done.stderr
    assert done.stdout.count("\nFlags:\n") == len(keras_stm_command.COMMANDS)


def keras_stm(monkeypatch, *arguments):
    """Returns the exit status or message of `keras-stm`."""
    monkeypatch.setattr("sys.argv", ["keras-stm", *arguments])
    with pytest.raises(SystemExit) as stop:
        keras_stm_command.main()
    return stop.value.code


def test_keras_stm_lists_its_commands_and_dispatches(monkeypatch, capsys):
    assert keras_stm(monkeypatch, "--help") == 0
    listed = capsys.readouterr().out
    for command in keras_stm_command.COMMANDS:
        assert f"\n  {command} " in listed
        assert find_command(command.replace("-", "_")).main
    assert keras_stm(monkeypatch) == 1
    line = keras_stm(monkeypatch, "check-data")
    assert line.startswith("keras-stm check-data: ") and "--data_dir" in line
    line = keras_stm(monkeypatch, "fitt")
    assert line.startswith("keras-stm: ") and "'fitt'" in line


@pytest.mark.parametrize(
    "error, line",
    [
        (ArgumentError("epochs", 0, "must be more"), "name.py: `epochs` must be more. Received: epochs=0"),
        (OSError(28, "No space left on device", "model.keras"), "name.py: .*No space left.*model.keras.*"),
        (tf.errors.UnknownError(None, None, "a worker: ValueError: no clip\n more"), "name.py: no clip"),
        (tf.errors.UnknownError(None, None, "gs: no bucket\nmore"), "name.py: gs: no bucket"),
    ],
)
def test_an_error_ends_a_command_in_a_line(error, line):
    def fail(values, paths):
        raise error

    with pytest.raises(SystemExit) as stop:
        main.run(["name.py"], define_flags, fail, "")
    assert re.fullmatch(line, stop.value.code)


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        main.run(["name.py"], define_flags, lambda values, paths: 1 / 0, "")


def test_ctrl_c_ends_a_command_in_a_line():
    def stop(values, paths):
        raise KeyboardInterrupt

    with pytest.raises(main.Stopped) as end:
        main.run(["name.py"], define_flags, stop, "", stopped="stopped on the way.")
    assert end.value.code == "\nname.py: stopped on the way."


def test_ctrl_c_ends_the_process_with_all_that_was_printed(monkeypatch, capfd):
    def stop(argv):
        sys.stdout.write("printed")
        raise main.Stopped("stopped")

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(find_command("export"), "main", stop)
    monkeypatch.setattr(os, "_exit", leave)
    # The stream is not closed: closing would also write the buffer.
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w", closefd=False))
    with pytest.raises(SystemExit) as end:
        keras_stm_command.run("export", ["keras-stm export"])
    assert end.value.code == 1
    assert capfd.readouterr() == ("printed", "stopped\n")


def test_a_package_that_is_not_there_is_named_in_a_line():
    with pytest.raises(SystemExit) as stop:
        keras_stm_command.run("no_such_command", ["keras-stm x"])
    assert "no_such_command" in stop.value.code and "pip install" in stop.value.code


def test_a_reader_that_closes_the_pipe_ends_the_command_without_a_traceback():
    read, write = os.pipe()
    os.close(read)
    help = "import sys, keras_stm_command; sys.argv[1:] = ['--help']; keras_stm_command.main()"
    process = subprocess.run([sys.executable, "-c", help], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (process.returncode, process.stderr) == (1, b"")


def test_start_up_lines_are_left_out_and_others_are_not(capfd, monkeypatch):
    lines = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
        "I0000 00:00:1796073304.078557   13222 port.cc:153] oneDNN custom operations are on.\n",
        "UserWarning: read this\n",
    ]
    for level, expected in (("3", lines[2:]), ("0", lines)):
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
        with keras_stm_command.without_start_up_lines():
            os.write(2, "".join(lines).encode())
        assert capfd.readouterr().err == "".join(expected)
