"""A run: trains a model on a data set and writes a folder with everything needed to use the model."""

import contextlib
import dataclasses
import math
import os
import shlex
import shutil

import keras

from keras_stm import export, inference, model_file, optimizers
from keras_stm.arguments import ArgumentError, one_of
from keras_stm.data.paths import absolute
from keras_stm.plots.curves import plot_curves
from keras_stm.progress import counted, tell
from keras_stm.train import losses, run_folder, schedules
from keras_stm.train.callbacks import Interruption
from keras_stm.train.checkpoints import state
from keras_stm.train.config import RUN_FACTS
from keras_stm.train.data import RunData, data_flags, missing_reasons
from keras_stm.train.devices import Devices, leave_gpus_to_backend
from keras_stm.train.loop import Training
from keras_stm.train.presets import MODELS
from keras_stm.weights import load_weights
from keras_stm.weights.load import is_file

_FINISHED = "{} already holds this run, finished. Set `overwrite` to train again."


def fit(
    config,
    output,
    *,
    overwrite=False,
    tensorboard=False,
    workers=None,
    max_unreadable=0.5,
    max_to_keep=1,
    devices=None,
    callbacks=(),
):
    """Trains with the settings of a `Config` and writes the folder of the run, like `keras-stm fit`.

    An unfinished run in that folder is resumed from its last completed epoch. A finished run is not changed.

    Args:
        config: `Config`.
        output: folder of the run.
        overwrite: whether an earlier run in `output` may be replaced.
        tensorboard: whether to log for TensorBoard.
        workers: number of clips read at the same time; `None` is the number of processors.
        max_unreadable: share of the clips that may be unreadable.
        max_to_keep: number of the latest epochs whose checkpoints are kept during the run.
        devices: the result of `devices.start`; `None` is one device.
        callbacks: additional `keras.callbacks.Callback` objects, called before the run's own.

    Raises:
        ValueError: the data, the settings and the folder are inconsistent; nothing is written then. Or
            too many clips are unreadable.
        RuntimeError: the loss is not finite.
    """
    devices = devices or Devices()
    config = _with_absolute_paths(config)
    devices.check(config)
    output = os.path.expanduser(output)
    leave_gpus_to_backend()
    data = RunData(config, max_unreadable, workers or os.cpu_count(), devices)
    config = data.settings
    folder = run_folder.RunFolder(output, _record(config, data, devices), overwrite, max_to_keep)
    if devices.from_first(folder.is_finished):
        tell(_FINISHED.format(output))
        devices.from_first(folder.drop_checkpoints)
        return

    with dtype_policy(config.mixed_precision), contextlib.ExitStack() as locked:
        keras.utils.set_random_seed(config.seed)
        with devices.scope():
            model = build_model(config, data)
            devices.synchronize(model)
        devices.from_first(lambda: locked.enter_context(folder.lock()))
        if devices.from_first(folder.is_finished):
            # Another process finished it since the check above.
            tell(_FINISHED.format(output))
            return
        devices.from_first(lambda: begin(folder, model, data))
        tell(describe_plan(data))
        with devices.scope(), Interruption(devices) as interruption:
            training = Training(model, folder, data, devices, interruption)
            training.run(tensorboard, callbacks)
            result, _ = training.validate()
            weights = model.get_weights()
            better, best_weights = _load_better_epoch(training)
        devices.from_first(lambda: finish(folder, training.history, weights, best_weights, config, data))
        report(result, training, better, data, output)
        devices.from_first(folder.drop_checkpoints)


def _with_absolute_paths(config):
    """Returns the settings with absolute paths; raises if the file of initial weights does not exist."""
    config = dataclasses.replace(config, data_dir=absolute(config.data_dir), exclude=absolute(config.exclude))
    if config.weights == "none" or not is_file(config.weights):
        return config
    config = dataclasses.replace(config, weights=absolute(config.weights))
    if not os.path.isfile(config.weights):
        raise ArgumentError(
            "weights",
            config.weights,
            "must be an existing file or a name. The presets ucf101 and hmdb51 start from the weights that "
            "the preset kinetics400 writes; `weights` 'kinetics400' and 'imagenet' also work",
        )
    return config


def _record(config, data, devices):
    """Returns what identifies a run: settings, classes, clips and backend; equal in all processes."""
    clips = [data.train.clips_fingerprint(), data.validation.clips_fingerprint()]
    facts = (data.train.fingerprint, clips, keras.backend.backend())
    record = {**dataclasses.asdict(config), **dict(zip(RUN_FACTS, facts, strict=True))}
    if any(other != record for other in devices.gather(record)):
        raise ValueError("The processes do not have the same settings and clips.")
    return record


def _load_better_epoch(training):
    """Returns the history and weights of an epoch better than the last one, or `None` for each."""
    better = training.better_epoch()
    if better:
        try:
            training.load_best()
            return better, training.model.get_weights()
        except ValueError as error:
            # Do not lose the run for this: it has its last epoch's weights.
            tell(f"{run_folder.BEST_MODEL} is not written: {error}")
    return None, None


@contextlib.contextmanager
def dtype_policy(mixed_precision):
    """Sets Keras's dtype policy to that of `Config.mixed_precision` within a `with` block."""
    before = keras.config.dtype_policy()
    if mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def describe_plan(data):
    """Returns a line about the clips and the length of a run."""
    settings = data.settings
    plan = (
        f"Training on {len(data.train.records):,} clips of {len(data.train.class_names):,} classes, "
        f"validating on {len(data.validation.records):,}: {counted(settings.epochs, 'epoch')}, "
        f"{counted(settings.epochs * data.updates_per_epoch(), 'update')} of "
        f"{counted(data.batch_size, 'clip')}."
    )
    if 0 < settings.early_stopping < settings.epochs:
        plan += (
            f"\nIt stops after {counted(settings.early_stopping, 'epoch')} without a better "
            f"{settings.validation_metric}, and keeps the best epoch's weights."
        )
    return plan


def begin(folder, model, data):
    """Writes the files of the start; raises `ValueError` if the disk has too little space for the run."""
    folder.begin(data.train.class_names, num_bytes(state(model)), num_bytes(model.variables))
    folder.add_left_out(missing_reasons(data.missing))


def num_bytes(variables):
    """Returns the size of all variables together, at four bytes per element."""
    return 4 * sum(math.prod(variable.shape) for variable in variables)


def make_network(settings, data):
    """Returns a new network of the settings with random weights."""
    make = MODELS[one_of("model", settings.model, tuple(MODELS))]
    options = {"classes": len(data.train.class_names), "dropout": settings.dropout}
    # TSN never mixes frames, and has no such argument.
    if settings.causal and not settings.model.startswith("tsn_"):
        options["causal"] = True
    return make(weights=None, **options)


def ignore_history(model, num_frames):
    """Returns a model that shares all layers; its scores are the mean over the last `num_frames` frames."""
    logits = model.get_layer("predictions").output
    x = logits[:, -num_frames:]
    for name in ("consensus", "scores"):
        x = model.get_layer(name)(x)
    return keras.Model(model.input, x, name=model.name)


def build_model(settings, data):
    """Returns the compiled model of the settings, with its initial weights."""
    model = make_network(settings, data)
    if settings.weights != "none":
        load_weights(model, settings.weights, include_top=data.has_head)
    if settings.history:
        # The clips of all epochs: a clip without history is not longer.
        model = ignore_history(model, settings.num_frames)
    if settings.freeze_backbone:
        for layer in model.layers:
            layer.trainable = layer.name == "predictions"
    if data.one_hot():
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    else:
        # With "accuracy", variables would be created in the first step, and TensorFlow would trace it twice.
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(
        make_optimizer(settings, data),
        loss=losses.make_loss(data),
        metrics=[accuracy],
        jit_compile=inference.jit_compile(),
    )
    # Create the optimizer's variables now, for the same reason.
    model.optimizer.build(model.trainable_variables)
    return model


def make_optimizer(settings, data):
    """Returns the optimizer of the settings with its learning rate schedule."""
    steps = settings.gradient_accumulation_steps
    options = {
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm or None,
        "gradient_accumulation_steps": steps if steps > 1 else None,
        "use_ema": settings.ema_momentum > 0,
        # Keras averages after each step, even if gradients only accumulated.
        "ema_momentum": settings.ema_momentum ** (1 / steps) if settings.ema_momentum else 0.99,
    }
    schedule = schedules.make_schedule(data)
    if settings.optimizer == "adamw":
        return keras.optimizers.AdamW(schedule, **options)
    groups = optimizers.TSM_GROUPS if settings.parameter_groups == "tsm" else None
    return optimizers.SGD(schedule, momentum=0.9, groups=groups, **options)


def finish(folder, history, weights, best_weights, settings, data):
    """Writes curves, models and the export.

    Args:
        folder: `RunFolder`.
        history: list of a dictionary for each epoch.
        weights: list of arrays, the model's weights.
        best_weights: weights of a better epoch, or `None`.
        settings: `Config`.
        data: `RunData`.
    """
    with folder.replacing(run_folder.CURVES) as path:
        plot_curves(path, history)
    folder.add_left_out(data.left_out.reasons)
    # A new model: the trained one may be on several devices, and its frozen layers should not be saved.
    model = make_network(settings, data)
    names = data.train.class_names
    of_clips = {name: getattr(settings, name) for name in ("num_frames", "image_size", "sampling")}
    clip = model_file.ClipSettings(**of_clips, rate=data.rate())
    if best_weights:
        model.set_weights(best_weights)
        with folder.replacing(run_folder.BEST_MODEL) as path:
            save_model(model, path, names, clip)
    model.set_weights(weights)
    with folder.replacing(run_folder.MODEL) as path:
        save_model(model, path, names, clip)
    # Remove the partial export of a process that was killed.
    shutil.rmtree(os.path.dirname(folder.file(run_folder.SERVING)), ignore_errors=True)
    export.save(model, folder.file(run_folder.SERVING), names, **of_clips)


def save_model(model, path, class_names, clip):
    """Writes a model without optimizer and loss, so that it loads under every backend."""
    model.save(path)
    model_file.annotate(path, class_names, clip)


def report(result, training, better, data, output):
    """Prints the accuracy of the model, the number of skipped clips, and what to try next.

    Args:
        result: `evaluation.Evaluation` of the model.
        training: `loop.Training`, after the run.
        better: history of an epoch that is better than the model's, or `None`.
        data: `RunData`.
        output: folder of the run.
    """
    config = data.settings
    tell(f"\n{config.model}: top-1 {result.top1:.1%} of {result.num_videos} validation clips")
    if data.embedded:
        tell(
            f"within-pair accuracy {result.within_pair_accuracy:.1%}: share of clips whose class scores "
            "higher than its time reversal; a model that ignores frame order has 50%"
        )
    name = config.validation_metric
    if config.early_stopping:
        best, last = training.best_epoch(), len(training.history)
        tell(f"The weights are those of epoch {best} of {last}, which has the best {name}.")
    if better:
        value = f"{better[name]:.4f}" if name == "val_loss" else f"{better[name]:.1%}"
        tell(f"Epoch {better['epoch'] + 1} had a better {name}, {value}: {run_folder.BEST_MODEL}")
    if data.left_out.reasons:
        count, total = len(data.left_out.reasons), data.left_out.num_clips
        tell(f"Skipped {counted(count, 'unreadable clip')} of {total:,}: {run_folder.LEFT_OUT}")
    tell(f"Model, history, curves and SavedModel: {output}\nTry next:")
    model = shlex.join([f"--model={output}"])
    tell(f"  keras-stm predict clip.mp4 {model}    predict; or: evaluate, visualize")
    if data.embedded:
        other = "tsn_small" if config.model.startswith("stm") else "stm_small"
        tell(f"  keras-stm fit --model={other}    train another network with the same recipe")
        tell("  keras-stm fit --data_dir=FOLDER    train on your own clips: one folder for each class")
    else:
        clips = data_flags(dataclasses.asdict(config))
        tell(f"  keras-stm fit --preset=finetune --weights=kinetics400 {clips}    needs a GPU")
        tell("  keras-stm fit --help    other settings: `epochs`, `learning_rate`, `num_frames`")
