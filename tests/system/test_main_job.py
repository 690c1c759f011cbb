"""The README's first command as it stands, on the whole embedded data set: minutes, not seconds."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

FIT = pathlib.Path(__file__).parents[2] / "training" / "fit.py"
pytestmark = pytest.mark.slow(minutes=4)


def test_stm_learns_the_embedded_data_set_to_95_percent(tmp_path):
    result = subprocess.run(
        [sys.executable, str(FIT)],
        cwd=tmp_path,
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    print(result.stdout)
    assert result.returncode == 0, result.stderr
    top1, count = re.search(r"top-1 ([\d.]+)% of (\d+) validation clips", result.stdout).groups()
    within = re.search(r"within-pair accuracy ([\d.]+)%", result.stdout)[1]
    assert int(count) >= 400
    assert float(top1) >= 95
    assert float(within) >= float(top1)
