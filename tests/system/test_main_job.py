"""The first command of the README and the preset `live` on the whole embedded data set. It takes minutes."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

FIT = pathlib.Path(__file__).parents[2] / "training" / "fit.py"
EVALUATE = FIT.with_name("evaluate.py")


def run(home, *arguments):
    """Runs the command; returns top-1 and within-pair accuracy, in percent, and the number of clips."""
    result = subprocess.run(
        [sys.executable, str(FIT), *arguments],
        cwd=home,
        env={**os.environ, "KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    print(result.stdout)
    assert result.returncode == 0, result.stderr
    top1, count = re.search(r"top-1 ([\d.]+)% of (\d+) validation clips", result.stdout).groups()
    within = re.search(r"within-pair accuracy ([\d.]+)%", result.stdout)[1]
    assert int(count) >= 400
    return float(top1), float(within), int(count)


@pytest.mark.slow(minutes=4)
def test_stm_learns_the_embedded_data_set_to_95_percent(tmp_path):
    top1, within, _ = run(tmp_path)
    assert top1 >= 95
    assert within >= top1


@pytest.mark.acceptance
def test_tsn_cannot_tell_a_clip_from_its_reversal(tmp_path):
    top1, within, count = run(tmp_path, "--model=tsn_small")
    two_standard_errors = 100 * 2 * (0.25 / count) ** 0.5
    assert abs(within - 50) <= two_standard_errors
    assert top1 <= 50 + two_standard_errors


@pytest.mark.acceptance
def test_a_live_model_follows_a_stream_that_is_never_reset(tmp_path):
    run(tmp_path, "--preset=live")
    output = tmp_path / "stream"
    model = tmp_path / "saved_models" / "live-stm_small"
    done = subprocess.run(
        [sys.executable, str(EVALUATE), f"--model={model}", "--protocol=stream", f"--output={output}"],
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((output / "result.json").read_text())["results"]
    assert results["ordered"]["top1"] >= 0.95
    assert results["reset"]["top1"] >= 0.96
