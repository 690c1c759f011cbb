"""What reproduce.py trains, under every backend."""

import dataclasses
import os

import keras
import numpy as np
import pytest

import reproduce
import reproduce_data
import reproduce_runs
from reproduce_runs import Results, Run, Settings

TINY = dataclasses.replace(Settings(), **reproduce._TINY)


def test_all_networks_start_from_the_one_that_learned_stills_but_for_the_head_of_motion(tmp_path):
    os.makedirs(tmp_path / "results")
    results = Results(tmp_path / "results", "")
    source = reproduce_runs.build_model(TINY, "tsn")
    rng = np.random.default_rng(0)
    for weight in source.weights:
        weight.assign(rng.normal(size=weight.shape))
    results.write_weights(reproduce_runs.STILLS, source)
    arrays = {weight.path: keras.ops.convert_to_numpy(weight) for weight in source.weights}
    for variant in ("stm", "concat", "ordinary", "tsm", "tsn_difference"):
        model = reproduce_runs.build_model(TINY, variant)
        before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
        reproduce_runs.start_from_stills(model, TINY, results)
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


def test_a_run_keeps_the_epoch_that_was_best_in_validation_and_tests_it(tmp_path):
    os.makedirs(tmp_path / "results")
    results = Results(tmp_path / "results", "")
    settings = dataclasses.replace(TINY, epochs=3, depths=(1, 1, 1, 1), learning_rate=0.1, num_validation=24)
    results.write_weights(reproduce_runs.STILLS, reproduce_runs.build_model(settings, "tsn"))
    run = Run("stm", 0, 8, 32)
    record = reproduce_runs.train(run, settings, results)
    validation = record["history"]["val_motion_accuracy"]
    assert record["best_epoch"] == np.argmax(validation) + 1

    model = reproduce_runs.build_model(settings, "stm")
    model.load_weights(results.weights_file(run.name))
    scores = results.read_scores(run.name)
    for split, count, accuracy in (
        ("validation", settings.num_validation, max(validation)),
        ("test", settings.num_test, record["test"]["motion"]),
    ):
        batches = reproduce_data.EvaluationBatches(reproduce_data.make_clips(split, count, 32), 8, 32, 8)
        predicted = model.predict(batches, verbose=0)["motion"]
        assert np.mean(predicted.argmax(axis=1) == batches.labels["motion"]) == pytest.approx(accuracy)
    np.testing.assert_allclose(predicted, scores["motion"], atol=1e-5)
