"""The README's first command as it stands, on the whole embedded data set: minutes, not seconds."""

import os
import re
import subprocess
import sys

import pytest

import fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where both runs find the embedded data, made by the first."""
    return tmp_path_factory.mktemp("home")


def run(home, *arguments):
    """Runs the command; returns top-1 and within-pair accuracy as it prints them."""
    result = subprocess.run(
        [sys.executable, fit.__file__, *arguments],
        cwd=home,
        env={**os.environ, "KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    print(result.stdout)
    assert result.returncode == 0, result.stderr
    top1, clips = re.search(r"top-1 ([\d.]+)% of (\d+) validation clips", result.stdout).groups()
    within = re.search(r"within-pair accuracy ([\d.]+)%", result.stdout)[1]
    assert int(clips) >= 400
    return float(top1) / 100, float(within) / 100, int(clips)


def test_stm_learns_the_embedded_data_set_to_95_percent(home):
    top1, within, _ = run(home)
    assert top1 >= 0.95
    assert within >= top1


def test_tsn_cannot_tell_a_clip_from_its_reversal_in_the_epochs_in_which_stm_learns_to(home):
    # After the second of six STM is at 80%; TSN, whose scores do not depend on the order, never can.
    top1, within, clips = run(home, "--model=tsn_small", "--epochs=2")
    two_standard_errors = 2 * (0.25 / clips) ** 0.5
    assert abs(within - 0.5) <= two_standard_errors
    assert top1 <= 0.5 + two_standard_errors
