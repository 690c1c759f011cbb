"""What kind of network a model is, for the choice of its published weights."""

import re
import typing

from keras_stm.keras_compat import flatten_layers

# Depth of a published ResNet -> number of blocks in each of its four stages.
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Network(typing.NamedTuple):
    """The kind and the size of a model.

    Attributes:
        family: `"stm"`, `"tsm"` or `"tsn"`.
        depths: number of blocks in each of the four stages.
        width: filters of the stem.
    """

    family: str
    depths: tuple
    width: int

    @property
    def depth(self):
        """50, 101 or 152, or `None` for a network of another size."""
        sizes = {depths: depth for depth, depths in DEPTHS.items()}
        return sizes.get(self.depths) if self.width == 64 else None

    def __str__(self):
        return f"{self.family.upper()} of width {self.width} and depths {self.depths}"


def describe(model):
    """Returns the `Network` of a model of this package."""
    names = [layer.name for layer in model.layers]
    depths = tuple(sum(name.startswith(f"conv{stage}_block") for name in names) for stage in (2, 3, 4, 5))
    if shifted_blocks(model):
        family = "tsm"
    else:
        family = (
            "stm" if any(layer.name in ("temporal_conv", "cmm") for layer in flatten_layers(model)) else "tsn"
        )
    return Network(family, depths, model.get_layer("conv1_bn").gamma.shape[0])


def shifted_blocks(model):
    """Returns the published names of the blocks with TSM's temporal shift: a set, such as `{"layer1.0"}`."""
    # The blocks of the other networks have no such attribute.
    return {published_block(layer.name) for layer in model.layers if hasattr(layer, "shift")}


def is_causal(model):
    """Returns whether a model of this package was made with `causal=True`."""
    return any(getattr(layer, "causal", False) for layer in model.layers)


def published_block(name):
    """Returns the published name of a block, `"layer1.0"` for `"conv2_block1"`; `None` for other layers."""
    block = re.fullmatch(r"conv(\d)_block(\d+)", name)
    return f"layer{int(block[1]) - 1}.{int(block[2]) - 1}" if block else None
