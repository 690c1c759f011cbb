"""Runs that are killed as kill -9 does, at any moment, and end as if nothing had happened."""

import csv
import os
import random
import signal
import time

import keras
import numpy as np
import pytest

from tests.training import setups

pytestmark = pytest.mark.slow

# Dropout and augmentation are on: their random state must come back as well.
ARGUMENTS = [
    *("--num_frames=4", "--image_size=32", "--batch_size=8", "--epochs=4", "--workers=2", "--dropout=0.5"),
    *("--flip=labels", "--random_erasing=0.5", "--ema_momentum=0.9"),
]
# Mirrored devices trace longest; the state of AdamW and the averages come back as under one device.
MORE = {"mirrored": ["--optimizer=sgd", "--ema_momentum=0"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("jax")


@pytest.fixture(scope="module")
def whole(clips, cache, tmp_path_factory):
    """Function of a set-up: the folder of a run that was never killed, and the seconds that it took."""
    found = {}

    def train(setup):
        if setup not in found:
            folder = tmp_path_factory.mktemp("whole") / setup
            begin = time.monotonic()
            arguments = [f"--data_dir={clips}", *ARGUMENTS, *MORE.get(setup, ())]
            setups.run(setup, *arguments, f"--output={folder}", cache=cache)
            found[setup] = folder, time.monotonic() - begin
        return found[setup]

    return train


def read_history(folder):
    with open(folder / "history.csv") as file:
        return list(csv.DictReader(file))


def list_files(folder):
    """Of all that is there, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_same_run(folder, expected):
    assert read_history(folder) == read_history(expected)
    assert list_files(folder) == list_files(expected)
    ours, theirs = (
        keras.saving.load_model(path / "model.keras").get_weights() for path in (folder, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


# Several devices of one JAX process train as two processes do, which are killed in more ways.
@pytest.mark.parametrize("setup", [name for name in setups.SETUPS if name != "data_parallel"])
def test_a_run_that_was_killed_at_any_moment_ends_with_the_very_weights(setup, clips, whole, cache, tmp_path):
    expected, seconds = whole(setup)
    rng = random.Random(setup)
    last = setups.SETUPS[setup][2] - 1
    command = (setup, f"--data_dir={clips}", *ARGUMENTS, *MORE.get(setup, ()), f"--output={tmp_path / 'run'}")
    # In a step of the first or second epoch; then, in the second run, while the checkpoint of its second
    # epoch is written, which the first process does, whatever the backend; then at any time at all, which
    # under JAX and on several devices, whose runs take longest, would show nothing that others do not.
    kills = [(f"step:{rng.randint(2, 4)}", last)]
    if setup in ("tensorflow", "two_processes"):
        kills.append(("write:2", 0))
    if setup in ("tensorflow", "torch"):
        kills.append((None, last))
    for kill, killed in kills:
        processes = setups.start(*command, kill=kill, killed=killed, cache=cache)
        if kill is None:
            time.sleep(rng.uniform(0.2, 0.9) * seconds)
            processes[killed].kill()
        codes, outputs = setups.finish(processes)
        # At any time at all may be too late.
        assert codes[killed] == -signal.SIGKILL or (kill is None and codes[killed] == 0), outputs[killed]
        # The others end by themselves and do not wait for it for ever.
        assert kill is None or all(codes), "\n".join(outputs)
        if kill == "write:2":
            partial = [name for name in os.listdir(tmp_path / "run" / "checkpoints") if "partial" in name]
            assert len(partial) == 1
    setups.run(*command, cache=cache)
    assert_same_run(tmp_path / "run", expected)


@pytest.mark.parametrize(
    "setup, number",
    [
        ("tensorflow", signal.SIGINT),
        ("torch", signal.SIGTERM),
        # Which they tell each other by SIGTERM.
        ("two_processes", signal.SIGINT),
    ],
)
def test_a_signal_to_one_process_ends_all_after_a_step_and_they_go_on(
    setup, number, clips, whole, cache, tmp_path
):
    expected, _ = whole(setup)
    command = (setup, f"--data_dir={clips}", *ARGUMENTS, f"--output={tmp_path / 'run'}")
    last = setups.SETUPS[setup][2] - 1
    codes, outputs = setups.finish(
        setups.start(*command, kill="step:3", killed=last, number=number, cache=cache)
    )
    assert all(code == 1 for code in codes), "\n".join(outputs)
    for output in outputs:
        assert output.endswith("\nStopped. The same command goes on from the last whole epoch.\n"), output
        assert "Traceback" not in output
    assert 1 <= len(read_history(tmp_path / "run")) < 4
    setups.run(*command, cache=cache)
    assert_same_run(tmp_path / "run", expected)


def test_two_runs_in_one_folder_are_one_too_many(clips, tmp_path):
    command = ("tensorflow", f"--data_dir={clips}", *ARGUMENTS, f"--output={tmp_path / 'run'}")
    first = setups.start(*command)
    while not (tmp_path / "run" / "config.json").exists():
        assert first[0].poll() is None
        time.sleep(0.05)
    codes, outputs = setups.finish(setups.start(*command))
    assert codes == [1] and "Another process is writing into" in outputs[0]
    assert setups.finish(first)[0] == [0]
