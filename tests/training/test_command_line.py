"""The command line of a command: what it takes, what it refuses, and that it is its own."""

import importlib

import pytest
from absl import flags

import command_line

COMMANDS = (
    *("benchmark", "check_data", "evaluate", "export", "fit", "pack", "predict", "reproduce", "visualize"),
)


def define_flags(values):
    flags.DEFINE_integer("count", 1, "How many.", lower_bound=1, flag_values=values)
    flags.DEFINE_enum("kind", "a", ["a", "b"], "Which.", flag_values=values)


def parse(*arguments, **options):
    return command_line.parse(define_flags, ["folder/name.py", *arguments], "What it does.", **options)


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
    command = importlib.import_module(name)
    with pytest.raises(SystemExit) as stop:
        command.main([f"{name}.py", "--help"])
    assert not stop.value.code
    out = capsys.readouterr().out
    assert out.startswith(command.__doc__) and "--" in out.removeprefix(command.__doc__)
