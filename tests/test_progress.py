"""Progress of a long job, on a terminal and in a file that receives the output."""

import sys
import time

import pytest

from keras_stm import progress
from keras_stm.progress import Progress


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Makes stdout a terminal. Returns a function that returns the output since its last call."""
    # Patch the class, because pytest creates a new object for each phase of a test.
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda file: True)
    return lambda: capsys.readouterr().out


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves: a list with the time in seconds."""
    seconds = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def count(total, unit="clip", **options):
    shown = Progress(total, unit, **options)
    for done in range(1, total + 1):
        shown.update(done)
    return shown


def test_a_bar_counts_where_a_person_watches_and_stays_at_its_end(terminal):
    shown = count(3, title="Reading")
    seen = terminal()
    assert seen.startswith("Reading\n") and "1/3" in seen and "3/3" not in seen
    shown.close()
    seen = terminal()
    assert "3/3" in seen and seen.endswith("/clip\n")


def test_a_bar_that_is_cleared_leaves_nothing(terminal):
    shown = count(3)
    shown.clear()
    seen = terminal()
    assert "1/3" in seen and seen.endswith("\r\033[K") and "\n" not in seen


def test_a_line_is_told_above_the_bar(terminal):
    count(3)
    progress.tell("a.mp4 is damaged")
    assert terminal().endswith("\r\033[Ka.mp4 is damaged\n")


def test_nothing_is_shown_where_nobody_watches(capsys):
    shown = count(3, title="Reading")
    shown.clear()
    shown.close()
    assert capsys.readouterr().out == ""
    progress.tell("a.mp4 is damaged")
    assert capsys.readouterr().out == "a.mp4 is damaged\n"


def test_lines_come_every_half_a_minute_and_at_the_end(capsys, clock):
    shown = Progress(2000, "clip", title="Reading", lines=True)
    for done in range(1, 2001):
        clock[0] += 1 / 16
        shown.update(done)
    shown.close()
    assert capsys.readouterr().out.splitlines() == [
        "Reading: 480 of 2,000 clips, 95 s left",
        "Reading: 960 of 2,000 clips, 65 s left",
        "Reading: 1,440 of 2,000 clips, 35 s left",
        "Reading: 1,920 of 2,000 clips, 5 s left",
        "Reading: 2,000 of 2,000 clips",
    ]


@pytest.mark.parametrize("done, lines", [(0, []), (1, ["1 video"]), (5, ["5 videos"])])
def test_lines_of_as_many_as_there_turn_out_to_be(done, lines, capsys, clock):
    shown = Progress(None, "video", lines=True)
    for number in range(1, done + 1):
        shown.update(number)
    shown.close()
    assert capsys.readouterr().out.splitlines() == lines
