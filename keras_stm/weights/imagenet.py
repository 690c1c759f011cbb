import os

import keras

from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder

# torchvision's first weights, of ResNet v1.5, as timm hosts them.
_NAMES = {
    (3, 4, 6, 3): "resnet50.tv_in1k",
    (3, 4, 23, 3): "resnet101.tv_in1k",
    (3, 8, 36, 3): "resnet152.tv_in1k",
}
_URL = "https://huggingface.co/timm/{name}/resolve/main/model.safetensors"


def imagenet_file(model):
    """Path of the 2-D ResNet's weights for `model`, downloaded into Keras' cache the first time.

    Raises:
        ValueError: if there are none for a network of this size, or they cannot be downloaded.
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
    file = f"{_NAMES[depths]}.safetensors"
    path = os.path.join(folder, file)
    url = _URL.format(name=_NAMES[depths])
    try:
        # The cache folder is made first: get_file would use a temporary one in its place. And it downloads
        # in place: under the final name, what a kill left of a file would pass for the whole.
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(path):
            partial = keras.utils.get_file(
                f"{file}.partial", url, cache_dir=cache_folder(""), cache_subdir="models", force_download=True
            )
            os.replace(partial, path)
        return path
    except Exception as error:  # get_file has no narrower one
        raise ArgumentError(
            "weights",
            "imagenet",
            f"could not be downloaded ({error}). Fetch {url} elsewhere and save it as {path}, or give its "
            "path as `weights`",
        ) from error
