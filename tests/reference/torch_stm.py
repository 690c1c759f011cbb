"""The networks in plain PyTorch, written from the paper and from the names in the published checkpoints.

Nothing here comes from `keras_stm`: parity with this module shows that two independent implementations of
the paper agree. `net.state_dict()` has the names of the published checkpoints.
"""

import torch  # Import before TensorFlow: in the other order, the two libraries do not load together.
from torch import nn
from torch.nn import functional as F

# The tests run in one process per core. More threads would wait for each other.
torch.set_num_threads(1)

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BiasedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with a biased running variance, like in Keras.

    PyTorch normalizes with the biased variance, but its running variance is n / (n - 1) times as large. Only
    the running variance differs here.
    """

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                mean = x.mean(dim=(0, 2, 3))
                variance = x.var(dim=(0, 2, 3), correction=0)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
            return F.batch_norm(x, None, None, self.weight, self.bias, True, eps=self.eps)
        return super().forward(x)


def over_time(conv, x, frames):
    """Applies a Conv1d to the time axis of `(batch * frames, channels, height, width)`."""
    total, channels, height, width = x.shape
    x = x.reshape(total // frames, frames, channels, height, width)
    x = x.permute(0, 3, 4, 2, 1).reshape(-1, channels, frames)
    x = conv(x)
    x = x.reshape(total // frames, height, width, channels, frames).permute(0, 4, 3, 1, 2)
    return x.reshape(total, channels, height, width)


def shift_channels(x, frames):
    """TSM: the first eighth of the channels reads t + 1, the second reads t - 1. The ends are zero padded."""
    total, channels, height, width = x.shape
    x = x.reshape(total // frames, frames, channels, height, width)
    fold = channels // 8
    out = torch.zeros_like(x)
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out.reshape(total, channels, height, width)


class Motion(nn.Module):
    """CMM, with the names of the checkpoints."""

    def __init__(self, width, stride, reduction, norm):
        super().__init__()
        squeezed = width // reduction
        self.stride = stride
        self.stage_conv = nn.Conv2d(width, squeezed, 1, bias=False)
        self.stage_bn = norm(squeezed)
        self.shift = nn.Conv2d(squeezed, squeezed, 3, padding=1, groups=squeezed, bias=False)
        self.conv1x1 = nn.Conv2d(squeezed, width, 1, bias=False)

    def forward(self, y, frames):
        r = self.stage_bn(self.stage_conv(y))
        moved = self.shift(r)
        r, moved = (x.reshape(-1, frames, *x.shape[1:]) for x in (r, moved))
        d = torch.zeros_like(r)
        d[:, :-1] = moved[:, 1:] - r[:, :-1]
        m = self.conv1x1(d.flatten(0, 1))
        return F.max_pool2d(m, 2, ceil_mode=True) if self.stride == 2 else m


class Bottleneck(nn.Module):
    """One residual block: of STM, a plain one (`branches=()`), or of TSM (`tsm=True`)."""

    def __init__(
        self,
        channels,
        width,
        stride,
        branches,
        fusion="sum",
        temporal_conv="channelwise",
        reduction=16,
        tsm=False,
        norm=nn.BatchNorm2d,
    ):
        super().__init__()
        self.tsm = tsm
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.shift = self.mb = self.downsample = None
        self.fuse = fusion
        if "cstm" in branches:
            groups = width if temporal_conv == "channelwise" else 1
            self.shift = nn.Conv1d(width, width, 3, padding=1, groups=groups, bias=False)
        if "cmm" in branches:
            self.mb = Motion(width, stride, reduction, norm)
            if fusion == "concat":
                self.fusion = nn.Conv2d(2 * width, width, 1, bias=False)
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False), norm(4 * width)
            )

    def forward(self, x, frames):
        identity = self.downsample(x) if self.downsample else x
        if self.tsm:
            x = shift_channels(x, frames)
        y = F.relu(self.bn1(self.conv1(x)))
        z = over_time(self.shift, y, frames) if self.shift else y
        h = F.relu(self.bn2(self.conv2(z)))
        if self.mb:
            m = self.mb(y, frames)
            if self.fuse == "sum":
                h = h + m
            elif self.fuse == "mean":
                h = (h + m) / 2
            else:
                h = self.fusion(torch.cat([h, m], dim=1))
        return F.relu(self.bn3(self.conv3(h)) + identity)


class TorchSTM(nn.Module):
    """Clips `(batch, time, 3, height, width)` to logits `(batch, classes)`, averaged over time."""

    def __init__(
        self,
        depths,
        width=64,
        classes=174,
        branches=("cstm", "cmm"),
        fusion="sum",
        stm_stages=(2, 3, 4, 5),
        stm_blocks="all",
        temporal_conv="channelwise",
        reduction=16,
        tsm=False,
        norm=nn.BatchNorm2d,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        channels = width
        for stage, depth in zip((2, 3, 4, 5), depths, strict=True):
            blocks = nn.ModuleList()
            for index in range(depth):
                spatiotemporal = stage in stm_stages and (stm_blocks == "all" or index == 0)
                blocks.append(
                    Bottleneck(
                        channels,
                        width * 2 ** (stage - 2),
                        stride=2 if stage > 2 and index == 0 else 1,
                        branches=branches if spatiotemporal and not tsm else (),
                        fusion=fusion,
                        temporal_conv=temporal_conv,
                        reduction=reduction,
                        tsm=tsm,
                        norm=norm,
                    )
                )
                channels = 4 * width * 2 ** (stage - 2)
            self.add_module(f"layer{stage - 1}", blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, clips):
        frames = clips.shape[1]
        x = clips.flatten(0, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x, frames)
        scores = self.fc(x.mean(dim=(2, 3)))
        return scores.reshape(-1, frames, scores.shape[-1]).mean(dim=1)


def randomize(net, seed=0):
    """Draws every weight and every running statistic, and returns `net` in evaluation mode.

    The statistics are first measured on a random clip and then disturbed. Activations then keep their size
    through 50 layers, and no statistic has its initial value.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like, std):
        return torch.randn(like.shape, generator=generator) * std

    def uniform(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for weight in net.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 1
            weight.copy_(normal(weight, (2 / fan_in) ** 0.5))
        for module in norms:
            module.weight.copy_(uniform(module.weight, 0.5, 1.5))
            module.bias.copy_(normal(module.bias, 0.2))
        net.fc.weight.mul_(0.15)
        net.train()
        momenta = [module.momentum for module in norms]
        for module in norms:
            module.momentum = 1.0
        net(torch.randn((2, 4, 3, 64, 64), generator=generator))
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
            deviation = module.running_var.sqrt()
            module.running_mean.add_(normal(deviation, 0.2) * deviation)
            module.running_var.mul_(uniform(deviation, 0.7, 1.4))
    return net.eval()


def keep_from_kinks(net):
    """Shifts the input of each ReLU far from zero, negative for one unit in four, and returns `net`.

    If a unit is zero up to rounding, its ReLU can be active in one framework and inactive in the other. This
    changes a gradient by more than any tolerance, and 20 steps amplify the change. Far from zero, only
    rounding errors remain.

    The last features are kept small, so that training is stable at the learning rate of the paper.
    """
    with torch.no_grad():
        for name, module in net.named_modules():
            if not isinstance(module, nn.BatchNorm2d) or name.endswith("stage_bn"):
                continue  # CMM has no ReLU
            module.weight.mul_(0.5)
            if not name.endswith("downsample.1"):  # the shortcut: no ReLU before the sum
                shut = torch.arange(len(module.bias)) % 4 == 3
                module.bias.copy_(torch.where(shut, -4.0, 4.0))
        for module in (net.layer4[-1].bn3, net.layer4[-1].downsample[1]):
            module.weight.mul_(0.1)
            module.bias.mul_(0.1)
    return net
