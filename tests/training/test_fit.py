"""The main command: what it leaves behind, how it resumes, and what it refuses."""

import csv
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import config
import keras_stm
import run_folder
import train
from keras_stm import inference
from keras_stm.data import arrow_of_time, load_clip, open_dataset
from run_data import RunData
from tests.training.small_runs import SMALL, command, run


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    """The folder of a finished run, of two epochs with dropout."""
    output = tmp_path_factory.mktemp("run") / "finished"
    run(output, clips, exports=True)
    return output


def read_history(folder):
    with open(os.path.join(folder, "history.csv")) as file:
        return list(csv.DictReader(file))


def test_a_finished_run_holds_all_that_is_promised_and_nothing_else(finished):
    visible = sorted(name for name in os.listdir(finished) if not name.startswith("."))
    accuracies = [float(row["val_accuracy"]) for row in read_history(finished)]
    best = ["best.keras"] if max(accuracies) > accuracies[-1] else []
    assert visible == sorted(
        [*best, "class_names.txt", "config.json", "curves.png", "history.csv", "model.keras", "serving"]
    )
    assert os.listdir(finished / "serving") == ["1"]
    names = finished / "class_names.txt"
    assert names.read_text().split() == list(arrow_of_time.CLASS_NAMES)
    exported = finished / "serving" / "1" / "assets.extra" / "class_names.txt"
    assert exported.read_bytes() == names.read_bytes()
    settings = json.loads((finished / "config.json").read_text())["settings"]
    assert settings["classes"] == hashlib.sha256(names.read_bytes()).hexdigest()[:16]


def test_the_history_has_a_row_an_epoch_and_the_designs_columns(finished):
    rows = read_history(finished)
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


def test_the_configuration_tells_settings_versions_commit_and_hardware(finished):
    with open(finished / "config.json") as file:
        record = json.load(file)
    assert record["settings"]["model"] == "stm_small"
    assert record["settings"]["backend"] == keras.backend.backend()
    assert record["versions"]["keras"] == keras.__version__
    assert record["hardware"]["cores"] == os.cpu_count()
    assert "commit" in record


def test_the_curves_are_a_picture(finished):
    content = (finished / "curves.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 10_000


def test_the_saved_model_gives_the_models_scores_to_a_process_with_tensorflow_alone(
    finished, clips, tmp_path
):
    path, _ = open_dataset("folder", clips, split="test").records[0]
    clip = load_clip(path, num_frames=4, image_size=32)
    np.save(tmp_path / "clip.npy", clip)
    code = f"""
import sys
sys.modules["keras"] = sys.modules["keras_stm"] = None  # makes their import fail
import numpy as np, tensorflow as tf
serve = tf.saved_model.load({str(finished / "serving" / "1")!r}).signatures["float"]
scores = serve(clip=tf.constant(np.load({str(tmp_path / "clip.npy")!r})))["scores"]
np.save({str(tmp_path / "scores.npy")!r}, scores)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    model = keras.saving.load_model(finished / "model.keras")
    expected = model.predict(clip, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, atol=1e-5)


def test_the_same_command_again_says_finished_and_touches_nothing(finished, clips, capsys):
    before = {name: os.stat(finished / name).st_mtime_ns for name in os.listdir(finished)}
    run(finished, clips)
    assert "finished" in capsys.readouterr().out
    assert before == {name: os.stat(finished / name).st_mtime_ns for name in os.listdir(finished)}


def test_other_settings_in_the_same_folder_are_refused(finished, clips):
    with pytest.raises(ValueError, match="other settings \\(seed 0 there, 1 here\\)"):
        run(finished, clips, seed=1)


def test_clips_may_move_but_not_change_between_two_runs(finished, clips, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(clips, tmp_path / "clips")
    config_file = tmp_path / "run" / "config.json"
    config_file.write_text(config_file.read_text().replace(clips, str(tmp_path / "clips")))
    run(tmp_path / "run", tmp_path / "clips")
    assert "finished" in capsys.readouterr().out
    next((tmp_path / "clips" / "train" / "recede").iterdir()).unlink()
    with pytest.raises(ValueError, match="holds a run on other clips: .*\\(clips "):
        run(tmp_path / "run", tmp_path / "clips")


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    finished, clips, tmp_path, monkeypatch
):
    """Dropout is on, so that its random state must have been kept as well."""
    save = run_folder.RunFolder.save_checkpoint

    def die_after_first_epoch(*args):
        save(*args)
        raise KeyboardInterrupt

    output = str(tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_folder.RunFolder, "save_checkpoint", die_after_first_epoch)
        run(output, clips)
    assert not os.path.exists(os.path.join(output, "model.keras"))
    run(output, clips)
    assert read_history(output) == read_history(finished)
    weights, expected = (
        keras.saving.load_model(os.path.join(folder, "model.keras")).get_weights()
        for folder in (output, finished)
    )
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_freezing_trains_the_head_alone_and_early_stopping_returns_to_the_best_epoch(
    finished, clips, tmp_path, monkeypatch
):
    """One run for both, from the weights of another: training is what takes the time here."""
    accuracies = iter([0.5, 0.75, 0.5, 0.25, 1.0])
    best = {}

    def rigged(self):
        if len(self.history) == 1:
            best["weights"] = self.model.get_weights()
        return types.SimpleNamespace(top1=next(accuracies)), 1.0

    monkeypatch.setattr(train.Training, "validate_average", rigged)
    run(
        tmp_path / "run",
        clips,
        weights=str(finished / "model.keras"),
        freeze_backbone=True,
        early_stopping=2,
        epochs=5,
        learning_rate=0.8,
    )
    assert len(read_history(tmp_path / "run")) == 4
    start = keras.saving.load_model(finished / "model.keras").get_weights()
    end = keras.saving.load_model(tmp_path / "run" / "model.keras").get_weights()
    for before, after in zip(start[:-2], end[:-2], strict=True):
        np.testing.assert_array_equal(before, after)
    assert np.abs(start[-1] - end[-1]).max() > 0
    for kept, after in zip(best["weights"], end, strict=True):
        np.testing.assert_array_equal(kept, after)


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_rate_and_clips(clips, tmp_path, monkeypatch):
    """The second epoch's second step is made to fail."""
    on_train_batch_end = train._FiniteLoss.on_train_batch_end

    def spoil(self, batch, logs=None):
        logs = {"loss": float("nan")} if (self._epoch, batch) == (1, 1) else logs
        on_train_batch_end(self, batch, logs)

    monkeypatch.setattr(train._FiniteLoss, "on_train_batch_end", spoil)
    with pytest.raises(RuntimeError) as error:
        run(tmp_path / "run", clips, schedule="steps", decay_epochs=(1,))
    message = str(error.value)
    rate = SMALL.learning_rate / 8 / 10
    assert message.startswith(
        f"The loss became nan at step 2 of epoch 2, at a learning rate of {rate:.3g}. Clips of that step:"
    )
    assert "The checkpoint after epoch 1 is kept." in message
    listed = re.findall(r"^  (.+)$", message, re.MULTILINE)
    settings = dataclasses.replace(SMALL, data_dir=clips)
    assert listed == RunData(settings, 0.5, 2).batch_paths(1, 1) and len(listed) == 8
    assert all(os.path.isfile(path) for path in listed)
    assert os.listdir(tmp_path / "run" / "checkpoints").count("00001.npz") == 1
    assert not os.path.exists(tmp_path / "run" / "model.keras")


def test_weights_that_diverge_in_the_last_step_are_found_before_they_are_kept(clips, tmp_path):
    with pytest.raises(RuntimeError, match="no longer numbers|became (nan|inf)"):
        run(tmp_path / "run", clips, optimizer="sgd", learning_rate=1e30)
    assert not os.path.exists(tmp_path / "run" / "checkpoints")


@pytest.mark.slow
def test_averaged_weights_are_what_is_validated_and_saved(clips, tmp_path, monkeypatch):
    of_last_step = []
    validate_average = train.Training.validate_average

    def record(self):
        of_last_step.extend(self.model.get_weights())
        result = validate_average(self)
        for ours, theirs in zip(self.model.get_weights(), of_last_step, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        return result

    monkeypatch.setattr(train.Training, "validate_average", record)
    run(tmp_path / "run", clips, ema_momentum=0.5, optimizer="sgd", learning_rate=1.0, epochs=1)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    weights = zip(model.get_weights(), of_last_step, strict=True)
    assert max(np.abs(ours - theirs).max() for ours, theirs in weights) > 1e-4
    data = RunData(dataclasses.replace(SMALL, data_dir=clips), 0.5, 2)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    found = model.evaluate(data.validation_batches(), return_dict=True, verbose=0)
    (row,) = read_history(tmp_path / "run")
    assert float(row["val_loss"]) == pytest.approx(found["loss"], abs=1e-5)
    assert float(row["val_accuracy"]) == pytest.approx(found["accuracy"])


@pytest.mark.slow
def test_accumulated_gradients_train_as_the_whole_batch_does(clips, tmp_path):
    """With the backbone frozen, as batch normalisation is then the same for all parts."""
    start = tmp_path / "start.weights.h5"
    config.MODELS["stm_small"](classes=8, weights=None).save_weights(start)
    settings = {"weights": str(start), "freeze_backbone": True, "dropout": 0.0, "epochs": 1}
    for steps in (1, 4):
        run(tmp_path / str(steps), clips, gradient_accumulation_steps=steps, **settings)
    rows = [[float(value) for value in row.values()] for row in read_history(tmp_path / "1")]
    parts = [[float(value) for value in row.values()] for row in read_history(tmp_path / "4")]
    np.testing.assert_allclose(parts, rows, atol=1e-5)
    whole, accumulated = (
        keras.saving.load_model(tmp_path / steps / "model.keras").get_weights() for steps in ("1", "4")
    )
    for ours, theirs in zip(accumulated, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_the_best_epochs_model_is_there_where_the_last_is_worse(clips, tmp_path, monkeypatch):
    accuracies = iter([0.75, 0.5])
    weights = []

    def rigged(self):
        weights.append(self.model.get_weights())
        return types.SimpleNamespace(top1=next(accuracies)), 1.0

    monkeypatch.setattr(train.Training, "validate_average", rigged)
    run(tmp_path / "run", clips)
    for name, expected in zip(("best.keras", "model.keras"), weights, strict=True):
        for ours, theirs in zip(
            inference.load(tmp_path / "run" / name).model.get_weights(), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def own_folder(clips, tmp_path):
    """Two class folders, without train and val."""
    for name in ("approach", "recede"):
        shutil.copytree(os.path.join(clips, "train", name), tmp_path / "own" / name)
    return tmp_path / "own"


def _empty(folder):
    shutil.rmtree(folder)
    os.makedirs(folder)


def _one_class(folder):
    shutil.rmtree(folder / "recede")


def _no_videos(folder):
    for path in folder.glob("*/*"):
        path.rename(path.with_suffix(".txt"))


def _not_really_videos(folder):
    for path in folder.glob("*/*"):
        path.write_bytes(b"no video at all" * 100)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (shutil.rmtree, "own"),
        (_empty, "own"),
        (_one_class, "two"),
        (_no_videos, ".mp4"),
        (_not_really_videos, ".mp4"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_before_anything_is_written(
    spoil, message, own_folder, tmp_path
):
    spoil(own_folder)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", own_folder, batch_size=2)
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(clips, tmp_path):
    keras_stm.STMResNet((2, 1, 1, 1), 32).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="other.weights.h5 does not fit this model"):
        run(tmp_path / "run", clips, weights=str(tmp_path / "other.weights.h5"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model=resnet"], "--model=resnet: value should be one of <stm_small|"),
        (["clips"], "unknown argument 'clips'"),
        (["--data_dir=nowhere"], "nowhere"),
    ],
)
def test_the_command_says_what_is_wrong_without_a_traceback_and_fails(arguments, message, tmp_path):
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode != 0
    ours = [
        line for line in result.stderr.splitlines() if not re.match(r"WARNING: All log|[IWE]\d{4} ", line)
    ]
    assert message in ours[0]
    # absl's own parser adds where to find the flags.
    assert len(ours) <= 3
    assert result.stdout == "" and os.listdir(tmp_path) == []


def test_all_augmentation_at_once_trains_and_the_bottleneck_is_named_once(clips, tmp_path, capsys):
    run(
        tmp_path / "run",
        clips,
        **{"flip": "labels", "color_jitter": 0.3, "random_erasing": 0.5, "mix_up": 0.2, "cut_mix": 1.0},
        **{"label_smoothing": 0.1, "optimizer": "sgd", "parameter_groups": "tsm", "clip_norm": 20.0},
        **{"schedule": "steps", "decay_epochs": (1,), "sampling": "dense"},
    )
    assert capsys.readouterr().out.count("of their time for clips: the ") == 1
    rows = read_history(tmp_path / "run")
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([SMALL.learning_rate / 8, SMALL.learning_rate / 80])


def test_help_shows_every_flag_with_its_default_source(tmp_path):
    result = command("--help", cwd=tmp_path)
    for field in dataclasses.fields(config.Config):
        assert f"{field.name}:" in result.stdout or f"{field.name}]" in result.stdout
    more = ("distribution", "coordinator", "num_processes", "process_id", "max_to_keep")
    for name in (
        "preset",
        "config",
        "output",
        "overwrite",
        "tensorboard",
        "workers",
        "max_unreadable",
        *more,
    ):
        assert name in result.stdout


# The two that are deeper take as long to build as all others.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("stm_resnet101", "stm_resnet152") else ())
        for name in config.MODELS
    ],
)
def test_every_model_name_builds_that_model(name):
    model = config.MODELS[name](classes=3, weights=None, dropout=0.1)
    assert model.name == name
    assert model.output_shape == (None, 3)
