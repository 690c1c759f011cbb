"""The settings of a run, and how to read them from its `config.json`."""

import dataclasses
import json
import math
import numbers

from keras_stm.arguments import ArgumentError, one_of
from keras_stm.data import catalog, class_balance, pipeline, segments

# Learning rates are stated for a batch of this many clips, the paper's batch size.
REFERENCE_BATCH = 64
# Without "packed": packed folders are recognised automatically.
DATASETS = tuple(name for name in catalog.NAMES if name != "packed")

CLASS_WEIGHTS = ("none", "balanced")

# One of so many epochs, the last ones, has `history`.
_HISTORY_SHARE = 6

# Facts that identify a run, in addition to its settings; also in config.json.
RUN_FACTS = ("classes", "clips", "backend")


def _setting(help, default=dataclasses.MISSING, choices=None, at_least=None, at_most=None, items=None):
    """Returns a field of `Config`: its help and what it accepts; `items` is the type of a tuple's items."""
    metadata = {"help": help, "choices": choices, "at_least": at_least, "at_most": at_most, "items": items}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run.

    `keras-stm fit` has a flag of the same name for each field and shows the field's help.

    Raises:
        ArgumentError: a field does not accept its value, or settings contradict each other.
    """

    dataset: str = _setting(
        "What `data_dir` holds: a data set in its original layout, a 'folder' of class folders, a 'list': "
        "text files with a path and a label in each line, a CSV file of 'spans' of videos, or the JSON "
        "export of 'label_studio'. A folder that `keras-stm pack` wrote is recognised automatically.",
        choices=DATASETS,
    )
    model: str = _setting("The network.")
    num_frames: int = _setting("Frames per clip; see `sampling`.", at_least=1)
    image_size: int = _setting("Height and width of a clip in pixels.", at_least=1)
    batch_size: int = _setting("Clips per update of the weights, over all devices.", at_least=1)
    epochs: int = _setting(
        "Passes over the training clips. 0 counts them from `updates`; config.json then has the number.",
        at_least=0,
    )
    optimizer: str = _setting(
        "'sgd' with momentum 0.9, as in the paper, or 'adamw'.",
        choices=("sgd", "adamw"),
    )
    learning_rate: float = _setting(
        f"Highest learning rate, for a batch of {REFERENCE_BATCH} clips. The run scales it in proportion to "
        "`batch_size`.",
        at_least=0.0,
    )
    schedule: str = _setting(
        "'steps' divides the learning rate by 10 after each of the `decay_epochs`. 'cosine' raises it during "
        "the first tenth of the steps, then lowers it to 0. The epochs with `history` have a cosine of their "
        "own, up to a third of the rate.",
        choices=("steps", "cosine"),
    )
    weight_decay: float = _setting(
        "Weight decay, applied as in PyTorch's optimizers of the same names.", at_least=0.0
    )
    dropout: float = _setting(
        "Dropout rate before the classifier.",
        at_least=0.0,
        at_most=0.99,
    )
    weights: str = _setting(
        "Initial weights: 'none', 'imagenet', published video weights such as 'kinetics400', "
        "'kinetics400-16', 'something_v2' or 'tsn/kinetics400', 'hf://user/name', or a file: .keras, "
        ".weights.h5, .safetensors, .pth, .pt. Weights of a name are downloaded once. A classifier for other "
        "classes is not loaded; it starts from random weights.",
    )
    causal: bool = _setting(
        "Train a network in which no frame depends on a later one, for streams: it answers on every frame. "
        "TSN is such a network in any case.",
        default=False,
    )
    history: int = _setting(
        "Frames of another clip that stand in front of each clip in the last sixth of the epochs, outside "
        "the loss. They teach a causal network that a stream goes on from one action to the next. At most "
        "`num_frames`.",
        default=0,
        at_least=0,
    )
    flip: str = _setting(
        "Mirror half of the clips, chosen at random. 'plain' keeps their labels. 'labels' swaps the labels "
        "of classes whose names are mirror images, such as left and right.",
        default="none",
        choices=pipeline.FLIPS,
    )
    scales: tuple = _setting(
        "Sides of the random crops, as fractions of a video's short side.",
        items=float,
        default=(1.0, 0.875, 0.75, 0.66),
    )
    sampling: str = _setting(
        "'segments' takes one frame from each segment of the whole video, as in the paper. 'dense' takes "
        "frames at equal distances from a window of 64 frames.",
        default="segments",
        choices=segments.SAMPLING,
    )
    decay_epochs: tuple = _setting(
        "Epochs after which `schedule` 'steps' divides the learning rate by 10. If `epochs` is 0, they are "
        "out of `min_epochs` and scale with the counted epochs.",
        items=int,
        default=(),
    )
    updates: int = _setting(
        "Length of a training with `epochs` 0: the number of updates of the weights, each from `batch_size` "
        "clips. It is rounded up to whole epochs.",
        default=0,
        at_least=0,
    )
    min_epochs: int = _setting("Least number of epochs if `epochs` is 0.", default=6, at_least=1)
    max_epochs: int = _setting("Largest number of epochs if `epochs` is 0.", default=60, at_least=1)
    parameter_groups: str = _setting(
        "'tsm' trains as TSM does: 5 times the learning rate for the classifier's kernel, 10 times for its "
        "bias, no weight decay for biases and batch normalisation. Needs `optimizer` 'sgd'.",
        default="none",
        choices=("none", "tsm"),
    )
    clip_norm: float = _setting(
        "Upper limit of the joint norm of all gradients; 0 disables clipping. TSM clips at 20.",
        default=0.0,
        at_least=0.0,
    )
    label_smoothing: float = _setting(
        "Share of each label that is spread over all classes; 0 disables it.",
        default=0.0,
        at_least=0.0,
        at_most=0.99,
    )
    class_weights: str = _setting(
        "Weights of the classes in the loss. 'balanced' weighs each clip by n / (classes * n_c), for n clips "
        "of which n_c are of its class. Parts of a mixed clip weigh as their own classes do.",
        default="none",
        choices=CLASS_WEIGHTS,
    )
    sampling_weights: str = _setting(
        "How often an epoch shows the clips of a class: 'none' shows each clip once, 'balanced' shows all "
        "classes equally often, and 'sqrt' in proportion to the square root of their clips.",
        default="none",
        choices=class_balance.SAMPLING_WEIGHTS,
    )
    color_jitter: float = _setting(
        "Strength of random colour changes. They take several times as long as the rest of a clip's "
        "preprocessing.",
        default=0.0,
        at_least=0.0,
        at_most=1.0,
    )
    random_erasing: float = _setting(
        "Share of clips in which a random rectangle is erased.",
        default=0.0,
        at_least=0.0,
        at_most=1.0,
    )
    mix_up: float = _setting(
        "Strength (alpha) of MixUp; 0 disables it.", default=0.0, at_least=0.0, at_most=1.0
    )
    cut_mix: float = _setting(
        "Strength (alpha) of CutMix; 0 disables it.", default=0.0, at_least=0.0, at_most=1.0
    )
    gradient_accumulation_steps: int = _setting(
        "Number of parts that a batch is split into, so that it fits a smaller device. The parts' gradients "
        "are averaged. This equals the whole batch, except that batch normalisation, MixUp and CutMix see "
        "one part at a time.",
        default=1,
        at_least=1,
    )
    ema_momentum: float = _setting(
        "Momentum of an exponential moving average of the weights, such as 0.999. The average is validated "
        "and saved instead of the last step's weights. 0 disables it.",
        default=0.0,
        at_least=0.0,
        at_most=0.99999,
    )
    mixed_precision: str = _setting(
        "Data type in which layers compute; weights stay float32. 'bfloat16' is for recent GPUs. 'float16' "
        "scales the loss so that small gradients are not lost.",
        default="none",
        choices=("none", "bfloat16", "float16"),
    )
    freeze_backbone: bool = _setting("Train only the classifier.", default=False)
    early_stopping: int = _setting(
        "Stop after this many epochs without a better `early_stopping_metric`, and keep the best epoch's "
        "weights. 0 trains all epochs and keeps the last epoch's weights.",
        default=0,
        at_least=0,
    )
    early_stopping_metric: str = _setting(
        "What makes an epoch the best one: its accuracy, the mean of its classes' accuracies, or its loss, "
        "on the validation clips.",
        default="accuracy",
        choices=("accuracy", "mean_class_accuracy", "loss"),
    )
    seed: int = _setting(
        "Seed of the initial weights, the order of clips, the frames, the crops and dropout.",
        default=0,
        at_least=0,
        at_most=2**31 - 1,
    )
    fold: int = _setting(
        "Which of the three published train/test splits of UCF-101 and HMDB-51 to use.",
        default=1,
        at_least=1,
        at_most=3,
    )
    class_order: str = _setting(
        "Class order of Something-Something v1: 'sorted', as in TSM, or 'raw', as in its csv file and in "
        "mmaction2.",
        default="sorted",
        choices=("sorted", "raw"),
    )
    data_dir: str | None = _setting(
        "Folder of the data set, or a folder or gs:// path that `keras-stm pack` wrote. A 'folder' data set "
        "has one folder of videos for each class, or train and val folders that hold such class folders. "
        "Without val, a fifth of each class is used for validation. Default: the embedded data set.",
        default=None,
    )
    exclude: str | None = _setting(
        "Text file of clips to skip, one path per line, as `keras-stm check-data` writes it.",
        default=None,
    )
    group_by: str | None = _setting(
        "Which clips of a 'folder' or 'list' stay together if a fifth of each class is used for validation, "
        "such as those of one source video. 'parent': the clips of a folder below the class folder. Other "
        "text is a regular expression that is searched in the clip's path below `data_dir`; clips with the "
        "same first group (or match) stay together. `keras-stm check-data` suggests it.",
        default=None,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            # The dataclass is frozen: plain assignment would fail.
            object.__setattr__(self, field.name, _standardized(field, getattr(self, field.name)))
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise ArgumentError("scales", self.scales, "must be above 0 and at most 1")
        decay = self.decay_epochs
        if sorted({0, *decay}) != [0, *decay]:
            raise ArgumentError("decay_epochs", decay, "must be ascending numbers, at least 1")
        if self.schedule == "steps" and not decay:
            raise ArgumentError("decay_epochs", (), "must not be empty if `schedule` is 'steps'")
        if not self.epochs:
            self._check_length()
        if self.history:
            self._check_history()
        if self.parameter_groups != "none" and self.optimizer != "sgd":
            raise ArgumentError("parameter_groups", self.parameter_groups, "needs `optimizer` 'sgd'")

    @property
    def validation_metric(self):
        """The column of the history by which epochs are compared."""
        return f"val_{self.early_stopping_metric}"

    @property
    def history_start(self):
        """The first epoch with `history`, counted from 0; `epochs` if there is none."""
        return self.epochs - (math.ceil(self.epochs / _HISTORY_SHARE) if self.history else 0)

    def _check_history(self):
        if not self.causal:
            raise ArgumentError("history", self.history, "must be 0 without `causal`")
        if self.early_stopping:
            # The best epoch by clips alone is often one before those with history.
            raise ArgumentError("early_stopping", self.early_stopping, "must be 0 with `history`")

    def _check_length(self):
        if not self.updates:
            raise ArgumentError("epochs", self.epochs, "must be at least 1 if `updates` is 0")
        if self.max_epochs < self.min_epochs:
            raise ArgumentError(
                "max_epochs", self.max_epochs, f"must be at least `min_epochs`, {self.min_epochs}"
            )
        if self.decay_epochs and self.decay_epochs[-1] > self.min_epochs:
            raise ArgumentError(
                "decay_epochs",
                self.decay_epochs,
                f"must be at most `min_epochs`, {self.min_epochs}, if `epochs` is 0",
            )

    def with_counted_epochs(self, updates_per_epoch):
        """Returns the settings with `epochs` and `decay_epochs` for an epoch of so many updates."""
        if self.epochs:
            return self
        wanted = -(-self.updates // updates_per_epoch)
        epochs = min(max(wanted, self.min_epochs), self.max_epochs)
        decay = tuple(epoch * epochs // self.min_epochs for epoch in self.decay_epochs)
        return dataclasses.replace(self, epochs=epochs, decay_epochs=decay)


def _standardized(field, value):
    """Returns a value in the type of its field; raises `ArgumentError` if the field does not accept it."""
    accepts = field.metadata
    if value is None and field.default is None:
        return None
    if accepts["choices"]:
        return one_of(field.name, value, accepts["choices"])
    if accepts["items"]:
        if not isinstance(value, list | tuple) or not all(
            _is_number(item, accepts["items"]) for item in value
        ):
            raise ArgumentError(field.name, value, "must be a list of numbers")
        return tuple(map(accepts["items"], value))
    if field.type in (int, float):
        if not _is_number(value, field.type) or not _is_within(
            value, accepts["at_least"], accepts["at_most"]
        ):
            kind = "an integer" if field.type is int else "a number"
            limits = {"at least": accepts["at_least"], "at most": accepts["at_most"]}
            limits = " and ".join(f"{name} {limit}" for name, limit in limits.items() if limit is not None)
            raise ArgumentError(field.name, value, f"must be {kind}{limits and ' of '}{limits}")
        return field.type(value)
    kind = bool if field.type is bool else str
    if not isinstance(value, kind):
        raise ArgumentError(field.name, value, f"must be {'true or false' if kind is bool else 'text'}")
    return value


def _is_number(value, kind):
    """Returns whether a value is a finite number of a kind, `int` or `float`; booleans are not numbers."""
    kinds = numbers.Integral if kind is int else numbers.Real
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _is_within(value, least, most):
    return (least is None or value >= least) and (most is None or value <= most)


def read(path):
    """Reads the `Config` that a run saved as `config.json`.

    Raises:
        ArgumentError: the file holds no settings, or settings are missing, unknown or wrong.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = dict(json.load(file)["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError("config", path, f"must be the config.json of a run ({error!r})") from error
    fields = {field.name: field for field in dataclasses.fields(Config)}
    unknown = sorted(set(found) - set(fields) - set(RUN_FACTS))
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    lacking = sorted(set(required) - set(found))
    if unknown:
        raise ArgumentError("config", path, f"has settings unknown to this version: {', '.join(unknown)}")
    if lacking:
        raise ArgumentError("config", path, f"lacks the settings {', '.join(lacking)}")
    try:
        return Config(**{name: value for name, value in found.items() if name in fields})
    except ArgumentError as error:
        raise ArgumentError("config", path, f"has a wrong setting ({error})") from error
