"""The clips, networks and weights of a run, and the epoch that it keeps."""

import dataclasses
import os

import keras
import numpy as np
import pytest

import reproduce
from reproduction import data, runs
from reproduction.runs import Results, Run, Settings
from tests.reference.backend import compute

TINY = dataclasses.replace(Settings(), **reproduce.TINY)


def test_the_first_epochs_see_plain_clips_but_not_those_of_fine_tuning():
    settings = dataclasses.replace(TINY, epochs=2, plain_epochs=1)
    plain, hard = (data.make_clips("train", 16, 32, hard) for hard in (False, True))
    assert not np.array_equal(plain.frames, hard.frames)
    first, second = runs.clips_of_epochs(Run("tsn", 0, 4, 32), settings)
    np.testing.assert_array_equal(first.frames, plain.frames)
    np.testing.assert_array_equal(second.frames, hard.frames)
    (tuned,) = runs.clips_of_epochs(Run("stm", 0, 4, 32, tuned=True), settings)
    np.testing.assert_array_equal(tuned.frames, hard.frames)


def test_a_model_has_scores_of_both_tasks_for_clips_of_any_length():
    model = runs.build_model(TINY, "tsn_difference")
    scores = compute(model, np.zeros((2, 3, 32, 32, 4), "float32"))
    assert {task: tuple(values.shape) for task, values in scores.items()} == {
        "motion": (2, 8),
        "appearance": (2, 7),
    }


@pytest.mark.slow
def test_each_network_has_scores_of_both_tasks():
    for variant in runs.VARIANTS:
        model = runs.build_model(TINY, variant)
        scores = compute(model, np.zeros((1, 8, 32, 32, model.input_shape[-1]), "float32"))
        assert scores["motion"].shape == (1, 8) and scores["appearance"].shape == (1, 7)


def test_all_networks_start_from_the_one_that_learned_stills_but_for_the_head_of_motion(tmp_path):
    os.makedirs(tmp_path / "results")
    results = Results(tmp_path / "results", "")
    source = runs.build_model(TINY, "tsn")
    rng = np.random.default_rng(0)
    for weight in source.weights:
        weight.assign(rng.normal(size=weight.shape))
    results.write_weights(runs.STILLS, source)
    arrays = {weight.path: keras.ops.convert_to_numpy(weight) for weight in source.weights}
    for variant in ("concat", "tsn_difference"):
        model = runs.build_model(TINY, variant)
        before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
        runs.start_from_stills(model, TINY, results)
        after = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
        assert set(arrays) <= set(after)
        for path, array in after.items():
            if path in arrays and not path.startswith("motion/"):
                known = array[:, :, : arrays[path].shape[2]] if array.ndim == 4 else array
                np.testing.assert_array_equal(known, arrays[path])
            else:
                np.testing.assert_array_equal(array, before[path])
        if variant == "tsn_difference":
            kernel = after["conv1_conv/conv/kernel"]
            np.testing.assert_allclose(kernel[:, :, 3], kernel[:, :, :3].mean(axis=2), atol=1e-7)


class OneGoodEpoch(keras.callbacks.Callback):
    """Makes the first epoch right about one of two clips and the second about none; records the weights."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_begin(self, epoch, logs=None):
        self.model.get_layer("motion").bias.assign(10 * np.eye(8)[(0, 1)[epoch]])

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def test_a_run_keeps_the_epoch_that_was_best_in_validation_and_tests_it(tmp_path):
    os.makedirs(tmp_path / "results")
    results = Results(tmp_path / "results", "")
    # A clip of class 0 and its reversal, of class 5.
    settings = dataclasses.replace(TINY, epochs=2, depths=(1, 1, 1, 1), num_validation=1)
    results.write_weights(runs.STILLS, runs.build_model(settings, "tsn"))
    run, epochs = Run("stm", 0, 8, 32), OneGoodEpoch()
    record = runs.train(run, settings, results, callbacks=[epochs])
    assert record["history"]["val_motion_accuracy"] == [0.5, 0.0] and record["best_epoch"] == 1

    model = runs.build_model(settings, "stm")
    model.load_weights(results.weights_file(run.name))
    best, last = epochs.weights
    for array, expected in zip(model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert any(not np.array_equal(*arrays) for arrays in zip(best[:-4], last[:-4], strict=True))
    scores = results.read_scores(run.name)
    ((batch, labels),) = data.EvaluationBatches(data.make_clips("test", 8, 32), 8, 32, 16)
    for task, predicted in compute(model, batch).items():
        np.testing.assert_allclose(predicted, scores[task], atol=1e-5)
        np.testing.assert_array_equal(scores[f"{task}_labels"], labels[task])
        assert record["test"][task] == np.mean(scores[task].argmax(axis=1) == labels[task])
