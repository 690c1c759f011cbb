"""ImageNet weights of 2-D ResNets."""

import http.client
import os
import ssl
import urllib.error

import keras

from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder
from keras_stm.replacing import replacing

# torchvision's first weights of ResNet v1.5, hosted by timm.
_NAMES = {
    (3, 4, 6, 3): "resnet50.tv_in1k",
    (3, 4, 23, 3): "resnet101.tv_in1k",
    (3, 8, 36, 3): "resnet152.tv_in1k",
}
_URL = "https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
# Errors of the network. Any other `OSError` is an error of the disk.
_OF_THE_NETWORK = (
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    urllib.error.URLError,
    http.client.HTTPException,
)


def imagenet_file(model):
    """Returns the path of the 2-D ResNet's weights for `model`, and downloads them the first time.

    The file is in Keras's cache.

    Raises:
        ValueError: if there are no weights for a network of this size, or they cannot be downloaded.
        OSError: if they cannot be written, for example because the disk is full.
    """
    layers = [layer.name for layer in model.layers]
    depths = tuple(sum(layer.startswith(f"conv{stage}_block") for layer in layers) for stage in (2, 3, 4, 5))
    width = model.get_layer("conv1_bn").gamma.shape[0]
    if depths not in _NAMES or width != 64:
        raise ArgumentError(
            "weights",
            "imagenet",
            "are available for width 64 and the depths of ResNet-50, 101 and 152, but not for "
            f"width {width} and depths {depths}",
        )
    folder = cache_folder("models")
    path = os.path.join(folder, f"{_NAMES[depths]}.safetensors")
    if not os.path.exists(path):
        # If the folder did not exist, get_file would use a temporary folder instead.
        os.makedirs(folder, exist_ok=True)
        _download(_URL.format(name=_NAMES[depths]), path)
    return path


def _download(url, path):
    try:
        with replacing(path, shared=True) as partial:
            # This fails if the folder is not writable. get_file would write to another folder instead.
            open(partial, "wb").close()
            folder, file = os.path.split(partial)
            keras.utils.get_file(file, url, cache_dir=folder, cache_subdir="", force_download=True)
    except Exception as error:
        # If the server does not answer, get_file raises a plain `Exception`.
        if type(error) is not Exception and not isinstance(error, _OF_THE_NETWORK):
            raise
        raise ArgumentError(
            "weights",
            "imagenet",
            f"could not be downloaded ({error}). Download {url} on another machine and save it as {path}, or "
            "pass its path as `weights`",
        ) from error
