"""Trains a model on video files and writes all that is needed to use it into one folder.

Without arguments: a small STM on the embedded data set (arrow of time), a few minutes on two cores.

  python training/fit.py
  python training/fit.py --model=tsn_small              # the baseline that cannot see order
  python training/fit.py --data_dir=FOLDER              # your clips: FOLDER/<class>/*.mp4, or
                                                        # FOLDER/train/<class> and FOLDER/val/<class>
  python training/fit.py --data_dir=FOLDER --preset=finetune

The same command again resumes a run that was stopped.
"""

import dataclasses
import hashlib
import json
import os
import re
import sys

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
from keras_stm.cache import cache_folder
from keras_stm.data import arrow_of_time, make_pipeline, open_dataset, steps_per_epoch
from keras_stm.data.video import VideoError, count_frames

config.define_flags()
flags.adopt_module_key_flags(config)
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with one folder of videos per class, or with train and val folders of such; a fifth of each "
    "class validates where there is no val. Default: the embedded data set.",
)
flags.DEFINE_string(
    "output",
    None,
    "Folder of the run. Default: saved_models/<preset>-<model>. A run that was stopped there goes on.",
)
flags.DEFINE_boolean("overwrite", False, "Replace an earlier run in that folder.")
flags.DEFINE_boolean("tensorboard", False, "Also log to <output>/tensorboard.")


def main(argv):
    if len(argv) > 1:
        sys.exit(f"fit.py: unknown argument {argv[1]!r}: all arguments are flags, see --help")
    logging.set_verbosity(logging.WARNING)
    settings = config.from_flags()
    output = flags.FLAGS.output or os.path.join("saved_models", f"{flags.FLAGS.preset}-{settings.model}")
    try:
        fit(
            settings,
            output,
            data_dir=flags.FLAGS.data_dir,
            overwrite=flags.FLAGS.overwrite,
            tensorboard=flags.FLAGS.tensorboard,
        )
    except KeyboardInterrupt:
        again = "The same command" + (" without --overwrite" if flags.FLAGS.overwrite else "")
        sys.exit(f"\nStopped. {again} goes on from the last whole epoch.")
    except tf.errors.OpError as error:
        # What the pipeline meets in a worker comes back inside TensorFlow's own error.
        broken = re.search(r"VideoError: (.+)", error.message)
        sys.exit(f"fit.py: {broken[1] if broken else error.message}")
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        sys.exit(f"fit.py: {error}")


def fit(settings, output, data_dir=None, overwrite=False, tensorboard=False):
    """Trains as `settings` say and fills the folder `output`.

    Args:
        settings: `config.Config`.
        output: folder of the run.
        data_dir: folder of class folders; `None` is the embedded data set.
        overwrite: whether an earlier run in `output` may be replaced.
        tensorboard: whether to log for TensorBoard.

    Raises:
        ValueError: if the data, the settings and the folder do not go together; nothing is written.
    """
    data_dir = data_dir and os.path.abspath(os.path.expanduser(data_dir))
    output = os.path.expanduser(output)
    train, validation = open_data(data_dir)
    record = {
        **dataclasses.asdict(settings),
        "data_dir": data_dir,
        "clips": [fingerprint(train), fingerprint(validation)],
        "backend": keras.backend.backend(),
    }
    folder = run_folder.RunFolder(output, record, overwrite)
    finished = f"{output} holds this run, finished. --overwrite trains anew."
    if folder.is_finished():
        print(finished)
        return

    if keras.backend.backend() != "tensorflow":
        # It only reads data, and would take the GPU's memory from the backend.
        tf.config.set_visible_devices([], "GPU")
    keras.utils.set_random_seed(settings.seed)
    if settings.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{settings.mixed_precision}")
    check_data(train, validation, settings)
    model = build_model(settings, train)

    with folder.lock():
        if folder.is_finished():
            # By another process, since the question above.
            print(finished)
            return
        folder.begin(train.class_names)
        history = train_model(model, folder, settings, train, validation, tensorboard)
        plot_curves(folder, history)
        save_model(model, folder)
        report(model, settings, validation, output, embedded=data_dir is None)
        keras_stm.export.save(inference_model(model), folder.file(run_folder.SERVING))
        folder.drop_checkpoints()


def open_data(data_dir):
    """The training and the validation set; the embedded one is made at first."""
    if data_dir is None:
        data_dir = cache_folder(os.path.join("datasets", f"arrow_of_time-{arrow_of_time.FORMAT}"))
        print(f"Embedded data set, made in half a minute where it is not there yet: {data_dir}", flush=True)
        arrow_of_time.make_dataset(data_dir, progress=sys.stdout.isatty())
    try:
        return [open_dataset("folder", data_dir, split=split) for split in ("train", "validation")]
    except ValueError as error:
        raise ValueError(f"--data_dir: {error}") from error


def fingerprint(dataset):
    """A number that changes with the classes and the clips: a run does not resume on others."""
    paths = [path for path, _ in dataset.records]
    root = os.path.commonpath(paths)
    labels = [label for _, label in dataset.records]
    content = json.dumps([dataset.class_names, [os.path.relpath(path, root) for path in paths], labels])
    return f"{len(dataset.records)}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def check_data(train, validation, settings):
    """Finds out before anything is written whether a run can start."""
    steps_per_epoch(train, settings.batch_size)
    for dataset in (train, validation):
        first_of_class = {label: path for path, label in reversed(dataset.records)}
        for path in first_of_class.values():
            try:
                count_frames(path)
            except VideoError as error:
                raise ValueError(f"{error}; remove or replace it") from error


def build_model(settings, train):
    """The compiled model, its learning rate warmed up for a tenth of the steps, then a cosine."""
    model = config.MODELS[settings.model](
        weights=None if settings.weights == "none" else os.path.expanduser(settings.weights),
        classes=len(train.class_names),
        dropout=settings.dropout,
    )
    if settings.freeze_backbone:
        for layer in model.layers:
            layer.trainable = layer.name == "predictions"
    steps = steps_per_epoch(train, settings.batch_size) * settings.epochs
    warmup_steps = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else settings.learning_rate,
        steps - warmup_steps,
        warmup_target=settings.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    # XLA makes this network several times slower on a CPU than TensorFlow's own kernels.
    slow_xla = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    if settings.optimizer == "sgd":
        optimizer = keras_stm.optimizers.SGD(schedule, momentum=0.9, weight_decay=settings.weight_decay)
    else:
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False if slow_xla else "auto",
    )
    return model


class _EpochEnd(keras.callbacks.Callback):
    """Adds the epoch to the history and to the run's folder, and decides whether to stop early."""

    def __init__(self, folder, history, patience):
        super().__init__()
        self.folder = folder
        self.history = history
        self.patience = patience

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch, **{name: float(logs[name]) for name in _COLUMNS}}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        self.history.append(row)
        is_best = self.patience > 0 and epochs_since_best(self.history) == 0
        self.folder.save_checkpoint(self.model, self.history, is_best)
        if self.patience and epochs_since_best(self.history) >= self.patience:
            self.model.stop_training = True


_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")


def epochs_since_best(history):
    """Epochs after the one with the highest, and of equals the first, `val_accuracy`."""
    return len(history) - 1 - int(np.argmax([row["val_accuracy"] for row in history]))


def train_model(model, folder, settings, train, validation, tensorboard):
    """Trains from the last whole epoch in `folder` on; returns the history of all epochs."""
    history = folder.load_checkpoint(model)
    patience = settings.early_stopping
    stopped = patience and history and epochs_since_best(history) >= patience
    if history:
        print(f"Resuming after epoch {len(history)} of {settings.epochs}.")
    if len(history) < settings.epochs and not stopped:
        callbacks = [_EpochEnd(folder, history, patience)]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(folder.file(run_folder.TENSORBOARD)))
        model.fit(
            make_pipeline(
                train,
                training=True,
                seed=settings.seed,
                initial_epoch=len(history),
                epochs=settings.epochs,
                **clip_options(settings),
            ),
            initial_epoch=len(history),
            epochs=settings.epochs,
            steps_per_epoch=steps_per_epoch(train, settings.batch_size),
            validation_data=make_pipeline(validation, **clip_options(settings)),
            callbacks=callbacks,
            shuffle=False,
            # A bar where a person watches it, a line an epoch where a file does.
            verbose=1 if sys.stdout.isatty() else 2,
        )
    if patience:
        folder.load_checkpoint(model, best=True)
    return history


def clip_options(settings):
    return {name: getattr(settings, name) for name in ("batch_size", "num_frames", "image_size")}


def inference_model(model):
    """The model without optimizer and loss: it loads under every backend, and without this package's."""
    return keras.Model(model.inputs, model.outputs, name=model.name)


def save_model(model, folder):
    # What was frozen for this training is not for the next.
    model.trainable = True
    with folder.replacing(run_folder.MODEL) as path:
        inference_model(model).save(path)


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


def report(model, settings, validation, output, embedded):
    """Prints how good the model is, and what to try next."""
    scores = model.predict(make_pipeline(validation, **clip_options(settings)), verbose=0)
    labels = np.array([label for _, label in validation.records])
    top1 = np.mean(scores.argmax(axis=1) == labels)
    print(f"\n{settings.model}: top-1 {top1:.1%} of {len(labels)} validation clips")
    if embedded:
        within = within_pair_accuracy(scores, labels, validation.class_names)
        print(
            f"within-pair accuracy {within:.1%}: how often a clip is told from its own reversal; a model "
            "that is blind to order has 50%"
        )
    print(f"Model, history, curves and SavedModel: {output}\nTry next:")
    if embedded:
        other = "tsn_small" if settings.model.startswith("stm") else "stm_small"
        print(f"  python training/fit.py --model={other}    the same recipe for another network")
        print("  python training/fit.py --data_dir=FOLDER    your own clips, a folder for each class")
    else:
        print("  --preset=finetune    STM-ResNet-50 from ImageNet weights; wants a GPU")
        print("  --epochs, --learning_rate, --num_frames: see --help")


def within_pair_accuracy(scores, labels, class_names):
    """Share of clips whose class scores higher than its time reversal.

    Args:
        scores: `(clips, classes)`.
        labels: `(clips,)`.
        class_names: `arrow_of_time.CLASS_NAMES` in the order of the scores.
    """
    names = list(class_names)
    reversal = np.array([names.index(arrow_of_time.REVERSED[name]) for name in names])
    clips = np.arange(len(labels))
    return np.mean(scores[clips, labels] > scores[clips, reversal[labels]])


if __name__ == "__main__":
    app.run(main)
