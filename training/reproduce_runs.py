"""The runs of reproduce.py: what each trains, and what it leaves in the folder of results."""

import dataclasses
import functools
import json
import os
import time

import keras
import numpy as np

import reproduce_data
import run_folder
from keras_stm.inference import jit_compile
from keras_stm.models import STMResNet, TSMResNet, TSNResNet
from reproduce_data import CLASS_NAMES, SHAPES, EvaluationBatches, TrainingBatches
from schedules import warmed_up_cosine

# Function and arguments of each network that is compared.
VARIANTS = {
    "tsn": (TSNResNet, {}),
    "stm": (STMResNet, {}),
    "cstm": (STMResNet, {"branches": ("cstm",)}),
    "cmm": (STMResNet, {"branches": ("cmm",)}),
    "concat": (STMResNet, {"fusion": "concat"}),
    "mean": (STMResNet, {"fusion": "mean"}),
    "tsm": (TSMResNet, {}),
    "ordinary": (STMResNet, {"branches": ("cstm",), "temporal_conv": "ordinary"}),
    "first": (STMResNet, {"stm_blocks": "first"}),
    **{f"stage{i}": (STMResNet, {"stm_stages": (i,), "stm_blocks": "first"}) for i in (2, 3, 4, 5)},
    "tsn_difference": (TSNResNet, {"input_shape": (None, None, None, 4)}),
}
NUM_FRAMES = 8
# Tasks that are learned together, and their classes.
_TASKS = {"motion": CLASS_NAMES, "appearance": SHAPES}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of a folder share.

    Attributes:
        depths, width, reduction: of the networks, see `keras_stm.models.STMResNet`. A narrow network wants
            a small reduction: with 4 of width 16 CMM has as many filters as in the published one.
        image_size: height and width of a clip in pixels.
        num_train, num_validation, num_test: clips; the last two are doubled by their reversals.
        epochs: passes over the training clips.
        plain_epochs: how many of them see the same motions without distractors, drift and pauses. From
            the harder clips alone a small network learns next to nothing in as many steps.
        tuning_epochs, tuning_rate: passes of the fine-tuning, and its learning rate as a part of the other.
        batch_size: clips in a training step.
        learning_rate: its peak for a batch of 64 clips.
        weight_decay: AdamW's.
        mixed_precision: `"none"` or `"bfloat16"`.
        published: depths and width of the networks that are counted and timed, at `published_size`.
        eager: whether to train without compiling: of a few steps that takes less time.
    """

    depths: tuple = (2, 2, 2, 2)
    width: int = 16
    reduction: int = 4
    image_size: int = 48
    num_train: int = 1600
    num_validation: int = 96
    num_test: int = 240
    epochs: int = 7
    plain_epochs: int = 4
    tuning_epochs: int = 1
    tuning_rate: float = 0.3
    batch_size: int = 8
    learning_rate: float = 0.008
    weight_decay: float = 0.01
    mixed_precision: str = "none"
    published: tuple = ((3, 4, 6, 3), 64)
    published_size: int = 224
    eager: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """A network trained from scratch, or (`tuned`) the STM of 8 frames fine-tuned to another clip."""

    variant: str
    seed: int
    num_frames: int
    image_size: int
    tuned: bool = False

    @property
    def name(self):
        tuned = "-tuned" if self.tuned else ""
        return f"{self.variant}-{self.num_frames}x{self.image_size}{tuned}-seed{self.seed}"

    @property
    def keeps_weights(self):
        """Whether another run starts from this one's weights."""
        return (self.variant, self.num_frames, self.tuned) == ("stm", NUM_FRAMES, False)

    def epochs(self, settings):
        return settings.tuning_epochs if self.tuned else settings.epochs

    def steps(self, settings):
        return self.epochs(settings) * max(settings.num_train // settings.batch_size, 1)

    def cost(self, settings):
        """Clips of 8 frames and the usual size that its training is worth, in steps."""
        pixels = self.num_frames / NUM_FRAMES * (self.image_size / settings.image_size) ** 2
        return self.steps(settings) * pixels


class Results:
    """The folder of results: for each run a JSON file, scores of the test clips, sometimes weights.

    Args:
        path: the folder.
        command: the command that fills it, for the files.
    """

    def __init__(self, path, command):
        self.folder = run_folder.RunFolder(path, {})
        self.command = command

    def lock(self):
        return self.folder.lock()

    def has(self, name, extra=()):
        return all(os.path.exists(self.folder.file(f"{name}.{end}")) for end in ("json", *extra))

    def write(self, name, record):
        """Writes a JSON file, to which it adds when, where and by what it was made."""
        record = {**record, "command": self.command, **run_folder.environment()}
        with self.folder.replacing(f"{name}.json") as path, open(path, "w") as file:
            json.dump(record, file, indent=2)

    def write_scores(self, name, scores):
        with self.folder.replacing(f"{name}.npz") as path, open(path, "wb") as file:
            np.savez_compressed(file, **scores)

    def write_weights(self, name, model):
        with self.folder.replacing(f"{name}.weights.h5") as path:
            model.save_weights(path)

    def weights_file(self, name):
        return self.folder.file(f"{name}.weights.h5")

    def read(self, name):
        with open(self.folder.file(f"{name}.json")) as file:
            return json.load(file)

    def read_scores(self, name):
        with np.load(self.folder.file(f"{name}.npz")) as arrays:
            return dict(arrays)

    def is_finished(self, run):
        return self.has(run.name, ("npz", "weights.h5") if run.keeps_weights else ("npz",))


@functools.cache
def clips(split, count, image_size, hard=True):
    """Clips of a split, drawn once for all runs of this process."""
    return reproduce_data.make_clips(split, count, image_size, hard)


def build_model(settings, variant):
    """A network with two heads: what moves how, and what it is. From clips to `{task: scores}`.

    Both are learned from the same features, with the same weight, so that appearance shows whether a
    baseline that fails at motion has learned at all.
    """
    build, options = VARIANTS[variant]
    if build is STMResNet:
        options = {"reduction": settings.reduction, **options}
    backbone = build(settings.depths, settings.width, include_top=False, pooling="avg", **options)
    outputs = {}
    for task, classes in _TASKS.items():
        outputs[task] = keras.layers.Dense(
            len(classes),
            activation="softmax",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
            name=task,
        )(backbone.output)
    return keras.Model(backbone.input, outputs, name=variant)


def train(run, settings, results, callbacks=()):
    """Trains a run, tests the epoch that was best in validation, and writes its files.

    Args:
        run: `Run`.
        settings: `Settings`.
        results: `Results`.
        callbacks: Keras callbacks.

    Returns:
        The record that was written.
    """
    start = time.perf_counter()
    keras.utils.set_random_seed(run.seed)
    model = build_model(settings, run.variant)
    options = {
        "num_frames": run.num_frames,
        "image_size": run.image_size,
        "batch_size": settings.batch_size,
        "difference": run.variant == "tsn_difference",
    }
    test = EvaluationBatches(clips("test", settings.num_test, run.image_size), **options)
    scores = {f"{task}_labels": labels for task, labels in test.labels.items()}
    if run.tuned:
        origin = dataclasses.replace(run, num_frames=NUM_FRAMES, image_size=settings.image_size, tuned=False)
        model.load_weights(results.weights_file(origin.name))
    _compile(model, run, settings)
    if run.tuned:
        scores |= {f"{task}_before": values for task, values in model.predict(test, verbose=0).items()}
    best = keras.callbacks.EarlyStopping(
        monitor="val_motion_accuracy", mode="max", patience=run.epochs(settings), restore_best_weights=True
    )
    plain_epochs = 0 if run.tuned else settings.plain_epochs
    training_clips = [
        clips("train", settings.num_train, run.image_size, hard=epoch >= plain_epochs)
        for epoch in range(run.epochs(settings))
    ]
    validation = clips("validation", settings.num_validation, run.image_size)
    history = model.fit(
        TrainingBatches(training_clips, seed=run.seed, **options),
        epochs=run.epochs(settings),
        validation_data=EvaluationBatches(validation, **options),
        shuffle=False,
        callbacks=[best, *callbacks],
        verbose=0,
    ).history
    scores |= model.predict(test, verbose=0)
    record = {
        "run": dataclasses.asdict(run),
        "settings": dataclasses.asdict(settings),
        "history": history,
        "best_epoch": best.best_epoch + 1,
        "test": {
            task: float(np.mean(scores[task].argmax(axis=1) == labels))
            for task, labels in test.labels.items()
        },
        "seconds": round(time.perf_counter() - start, 1),
    }
    if run.keeps_weights:
        results.write_weights(run.name, model)
    results.write_scores(run.name, scores)
    # Last: a run is finished once this is there.
    results.write(run.name, record)
    return record


def _compile(model, run, settings):
    peak = settings.learning_rate * settings.batch_size / 64
    if run.tuned:
        peak *= settings.tuning_rate
    # JAX compiles every operation of an eager step by itself, which takes longer.
    eager = settings.eager and keras.backend.backend() != "jax"
    model.compile(
        _optimizer(settings, peak, run.steps(settings)),
        loss="sparse_categorical_crossentropy",
        metrics={task: ["accuracy"] for task in _TASKS},
        jit_compile=False if eager else jit_compile(),
        run_eagerly=eager,
    )


def _optimizer(settings, peak, steps):
    """fit.py's recipe from scratch."""
    return keras.optimizers.AdamW(warmed_up_cosine(peak, steps), weight_decay=settings.weight_decay)
