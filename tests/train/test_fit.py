"""`keras-stm fit`: what it writes, how it resumes, and what it rejects."""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import types
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_stm
from keras_stm import inference
from keras_stm.arguments import ArgumentError
from keras_stm.commands import fit as command
from keras_stm.data import arrow_of_time
from keras_stm.train import Config, callbacks, fit, loop, presets, run_folder
from keras_stm.train.data import RunData
from keras_stm.train.run import ignore_history
from tests.commands.process import run_python
from tests.reference.backend import compute, numpy
from tests.train.small_runs import SMALL, run, untraced

FIT = pathlib.Path(__file__).parents[2] / "training" / "fit.py"
# All augmentation at once, weighted classes, averaged weights, and a learning rate that falls before epoch 2.
ALL = {
    **{"flip": "labels", "color_jitter": 0.3, "random_erasing": 0.5, "mix_up": 0.2, "cut_mix": 1.0},
    **{"label_smoothing": 0.1, "optimizer": "sgd", "parameter_groups": "tsm", "clip_norm": 20.0},
    **{"schedule": "steps", "decay_epochs": (1,), "sampling": "dense", "learning_rate": 0.8},
    **{"ema_momentum": 0.5, "sampling_weights": "sqrt", "class_weights": "balanced"},
}


def read_history(folder):
    with open(os.path.join(folder, "history.csv")) as file:
        return list(csv.DictReader(file))


def read_all(folder):
    """Returns path -> content for all files below a folder, including hidden ones."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_equal(weights, expected):
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def list_files(folder):
    return sorted(read_all(folder))


def load_weights(path):
    return inference.load(path).model.get_weights()


def let_the_first_epoch_win(patch):
    """Fakes the accuracies of two epochs; returns epoch -> the weights with which it is validated."""
    validate, validated = loop.Training.validate, {}

    def rigged(self):
        result, loss = validate(self)
        epoch = len(self.history)
        if epoch == 2:
            # The run is over.
            return result, loss
        validated[epoch] = self.model.get_weights()
        accuracy = (0.75, 0.5)[epoch]
        return types.SimpleNamespace(top1=accuracy, mean_class_accuracy=accuracy), loss

    patch.setattr(loop.Training, "validate", rigged)
    return validated


def make_training(data, history):
    """Returns a `loop.Training` of any model after some epochs."""
    model = keras.Sequential([keras.Input((1, 1, 1, 3)), keras.layers.Flatten()])
    training = loop.Training(model, None, data, None, None)
    training.history = history
    return training


class Recorder(keras.callbacks.Callback):
    """Keeps the weights before and after the first epoch's validation, and copies the folder then."""

    def __init__(self, folder, copy):
        super().__init__()
        self.folder = folder
        self.copy = copy
        self.before = self.after = None

    def on_train_batch_end(self, batch, logs=None):
        if self.after is None:
            self.before = self.model.get_weights()

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.after = self.model.get_weights()
            shutil.copytree(self.folder, self.copy)


class Whole(typing.NamedTuple):
    """A run of two epochs; the first one has the higher (faked) accuracy.

    Attributes:
        folder: folder of the run.
        stopped: copy of the folder after the first epoch, as a process leaves it that is killed then.
        validated: epoch, from 0, -> the weights with which it was validated.
        before, after: the weights before and after the validation of the first epoch.
        output: what was printed.
    """

    folder: pathlib.Path
    stopped: pathlib.Path
    validated: dict
    before: list
    after: list
    output: str


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    recorder, output = Recorder(root / "run", root / "stopped"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), untraced():
        validated = let_the_first_epoch_win(patch)
        run(root / "run", clips, callbacks=[recorder], **ALL)
    return Whole(
        *(root / "run", root / "stopped", validated), recorder.before, recorder.after, output.getvalue()
    )


@pytest.fixture
def stopped(whole, tmp_path):
    """The folder of a run that was stopped after the first of two epochs."""
    return shutil.copytree(whole.stopped, tmp_path / "stopped")


@pytest.mark.every_backend
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    whole, stopped, clips, monkeypatch, eagerly
):
    """Dropout, averages, momentum and all random numbers must continue from their saved state."""
    let_the_first_epoch_win(monkeypatch)
    run(stopped, clips, **ALL)
    assert read_history(stopped) == read_history(whole.folder)
    assert list_files(stopped) == list_files(whole.folder)
    for name in ("best.keras", "model.keras"):
        assert_equal(load_weights(stopped / name), load_weights(whole.folder / name))


@pytest.mark.every_backend
def test_averaged_weights_are_validated_and_saved_and_the_last_steps_are_trained_on(whole):
    assert_equal(load_weights(whole.folder / "best.keras"), whole.validated[0])
    assert_equal(load_weights(whole.folder / "model.keras"), whole.validated[1])
    assert_equal(whole.after, whole.before)
    weights = zip(whole.before, whole.validated[0], strict=True)
    assert max(np.abs(ours - theirs).max() for ours, theirs in weights) > 1e-4


@pytest.mark.every_backend
def test_the_history_has_a_row_an_epoch_and_the_designs_columns(whole, clips):
    rows = read_history(whole.folder)
    assert list(rows[0]) == [
        *("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_mean_class_accuracy"),
        "learning_rate",
    ]
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([ALL["learning_rate"] / 8, ALL["learning_rate"] / 80])
    data = RunData(dataclasses.replace(SMALL, data_dir=clips, **ALL), 0.5, 2)
    model = inference.load(whole.folder).model
    clips, labels = map(np.concatenate, zip(*data.validation_batches().as_numpy_iterator(), strict=True))
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(labels, numpy(compute(model, clips)))
    assert float(rows[-1]["val_loss"]) == pytest.approx(float(loss), abs=1e-5)


def test_the_plan_is_printed_before_the_run_starts(whole):
    lines = whole.output.splitlines()
    plan = "Training on 16 clips of 8 classes, validating on 8: 2 epochs, 4 updates of 8 clips."
    assert lines.index(plan) < lines.index("Epoch 1/2")


@pytest.mark.every_backend
def test_the_last_sixth_of_a_causal_run_has_history_and_resumes_exactly(
    clips, tmp_path, monkeypatch, eagerly
):
    let_the_first_epoch_win(monkeypatch)
    settings = {"causal": True, "history": 3}
    lengths, training_batches = [], RunData.training_batches

    def watched(self, initial_epoch):
        batches = training_batches(self, initial_epoch)
        lengths.append((initial_epoch, int(batches.cardinality()), batches.element_spec[0].shape[1]))
        return batches

    monkeypatch.setattr(RunData, "training_batches", watched)
    recorder = Recorder(tmp_path / "run", tmp_path / "stopped")
    run(tmp_path / "run", clips, callbacks=[recorder], **settings)
    assert lengths == [(0, 2, 4), (1, 2, 4 + 3)]
    run(tmp_path / "stopped", clips, **settings)
    assert lengths[2:] == [(1, 2, 4 + 3)]
    trained = inference.load(tmp_path / "run")
    assert_equal(load_weights(tmp_path / "stopped" / "model.keras"), trained.model.get_weights())
    keras_stm.stream_model(trained.model, 32, 4)
    # 24 frames of a clip last 2 seconds.
    assert trained.rate == pytest.approx(4 / 2)
    # The first epoch had the higher accuracy, but no history.
    assert not (tmp_path / "run" / "best.keras").exists()


@pytest.mark.every_backend
def test_the_loss_does_not_see_the_history():
    model = presets.MODELS["stm_small"](classes=3, weights=None, causal=True)
    without = ignore_history(model, 4)
    history, clip = np.random.default_rng(0).normal(size=(2, 2, 4, 32, 32, 3)).astype("float32")
    long = np.concatenate([history[:, 1:], clip], axis=1)
    logits = numpy(compute(keras.Model(model.input, model.get_layer("predictions").output), long))
    expected = numpy(keras.ops.softmax(logits[:, 3:].mean(axis=1)))
    np.testing.assert_allclose(numpy(compute(without, long)), expected, rtol=1e-5)
    np.testing.assert_allclose(numpy(compute(without, clip)), numpy(compute(model, clip)), rtol=1e-5)


def test_history_needs_another_clip_before_the_run_starts(clips, tmp_path):
    with pytest.raises(ArgumentError) as error:
        run(tmp_path / "run", clips, causal=True, history=3, gradient_accumulation_steps=8)
    assert error.value.name == "batch_size"
    assert not (tmp_path / "run").exists()


def test_the_time_is_estimated_once_from_the_steps_after_the_first(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    estimate = callbacks.TimeEstimate(steps=900)
    for epoch in range(5):
        clock[0] += 1000  # The validation of the epoch before.
        estimate.on_epoch_begin(epoch)
        for step in range(4):
            clock[0] += 60 if (epoch, step) == (0, 0) else 2
            estimate.on_train_batch_end(step, {"loss": np.float32(0)})
        assert ("Estimated" in capsys.readouterr().out) == (epoch == 2)
    assert callbacks.describe_seconds(900 * 2) == "30 minutes"


def test_the_estimate_counts_the_steps_of_training_and_validation(clips):
    data = RunData(dataclasses.replace(SMALL, data_dir=clips, batch_size=4, epochs=3), 0.5, 2)
    training = make_training(data, history=[{}])
    # 4 steps of training and 2 of validation in each of the 2 epochs that are left.
    assert training.steps_left() == 12
    # With history in the last epoch, its 4 steps have twice the frames.
    data.settings = dataclasses.replace(data.settings, causal=True, history=4)
    assert training.steps_left() == 16
    training.history *= 2
    assert training.steps_left() == 6


@pytest.mark.parametrize("metric, best", [("accuracy", 1), ("mean_class_accuracy", 2), ("loss", 3)])
def test_the_metric_chooses_the_best_epoch(metric, best):
    columns = ("val_accuracy", "val_mean_class_accuracy", "val_loss")
    rows = [(0.9, 0.3, 2.0), (0.8, 0.6, 1.5), (0.9, 0.6, 0.5), (0.7, 0.5, 1.0)]
    history = [dict(zip(columns, row, strict=True)) for row in rows]
    settings = dataclasses.replace(SMALL, early_stopping_metric=metric, epochs=len(rows))
    training = make_training(types.SimpleNamespace(settings=settings), history)
    assert training.best_epoch() == best
    assert training.better_epoch() is history[best - 1]
    training.data.settings = dataclasses.replace(settings, early_stopping=4 - best)
    assert training.is_stopped()
    training.data.settings = dataclasses.replace(settings, early_stopping=5 - best)
    assert not training.is_stopped()


def test_the_bottleneck_is_named_once(whole):
    assert whole.output.count("of their time for clips: the ") == 1


def test_a_finished_run_holds_all_that_is_promised_and_nothing_else(trained_run):
    visible = sorted(name for name in os.listdir(trained_run) if not name.startswith("."))
    assert visible == sorted(
        ["class_names.txt", "config.json", "curves.png", "history.csv", "model.keras", "serving"]
    )
    assert os.listdir(trained_run / "serving") == ["1"]
    names = trained_run / "class_names.txt"
    assert names.read_text().split() == list(arrow_of_time.CLASS_NAMES)
    exported = trained_run / "serving" / "1" / "assets.extra" / "class_names.txt"
    assert exported.read_bytes() == names.read_bytes()
    settings = json.loads((trained_run / "config.json").read_text())["settings"]
    assert settings["classes"] == hashlib.sha256(names.read_bytes()).hexdigest()[:16]


def test_the_configuration_tells_settings_versions_commit_and_hardware(trained_run):
    record = json.loads((trained_run / "config.json").read_text())
    assert record["settings"]["model"] == "stm_small"
    assert record["settings"]["backend"] == keras.backend.backend()
    assert record["versions"]["keras"] == keras.__version__
    assert record["hardware"]["cores"] == os.cpu_count()
    assert "commit" in record


def test_the_curves_are_a_picture(trained_run):
    content = (trained_run / "curves.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 10_000


def test_the_saved_model_and_the_export_have_the_accuracy_of_the_history(trained_run, clips):
    data = RunData(dataclasses.replace(SMALL, data_dir=clips), 0.5, 2)
    clips, labels = map(np.concatenate, zip(*data.validation_batches().as_numpy_iterator(), strict=True))
    scores = numpy(compute(inference.load(trained_run).model, clips))
    (row,) = read_history(trained_run)
    assert float(row["val_accuracy"]) == pytest.approx(np.mean(scores.argmax(axis=1) == labels))
    assert len(set(scores.argmax(axis=1))) > 1
    serve = tf.saved_model.load(str(trained_run / "serving" / "1")).signatures["float"]
    np.testing.assert_allclose(serve(clip=tf.constant(clips))["scores"], scores, atol=1e-5)


def test_the_command_starts_and_says_that_its_run_is_finished_and_touches_nothing(trained_run, tmp_path):
    """In a separate process, with the settings that the run has written."""
    before = read_all(trained_run)
    arguments = [f"--config={trained_run / 'config.json'}", f"--output={trained_run}"]
    result = run_python(FIT, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (
        result.stdout == f"{trained_run} already holds this run, finished. Set `overwrite` to train again.\n"
    )
    # And no lines of TensorFlow.
    (line,) = result.stderr.splitlines()
    assert "does not name its classes" in line
    assert read_all(trained_run) == before


def test_other_settings_in_the_same_folder_are_refused(whole, clips):
    with pytest.raises(ValueError, match="seed 0 there, 1 here"):
        run(whole.folder, clips, seed=1, **ALL)


def test_clips_may_move_but_not_change_between_two_runs(trained_run, clips, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "run")
    shutil.copytree(clips, tmp_path / "clips")
    config_file = tmp_path / "run" / "config.json"
    config_file.write_text(config_file.read_text().replace(clips, str(tmp_path / "clips")))
    arguments = ["fit.py", f"--config={config_file}", f"--output={tmp_path / 'run'}"]
    command.main(arguments)
    assert "finished" in capsys.readouterr().out
    next((tmp_path / "clips" / "train" / "recede").iterdir()).unlink()
    with pytest.raises(SystemExit, match="fit.py: .* holds a run on other clips: "):
        command.main(arguments)


def test_a_folder_that_another_process_writes_into_is_refused(clips, tmp_path):
    with run_folder.RunFolder(tmp_path / "run", {}).lock():
        with pytest.raises(ValueError, match="Another process"):
            run(tmp_path / "run", clips)
    assert os.listdir(tmp_path / "run") == [run_folder.LOCK]


class At(keras.callbacks.Callback):
    """Calls `function(model)` when a step begins or ends, and lists the steps that began.

    Args:
        moment: "begin" or "end".
        step: number of the step, from 0.
        function: the function to call.
    """

    def __init__(self, moment, step, function):
        super().__init__()
        self.moment = moment
        self.step = step
        self.function = function
        self.steps = []

    def on_train_batch_begin(self, batch, logs=None):
        self.steps.append(batch)
        self.call("begin", batch)

    def on_train_batch_end(self, batch, logs=None):
        self.call("end", batch)

    def call(self, moment, batch):
        if (moment, batch) == (self.moment, self.step):
            self.function(self.model)


def spoil(model):
    """Sets weights to NaN, as in a training that diverged."""
    bias = model.get_layer("predictions").bias
    bias.assign(np.full(bias.shape, np.nan))


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_rate_and_clips(stopped, clips, eagerly):
    with pytest.raises(RuntimeError) as error:
        run(stopped, clips, callbacks=[At("begin", 1, spoil)], **ALL)
    message = str(error.value)
    rate = ALL["learning_rate"] / 8 / 10
    assert message.startswith(
        f"The loss became nan at step 2 of epoch 2, at a learning rate of {rate:.3g}. Clips of that step:"
    )
    assert "The checkpoint after epoch 1 is kept." in message
    listed = re.findall(r"^  (.+)$", message, re.MULTILINE)
    settings = dataclasses.replace(SMALL, data_dir=clips, **ALL)
    assert listed == RunData(settings, 0.5, 2).batch_paths(1, 1) and len(listed) == 8
    assert all(os.path.isfile(path) for path in listed)
    assert os.listdir(stopped / "checkpoints") == ["00001.npz"]
    assert not (stopped / "model.keras").exists()


def test_weights_that_diverge_in_the_last_step_are_found_before_they_are_kept(clips, tmp_path, eagerly):
    with pytest.raises(RuntimeError, match="not finite"):
        run(tmp_path / "run", clips, callbacks=[At("end", 1, spoil)])
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_signal_stops_the_command_after_the_step_with_what_the_run_goes_on_from(
    whole, stopped, monkeypatch, eagerly
):
    sender = At("begin", 0, lambda model: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr("keras_stm.train.run.fit", functools.partial(fit, callbacks=[sender]))
    with pytest.raises(SystemExit) as stop:
        command.main(["fit.py", f"--config={stopped / 'config.json'}", f"--output={stopped}"])
    assert stop.value.code == f"\nfit.py: {command.STOPPED}"
    assert sender.steps == [0]
    assert read_all(stopped) == read_all(whole.stopped)


def test_freezing_trains_the_head_alone_and_early_stopping_returns_to_the_best_epoch(
    trained_run, clips, tmp_path, monkeypatch, capsys, eagerly
):
    """One run tests both, to save time; it starts from the weights of another run."""
    accuracies = iter([0.5, 0.75, 0.25, 1.0])
    best = []

    def rigged(self):
        if len(self.history) == 1:
            best.extend(self.model.get_weights())
        return types.SimpleNamespace(top1=0.5, mean_class_accuracy=next(accuracies)), 1.0

    monkeypatch.setattr(loop.Training, "validate_average", rigged)
    settings = {"freeze_backbone": True, "early_stopping": 1, "epochs": 4, "learning_rate": 0.8}
    settings["early_stopping_metric"] = "mean_class_accuracy"
    run(tmp_path / "run", clips, weights=str(trained_run / "model.keras"), **settings)
    found = [row["val_mean_class_accuracy"] for row in read_history(tmp_path / "run")]
    assert found == ["0.5", "0.75", "0.25"]
    told = "The weights are those of epoch 2 of 3, which has the best val_mean_class_accuracy."
    assert told in capsys.readouterr().out
    start, end = load_weights(trained_run), load_weights(tmp_path / "run")
    assert_equal(end[:-2], start[:-2])
    assert np.abs(start[-1] - end[-1]).max() > 0
    assert_equal(end, best)


class Precision(keras.callbacks.Callback):
    """Keeps the type in which the model computes, whether its loss is scaled, and its first weights."""

    def on_train_begin(self, logs=None):
        self.dtype = self.model.get_layer("predictions").input.dtype
        self.scales = isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)
        self.start = self.model.get_weights()


@pytest.mark.slow
def test_float16_scales_the_loss_and_trains(clips, tmp_path, eagerly):
    kept = Precision()
    run(tmp_path / "run", clips, callbacks=[kept], mixed_precision="float16", epochs=1)
    assert kept.dtype == "float16" and kept.scales
    assert keras.config.dtype_policy().name == "float32"
    (row,) = read_history(tmp_path / "run")
    assert all(np.isfinite(float(value)) for value in row.values())
    moved = zip(kept.start, load_weights(tmp_path / "run"), strict=True)
    assert all(np.isfinite(theirs).all() and np.any(ours != theirs) for ours, theirs in moved)


@pytest.mark.slow
def test_accumulated_gradients_train_as_the_whole_batch_does(trained_run, clips, tmp_path, eagerly):
    """The backbone is frozen, so that batch normalisation is the same for all parts."""
    settings = {"weights": str(trained_run / "model.keras"), "freeze_backbone": True, "dropout": 0.0}
    for steps in (1, 4):
        run(tmp_path / str(steps), clips, gradient_accumulation_steps=steps, epochs=1, **settings)
    rows = [[float(value) for value in row.values()] for row in read_history(tmp_path / "1")]
    parts = [[float(value) for value in row.values()] for row in read_history(tmp_path / "4")]
    np.testing.assert_allclose(parts, rows, atol=1e-5)
    whole, accumulated = (load_weights(tmp_path / steps) for steps in ("1", "4"))
    for ours, theirs in zip(accumulated, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture
def own_folder(clips, tmp_path):
    """A folder with two class folders, without train and val."""
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
    keras_stm.STMResNet((2, 1, 1, 1), 16).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ArgumentError, match="other.weights.h5") as error:
        run(tmp_path / "run", clips, weights=str(tmp_path / "other.weights.h5"))
    assert error.value.name == "weights"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [(["--model=resnet"], "--model=resnet"), (["clips"], "'clips'"), (["--data_dir=nowhere"], "nowhere")],
)
def test_the_command_says_what_is_wrong_in_a_line_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        command.main(["fit.py", *arguments])
    assert error.value.code.startswith("fit.py: ") and message in error.value.code
    assert "\n" not in error.value.code
    assert capsys.readouterr().out == "" and os.listdir(tmp_path) == []


def test_help_shows_every_flag_with_its_default_source(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["fit.py", "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert f"{field.name}:" in text or f"{field.name}]" in text
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
        assert name in text


# The two deeper models take as long to build as all others together.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("stm_resnet101", "stm_resnet152") else ())
        for name in presets.MODELS
    ],
)
def test_every_model_name_builds_that_model(name):
    model = presets.MODELS[name](classes=3, weights=None, dropout=0.1)
    assert model.name == name
    assert model.output_shape == (None, 3)
