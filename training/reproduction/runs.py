"""The runs of reproduce.py: the training of each run, and its files in the folder of results."""

import dataclasses
import functools
import json
import os
import re
import time

import keras
import numpy as np

from keras_stm.inference import jit_compile
from keras_stm.models import STMResNet, TSMResNet, TSNResNet
from keras_stm.train import run_folder
from keras_stm.train.config import REFERENCE_BATCH
from keras_stm.train.schedules import warmed_up_cosine
from reproduction.data import CLASS_NAMES, SHAPES, EvaluationBatches, make_clips, training_batches

# The function and arguments that build each network.
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
# The name of the pretrained network's files. All runs start from its weights.
STILLS = "stills"
# The tasks that are learned together, and their classes.
_TASKS = {"motion": CLASS_NAMES, "appearance": SHAPES}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that all runs of a folder share.

    Attributes:
        depths, width, reduction: of the networks, see `keras_stm.models.STMResNet`. A narrow network needs a
            small reduction: with width 16 and reduction 4, CMM has as many filters as in the published one.
        image_size: height and width of a clip in pixels.
        num_stills: clips of the pretraining. It trains a TSN to name the shape in a single frame, once for
            all runs. All runs start from its weights, like the paper's networks from ImageNet weights.
        still_epochs, still_batch_size: epochs and batch size of the pretraining.
        num_train, num_validation, num_test: clips of each split; reversals double the last two.
        epochs: passes over the training clips.
        plain_epochs: the first epochs, which use as many plain clips: the same actions without distractors,
            drift and pauses. From the harder clips alone, a small network learns little in as many steps.
        tuning_epochs, tuning_rate: epochs of fine-tuning, and its learning rate as a fraction of
            `learning_rate`.
        batch_size: clips in a training step.
        learning_rate, still_rate: peak learning rates for a batch of 64 clips, and of 64 stills.
        weight_decay: weight decay of AdamW.
        mixed_precision: `"none"` or `"bfloat16"`.
        published, published_size: depths and width, and image size, of the networks that are counted and
            timed.
        eager: whether to train without compiling, which is faster for a few steps.
    """

    depths: tuple = (2, 2, 2, 2)
    width: int = 16
    reduction: int = 4
    image_size: int = 32
    num_stills: int = 12_000
    still_epochs: int = 25
    still_batch_size: int = 32
    num_train: int = 1600
    num_validation: int = 96
    num_test: int = 240
    epochs: int = 10
    plain_epochs: int = 4
    tuning_epochs: int = 1
    tuning_rate: float = 0.3
    batch_size: int = 8
    learning_rate: float = 0.016
    still_rate: float = 0.002
    weight_decay: float = 0.01
    mixed_precision: str = "none"
    published: tuple = ((3, 4, 6, 3), 64)
    published_size: int = 224
    eager: bool = False

    @property
    def steps_per_epoch(self):
        """Training steps in an epoch."""
        return self.num_train // self.batch_size

    @property
    def still_steps(self):
        """Training steps in an epoch of the pretraining."""
        return self.num_stills // self.still_batch_size


@dataclasses.dataclass(frozen=True)
class Run:
    """The training of a network, or (`tuned`) the fine-tuning of the STM of 8 frames to other clips."""

    variant: str
    seed: int
    num_frames: int
    image_size: int
    tuned: bool = False

    @property
    def name(self):
        """Name of the run's files, without their endings."""
        tuned = "-tuned" if self.tuned else ""
        return f"{self.variant}-{self.num_frames}x{self.image_size}{tuned}-seed{self.seed}"

    @property
    def keeps_weights(self):
        """Whether another run starts from this one's weights."""
        return (self.variant, self.num_frames, self.tuned) == ("stm", NUM_FRAMES, False)

    def origin(self, settings):
        """Returns the run that a tuned run starts from, or `None` for other runs."""
        if not self.tuned:
            return None
        return dataclasses.replace(self, num_frames=NUM_FRAMES, image_size=settings.image_size, tuned=False)

    def epochs(self, settings):
        """Returns the number of epochs."""
        return settings.tuning_epochs if self.tuned else settings.epochs

    def steps(self, settings):
        """Returns the number of training steps."""
        return self.epochs(settings) * settings.steps_per_epoch

    def cost(self, settings):
        """Returns the cost of the training, in steps on clips of 8 frames and of `settings.image_size`."""
        pixels = self.num_frames / NUM_FRAMES * (self.image_size / settings.image_size) ** 2
        return self.steps(settings) * pixels


class Results:
    """The folder of results: for each run a JSON file, scores of the test clips, sometimes weights.

    Args:
        path: the folder.
        command: the command line to record in the files.
    """

    def __init__(self, path, command):
        self.folder = run_folder.RunFolder(path, {})
        self.command = command
        # Read at the start, because a later commit does not change the code that runs.
        self.commit = run_folder.find_commit()

    def lock(self):
        """Returns a context in which no other process can lock the folder."""
        return self.folder.lock()

    def has(self, name, extra=()):
        """Returns whether the JSON file of a name exists, and its files with the endings `extra`."""
        return all(os.path.exists(self.folder.file(f"{name}.{end}")) for end in ("json", *extra))

    def has_stills(self):
        """Returns whether the pretrained network exists."""
        return self.has(STILLS, ("weights.h5",))

    def write(self, name, record):
        """Writes a record to a JSON file, with the command, the commit, versions and hardware."""
        record = {**record, "command": self.command, **run_folder.environment(self.commit)}
        with self.folder.replacing(f"{name}.json") as path, open(path, "w") as file:
            json.dump(record, file, indent=2)

    def write_scores(self, name, scores):
        """Writes a dictionary of arrays, the scores and labels of the test clips."""
        with self.folder.replacing(f"{name}.npz") as path, open(path, "wb") as file:
            np.savez_compressed(file, **scores)

    def write_weights(self, name, model):
        """Writes a model's weights."""
        with self.folder.replacing(f"{name}.weights.h5") as path:
            model.save_weights(path)

    def weights_file(self, name):
        """Returns the path of a weights file."""
        return self.folder.file(f"{name}.weights.h5")

    def read(self, name):
        """Reads a JSON file."""
        with open(self.folder.file(f"{name}.json")) as file:
            return json.load(file)

    def read_scores(self, name):
        """Reads the dictionary of arrays that `write_scores` has written."""
        with np.load(self.folder.file(f"{name}.npz")) as arrays:
            return dict(arrays)

    def seeds(self):
        """Returns the highest seed of the runs in the folder plus 1, or 0 without runs."""
        seeds = [re.search(r"-seed(\d+)\.json$", name) for name in os.listdir(self.folder.path)]
        return max((int(seed[1]) + 1 for seed in seeds if seed), default=0)

    def is_finished(self, run):
        """Returns whether all files of a run exist."""
        return self.has(run.name, ("npz", "weights.h5") if run.keeps_weights else ("npz",))


@functools.cache
def clips(split, count, image_size, **options):
    """Returns clips of a split, see `data.make_clips`; the runs of a process share them."""
    return make_clips(split, count, image_size, **options)


def clips_of_epochs(run, settings):
    """Returns the training clips of each epoch of a run: plain clips first, except for a `tuned` run."""
    plain_epochs = 0 if run.tuned else settings.plain_epochs
    return [
        clips("train", settings.num_train, run.image_size, hard=epoch >= plain_epochs)
        for epoch in range(run.epochs(settings))
    ]


def build_model(settings, variant):
    """Returns a network from clips to `{task: scores}`, with a head for motion and one for appearance.

    Both heads use the same features, and their losses have the same weight. The accuracy of appearance
    therefore shows whether a baseline that fails at motion has learned anything.
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


def train_on_stills(settings, results, callbacks=()):
    """Trains the network that all runs start from, a TSN that names the shape in a single frame.

    Args:
        settings: `Settings`.
        results: `Results`.
        callbacks: Keras callbacks.

    Returns:
        The record that was written.
    """
    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    model = build_model(settings, "tsn")
    options = {"num_frames": 1, "image_size": settings.image_size, "batch_size": settings.still_batch_size}
    peak = settings.still_rate * settings.still_batch_size / REFERENCE_BATCH
    # A still does not show motion.
    weights = {"motion": 0.0, "appearance": 1.0}
    _compile(model, settings, peak, settings.still_epochs * settings.still_steps, weights)
    history = model.fit(
        training_batches(
            [clips("stills", settings.num_stills, settings.image_size, num_frames=2)], seed=0, **options
        ),
        steps_per_epoch=settings.still_steps,
        epochs=settings.still_epochs,
        validation_data=EvaluationBatches(
            clips("validation", settings.num_validation, settings.image_size), **options
        ),
        shuffle=False,
        callbacks=list(callbacks),
        verbose=0,
    ).history
    results.write_weights(STILLS, model)
    record = {
        "settings": dataclasses.asdict(settings),
        "history": {name: values for name, values in history.items() if "appearance" in name},
        "seconds": round(time.perf_counter() - start, 1),
    }
    results.write(STILLS, record)
    return record


def start_from_stills(model, settings, results):
    """Loads the weights of `train_on_stills` into a network, except for the head for motion.

    The pretrained network has no temporal convolutions and no CMM, so their weights stay as they are.

    Args:
        model: network of `build_model`.
        settings: `Settings`.
        results: `Results`.
    """
    source = build_model(settings, "tsn")
    source.load_weights(results.weights_file(STILLS))
    arrays = {weight.path: keras.ops.convert_to_numpy(weight) for weight in source.weights}
    for weight in model.weights:
        array = arrays.get(weight.path)
        if array is None or weight.path.startswith("motion/"):
            continue
        if array.shape != weight.shape:
            # The fourth channel of the input starts as the mean of red, green and blue.
            array = np.concatenate([array, array.mean(axis=2, keepdims=True)], axis=2)
        weight.assign(array)


def train(run, settings, results, callbacks=()):
    """Trains a run, tests the epoch with the best motion accuracy in validation, and writes the run's files.

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
    peak = settings.learning_rate * settings.batch_size / REFERENCE_BATCH
    if run.tuned:
        model.load_weights(results.weights_file(run.origin(settings).name))
        peak *= settings.tuning_rate
    else:
        start_from_stills(model, settings, results)
    _compile(model, settings, peak, run.steps(settings))
    if run.tuned:
        scores |= {f"{task}_before": values for task, values in model.predict(test, verbose=0).items()}
    best = keras.callbacks.EarlyStopping(
        monitor="val_motion_accuracy", mode="max", patience=run.epochs(settings), restore_best_weights=True
    )
    validation = clips("validation", settings.num_validation, run.image_size)
    history = model.fit(
        training_batches(clips_of_epochs(run, settings), seed=run.seed, **options),
        steps_per_epoch=settings.steps_per_epoch,
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
    # Written last, because this file marks the run as finished.
    results.write(run.name, record)
    return record


def _compile(model, settings, peak, steps, loss_weights=None):
    """Compiles a model with the optimizer and schedule that `keras-stm fit` uses to train from scratch."""
    # JAX compiles each operation of an eager step separately, which takes longer.
    eager = settings.eager and keras.backend.backend() != "jax"
    schedule = warmed_up_cosine(peak, steps)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay),
        loss=dict.fromkeys(_TASKS, "sparse_categorical_crossentropy"),
        loss_weights=loss_weights,
        metrics={task: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for task in _TASKS},
        jit_compile=False if eager else jit_compile(),
        run_eagerly=eager,
    )
