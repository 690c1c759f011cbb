"""ImageNet weights of 2-D ResNets."""

import os

from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder
from keras_stm.weights.download import download, make_once
from keras_stm.weights.network import describe

# torchvision's first weights of ResNet v1.5, hosted by timm.
_NAME = "resnet{depth}.tv_in1k"
_URL = "https://huggingface.co/timm/{name}/resolve/main/model.safetensors"


def imagenet_file(model):
    """Returns the path of the 2-D ResNet's weights for `model`, and downloads them the first time.

    The file is in Keras's cache.

    Raises:
        ValueError: if there are no weights for a network of this size, or they cannot be downloaded.
        OSError: if they cannot be written, for example because the disk is full.
    """
    network = describe(model)
    if network.depth is None:
        raise ArgumentError(
            "weights",
            "imagenet",
            "are available for width 64 and the depths of ResNet-50, 101 and 152, but not for "
            f"width {network.width} and depths {network.depths}",
        )
    name = _NAME.format(depth=network.depth)
    path = os.path.join(cache_folder("models"), f"{name}.safetensors")
    return make_once(path, lambda: download(_URL.format(name=name), path, "imagenet"))
