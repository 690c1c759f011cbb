"""Parity with the PyTorch network of `tests/reference`, with random weights and running statistics.

The weights are transferred in a checkpoint file with the published names, like a user's checkpoint.
"""

import functools
import tempfile

import pytest

torch = pytest.importorskip("torch")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402

from keras_stm import STMResNet, TSMResNet, TSNResNet  # noqa: E402
from keras_stm.weights import load_weights, save_safetensors  # noqa: E402
from tests.reference.backend import (  # noqa: E402
    BACKEND,
    compute,
    numpy,
    oriented,
    relative_error,
)
from tests.reference.torch_stm import DEPTHS, TorchSTM, randomize  # noqa: E402

TOLERANCE = 1e-4
TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}
BUILD = {"stm": STMResNet, "tsn": TSNResNet, "tsm": TSMResNet}
OF_TORCH = {"stm": {}, "tsn": {"branches": ()}, "tsm": {"tsm": True}}
# All values of the arguments, in as few networks as can distinguish them. Backends could only differ in the
# layers, and the tests of the layers compare these under each backend.
MODELS = {
    "stm": {},
    "tsn": {},
    "tsm": {},
    "concatenation, ordinary convolution, channels first": {
        **{"fusion": "concat", "temporal_conv": "ordinary", "data_format": "channels_first"},
    },
    "cstm in a wider and deeper network": {"branches": ("cstm",), "depths": (1, 2, 1, 1), "width": 32},
    "cmm of another reduction": {"branches": ("cmm",), "reduction": 4},
    "mean in the first blocks of some stages": {
        **{"fusion": "mean", "temporal_conv": "ordinary"},
        **{"stm_stages": (5, 3), "stm_blocks": "first", "depths": (1, 1, 1, 2)},
    },
}


def random_clip(frames, height, width, batch=1):
    clip = np.random.default_rng(0).normal(size=(batch, frames, height, width, 3))
    return clip.astype("float32")


def torch_logits(net, clip):
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(np.moveaxis(clip, -1, 2)))).numpy()


def keras_logits(model, clip, data_format="channels_last"):
    return numpy(compute(model, oriented(clip, data_format)))


def pair(kind, data_format="channels_last", **arguments):
    """Returns the PyTorch network and our model with its weights."""
    net = randomize(TorchSTM(**arguments, **OF_TORCH[kind]))
    model = BUILD[kind](classifier_activation=None, data_format=data_format, **arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/published.safetensors"
        safetensors.torch.save_file(net.state_dict(), path)
        load_weights(model, path)
    return net, model


@functools.cache
def tiny(name):
    return pair(name if name in BUILD else "stm", **{**TINY, **MODELS[name]})


def assert_parity(net, model, clip, data_format="channels_last"):
    error = relative_error(keras_logits(model, clip, data_format), torch_logits(net, clip))
    assert error < TOLERANCE
    return error


@pytest.mark.every_backend
def test_depth_50_equals_pytorch(record_property):
    net, model = pair("stm", depths=DEPTHS[50], width=64, classes=174)
    # Full size only under TensorFlow: the other backends would have to compile for a long time again.
    for size in (64, 224) if BACKEND == "tensorflow" else (64,):
        error = assert_parity(net, model, random_clip(8, size, size))
        record_property(f"relative_error_{size}", error)
        print(f"{keras.backend.backend()} 8x{size}x{size}: {error:.1e}")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.every_backend if index < 4 else [])
        for index, name in enumerate(MODELS)
    ],
)
def test_every_kind_of_network_equals_pytorch(name):
    data_format = MODELS[name].get("data_format", "channels_last")
    assert_parity(*tiny(name), random_clip(4, 32, 32, batch=2), data_format)


# 41 and 20 become odd in later stages. A pool that rounds down would not match the strided convolution there.
@pytest.mark.parametrize(
    "frames, height, width", [pytest.param(1, 41, 20, marks=pytest.mark.every_backend), (7, 1, 1)]
)
def test_any_number_of_frames_and_any_size_equals_pytorch(frames, height, width):
    assert_parity(*tiny("stm"), random_clip(frames, height, width))


@pytest.mark.parametrize(
    "mutant",
    [
        {"branches": ("cstm",)},
        {"branches": ("cmm",)},
        {"fusion": "mean"},
        {"tsm": True, "branches": ()},
        {"stm_stages": (2, 3, 4)},
    ],
    ids=str,
)
def test_parity_would_fail_for_another_network(mutant):
    net, model = tiny("stm")
    other = TorchSTM(**{**TINY, **mutant})
    other.load_state_dict(net.state_dict(), strict=False)
    clip = random_clip(4, 32, 32, batch=2)
    error = relative_error(keras_logits(model, clip), torch_logits(other.eval(), clip))
    assert error > 10 * TOLERANCE


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["stm", "concatenation, ordinary convolution, channels first"])
def test_weights_return_to_pytorch_unchanged(name, tmp_path):
    net, model = tiny(name)
    path = tmp_path / "ours.safetensors"
    save_safetensors(model, path)
    returned = safetensors.torch.load_file(path)
    expected = {
        name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    assert returned.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(returned[name], value), name
