"""One device and several give the same training: losses, weights, BatchNorm statistics, every video once."""

import csv
import functools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_stm.data import arrow_of_time
from tests.training import setups
from tests.training.small_runs import NARROW

pytestmark = pytest.mark.slow

# 3 batches and a part of one to validate on.
ARGUMENTS = [
    *("--num_frames=4", "--image_size=32", "--batch_size=10", "--epochs=2", "--workers=2", "--dropout=0"),
    # Not --color_jitter: from equal batches, rounding grew to 1e-2 within six steps, between backends too.
    *("--optimizer=sgd", "--learning_rate=0.05", "--flip=labels", "--random_erasing=0.5"),
    "--label_smoothing=0.1",
]
SEVERAL = ["mirrored", "data_parallel", "two_processes"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "clips"
    return arrow_of_time.make_dataset(root, num_train=32, num_validation=24, num_test=8, progress=False)


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    """Function of a set-up and more arguments that trains from the same weights: folder and output."""
    root = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(0)
    start = NARROW(classes=8, weights=None)
    start.save_weights(root / "start.weights.h5")
    found = {}

    def train(setup, *more):
        if (setup, more) not in found:
            folder = root / str(len(found))
            arguments = [f"--data_dir={clips}", f"--weights={root / 'start.weights.h5'}", *ARGUMENTS, *more]
            output = setups.run(setup, *arguments, f"--output={folder}", cache=root / "jax")
            found[setup, more] = folder, output
        return found[setup, more]

    return train


def read_history(folder):
    with open(folder / "history.csv") as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


def read_weights(folder):
    return keras.saving.load_model(folder / "model.keras").get_weights()


@pytest.mark.parametrize("setup", SEVERAL)
def test_losses_weights_and_statistics_are_those_of_one_device(setup, trained):
    one, _ = trained("tensorflow")
    several, output = trained(setup)
    np.testing.assert_allclose(read_history(several), read_history(one), atol=1e-5)
    for ours, theirs in zip(read_weights(several), read_weights(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert "of 24 validation clips" in output
    # Or other backends could not load it.
    layers = keras.saving.load_model(several / "model.keras")._flatten_layers()
    assert not any(getattr(layer, "synchronized", False) for layer in layers)


# As the commands themselves, but with as many logical devices as the set-up has.
COMMAND = """
import os, runpy, sys
import tensorflow as tf
logical = [tf.config.LogicalDeviceConfiguration()] * int(os.environ.get("LOGICAL_CPUS", 1))
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_command(name, setup, *arguments):
    environment, more, _ = setups.SETUPS[setup]
    command = [sys.executable, "-c", COMMAND, os.path.join(setups.ROOT, "training", name), *arguments, *more]
    path = os.pathsep.join([setups.ROOT, os.path.join(setups.ROOT, "training")])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path, **environment})


@pytest.fixture(scope="module")
def answers(trained, clips, tmp_path_factory):
    """Function of a set-up: the rows of evaluate.py's scores, and the best prediction for each file."""
    folder, _ = trained("tensorflow")

    @functools.cache
    def answer(setup):
        output = tmp_path_factory.mktemp(setup)
        # Neither is a multiple of the devices, and the last batch is smaller.
        run_command(
            *("evaluate.py", setup, f"--model={folder}", f"--data_dir={clips}", "--batch_size=7"),
            f"--output={output}",
        )
        run_command(
            *("predict.py", setup, f"{clips}/val", f"--model={folder}", "--batch_size=7", "--top_k=1"),
            f"--json={output / 'predictions.json'}",
        )
        with open(output / "scores.csv") as file:
            rows = list(csv.reader(file))[1:]
        videos = json.loads((output / "predictions.json").read_text())["videos"]
        return rows, [(video["file"], video["predictions"][0]) for video in videos]

    return answer


@pytest.mark.parametrize("setup", ["mirrored", "data_parallel"])
def test_evaluation_and_prediction_answer_for_every_video_once(setup, answers):
    rows, videos = answers("tensorflow")
    other_rows, other_videos = answers(setup)
    assert len(rows) == len(videos) == 24
    assert [row[0] for row in rows] == [row[0] for row in other_rows]
    scores, other_scores = (np.array([row[3:] for row in table], float) for table in (rows, other_rows))
    np.testing.assert_allclose(other_scores, scores, atol=1e-4)
    assert [file for file, _ in videos] == [file for file, _ in other_videos]
    for (_, ours), (_, theirs) in zip(videos, other_videos, strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)


def test_training_moves_the_weights_far_more_than_they_may_differ(trained):
    folder, _ = trained("tensorflow")
    start = keras.saving.load_model(folder / "model.keras")
    end = start.get_weights()
    start.load_weights(folder.parent / "start.weights.h5")
    moved = [np.abs(ours - theirs).max() for ours, theirs in zip(start.get_weights(), end, strict=True)]
    assert np.median(moved) > 5e-4


@pytest.mark.parametrize("setup", ["mirrored", "two_processes", "torch"])
def test_bfloat16_and_averaged_weights_go_with_any_devices(setup, trained):
    folder, _ = trained(setup, "--mixed_precision=bfloat16", "--ema_momentum=0.9", "--epochs=1")
    assert np.isfinite(read_history(folder)).all()
    assert all(np.isfinite(weight).all() for weight in read_weights(folder))


@pytest.mark.parametrize("setup", ["tensorflow", "jax", "torch"])
def test_float16_scales_the_loss_and_trains(setup, trained):
    folder, _ = trained(setup, "--mixed_precision=float16", "--epochs=1")
    assert np.isfinite(read_history(folder)).all()


def test_gradients_are_accumulated_over_devices_of_jax(trained):
    parts, _ = trained("data_parallel", "--gradient_accumulation_steps=5", "--epochs=1")
    assert np.isfinite(read_history(parts)).all()
