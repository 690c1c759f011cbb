"""A run: a model and a data set -> a folder with all that is needed to use the model."""

import contextlib
import dataclasses
import math
import os
import shutil

import keras

from keras_stm import export, inference, model_file, optimizers
from keras_stm.arguments import ArgumentError, one_of
from keras_stm.data.paths import absolute
from keras_stm.plots.curves import plot_curves
from keras_stm.train import run_folder, schedules
from keras_stm.train.callbacks import Interruption
from keras_stm.train.checkpoints import state
from keras_stm.train.config import RUN_FACTS
from keras_stm.train.data import RunData, missing_reasons
from keras_stm.train.devices import Devices, leave_gpus_to_backend
from keras_stm.train.loop import Training
from keras_stm.train.presets import MODELS
from keras_stm.weights import load_weights

_FINISHED = "{} holds this run, finished. --overwrite trains anew."


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
    """Trains as a `Config` says, and fills the folder of the run; what `keras-stm fit` does.

    An unfinished run in that folder is resumed after its last whole epoch. A finished one is left as it is.

    Args:
        config: `Config`.
        output: folder of the run.
        overwrite: whether an earlier run in `output` may be replaced.
        tensorboard: whether to log for TensorBoard.
        workers: clips read at the same time; `None` is the number of processors.
        max_unreadable: share of the clips that may turn out to be unreadable.
        max_to_keep: how many of the last epochs' checkpoints are kept during the run.
        devices: what `devices.start` returns; one device where it is `None`.
        callbacks: further `keras.callbacks.Callback`, which are called before the run's own.

    Raises:
        ValueError: if the data, the settings and the folder do not go together, and nothing is written
            then; or if too many clips turn out to be unreadable.
        RuntimeError: the loss is no longer a number.
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
        print(_FINISHED.format(output))
        devices.from_first(folder.drop_checkpoints)
        return

    with dtype_policy(config.mixed_precision), contextlib.ExitStack() as locked:
        keras.utils.set_random_seed(config.seed)
        with devices.scope():
            model = build_model(config, data)
            devices.synchronize(model)
        devices.from_first(lambda: locked.enter_context(folder.lock()))
        if devices.from_first(folder.is_finished):
            # By another process, since the question above.
            print(_FINISHED.format(output))
            return
        devices.from_first(lambda: begin(folder, model, data))
        with devices.scope(), Interruption(devices) as interruption:
            training = Training(model, folder, data, devices, interruption)
            training.run(tensorboard, callbacks)
            result, _ = training.validate()
            weights = model.get_weights()
            better, best_weights = _load_better_epoch(training)
        devices.from_first(lambda: finish(folder, training.history, weights, best_weights, config, data))
        report(result, better, config, data, output)
        devices.from_first(folder.drop_checkpoints)


def _with_absolute_paths(config):
    """The settings with absolute paths; raises where the weights to start from are not there."""
    config = dataclasses.replace(config, data_dir=absolute(config.data_dir), exclude=absolute(config.exclude))
    if config.weights in ("none", "imagenet"):
        return config
    config = dataclasses.replace(config, weights=absolute(config.weights))
    if not os.path.isfile(config.weights):
        raise ArgumentError(
            "weights",
            config.weights,
            "is not a file that exists. Those that ucf101 and hmdb51 start from are written by "
            "--preset=kinetics400; --weights=imagenet is another start",
        )
    return config


def _record(config, data, devices):
    """What a run is known by: its settings, classes, clips and backend, the same in all processes."""
    clips = [data.train.clips_fingerprint(), data.validation.clips_fingerprint()]
    facts = (data.train.fingerprint, clips, keras.backend.backend())
    record = {**dataclasses.asdict(config), **dict(zip(RUN_FACTS, facts, strict=True))}
    if any(other != record for other in devices.gather(record)):
        raise ValueError("The processes do not have the same settings and clips.")
    return record


def _load_better_epoch(training):
    """The row of an epoch that was better than the last, and its weights; `None` each where there is none."""
    better = training.better_epoch()
    if better:
        try:
            training.load_best()
            return better, training.model.get_weights()
        except ValueError as error:
            # Not worth the run, which has its last epoch's weights.
            print(f"{run_folder.BEST_MODEL} is left out: {error}")
    return None, None


@contextlib.contextmanager
def dtype_policy(mixed_precision):
    """Context in which layers are made with the policy of `Config.mixed_precision`."""
    before = keras.config.dtype_policy()
    if mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def begin(folder, model, data):
    """Writes what is known at the start, where there is room for what the run will write."""
    folder.begin(data.train.class_names, num_bytes(state(model)), num_bytes(model.variables))
    folder.add_left_out(missing_reasons(data.missing))


def num_bytes(variables):
    """Of all variables together, which have four bytes an element."""
    return 4 * sum(math.prod(variable.shape) for variable in variables)


def make_network(settings, data):
    return MODELS[one_of("model", settings.model, tuple(MODELS))](
        weights=None, classes=len(data.train.class_names), dropout=settings.dropout
    )


def build_model(settings, data):
    """The compiled model of the settings, with their weights."""
    model = make_network(settings, data)
    if settings.weights != "none":
        load_weights(model, settings.weights, include_top=data.has_head)
    if settings.freeze_backbone:
        for layer in model.layers:
            layer.trainable = layer.name == "predictions"
    if data.one_hot():
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy()
        # Not "accuracy", whose variables would only come in the first step: TensorFlow would trace it twice.
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(
        make_optimizer(settings, data),
        loss=loss,
        metrics=[accuracy],
        jit_compile=inference.jit_compile(),
    )
    # For the same reason.
    model.optimizer.build(model.trainable_variables)
    return model


def make_optimizer(settings, data):
    steps = settings.gradient_accumulation_steps
    options = {
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm or None,
        "gradient_accumulation_steps": steps if steps > 1 else None,
        "use_ema": settings.ema_momentum > 0,
        # Keras averages after each step, also where the weights have not changed.
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
        history: of the training.
        weights: list of arrays, the model's.
        best_weights: those of another epoch with a higher accuracy, or `None`.
        settings: `Config`.
        data: `RunData`.
    """
    with folder.replacing(run_folder.CURVES) as path:
        plot_curves(path, history)
    folder.add_left_out(data.left_out.reasons)
    # A new model: what was trained may be on several devices, and frozen, which is not for the next training.
    model = make_network(settings, data)
    names = data.train.class_names
    clip = model_file.ClipSettings(settings.num_frames, settings.image_size, settings.sampling)
    if best_weights:
        model.set_weights(best_weights)
        with folder.replacing(run_folder.BEST_MODEL) as path:
            save_model(model, path, names, clip)
    model.set_weights(weights)
    with folder.replacing(run_folder.MODEL) as path:
        save_model(model, path, names, clip)
    # What an export was writing when it was killed.
    shutil.rmtree(os.path.dirname(folder.file(run_folder.SERVING)), ignore_errors=True)
    export.save(model, folder.file(run_folder.SERVING), names, **clip._asdict())


def save_model(model, path, class_names, clip):
    """Writes a model without optimizer and loss: it loads under every backend."""
    model.save(path)
    model_file.annotate(path, class_names, clip)


def report(result, better, config, data, output):
    """Prints how good the model is, what was left out, and what to try next."""
    print(f"\n{config.model}: top-1 {result.top1:.1%} of {result.num_videos} validation clips")
    if data.embedded:
        print(
            f"within-pair accuracy {result.within_pair_accuracy:.1%}: how often a clip is told from its own "
            "reversal; a model that is blind to order has 50%"
        )
    if better:
        print(f"Epoch {better['epoch'] + 1} had {better['val_accuracy']:.1%}: {run_folder.BEST_MODEL}")
    if data.left_out.reasons:
        count, total = len(data.left_out.reasons), data.left_out.num_clips
        print(f"{count} of {total} clips could not be read and were left out: {run_folder.LEFT_OUT}")
    print(f"Model, history, curves and SavedModel: {output}\nTry next:")
    print(f"  keras-stm predict clip.mp4 --model={output}    also evaluate, visualize")
    if data.embedded:
        other = "tsn_small" if config.model.startswith("stm") else "stm_small"
        print(f"  keras-stm fit --model={other}    the same recipe for another network")
        print("  keras-stm fit --data_dir=FOLDER    your own clips, a folder for each class")
    else:
        print("  --preset=finetune    STM-ResNet-50 from ImageNet weights; wants a GPU")
        print("  --epochs, --learning_rate, --num_frames: see --help")
