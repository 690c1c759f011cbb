"""Trains a model on video files and writes all that is needed to use it into one folder.

Without arguments: a small STM on the embedded data set (arrow of time), a few minutes on two cores.

  python training/fit.py
  python training/fit.py --model=tsn_small              # the baseline that cannot see order
  python training/fit.py --data_dir=FOLDER              # your clips: FOLDER/<class>/*.mp4, or
                                                        # FOLDER/train/<class> and FOLDER/val/<class>
  python training/fit.py --data_dir=FOLDER --preset=finetune
  python training/fit.py --data_dir=FOLDER --preset=something_v2   # or another set as it unpacks
  python training/fit.py --config=RUN/config.json       # an earlier run's settings

The same command again resumes a run that was stopped.
"""

import contextlib
import dataclasses
import math
import os
import re
import shutil
import signal
import sys
import traceback

import before_tensorflow  # noqa: F401

# isort: split
import keras
import matplotlib.figure
import tensorflow as tf
from absl import flags

import command_line
import config
import distribution
import keras_stm
import run_folder
import schedules
from interruption import Interruption
from keras_stm import inference, model_file
from keras_stm.arguments import ArgumentError
from run_data import RunData, absolute, clips_fingerprint
from train import Training, state


def define_flags(values):
    config.define_flags(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run. Default: saved_models/<preset>-<model>. A run that was stopped there goes on.",
        flag_values=values,
    )
    flags.DEFINE_boolean("overwrite", False, "Replace an earlier run in that folder.", flag_values=values)
    flags.DEFINE_boolean("tensorboard", False, "Also log to <output>/tensorboard.", flag_values=values)
    flags.DEFINE_integer(
        "workers",
        os.cpu_count(),
        "Clips read at the same time, by each process. Default: the number of processors.",
        lower_bound=1,
        flag_values=values,
    )
    distribution.define_flags(values)
    distribution.define_process_flags(values)
    flags.DEFINE_integer(
        "max_to_keep",
        1,
        "How many of the last epochs' checkpoints are kept until the run is finished, beside the best "
        "one's. The "
        "run goes on from the newest that is not damaged.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_unreadable",
        0.5,
        "Stop once more than this share of the clips turned out to be unreadable.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )


def main(argv):
    values, _ = command_line.parse(define_flags, argv, __doc__)
    devices, on_sigterm = distribution.Devices(), signal.getsignal(signal.SIGTERM)
    try:
        settings = config.from_flags(values)
        preset = values.preset or ("config" if values.config else "small")
        devices = distribution.start(values.distribution, find_processes(values))
        if not devices.is_first:
            # What the first process says holds for all.
            sys.stdout = open(os.devnull, "w")
        if devices.num_processes == 1:
            # What a cluster sends before it takes a machine away stops a run as Ctrl-C does.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        fit(
            settings,
            values.output or os.path.join("saved_models", f"{preset}-{settings.model}"),
            overwrite=values.overwrite,
            tensorboard=values.tensorboard,
            workers=values.workers,
            max_unreadable=values.max_unreadable,
            max_to_keep=values.max_to_keep,
            devices=devices,
        )
    except KeyboardInterrupt:
        again = "The same command" + (" without --overwrite" if values.overwrite else "")
        devices.leave(f"\nStopped. {again} goes on from the last whole epoch.")
    except tf.errors.OpError as error:
        # What the pipeline meets in a worker comes back inside TensorFlow's own error.
        reason = re.search(r"ValueError: (.+)", error.message)
        devices.leave(f"fit.py: {reason[1] if reason else error.message}")
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        devices.leave(f"fit.py: {error}")
    except Exception:
        if devices.num_processes == 1:
            raise
        devices.leave(traceback.format_exc())
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)


def find_processes(values):
    given = [values[name].value for name in ("coordinator", "num_processes", "process_id")]
    # A cluster may start several runs side by side.
    alone = values.distribution == "none" and given == [None] * 3
    return None if alone else distribution.find_processes(*given)


def fit(
    settings,
    output,
    overwrite=False,
    tensorboard=False,
    workers=None,
    max_unreadable=0.5,
    max_to_keep=1,
    devices=None,
    callbacks=(),
):
    """Trains as `settings` say and fills the folder `output`.

    Args:
        settings: `config.Config`.
        output: folder of the run.
        overwrite: whether an earlier run in `output` may be replaced.
        tensorboard: whether to log for TensorBoard.
        workers: clips read at the same time; `None` is the number of processors.
        max_unreadable: share of the clips that may turn out to be unreadable.
        max_to_keep: how many of the last epochs' checkpoints are kept during the run.
        devices: what `distribution.start` returns; one device where it is `None`.
        callbacks: further `keras.callbacks.Callback`, which are called before the run's own.

    Raises:
        ValueError: if the data, the settings and the folder do not go together, and nothing is written
            then; or if too many clips turn out to be unreadable.
        RuntimeError: the loss is no longer a number.
    """
    devices = devices or distribution.Devices()
    settings = dataclasses.replace(
        settings, data_dir=absolute(settings.data_dir), exclude=absolute(settings.exclude)
    )
    if settings.weights not in ("none", "imagenet"):
        settings = dataclasses.replace(settings, weights=absolute(settings.weights))
        if not os.path.isfile(settings.weights):
            raise ArgumentError(
                "weights",
                settings.weights,
                "is not a file that exists. Those that ucf101 and hmdb51 start from are written by "
                "--preset=kinetics400; --weights=imagenet is another start",
            )
    devices.check(settings)
    output = os.path.expanduser(output)
    if keras.backend.backend() != "tensorflow":
        # It only reads data, and would take the GPU's memory from the backend.
        tf.config.set_visible_devices([], "GPU")
    data = RunData(settings, max_unreadable, workers or os.cpu_count(), devices)
    settings = data.settings
    record = {
        **dataclasses.asdict(settings),
        "classes": data.train.fingerprint,
        "clips": [clips_fingerprint(data.train), clips_fingerprint(data.validation)],
        "backend": keras.backend.backend(),
    }
    if any(other != record for other in devices.gather(record)):
        raise ValueError("The processes do not have the same settings and clips.")
    folder = run_folder.RunFolder(output, record, overwrite, max_to_keep)
    finished = f"{output} holds this run, finished. --overwrite trains anew."
    if devices.from_first(folder.is_finished):
        print(finished)
        devices.from_first(folder.drop_checkpoints)
        return

    with dtype_policy(settings.mixed_precision), contextlib.ExitStack() as locked:
        keras.utils.set_random_seed(settings.seed)
        with devices.scope():
            model = build_model(settings, data)
            devices.synchronize(model)
        devices.from_first(lambda: locked.enter_context(folder.lock()))
        if devices.from_first(folder.is_finished):
            # By another process, since the question above.
            print(finished)
            return
        devices.from_first(lambda: begin(folder, model, data))
        with devices.scope(), Interruption(devices) as interruption:
            training = Training(model, folder, data, devices, interruption)
            training.run(tensorboard, callbacks)
            result, _ = training.validate()
            weights, best_weights = model.get_weights(), None
            better = training.better_epoch()
            if better:
                try:
                    training.load_best()
                    best_weights = model.get_weights()
                except ValueError as error:
                    # Not worth the run, which has its last epoch's weights.
                    print(f"{run_folder.BEST_MODEL} is left out: {error}")
                    better = None
        devices.from_first(lambda: finish(folder, training.history, weights, best_weights, settings, data))
        report(result, better, settings, data, output)
        devices.from_first(folder.drop_checkpoints)


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
    folder.add_left_out({path: f"{path}: in the data set's lists, but not there" for path in data.missing})


def num_bytes(variables):
    """Of all variables together, which have four bytes an element."""
    return 4 * sum(math.prod(variable.shape) for variable in variables)


def make_network(settings, data):
    return config.MODELS[settings.model](
        weights=None, classes=len(data.train.class_names), dropout=settings.dropout
    )


def build_model(settings, data):
    """The compiled model of the settings, with their weights."""
    model = make_network(settings, data)
    if settings.weights != "none":
        keras_stm.weights.load_weights(model, settings.weights, include_top=data.has_head)
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
    groups = keras_stm.optimizers.TSM_GROUPS if settings.parameter_groups == "tsm" else None
    return keras_stm.optimizers.SGD(schedule, momentum=0.9, groups=groups, **options)


def finish(folder, history, weights, best_weights, settings, data):
    """Writes curves, models and the export.

    Args:
        folder: `RunFolder`.
        history: of the training.
        weights: list of arrays, the model's.
        best_weights: those of another epoch with a higher accuracy, or `None`.
        settings: `config.Config`.
        data: `RunData`.
    """
    plot_curves(folder, history)
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
    keras_stm.export.save(model, folder.file(run_folder.SERVING), names, **clip._asdict())


def save_model(model, path, class_names, clip):
    """Writes a model without optimizer and loss: it loads under every backend."""
    model.save(path)
    model_file.annotate(path, class_names, clip)


def plot_curves(folder, history):
    """Loss and accuracy of both sets over the epochs, as a picture."""
    epochs = [row["epoch"] + 1 for row in history]
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, label in (("", "training"), ("val_", "validation")):
            axes.plot(epochs, [row[prefix + name] for row in history], marker="o", label=label)
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    with folder.replacing(run_folder.CURVES) as path:
        figure.savefig(path, dpi=120, format="png")


def report(result, better, settings, data, output):
    """Prints how good the model is, what was left out, and what to try next."""
    print(f"\n{settings.model}: top-1 {result.top1:.1%} of {result.num_videos} validation clips")
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
    print(f"  python training/predict.py clip.mp4 --model={output}    also evaluate.py, visualize.py")
    if data.embedded:
        other = "tsn_small" if settings.model.startswith("stm") else "stm_small"
        print(f"  python training/fit.py --model={other}    the same recipe for another network")
        print("  python training/fit.py --data_dir=FOLDER    your own clips, a folder for each class")
    else:
        print("  --preset=finetune    STM-ResNet-50 from ImageNet weights; wants a GPU")
        print("  --epochs, --learning_rate, --num_frames: see --help")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
