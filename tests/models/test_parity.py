"""Parity with the PyTorch network of `tests/reference`, weights and running statistics random.

The weights travel as a checkpoint file in the published names, as a user's would.
"""

import pytest

torch = pytest.importorskip("torch")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402

from keras_stm import STMResNet  # noqa: E402
from keras_stm.models import TSMResNet, TSNResNet  # noqa: E402
from keras_stm.weights import load_weights, save_safetensors  # noqa: E402
from tests.reference.backend import (  # noqa: E402
    compute,
    numpy,
    oriented,
    relative_error,
)
from tests.reference.torch_stm import DEPTHS, TorchSTM, randomize  # noqa: E402

TOLERANCE = 1e-4
TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}
MODELS = {
    "stm": (STMResNet, {}),
    "tsn": (TSNResNet, {"branches": ()}),
    "tsm": (TSMResNet, {"tsm": True}),
}


def random_clip(frames, height, width, batch=1):
    clip = np.random.default_rng(0).normal(size=(batch, frames, height, width, 3))
    return clip.astype("float32")


def torch_logits(net, clip):
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(np.moveaxis(clip, -1, 2)))).numpy()


def keras_logits(model, clip, data_format="channels_last"):
    return numpy(compute(model, oriented(clip, data_format)))


def pair(kind, folder, data_format="channels_last", depths=(1, 1, 1, 1), **arguments):
    """The PyTorch network and ours, with the weights of the former."""
    build, torch_arguments = MODELS[kind]
    net = randomize(TorchSTM(depths, **arguments, **torch_arguments))
    path = folder / "published.safetensors"
    safetensors.torch.save_file(net.state_dict(), path)
    model = build(depths, classifier_activation=None, data_format=data_format, **arguments)
    load_weights(model, path)
    return net, model


@pytest.mark.parametrize(
    "kind, data_format, size",
    [
        ("stm", "channels_last", 224),
        # Each compiles for long; what they are made of is compared under every backend below.
        pytest.param("stm", "channels_last", 64, marks=pytest.mark.once),
        pytest.param("tsn", "channels_last", 64, marks=pytest.mark.once),
        pytest.param("tsm", "channels_last", 64, marks=pytest.mark.once),
        pytest.param("stm", "channels_first", 64, marks=pytest.mark.once),
    ],
)
def test_depth_50_equals_pytorch(kind, data_format, size, tmp_path, record_property):
    net, model = pair(kind, tmp_path, data_format, DEPTHS[50], width=64, classes=174)
    clip = random_clip(8, size, size)
    error = relative_error(keras_logits(model, clip, data_format), torch_logits(net, clip))
    record_property("relative_error", error)
    print(f"{keras.backend.backend()} {kind} {data_format} 8x{size}x{size}: {error:.1e}")
    assert error < TOLERANCE


@pytest.mark.parametrize(
    "arguments",
    [
        {"branches": ("cstm",)},
        {"branches": ("cmm",)},
        {"branches": ()},
        {"fusion": "mean"},
        {"fusion": "concat"},
        {"temporal_conv": "ordinary"},
        {"reduction": 4},
        {"stm_stages": (2,)},
        {"stm_stages": (5, 3)},
        {"stm_blocks": "first", "depths": (2, 1, 1, 2)},
        {"stm_blocks": "first", "stm_stages": (4,), "depths": (1, 1, 3, 1)},
        {"depths": (1, 2, 1, 3), "width": 32},
        {"data_format": "channels_first", "fusion": "concat", "temporal_conv": "ordinary"},
    ],
    ids=str,
)
def test_every_argument_equals_pytorch(arguments, tmp_path):
    arguments = {"data_format": "channels_last", **TINY, **arguments}
    net, model = pair("stm", tmp_path, **arguments)
    clip = random_clip(4, 48, 48)
    actual = keras_logits(model, clip, arguments["data_format"])
    assert relative_error(actual, torch_logits(net, clip)) < TOLERANCE


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """`tiny(kind)`: one pair of networks for clips of any length and size."""
    pairs = {}

    def get(kind):
        if kind not in pairs:
            pairs[kind] = pair(kind, tmp_path_factory.mktemp(kind), **TINY)
        return pairs[kind]

    return get


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("frames", [1, 4, 16])
def test_any_number_of_frames_equals_pytorch(kind, frames, tiny):
    net, model = tiny(kind)
    clip = random_clip(frames, 64, 64, batch=2)
    assert relative_error(keras_logits(model, clip), torch_logits(net, clip)) < TOLERANCE


# 112 becomes odd on its way down, where a pool that rounds down does not fit the strided convolution.
@pytest.mark.parametrize("size", [(112, 112), (97, 131), (160, 33)], ids=str)
def test_any_size_equals_pytorch(size, tiny):
    net, model = tiny("stm")
    clip = random_clip(4, *size)
    assert relative_error(keras_logits(model, clip), torch_logits(net, clip)) < TOLERANCE


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
def test_parity_would_fail_for_another_network(mutant, tiny):
    net, model = tiny("stm")
    other = TorchSTM(**{**TINY, **mutant})
    other.load_state_dict(net.state_dict(), strict=False)
    clip = random_clip(4, 64, 64)
    error = relative_error(keras_logits(model, clip), torch_logits(other.eval(), clip))
    assert error > 10 * TOLERANCE


@pytest.mark.parametrize("fusion", ["sum", "concat"])
def test_weights_return_to_pytorch_unchanged(fusion, tmp_path):
    net, model = pair("stm", tmp_path, fusion=fusion, temporal_conv="ordinary", **TINY)
    path = tmp_path / "ours.safetensors"
    save_safetensors(model, path)
    returned = safetensors.torch.load_file(path)
    expected = {
        name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    assert returned.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(returned[name], value), name
