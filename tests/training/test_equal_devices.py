"""One device and several give the same training: losses, weights, BatchNorm statistics, every video once."""

import csv

import keras
import numpy as np
import pytest

from keras_stm.data import arrow_of_time
from tests.training import setups
from tests.training.small_runs import NARROW

pytestmark = [pytest.mark.slow, pytest.mark.once]

# 3 batches and a part of one to validate on.
ARGUMENTS = [
    *("--num_frames=4", "--image_size=32", "--batch_size=10", "--epochs=2", "--workers=2", "--dropout=0"),
    *("--optimizer=sgd", "--learning_rate=0.05", "--flip=labels", "--random_erasing=0.5"),
    "--color_jitter=0.3",
    "--label_smoothing=0.1",
]
SEVERAL = ["mirrored", "jax", "data_parallel", "two_processes"]


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
    np.testing.assert_allclose(read_history(several), read_history(one), atol=1e-4)
    for ours, theirs in zip(read_weights(several), read_weights(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert "of 24 validation clips" in output


def test_training_moves_the_weights_far_more_than_they_may_differ(trained):
    folder, _ = trained("tensorflow")
    start = keras.saving.load_model(folder / "model.keras")
    end = start.get_weights()
    start.load_weights(folder.parent / "start.weights.h5")
    moved = [np.abs(ours - theirs).max() for ours, theirs in zip(start.get_weights(), end, strict=True)]
    assert np.median(moved) > 1e-2


@pytest.mark.parametrize("setup", ["mirrored", "data_parallel", "two_processes", "torch"])
def test_bfloat16_and_averaged_weights_go_with_any_devices(setup, trained):
    folder, _ = trained(setup, "--mixed_precision=bfloat16", "--ema_momentum=0.9", "--epochs=1")
    assert np.isfinite(read_history(folder)).all()
    assert all(np.isfinite(weight).all() for weight in read_weights(folder))


@pytest.mark.parametrize("setup", ["tensorflow", "mirrored", "jax", "data_parallel", "torch"])
def test_float16_scales_the_loss_and_trains(setup, trained):
    folder, _ = trained(setup, "--mixed_precision=float16", "--epochs=1")
    assert np.isfinite(read_history(folder)).all()


def test_gradients_are_accumulated_over_devices_of_jax(trained):
    parts, _ = trained("data_parallel", "--gradient_accumulation_steps=5", "--epochs=1")
    assert np.isfinite(read_history(parts)).all()
