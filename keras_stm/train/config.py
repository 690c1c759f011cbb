"""The settings of a run, and their file."""

import dataclasses
import json
import math
import numbers

from keras_stm.arguments import ArgumentError, one_of
from keras_stm.data import catalog, pipeline, segments
from keras_stm.train.schedules import REFERENCE_BATCH

# What a folder may be said to hold: that it is packed is known by itself.
DATASETS = tuple(name for name in catalog.NAMES if name != "packed")

# What config.json tells of a run beside its settings, to know the run by.
RUN_FACTS = ("classes", "clips", "backend")


def _setting(help, default=dataclasses.MISSING, choices=None, at_least=None, at_most=None, items=None):
    """A field of `Config`: what it is for, and what it accepts; `items` is the type of those of a tuple."""
    metadata = {"help": help, "choices": choices, "at_least": at_least, "at_most": at_most, "items": items}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run. `keras-stm fit` has a flag of the same name for each, and its help is here.

    Raises:
        ArgumentError: a setting is not as its field says, or settings do not go together.
    """

    dataset: str = _setting(
        "What --data_dir holds: a data set's own files as they unpack, a 'folder' of class folders, or a "
        "text 'list'. A folder that `keras-stm pack` wrote is known by itself.",
        choices=DATASETS,
    )
    model: str = _setting("The network.")
    num_frames: int = _setting("Frames of a clip, one from each segment of a video.", at_least=1)
    image_size: int = _setting("Height and width of a clip in pixels.", at_least=1)
    batch_size: int = _setting("Clips of an update of the weights, over all devices.", at_least=1)
    epochs: int = _setting("Passes over the training clips.", at_least=1)
    optimizer: str = _setting(
        "'sgd' with momentum 0.9, as the paper, or 'adamw'.",
        choices=("sgd", "adamw"),
    )
    learning_rate: float = _setting(
        f"Highest learning rate for a batch of {REFERENCE_BATCH} clips; that of the run is in proportion to "
        "--batch_size.",
        at_least=0.0,
    )
    schedule: str = _setting(
        "'steps' divides the learning rate by 10 at --decay_epochs; 'cosine' warms it up for a tenth of the "
        "steps and lets it fall to 0.",
        choices=("steps", "cosine"),
    )
    weight_decay: float = _setting(
        "Weight decay, as PyTorch's optimizers of these names do it.", at_least=0.0
    )
    dropout: float = _setting(
        "Dropout rate in front of the classifier.",
        at_least=0.0,
        at_most=0.99,
    )
    weights: str = _setting(
        "Weights to start from: 'none', 'imagenet', or a .keras, .weights.h5, .safetensors, .pth or .pt "
        "file. A head for other classes starts anew.",
    )
    flip: str = _setting(
        "Mirror every other clip: 'plain' keeps its label, 'labels' swaps the labels of classes that are "
        "each other's mirror image by name, as left and right.",
        default="none",
        choices=pipeline.FLIPS,
    )
    scales: tuple = _setting(
        "Sides of the random crops, as parts of a video's short side.",
        items=float,
        default=(1.0, 0.875, 0.75, 0.66),
    )
    sampling: str = _setting(
        "Frames from 'segments' of the whole video, as the paper, or 'dense' from 64 frames of it.",
        default="segments",
        choices=segments.SAMPLING,
    )
    decay_epochs: tuple = _setting(
        "Epochs after which 'steps' divides the learning rate by 10.", items=int, default=()
    )
    parameter_groups: str = _setting(
        "'tsm' trains as TSM does: five times the rate for the classifier's kernel, ten times for its bias, "
        "no decay of biases and batch normalisation; sgd only.",
        default="none",
        choices=("none", "tsm"),
    )
    clip_norm: float = _setting(
        "Largest norm of all gradients together; TSM clips at 20, 0 does not clip.",
        default=0.0,
        at_least=0.0,
    )
    label_smoothing: float = _setting("Label smoothing.", default=0.0, at_least=0.0, at_most=0.99)
    color_jitter: float = _setting(
        "Strength of random changes of colour. They take several times as long as the rest of a clip.",
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
    mix_up: float = _setting("Alpha of MixUp.", default=0.0, at_least=0.0, at_most=1.0)
    cut_mix: float = _setting("Alpha of CutMix.", default=0.0, at_least=0.0, at_most=1.0)
    gradient_accumulation_steps: int = _setting(
        "Parts of a batch that pass one after the other, so that a batch fits a smaller device. Their "
        "gradients are averaged, which equals the whole batch but for batch normalisation (and MixUp and "
        "CutMix): it sees one part.",
        default=1,
        at_least=1,
    )
    ema_momentum: float = _setting(
        "Momentum of an exponential moving average of the weights, such as 0.999, which is validated and "
        "saved in place of the last step's; 0 keeps none.",
        default=0.0,
        at_least=0.0,
        at_most=0.99999,
    )
    mixed_precision: str = _setting(
        "Type that layers compute in; weights stay float32. bfloat16 wants a recent GPU; float16 scales the "
        "loss so that small gradients are not lost.",
        default="none",
        choices=("none", "bfloat16", "float16"),
    )
    freeze_backbone: bool = _setting("Train the classifier alone.", default=False)
    early_stopping: int = _setting(
        "Stop after this many epochs without a better val_accuracy and keep the best epoch's weights; 0 "
        "trains all epochs and keeps the last's.",
        default=0,
        at_least=0,
    )
    seed: int = _setting(
        "Of the initial weights, the order of clips, frames, crops and dropout.",
        default=0,
        at_least=0,
        at_most=2**31 - 1,
    )
    fold: int = _setting("Split of UCF-101 and HMDB-51.", default=1, at_least=1, at_most=3)
    class_order: str = _setting(
        "Something-Something v1: classes 'sorted', as TSM, or 'raw' as in its csv, as mmaction2.",
        default="sorted",
        choices=("sorted", "raw"),
    )
    data_dir: str | None = _setting(
        "Folder of the data set, or one that `keras-stm pack` wrote, also a gs:// path. A 'folder' has a "
        "folder of videos for each class, or train and val folders of such; without val a fifth of each "
        "class validates. Default: the embedded data set.",
        default=None,
    )
    exclude: str | None = _setting(
        "Text file of clips to leave out, a path a line, as `keras-stm check-data` writes it.",
        default=None,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            # Frozen to others.
            object.__setattr__(self, field.name, _standardized(field, getattr(self, field.name)))
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise ArgumentError("scales", self.scales, "must be above 0 and at most 1")
        decay = self.decay_epochs
        if sorted({0, *decay}) != [0, *decay]:
            raise ArgumentError("decay_epochs", decay, "must ascend from 1")
        if self.schedule == "steps" and not decay:
            raise ArgumentError("decay_epochs", (), "must not be empty with schedule 'steps'")
        if self.parameter_groups != "none" and self.optimizer != "sgd":
            raise ArgumentError("parameter_groups", self.parameter_groups, "are for optimizer 'sgd' alone")


def _standardized(field, value):
    """The value of a setting in its own type; raises `ArgumentError` where it does not accept it."""
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
    """Whether a value is a finite number of a kind, `int` or `float`, which `True` is not."""
    kinds = numbers.Integral if kind is int else numbers.Real
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _is_within(value, least, most):
    return (least is None or value >= least) and (most is None or value <= most)


def read(path):
    """The `Config` that a run saved as `config.json`.

    Raises:
        ArgumentError: the file holds no settings, lacks some, or has one that is not of `Config`.
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
        raise ArgumentError("config", path, f"has what this version has no setting for: {', '.join(unknown)}")
    if lacking:
        raise ArgumentError("config", path, f"lacks {', '.join(lacking)}")
    try:
        return Config(**{name: value for name, value in found.items() if name in fields})
    except ArgumentError as error:
        raise ArgumentError("config", path, f"has a wrong setting ({error})") from error
