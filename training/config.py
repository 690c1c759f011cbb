"""What is trained, and how: models by name, presets, and the flags that override a preset."""

import dataclasses
import functools

from absl import flags

import keras_stm
from keras_stm.models import STMResNet, TSMResNet, TSNResNet

_SMALL = {"depths": (1, 1, 1, 1), "width": 32}

MODELS = {
    "stm_small": functools.partial(STMResNet, name="stm_small", **_SMALL),
    "tsn_small": functools.partial(TSNResNet, name="tsn_small", **_SMALL),
    "tsm_small": functools.partial(TSMResNet, name="tsm_small", **_SMALL),
    "stm_resnet50": keras_stm.STMResNet50,
    "stm_resnet101": keras_stm.STMResNet101,
    "stm_resnet152": keras_stm.STMResNet152,
    "tsn_resnet50": keras_stm.TSNResNet50,
    "tsm_resnet50": keras_stm.TSMResNet50,
}


def _flag(define, help, default=dataclasses.MISSING, **options):
    """A field of `Config` that is a flag: `define(name, None, help, **options)`."""
    metadata = {"define": functools.partial(define, default=None, **options), "help": help}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run. Each field is a flag of the same name, and its help is here."""

    model: str = _flag(flags.DEFINE_enum, "The network.", enum_values=list(MODELS))
    num_frames: int = _flag(
        flags.DEFINE_integer, "Frames of a clip, one from each segment of a video.", lower_bound=1
    )
    image_size: int = _flag(flags.DEFINE_integer, "Height and width of a clip in pixels.", lower_bound=1)
    batch_size: int = _flag(flags.DEFINE_integer, "Clips of a training step.", lower_bound=1)
    epochs: int = _flag(flags.DEFINE_integer, "Passes over the training clips.", lower_bound=1)
    optimizer: str = _flag(
        flags.DEFINE_enum,
        "'sgd' with momentum 0.9, as the paper, or 'adamw'.",
        enum_values=["sgd", "adamw"],
    )
    learning_rate: float = _flag(
        flags.DEFINE_float,
        "Highest learning rate: it is reached after a tenth of the steps and falls to 0 as a cosine.",
        lower_bound=0.0,
    )
    weight_decay: float = _flag(
        flags.DEFINE_float, "Weight decay, as PyTorch's optimizers of these names do it.", lower_bound=0.0
    )
    dropout: float = _flag(
        flags.DEFINE_float,
        "Dropout rate in front of the classifier.",
        lower_bound=0.0,
        upper_bound=0.99,
    )
    weights: str = _flag(
        flags.DEFINE_string,
        "Weights to start from: 'none', 'imagenet', or a .keras, .weights.h5, .safetensors, .pth or .pt "
        "file. A head for other classes starts anew.",
    )
    mixed_precision: str = _flag(
        flags.DEFINE_enum,
        "Type that layers compute in; weights stay float32.",
        default="none",
        enum_values=["none", "bfloat16", "float16"],
    )
    freeze_backbone: bool = _flag(flags.DEFINE_boolean, "Train the classifier alone.", default=False)
    early_stopping: int = _flag(
        flags.DEFINE_integer,
        "Stop after this many epochs without a better val_accuracy and keep the best epoch's weights; 0 "
        "trains all epochs and keeps the last's.",
        default=0,
        lower_bound=0,
    )
    seed: int = _flag(
        flags.DEFINE_integer,
        "Of the initial weights, the order of clips, frames, crops and dropout.",
        default=0,
        lower_bound=0,
    )


PRESETS = {
    # python training/fit.py
    # From scratch in minutes on two cores: for the embedded data and a first try on one's own clips.
    "small": Config(
        model="stm_small",
        num_frames=8,
        image_size=56,
        batch_size=32,
        epochs=5,
        optimizer="adamw",
        learning_rate=0.0015,
        weight_decay=0.01,
        dropout=0.0,
        weights="none",
    ),
    # python training/fit.py --preset=finetune --data_dir=FOLDER
    # The paper's network, input and optimiser from ImageNet's weights, for one's own clips; wants a GPU.
    # The learning rate is the paper's 0.01 for 64 clips, scaled to the batch.
    "finetune": Config(
        model="stm_resnet50",
        num_frames=8,
        image_size=224,
        batch_size=8,
        epochs=25,
        optimizer="sgd",
        learning_rate=0.00125,
        weight_decay=5e-4,
        dropout=0.5,
        weights="imagenet",
    ),
}


def define_flags():
    """Defines `--preset` and a flag for each field of `Config`."""
    flags.DEFINE_enum("preset", "small", list(PRESETS), "Settings to start from.")
    for field in dataclasses.fields(Config):
        values = {name: getattr(preset, field.name) for name, preset in PRESETS.items()}
        presets = ", ".join(f"{name} {value}" for name, value in values.items())
        field.metadata["define"](field.name, help=f"{field.metadata['help']} Presets: {presets}.")


def from_flags():
    """The preset with what the flags override."""
    values = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Config)}
    given = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(PRESETS[flags.FLAGS.preset], **given)
