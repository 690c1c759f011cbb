"""STM and its baselines in plain PyTorch, without Keras, for comparison with keras_stm.

Frames are in channels-last memory format. The temporal convolution is a (3, 1) convolution over an image of
time x pixels. This form is the fastest on a CPU in eager PyTorch. It is several times faster than the Conv1d
of the published code, and faster than Conv3d and than a sum of shifted clips.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.steps import BRANCHES, CLASSES, reduction


class Motion(nn.Module):
    """CMM (paper, Eq. 2) for frames `(batch * frames, channels, height, width)`."""

    def __init__(self, width, stride):
        super().__init__()
        reduced = width // reduction(width)
        self.stride = stride
        self.stage_conv = nn.Conv2d(width, reduced, 1, bias=False)
        self.stage_bn = nn.BatchNorm2d(reduced)
        self.shift = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.conv1x1 = nn.Conv2d(reduced, width, 1, bias=False)

    def forward(self, x, frames):
        """Returns the branch's output for `x`, whose clips have `frames` frames."""
        x = self.stage_bn(self.stage_conv(x))
        moved, x = (each.unflatten(0, (-1, frames)) for each in (self.shift(x), x))
        motion = torch.zeros_like(x)
        motion[:, :-1] = moved[:, 1:] - x[:, :-1]
        motion = self.conv1x1(motion.flatten(0, 1))
        return F.max_pool2d(motion, 2, ceil_mode=True) if self.stride > 1 else motion


class Block(nn.Module):
    """The residual block of each network."""

    def __init__(self, network, channels, width, stride):
        super().__init__()
        branches = BRANCHES.get(network, ())
        self.shifts_channels = network == "TSM"
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.shift = None
        if "cstm" in branches:
            self.shift = nn.Conv2d(width, width, (3, 1), padding=(1, 0), groups=width, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.mb = Motion(width, stride) if "cmm" in branches else None
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x, frames):
        """Returns the block's output for `x`, whose clips have `frames` frames."""
        shortcut = self.downsample(x) if self.downsample else x
        if self.shifts_channels:
            x = shift_channels(x, frames)
        x = F.relu(self.bn1(self.conv1(x)))
        encoded = convolve_time(self.shift, x, frames) if self.shift else x
        encoded = F.relu(self.bn2(self.conv2(encoded)))
        if self.mb:
            encoded = encoded + self.mb(x, frames)
        return F.relu(self.bn3(self.conv3(encoded)) + shortcut)


def convolve_time(conv, x, frames):
    """Convolves `(batch * frames, channels, height, width)` over time by a (3, 1) `conv`, without copies."""
    total, channels, height, width = x.shape
    strip = x.permute(0, 2, 3, 1).reshape(-1, frames, height * width, channels)
    strip = conv(strip.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return strip.reshape(total, height, width, channels).permute(0, 3, 1, 2)


def shift_channels(x, frames):
    """Shifts channels like TSM: an eighth reads the next frame, an eighth the previous frame."""
    x = x.unflatten(0, (-1, frames))
    part = x.shape[2] // 8
    shifted = torch.zeros_like(x)
    shifted[:, :-1, :part] = x[:, 1:, :part]
    shifted[:, 1:, part : 2 * part] = x[:, :-1, part : 2 * part]
    shifted[:, :, 2 * part :] = x[:, :, 2 * part :]
    return shifted.flatten(0, 1)


class Network(nn.Module):
    """A network from clips `(batch, time, height, width, 3)` to logits `(batch, classes)`.

    Args:
        network: any of `steps.NETWORKS`.
        depths, width, classes: see `keras_stm.STMResNet`.
    """

    def __init__(self, network, depths, width, classes=CLASSES):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = nn.ModuleList()
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(network, channels, width * 2**stage, stride))
                channels = 4 * width * 2**stage
            self.add_module(f"layer{stage + 1}", blocks)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(channels, classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, clips):
        """Returns the logits of clips."""
        frames = clips.shape[1]
        # Channels are the last axis of clips, so this view already is in channels-last memory format.
        x = clips.flatten(0, 1).permute(0, 3, 1, 2)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x, frames)
        scores = self.fc(self.dropout(x.mean((2, 3))))
        return scores.unflatten(0, (-1, frames)).mean(1)


def load(network, model):
    """Loads the weights of the same network of keras_stm into a `Network`.

    Args:
        network: `Network`.
        model: `keras.Model` of keras_stm.
    """
    import keras

    from keras_stm.weights import names

    state = network.state_dict()
    arrays = {
        name: torch.tensor(names.to_reference(variable.path, keras.ops.convert_to_numpy(variable)).copy())
        for name, variable in names.reference_names(model).items()
    }
    # The published temporal kernel is (channels, 1, 3); the kernel here has an axis for pixels as well.
    arrays = {name: array.reshape(state[name].shape) for name, array in arrays.items()}
    counters = {name: value for name, value in state.items() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**arrays, **counters})
