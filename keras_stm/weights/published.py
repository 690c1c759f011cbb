"""Published weights of networks that were trained on videos, by name."""

import importlib.resources
import os
import typing

from keras_stm.arguments import ArgumentError
from keras_stm.cache import cache_folder
from keras_stm.replacing import replacing
from keras_stm.weights.download import download, hash_of, make_once
from keras_stm.weights.network import describe
from keras_stm.weights.torch_files import read_torch

_ROOT = "https://download.openmmlab.com/mmaction/v1.0/recognition"
PUBLISHER, LICENCE = "OpenMMLab's mmaction2", "Apache 2.0"
_FAMILIES = ("stm", "tsm", "tsn")


class Published(typing.NamedTuple):
    """A published file.

    Attributes:
        family: `"tsm"` or `"tsn"`.
        depth: depth of the ResNet.
        data: name of the data set, for `class_names`.
        frames: number of frames of a clip.
        top1: accuracy in percent that the publisher states, or `None` where we do not know the statement.
        megabytes: size of the weights, computed from their number. The publisher states no sizes of files.
        config: name of the publisher's configuration.
        stamp: date and first digits of the file's SHA-256.
    """

    family: str
    depth: int
    data: str
    frames: int
    top1: float | None
    megabytes: float
    config: str
    stamp: str

    @property
    def name(self):
        """Name within the network, such as `"kinetics400"` or `"kinetics400-16"`."""
        return self.data if self.frames == 8 else f"{self.data}-{self.frames}"

    @property
    def network(self):
        """Name of the network, such as `"tsm_resnet50"`."""
        return f"{self.family}_resnet{self.depth}"

    @property
    def full_name(self):
        """Name that is enough to build a classifier, such as `"tsm_resnet50/kinetics400"`."""
        return f"{self.network}/{self.name}"

    @property
    def url(self):
        """Address of the file."""
        return f"{_ROOT}/{self.family}/{self.config}/{self.config}_{self.stamp}.pth"

    @property
    def sha256(self):
        """First digits of the file's SHA-256."""
        return self.stamp.partition("-")[2]


def _tsm(depth, data, short, frames, top1, megabytes, stamp):
    config = f"tsm_imagenet-pretrained-r{depth}_8xb16-1x1x{frames}-50e_{short}-rgb"
    return Published("tsm", depth, data, frames, top1, megabytes, config, stamp)


def _tsn(data, short, epochs, top1, megabytes, stamp):
    config = f"tsn_imagenet-pretrained-r50_8xb32-1x1x8-{epochs}e_{short}-rgb"
    return Published("tsn", 50, data, 8, top1, megabytes, config, stamp)


# All were trained on clips of `IMAGE_SIZE` pixels, normalized as in `preprocess_input`.
IMAGE_SIZE, SAMPLING = 224, "segments"
PUBLISHED = (
    _tsm(50, "kinetics400", "kinetics400", 8, 73.18, 97.5, "20220831-64d69186"),
    _tsm(50, "kinetics400", "kinetics400", 16, 75.12, 97.5, "20220831-042b1748"),
    _tsm(50, "something_v2", "sthv2", 8, 62.72, 95.7, "20230317-be0fc26e"),
    _tsm(50, "something_v2", "sthv2", 16, 64.16, 95.7, "20230317-ec6696ad"),
    _tsm(101, "something_v2", "sthv2", 8, 63.70, 171.8, "20230320-efcc0d1b"),
    # The accuracy is from the publisher's configs/recognition/tsn/metafile.yml.
    _tsn("kinetics400", "kinetics400", 100, 74.12, 97.5, "20220906-2692d16c"),
    # That list gives the accuracy of an earlier file only.
    _tsn("something_v2", "sthv2", 50, None, 95.7, "20230313-06ad7d03"),
)


def class_names(name):
    """Returns the class names of published weights, in the order of their scores.

    Args:
        name: name of a data set, `"kinetics400"` or `"something_v2"`, or any name of published weights.

    Returns:
        Tuple of str.

    Raises:
        ValueError: if no weights of this name are published.
    """
    if not is_published(name):
        names = dict.fromkeys(each.data for each in PUBLISHED)
        raise ArgumentError("name", name, f"must be one of {', '.join(map(repr, names))}")
    last = name.rpartition("/")[2]
    data = next(each.data for each in PUBLISHED if each.name == last)
    file = importlib.resources.files("keras_stm.weights") / "class_names" / f"{data}.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


def is_published(weights):
    """Returns whether `weights` has the form of a name of published weights, for some network."""
    if not isinstance(weights, str):
        return False
    prefix, slash, name = weights.rpartition("/")
    prefixes = {*_FAMILIES, *(each.network for each in PUBLISHED)} if slash else {""}
    return prefix in prefixes and any(each.name == name for each in PUBLISHED)


def find_full_name(name):
    """Returns the `Published` of a full name, or `None`."""
    return next((each for each in PUBLISHED if each.full_name == name), None)


def published_file(model, weights):
    """Returns the path of published weights for `model`, and downloads and converts them the first time.

    Both files are in Keras's cache: the publisher's, and a `.safetensors` file with the same weights, which
    is read without PyTorch.

    Args:
        model: a model of this package.
        weights: a name for which `is_published` is true. Without a prefix, STM takes TSM's weights, and the
            other networks their own.

    Raises:
        ValueError: if there are no such weights for this model, or they cannot be downloaded, or a file of
            another content is in their place.
        ImportError: if PyTorch is not installed, the first time.
        OSError: if they cannot be written, for example because the disk is full.
    """
    return file_of(choose(describe(model), weights), weights)


def choose(network, weights):
    """Returns the `Published` that a name means for a `Network`."""
    own = "tsm" if network.family == "stm" else network.family
    fitting = [each for each in PUBLISHED if each.depth == network.depth]
    for each in fitting:
        if weights in (f"{each.family}/{each.name}", each.full_name) or (each.family, each.name) == (
            own,
            weights,
        ):
            return each
    names = [each.name if each.family == own else f"{each.family}/{each.name}" for each in fitting]
    available = (
        f"those of its size are {', '.join(map(repr, names))}" if names else "there are none of its size"
    )
    raise ArgumentError("weights", weights, f"are not published for {_describe(network)}: {available}")


def _describe(network):
    return (
        f"{network.family.upper()} with the depths of ResNet-{network.depth}"
        if network.depth
        else str(network)
    )


def file_of(published, weights):
    """Returns the path of a `Published` file, see `published_file`."""
    name = os.path.basename(published.url)
    checkpoint = os.path.join(cache_folder("models"), name)
    converted = f"{os.path.splitext(checkpoint)[0]}.safetensors"

    def make():
        if not os.path.exists(checkpoint):
            download(published.url, checkpoint, weights, published.sha256, published.megabytes)
        elif not hash_of(checkpoint).startswith(published.sha256):
            raise ArgumentError(
                "weights",
                weights,
                f"cannot be read: the SHA-256 of {checkpoint} does not begin with {published.sha256}. Remove "
                f"the file to download it again, or replace it by {published.url}",
            )
        _convert(checkpoint, converted)

    return make_once(converted, make)


def _convert(checkpoint, path):
    import safetensors.numpy

    arrays = read_torch(checkpoint)
    with replacing(path, shared=True) as partial:
        safetensors.numpy.save_file(arrays, partial)
