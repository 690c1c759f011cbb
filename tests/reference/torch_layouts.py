"""Networks of other PyTorch code with the names of its checkpoints, written from that code's description.

Nothing here comes from `keras_stm`. All take clips `(batch, time, 3, height, width)` and return logits
`(batch, classes)`, averaged over time. `tests.reference.torch_stm` has the published code of STM and TSM.
"""

from torch import nn
from torch.nn import functional as F

# This module imports PyTorch before TensorFlow.
from tests.reference.torch_stm import shift_channels


class ConvModule(nn.Module):
    """mmcv's group of a convolution and its BatchNorm, with names `conv` and `bn`."""

    def __init__(self, channels, filters, size, stride=1, relu=True):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, size, stride=stride, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(filters)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class Shifted(nn.Module):
    """TSM's wrapper: shifts the frames, then calls `net`."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.frames = None

    def forward(self, x):
        return self.net(shift_channels(x, self.frames))


class MMBottleneck(nn.Module):
    """mmaction2's bottleneck of style `pytorch`: the 3x3 convolution has the stride."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = ConvModule(channels, width, 1)
        self.conv2 = ConvModule(width, width, 3, stride)
        self.conv3 = ConvModule(width, 4 * width, 1, relu=False)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = ConvModule(channels, 4 * width, 1, stride, relu=False)

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv3(self.conv2(self.conv1(x))) + identity)


class MMBackbone(nn.Module):
    """mmaction2's `ResNet`, or its `ResNetTSM`, which shifts before every or every second block."""

    def __init__(self, depths, width, tsm):
        super().__init__()
        self.conv1 = ConvModule(3, width, 7, 2)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                filters = width * 2**stage
                blocks.append(MMBottleneck(channels, filters, 2 if stage and not index else 1))
                if tsm and index % (2 if depths[2] >= 23 else 1) == 0:
                    blocks[-1].conv1.conv = Shifted(blocks[-1].conv1.conv)
                channels = 4 * filters
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class MMRecognizer(nn.Module):
    """mmaction2's `Recognizer2D` of TSN or TSM."""

    def __init__(self, depths, width, classes, tsm=False):
        super().__init__()
        self.backbone = MMBackbone(depths, width, tsm)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(32 * width, classes)

    @property
    def fc(self):
        return self.cls_head.fc_cls

    def forward(self, clips):
        for module in self.modules():
            if isinstance(module, Shifted):
                module.frames = clips.shape[1]
        features = self.backbone(clips.flatten(0, 1)).mean(dim=(2, 3))
        return self.fc(features).reshape(*clips.shape[:2], -1).mean(dim=1)


class TimmBottleneck(nn.Module):
    """timm's and torchvision's bottleneck."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            conv = nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + identity)


class TimmResNet(nn.Module):
    """timm's ResNet on each frame, with the mean of the logits."""

    def __init__(self, depths, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                blocks.append(TimmBottleneck(channels, width * 2**stage, 2 if stage and not index else 1))
                channels = 4 * width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, clips):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(clips.flatten(0, 1)))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits = self.fc(x.mean(dim=(2, 3)))
        return logits.reshape(*clips.shape[:2], -1).mean(dim=1)
