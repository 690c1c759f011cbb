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

import dataclasses
import os
import re
import sys
import warnings

# Before TensorFlow is loaded, so that it starts with fewer lines about the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import config
import keras_stm
import run_folder
import schedules
from data_wait import DataWait
from keras_stm import evaluation, inference, model_file
from run_data import RunData, absolute, clips_fingerprint

config.define_flags()
flags.adopt_module_key_flags(config)
flags.DEFINE_string(
    "output",
    None,
    "Folder of the run. Default: saved_models/<preset>-<model>. A run that was stopped there goes on.",
)
flags.DEFINE_boolean("overwrite", False, "Replace an earlier run in that folder.")
flags.DEFINE_boolean("tensorboard", False, "Also log to <output>/tensorboard.")
flags.DEFINE_integer(
    "workers",
    os.cpu_count(),
    "Clips read at the same time. Default: the number of processors.",
    lower_bound=1,
)
flags.DEFINE_float(
    "max_unreadable",
    0.5,
    "Stop once more than this share of the clips turned out to be unreadable.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def main(argv):
    if len(argv) > 1:
        sys.exit(f"fit.py: unknown argument {argv[1]!r}: all arguments are flags, see --help")
    logging.set_verbosity(logging.WARNING)
    # Keras would like to know beforehand how many validation clips can be read.
    warnings.filterwarnings("ignore", "Your input ran out of data")
    try:
        settings = config.from_flags()
        preset = flags.FLAGS.preset or ("config" if flags.FLAGS.config else "small")
        fit(
            settings,
            flags.FLAGS.output or os.path.join("saved_models", f"{preset}-{settings.model}"),
            overwrite=flags.FLAGS.overwrite,
            tensorboard=flags.FLAGS.tensorboard,
            workers=flags.FLAGS.workers,
            max_unreadable=flags.FLAGS.max_unreadable,
        )
    except KeyboardInterrupt:
        again = "The same command" + (" without --overwrite" if flags.FLAGS.overwrite else "")
        sys.exit(f"\nStopped. {again} goes on from the last whole epoch.")
    except tf.errors.OpError as error:
        # What the pipeline meets in a worker comes back inside TensorFlow's own error.
        reason = re.search(r"ValueError: (.+)", error.message)
        sys.exit(f"fit.py: {reason[1] if reason else error.message}")
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        sys.exit(f"fit.py: {error}")


def fit(settings, output, overwrite=False, tensorboard=False, workers=None, max_unreadable=0.5):
    """Trains as `settings` say and fills the folder `output`.

    Args:
        settings: `config.Config`.
        output: folder of the run.
        overwrite: whether an earlier run in `output` may be replaced.
        tensorboard: whether to log for TensorBoard.
        workers: clips read at the same time; `None` is the number of processors.
        max_unreadable: share of the clips that may turn out to be unreadable.

    Raises:
        ValueError: if the data, the settings and the folder do not go together, and nothing is written
            then; or if too many clips turn out to be unreadable.
    """
    settings = dataclasses.replace(
        settings, data_dir=absolute(settings.data_dir), exclude=absolute(settings.exclude)
    )
    if settings.weights not in ("none", "imagenet"):
        settings = dataclasses.replace(settings, weights=absolute(settings.weights))
        if not os.path.isfile(settings.weights):
            raise ValueError(
                "`weights` is not a file that exists. Those that ucf101 and hmdb51 start from are written by "
                "--preset=kinetics400; --weights=imagenet is another start. "
                f"Received: weights={settings.weights!r}"
            )
    output = os.path.expanduser(output)
    if keras.backend.backend() != "tensorflow":
        # It only reads data, and would take the GPU's memory from the backend.
        tf.config.set_visible_devices([], "GPU")
    data = RunData(settings, max_unreadable, workers or os.cpu_count())
    settings = data.settings
    record = {
        **dataclasses.asdict(settings),
        "classes": data.train.fingerprint,
        "clips": [clips_fingerprint(data.train), clips_fingerprint(data.validation)],
        "backend": keras.backend.backend(),
    }
    folder = run_folder.RunFolder(output, record, overwrite)
    finished = f"{output} holds this run, finished. --overwrite trains anew."
    if folder.is_finished():
        print(finished)
        return

    keras.utils.set_random_seed(settings.seed)
    if settings.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{settings.mixed_precision}")
    model = build_model(settings, data)

    with folder.lock():
        if folder.is_finished():
            # By another process, since the question above.
            print(finished)
            return
        folder.begin(data.train.class_names)
        folder.add_left_out(
            {path: f"{path}: in the data set's lists, but not there" for path in data.missing}
        )
        history = train_model(model, folder, settings, data, tensorboard)
        plot_curves(folder, history)
        clip = model_file.ClipSettings(settings.num_frames, settings.image_size, settings.sampling)
        save_model(model, folder, data.train.class_names, clip)
        report(model, settings, data, output)
        folder.add_left_out(data.left_out.reasons)
        keras_stm.export.save(
            inference_model(model),
            folder.file(run_folder.SERVING),
            data.train.class_names,
            **clip._asdict(),
        )
        folder.drop_checkpoints()


def build_model(settings, data):
    """The compiled model of the settings, with their weights."""
    model = config.MODELS[settings.model](
        weights=None, classes=len(data.train.class_names), dropout=settings.dropout
    )
    if settings.weights != "none":
        keras_stm.weights.load_weights(model, settings.weights, include_top=data.has_head)
    if settings.freeze_backbone:
        for layer in model.layers:
            layer.trainable = layer.name == "predictions"
    if data.one_hot():
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    else:
        loss = "sparse_categorical_crossentropy"
    model.compile(
        make_optimizer(settings, data.batch_size, data.steps_per_epoch()),
        loss=loss,
        metrics=["accuracy"],
        jit_compile=inference.jit_compile(),
    )
    return model


def make_optimizer(settings, batch_size, steps_per_epoch):
    """The optimizer, its learning rate in proportion to `batch_size` and on the schedule of the settings."""
    learning_rate = settings.learning_rate * batch_size / schedules.REFERENCE_BATCH
    if settings.schedule == "steps":
        # Keras keeps a value for the step of the boundary itself, which is here the last of an epoch.
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [epoch * steps_per_epoch - 1 for epoch in settings.decay_epochs],
            [learning_rate / 10**i for i in range(len(settings.decay_epochs) + 1)],
        )
    else:
        schedule = schedules.warmed_up_cosine(learning_rate, steps_per_epoch * settings.epochs)
    options = {"weight_decay": settings.weight_decay, "global_clipnorm": settings.clip_norm or None}
    if settings.optimizer == "adamw":
        return keras.optimizers.AdamW(schedule, **options)
    groups = keras_stm.optimizers.TSM_GROUPS if settings.parameter_groups == "tsm" else None
    return keras_stm.optimizers.SGD(schedule, momentum=0.9, groups=groups, **options)


class _EpochEnd(keras.callbacks.Callback):
    """Adds the epoch to the history and to the run's folder, and decides whether to stop early."""

    def __init__(self, folder, history, patience, left_out):
        super().__init__()
        self.folder = folder
        self.history = history
        self.patience = patience
        self.left_out = left_out

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch, **{name: float(logs[name]) for name in _COLUMNS}}
        # That of the epoch's last step: the optimizer itself is already at the next epoch's first.
        schedule = keras.optimizers.schedules.deserialize(self.model.optimizer.get_config()["learning_rate"])
        row["learning_rate"] = float(schedule(self.model.optimizer.iterations - 1))
        self.history.append(row)
        is_best = self.patience > 0 and epochs_since_best(self.history) == 0
        self.folder.save_checkpoint(self.model, self.history, is_best)
        self.folder.add_left_out(self.left_out.reasons)
        if self.patience and epochs_since_best(self.history) >= self.patience:
            self.model.stop_training = True


_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")


def epochs_since_best(history):
    """Epochs after the one with the highest, and of equals the first, `val_accuracy`."""
    return len(history) - 1 - int(np.argmax([row["val_accuracy"] for row in history]))


def train_model(model, folder, settings, data, tensorboard):
    """Trains from the last whole epoch in `folder` on; returns the history of all epochs."""
    history = folder.load_checkpoint(model)
    patience = settings.early_stopping
    stopped = patience and history and epochs_since_best(history) >= patience
    if history:
        print(f"Resuming after epoch {len(history)} of {settings.epochs}.")
    if len(history) < settings.epochs and not stopped:
        data_wait = DataWait(data.is_packed, data.workers, os.cpu_count())
        callbacks = [data_wait, _EpochEnd(folder, history, patience, data.left_out)]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(folder.file(run_folder.TENSORBOARD)))
        try:
            model.fit(
                data_wait.watch(data.training_batches(initial_epoch=len(history))),
                initial_epoch=len(history),
                epochs=settings.epochs,
                steps_per_epoch=data.steps_per_epoch(),
                validation_data=data.validation_batches(),
                callbacks=callbacks,
                shuffle=False,
                # A bar where a person watches it, a line an epoch where a file does.
                verbose=1 if sys.stdout.isatty() else 2,
            )
        except tf.errors.OpError:
            # What the pipeline meets in a worker comes back inside TensorFlow's own error.
            data.left_out.check()
            raise
    if patience:
        folder.load_checkpoint(model, best=True)
    return history


def inference_model(model):
    """The model without optimizer and loss: it loads under every backend, and without this package's."""
    return keras.Model(model.input, model.output, name=model.name)


def save_model(model, folder, class_names, clip):
    # What was frozen for this training is not for the next.
    model.trainable = True
    with folder.replacing(run_folder.MODEL) as path:
        inference_model(model).save(path)
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


def report(model, settings, data, output):
    """Prints how good the model is, what was left out, and what to try next."""
    scores, labels = [], []
    for clips, batch_labels in data.validation_batches():
        scores.append(model.predict_on_batch(clips.numpy()))
        labels.append(batch_labels.numpy())
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    if data.one_hot():
        labels = labels.argmax(axis=1)
    result = evaluation.from_scores(scores, labels, data.validation.class_names)
    print(f"\n{settings.model}: top-1 {result.top1:.1%} of {result.num_videos} validation clips")
    if data.embedded:
        print(
            f"within-pair accuracy {result.within_pair_accuracy:.1%}: how often a clip is told from its own "
            "reversal; a model that is blind to order has 50%"
        )
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
    app.run(main)
