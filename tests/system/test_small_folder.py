"""A small folder of one's own is learned by the default command. It takes minutes."""

import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.system import camera_motion

FIT = pathlib.Path(__file__).parents[2] / "training" / "fit.py"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not camera_motion.REAL_CLIPS.is_dir(), reason=f"needs the real videos of {camera_motion.REAL_CLIPS}"
    ),
]


def fit(folder, output, *arguments):
    """Runs the command; returns what it printed, and the rows of the history."""
    command = [sys.executable, str(FIT), f"--data_dir={folder}", f"--output={output}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(FIT.parents[1])}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    print(result.stdout)
    assert result.returncode == 0, result.stderr
    with open(output / "history.csv") as file:
        return result.stdout, list(csv.DictReader(file))


def test_600_clips_of_six_camera_motions_are_learned_to_80_percent(tmp_path):
    counts = dict.fromkeys(camera_motion.CLASSES, 80)
    camera_motion.make_folder(tmp_path / "clips", counts, num_validation=20)
    output, _ = fit(tmp_path / "clips", tmp_path / "run")
    assert "Training on 480 clips of 6 classes, validating on 120: 30 epochs, 450 updates" in output
    top1, count = re.search(r"top-1 ([\d.]+)% of (\d+) validation clips", output).groups()
    assert int(count) == 120 and float(top1) >= 80


@pytest.fixture(scope="module")
def mean_class_accuracy(tmp_path_factory):
    """Function that trains on 20 times as many clips of three classes as of the others with some flags.

    It returns the mean class accuracy of the last epochs, which varies less than that of one epoch.
    """
    root = tmp_path_factory.mktemp("imbalanced")
    frequent = ("pan_left", "tilt_up", "zoom_in")
    counts = {name: 160 if name in frequent else 8 for name in camera_motion.CLASSES}
    camera_motion.make_folder(root / "clips", counts, num_validation=20)

    def train(*flags):
        # Runs of the same length: early stopping would end them at different epochs.
        flags = [*flags, "--early_stopping=0", "--early_stopping_metric=mean_class_accuracy"]
        _, rows = fit(root / "clips", root / f"run{len(list(root.iterdir()))}", *flags)
        last = [float(row["val_mean_class_accuracy"]) for row in rows[-3:]]
        return sum(last) / len(last)

    return train


def test_balanced_sampling_and_weights_raise_the_mean_class_accuracy_of_a_20_to_1_folder(mean_class_accuracy):
    plain = mean_class_accuracy()
    sampled = mean_class_accuracy("--sampling_weights=balanced")
    weighted = mean_class_accuracy("--class_weights=balanced")
    print(f"mean class accuracy: {plain:.1%}, sampled {sampled:.1%}, weighted {weighted:.1%}")
    assert sampled >= plain + 0.05
    assert weighted >= plain + 0.05
