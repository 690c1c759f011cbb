"""Which devices a run uses, and which settings are rejected."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_stm import inference
from keras_stm.arguments import ArgumentError
from keras_stm.train import devices
from keras_stm.train.data import RunData
from tests.train.small_runs import NARROW, SMALL

BACKEND = keras.backend.backend()


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["auto", "none"])
def test_a_machine_with_one_device_trains_on_it(name):
    found = devices.start(name)
    assert (found.count, found.shard, found.is_first) == (1, (0, 1), True)
    with found.scope():
        assert found.gather("value") == ["value"]
        assert found.from_first(lambda: 3) == 3


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "name, alternatives",
    {
        "tensorflow": [("data_parallel", ["KERAS_BACKEND=jax", "'mirrored'"])],
        "jax": [("mirrored", ["KERAS_BACKEND=tensorflow", "'data_parallel'"])],
        "torch": [
            (name, ["KERAS_BACKEND=tensorflow", "KERAS_BACKEND=jax"])
            for name in ("mirrored", "data_parallel")
        ],
    }[BACKEND],
)
def test_what_the_backend_cannot_do_is_refused_with_what_can(name, alternatives):
    with pytest.raises(ArgumentError) as error:
        devices.start(name)
    assert (error.value.name, error.value.value) == ("distribution", name)
    assert all(alternative in str(error.value) for alternative in alternatives)


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "KERAS_DISTRIBUTION_NUM_PROCESSES"])
def test_the_environment_tells_of_other_processes(variable, monkeypatch):
    monkeypatch.setenv(variable, "2")
    assert devices.find_processes() == (None, None, None, f"{variable}=2")
    monkeypatch.setenv(variable, "1")
    assert devices.find_processes() is None


@pytest.mark.every_backend
def test_several_processes_are_refused_where_keras_cannot_train_in_them():
    name = "mirrored" if BACKEND == "jax" else "auto"
    with pytest.raises(ArgumentError, match="KERAS_BACKEND=jax.*num_processes=2") as error:
        devices.start(name, devices.find_processes("localhost:1", 2, 0))
    assert (error.value.name, error.value.value) == ("distribution", name)


def test_one_process_is_not_several():
    assert devices.find_processes("localhost:1", 1, 0) is None


@pytest.mark.parametrize(
    "given, name, value",
    [
        ((None, 2, 0), "coordinator", None),
        (("localhost:1", None, None), "coordinator", "localhost:1"),
        (("localhost:1", 2, 2), "process_id", 2),
    ],
)
def test_flags_of_processes_that_do_not_go_together_are_refused(given, name, value):
    with pytest.raises(ArgumentError) as error:
        devices.find_processes(*given)
    assert (error.value.name, error.value.value) == (name, value)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 9}, "multiple of 2.* Received: batch_size=9"),
        ({"batch_size": 10, "gradient_accumulation_steps": 2}, "multiple of 4.* Received: batch_size=10"),
        ({"batch_size": 64, "gradient_accumulation_steps": 32}, "16 clips .* 2 devices"),
    ],
)
def test_batches_that_devices_cannot_share_are_refused(settings, message, clips):
    settings = dataclasses.replace(SMALL, data_dir=str(clips), **settings)
    with pytest.raises(ValueError, match=message):
        RunData(settings, 0.5, 2, devices.Devices(2))


def test_a_batch_that_is_larger_than_the_data_shrinks_to_what_devices_can_share(clips):
    settings = dataclasses.replace(SMALL, data_dir=str(clips), batch_size=60)
    data = RunData(settings, 0.5, 2, devices.Devices(3))
    assert data.batch_size == 15


@pytest.mark.parametrize(
    "setting", [{"gradient_accumulation_steps": 2}, {"clip_norm": 20.0}, {"mixed_precision": "float16"}]
)
def test_what_mirrored_devices_cannot_do_exactly_is_refused(setting):
    ((name, value),) = setting.items()
    mirrored = devices.start("mirrored")
    mirrored.check(SMALL)
    with pytest.raises(ArgumentError) as error:
        mirrored.check(dataclasses.replace(SMALL, **setting))
    assert (error.value.name, error.value.value) == (name, value)


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "torch", reason="Keras trains on one device under PyTorch")
def test_scores_of_a_model_in_a_scope_are_those_without(clips):
    model = NARROW(classes=8, weights=None)
    batch = np.random.default_rng(0).normal(size=(3, 4, 32, 32, 3)).astype("float32")
    expected = inference.predict_fn(model)(batch)
    with devices.start({"tensorflow": "mirrored", "jax": "data_parallel"}[BACKEND]).scope():
        copy = NARROW(classes=8, weights=None)
        copy.set_weights(model.get_weights())
        scores = inference.predict_fn(copy)(batch)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
