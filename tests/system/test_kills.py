"""Runs that SIGKILL ends at any moment, and that then resume: the result must not change."""

import csv
import os
import random
import signal

import keras
import numpy as np
import pytest

from keras_stm.commands import fit
from tests.system import setups

pytestmark = pytest.mark.slow(minutes=4)

# Dropout and augmentation are on: their random state must be restored too. An epoch has two steps.
ARGUMENTS = [
    *("--num_frames=4", "--image_size=32", "--batch_size=8", "--workers=2", "--dropout=0.5"),
    *("--flip=labels", "--random_erasing=0.5"),
]
# Mirrored devices trace slowest, so they use SGD. Runs on one device test AdamW and averaged weights.
MORE = {"mirrored": ["--optimizer=sgd"]}


@pytest.fixture
def command(clips, tmp_path):
    """Function that returns a run's command, from a set-up, a folder's name and the number of epochs."""

    def make(setup, output, epochs):
        more = MORE.get(setup, ["--ema_momentum=0.9"])
        folder = f"--output={tmp_path / output}"
        return ["fit.py", f"--data_dir={clips}", folder, f"--epochs={epochs}", *ARGUMENTS, *more]

    return make


def read_history(folder):
    with open(folder / "history.csv") as file:
        return list(csv.DictReader(file))


def list_files(folder):
    """Returns all paths in a folder, including hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_same_run(folder, expected):
    assert read_history(folder) == read_history(expected)
    assert list_files(folder) == list_files(expected)
    ours, theirs = (
        keras.saving.load_model(path / "model.keras").get_weights() for path in (folder, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("setup", [name for name, (_, _, count) in setups.SETUPS.items() if count == 1])
def test_a_run_that_was_killed_at_any_moment_ends_with_the_very_weights(setup, command, tmp_path):
    killed, whole = (command(setup, name, epochs=2) for name in ("killed", "whole"))
    # The first kill comes in a random step after the first checkpoint. The second comes while the second run
    # writes its first checkpoint; one set-up tests this, because all of them write it in the same way.
    kills = [f"step:{random.Random(setup).randint(3, 4)}"]
    if setup == "tensorflow":
        kills.append("write:1")
    checkpoints = tmp_path / "killed" / "checkpoints"
    for kill in kills:
        (code,), (output,) = setups.finish(setups.start(setup, killed, kill=kill))
        assert code == -signal.SIGKILL, output
        partial = [name for name in os.listdir(checkpoints) if "partial" in name]
        assert len(partial) == (kill == "write:1")
        assert sorted(set(os.listdir(checkpoints)) - set(partial)) == ["00001.npz"]
    setups.run(setup, whole, killed)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_one_of_two_processes_is_killed_then_gets_a_signal_and_both_end_and_go_on(command, tmp_path):
    setup, last = "two_processes", 1
    killed, whole = (command(setup, name, epochs=4) for name in ("killed", "whole"))
    step = random.Random(setup).randint(3, 4)
    codes, outputs = setups.finish(setups.start(setup, killed, kill=f"step:{step}", killed=last))
    # The other process ends automatically and does not wait forever.
    assert codes[last] == -signal.SIGKILL and all(codes), "\n".join(outputs)
    assert len(read_history(tmp_path / "killed")) == 1
    # A process that receives SIGINT sends itself SIGTERM, which JAX tells all processes.
    codes, outputs = setups.finish(
        setups.start(setup, killed, kill="step:1", killed=last, number=signal.SIGINT)
    )
    assert codes == [1, 1], "\n".join(outputs)
    for output in outputs:
        assert output.endswith(f"\nfit.py: {fit.STOPPED}\n"), output
        assert "Traceback" not in output
    assert len(read_history(tmp_path / "killed")) < 4
    setups.run(setup, whole, killed)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
