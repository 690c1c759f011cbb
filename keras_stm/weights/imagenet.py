import http.client
import os
import ssl
import urllib.error

import keras

from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder
from keras_stm.replacing import replacing

# torchvision's first weights, of ResNet v1.5, as timm hosts them.
_NAMES = {
    (3, 4, 6, 3): "resnet50.tv_in1k",
    (3, 4, 23, 3): "resnet101.tv_in1k",
    (3, 8, 36, 3): "resnet152.tv_in1k",
}
_URL = "https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
# What a network raises; any other `OSError` is the disk's.
_OF_THE_NETWORK = (
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    urllib.error.URLError,
    http.client.HTTPException,
)


def imagenet_file(model):
    """Path of the 2-D ResNet's weights for `model`, downloaded into Keras' cache the first time.

    Raises:
        ValueError: if there are none for a network of this size, or they cannot be downloaded.
        OSError: if they cannot be written, as where the disk is full.
    """
    layers = [layer.name for layer in model.layers]
    depths = tuple(sum(layer.startswith(f"conv{stage}_block") for layer in layers) for stage in (2, 3, 4, 5))
    width = model.get_layer("conv1_bn").gamma.shape[0]
    if depths not in _NAMES or width != 64:
        raise ArgumentError(
            "weights",
            "imagenet",
            "exist for width 64 and the depths of ResNet-50, 101 and 152, not for "
            f"width {width} and depths {depths}",
        )
    folder = cache_folder("models")
    path = os.path.join(folder, f"{_NAMES[depths]}.safetensors")
    if not os.path.exists(path):
        # First, as get_file would use a temporary folder in its place.
        os.makedirs(folder, exist_ok=True)
        _download(_URL.format(name=_NAMES[depths]), path)
    return path


def _download(url, path):
    try:
        with replacing(path, shared=True) as partial:
            # Into a folder that cannot be written get_file would not write either, but elsewhere.
            open(partial, "wb").close()
            folder, file = os.path.split(partial)
            keras.utils.get_file(file, url, cache_dir=folder, cache_subdir="", force_download=True)
    except Exception as error:
        # Of a server that does not answer, get_file makes an error of no class of its own.
        if type(error) is not Exception and not isinstance(error, _OF_THE_NETWORK):
            raise
        raise ArgumentError(
            "weights",
            "imagenet",
            f"could not be downloaded ({error}). Fetch {url} elsewhere and save it as {path}, or give its "
            "path as `weights`",
        ) from error
