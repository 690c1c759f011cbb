"""Several devices train like one: same losses, weights and BatchNorm statistics, every video used once."""

import csv
import functools
import json
import pathlib
import typing

import keras
import numpy as np
import pytest

from keras_stm.data import arrow_of_time
from keras_stm.keras_compat import flatten_layers
from tests.system import setups
from tests.train.small_runs import NARROW

pytestmark = pytest.mark.slow(minutes=2)

# An epoch trains on 3 batches. The last validation batch is not full.
ARGUMENTS = [
    *("--num_frames=4", "--image_size=32", "--batch_size=10", "--epochs=2", "--workers=2", "--dropout=0"),
    # --color_jitter is off: with it, rounding errors grew to 1e-2 within six steps although batches were
    # equal. They also did so between backends.
    *("--optimizer=sgd", "--learning_rate=0.05", "--flip=labels", "--random_erasing=0.5"),
    *("--label_smoothing=0.1", "--class_weights=balanced", "--sampling_weights=sqrt"),
]
# Set-up of several devices -> set-up of one device of the same backend. Backends round differently: after six
# steps, the statistics of TensorFlow and JAX differed by 1.5e-5 of their values.
SEVERAL = {"mirrored": "tensorflow", "data_parallel": "jax", "two_processes": "jax"}
EVALUATED = ["tensorflow", "mirrored", "data_parallel"]
# Options of a further run of one epoch, in the same process.
ALSO = {
    "mirrored": ["--mixed_precision=bfloat16", "--ema_momentum=0.9"],
    "data_parallel": ["--gradient_accumulation_steps=5"],
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "clips"
    arrow_of_time.make_dataset(root, num_train=32, num_validation=24, num_test=8, progress=False)
    # One class has 2 clips, the others have 4: class weights matter.
    for clip in sorted((root / "train" / "recede").iterdir())[2:]:
        clip.unlink()
    return root


class Answers(typing.NamedTuple):
    """Results of one set-up.

    Attributes:
        run: folder of the training run, which starts from the weights `start.weights.h5` next to it.
        also: folder of the further run, which only the set-ups in `ALSO` have.
        evaluation: folder of evaluate.py's files about the run of one device.
        predictions: predict.py's file about the run of one device.
        output: output of the training and of all later commands.
    """

    run: pathlib.Path
    also: pathlib.Path
    evaluation: pathlib.Path
    predictions: pathlib.Path
    output: str


@pytest.fixture(scope="module")
def answers(clips, tmp_path_factory):
    """Function that returns the `Answers` of a set-up."""
    root = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(0)
    start = NARROW(classes=8, weights=None)
    start.save_weights(root / "start.weights.h5")

    @functools.cache
    def answer(setup):
        paths = [root / f"{setup}{end}" for end in ("", "-also", "-evaluation", "-predictions.json")]
        run, also, evaluation, predictions = paths
        fit = ["fit.py", f"--data_dir={clips}", f"--weights={root / 'start.weights.h5'}", *ARGUMENTS]
        commands = [[*fit, f"--output={run}"]]
        if setup in EVALUATED:
            # 24 is not a multiple of 7, and 7 is not a multiple of the number of devices.
            one = [f"--model={root / 'tensorflow'}", "--batch_size=7"]
            commands += [
                ["evaluate.py", *one, f"--data_dir={clips}", f"--output={evaluation}"],
                ["predict.py", f"{clips}/val", *one, "--top_k=1", f"--json={predictions}"],
            ]
        if setup in ALSO:
            commands.append([*fit, f"--output={also}", *ALSO[setup], "--epochs=1"])
        return Answers(*paths, setups.run(setup, *commands))

    # The other set-ups evaluate the run of this one.
    answer("tensorflow")
    return answer


def read_history(folder):
    with open(folder / "history.csv") as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


def read_weights(folder):
    return keras.saving.load_model(folder / "model.keras").get_weights()


@pytest.mark.parametrize("setup", SEVERAL)
def test_losses_weights_and_statistics_are_those_of_one_device(setup, answers):
    one, several = answers(SEVERAL[setup]).run, answers(setup).run
    np.testing.assert_allclose(read_history(several), read_history(one), atol=1e-5)
    for ours, theirs in zip(read_weights(several), read_weights(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert "of 24 validation clips" in answers(setup).output
    # Other backends could not load a synchronized layer.
    layers = flatten_layers(keras.saving.load_model(several / "model.keras"))
    assert not any(getattr(layer, "synchronized", False) for layer in layers)


def test_training_moves_the_weights_far_more_than_they_may_differ(answers):
    folder = answers("tensorflow").run
    start = NARROW(classes=8, weights=None)
    start.load_weights(folder.with_name("start.weights.h5"))
    weights = zip(start.get_weights(), read_weights(folder), strict=True)
    moved = [np.abs(ours - theirs).max() for ours, theirs in weights]
    assert np.median(moved) > 3e-4


def read_scores(answers):
    """Returns the videos and their rows of scores from evaluate.py's file."""
    with open(answers.evaluation / "scores.csv") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([row[3:] for row in rows], float)


def read_predictions(answers):
    """Returns each file and its best prediction from predict.py's file."""
    videos = json.loads(answers.predictions.read_text())["videos"]
    return [(video["file"], video["predictions"][0]) for video in videos]


@pytest.mark.parametrize("setup", EVALUATED[1:])
def test_evaluation_and_prediction_answer_for_every_video_once(setup, answers):
    one, several = answers("tensorflow"), answers(setup)
    (names, scores), (other_names, other_scores) = read_scores(one), read_scores(several)
    assert len(set(names)) == 24 and other_names == names
    np.testing.assert_allclose(other_scores, scores, atol=1e-4)
    videos, other_videos = read_predictions(one), read_predictions(several)
    assert len(videos) == 24 and [file for file, _ in other_videos] == [file for file, _ in videos]
    for (_, ours), (_, theirs) in zip(videos, other_videos, strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)


@pytest.mark.parametrize("setup", ALSO)
def test_bfloat16_averaged_weights_and_accumulated_gradients_go_with_several_devices(setup, answers):
    folder = answers(setup).also
    assert np.isfinite(read_history(folder)).all()
    assert all(np.isfinite(weight).all() for weight in read_weights(folder))
