"""Checkpoints of other code: each layout equals its PyTorch network, and one line tells what starts anew."""

import logging
import sys
import types

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from keras_stm import STMResNet, TSMResNet, TSNResNet  # noqa: E402
from keras_stm.arguments import ArgumentError  # noqa: E402
from keras_stm.weights import load_weights, save_safetensors  # noqa: E402
from tests.reference.backend import compute, numpy, relative_error  # noqa: E402
from tests.reference.torch_layouts import MMRecognizer, TimmResNet  # noqa: E402
from tests.reference.torch_stm import randomize  # noqa: E402

TINY = {"depths": (2, 1, 1, 1), "width": 16, "classes": 5}
CLIP = np.random.default_rng(0).normal(size=(2, 4, 32, 32, 3)).astype("float32")
LAYOUTS = {
    "mmaction2's TSN": (TSNResNet, lambda: MMRecognizer(**TINY), lambda state: {"state_dict": state}),
    "mmaction2's TSM": (
        TSMResNet,
        lambda: MMRecognizer(**TINY, tsm=True),
        lambda state: {"meta": {"epoch": 50}, "state_dict": state, "message_hub": {"iter": np.int64(3)}},
    ),
    "timm": (TSNResNet, lambda: TimmResNet(**TINY), lambda state: state),
    "timm with a prefix": (
        TSNResNet,
        lambda: TimmResNet(**TINY),
        lambda state: {"state_dict": {f"model.encoder.{name}": value for name, value in state.items()}},
    ),
}


@pytest.fixture
def lines(caplog):
    """The lines that are logged."""
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    yield lambda: list(dict.fromkeys(record.getMessage() for record in caplog.records))
    logger.removeHandler(caplog.handler)


def save(content, path):
    torch.save(content, path)
    return str(path)


@pytest.mark.every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_equals_its_pytorch_network(layout, tmp_path, lines):
    build, make_net, wrap = LAYOUTS[layout]
    net = randomize(make_net())
    path = save(wrap(net.state_dict()), tmp_path / "net.pth")
    model = build(TINY["depths"], TINY["width"], weights=path, classifier_activation=None)
    with torch.no_grad():
        expected = net(torch.from_numpy(np.moveaxis(CLIP, -1, 2).copy())).numpy()
    assert relative_error(numpy(compute(model, CLIP)), expected) < 1e-4
    assert lines() == []


@pytest.fixture(scope="module")
def tsm_file(tmp_path_factory):
    net = randomize(MMRecognizer(**TINY, tsm=True))
    return save({"state_dict": net.state_dict()}, tmp_path_factory.mktemp("tsm") / "tsm.pth")


@pytest.fixture(scope="module")
def tsm(tsm_file):
    """A model with the weights of `tsm_file`. No test changes it."""
    return TSMResNet(**TINY, weights=tsm_file)


def value_of(model, path):
    return keras.ops.convert_to_numpy(next(weight for weight in model.weights if weight.path == path))


def test_stm_starts_from_tsm_with_its_own_layers_at_their_initial_values(tsm_file, tsm, lines):
    model = STMResNet(**TINY, weights=tsm_file)
    for path in (
        "conv2_block2/reduce_conv/conv/kernel",
        "conv5_block1/cstm/bn/moving_mean",
        "predictions/bias",
    ):
        np.testing.assert_array_equal(value_of(model, path), value_of(tsm, path))
    kernel = value_of(model, "conv2_block1/cstm/temporal_conv/kernel")
    assert (kernel.sum(axis=0) == 1).all() and set(np.unique(kernel)) == {0, 1}
    (line,) = lines()
    assert line.startswith("tsm.pth: ") and "CSTM and CMM start anew" in line and "temporal shift" in line


def test_tsn_says_that_the_shift_is_lost_and_tsm_that_the_file_has_none(tsm_file, tmp_path, lines):
    model = TSNResNet(**TINY, weights=tsm_file)
    (line,) = lines()
    assert "temporal shift, which this network lacks" in line
    save_safetensors(model, tmp_path / "tsn.safetensors")
    TSMResNet(**TINY, weights=str(tmp_path / "tsn.safetensors"))
    assert "temporal shift, which the file does not name" in lines()[1]


@pytest.mark.parametrize("suffix", [".safetensors", ".weights.h5", ".keras"])
def test_our_own_files_of_tsm_tell_their_shift(suffix, tsm, tmp_path, lines):
    path = tmp_path / f"tsm{suffix}"
    {".safetensors": save_safetensors, ".keras": lambda m, p: m.save(p)}.get(
        suffix, lambda m, p: m.save_weights(p)
    )(tsm, path)
    load_weights(TSMResNet(**TINY), path)
    assert lines() == []
    load_weights(TSNResNet(**TINY), path)
    assert "temporal shift, which this network lacks" in lines()[0]


def test_every_second_block_of_a_deep_tsm_shifts_as_in_its_file(tmp_path):
    deep = {"depths": (2, 1, 23, 1), "width": 8, "classes": 3}
    with keras.StatelessScope(initialize_variables=False):
        layers = TSMResNet(**deep).layers
    shifted = [layer.name for layer in layers if hasattr(layer, "shift")]
    assert shifted == [
        "conv2_block1",
        "conv3_block1",
        *(f"conv4_block{i}" for i in range(1, 24, 2)),
        "conv5_block1",
    ]
    net = MMRecognizer(**deep, tsm=True)
    assert f"{net.state_dict().keys()}".count(".net.") == len(shifted)


def test_a_file_that_shifts_other_blocks_is_refused(tsm_file, tmp_path):
    state = torch.load(tsm_file, weights_only=True)["state_dict"]
    name = "backbone.layer1.1.conv1.conv.weight"
    state[name] = state.pop(name.replace(".weight", ".net.weight"))
    with pytest.raises(ArgumentError, match=r"4 blocks, and this model in 5.*layer1\.1\. Received: weights="):
        TSMResNet(**TINY, weights=save(state, tmp_path / "other.pth"))


@pytest.mark.parametrize(
    "name, what",
    [
        ("backbone.layer2.0.non_local_block.g.conv.weight", "non-local blocks"),
        ("module.base_model.layer2.0.nl.theta.weight", "non-local blocks"),
        ("module.base_model.layer2.0.net.conv1.weight", "shifts whole blocks"),
        ("backbone.layer2.net.0.conv1.conv.net.weight", "pools over time"),
    ],
)
def test_networks_that_are_not_ours_are_refused_by_name(name, what, tsm, tmp_path):
    path = save({name: torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ArgumentError, match=f"{what}.*layer2.* Received: weights="):
        load_weights(tsm, path)


class HistoryBuffer:
    """What mmengine's message hub holds, with a method that a pickle refers to by `getattr`."""

    def __init__(self):
        self._log_history = np.array([1.5, 2.5])
        self._count = np.float64(2)
        self._methods = {"mean": HistoryBuffer.mean}

    def mean(self):
        raise AssertionError("code of a checkpoint has run")


@pytest.mark.parametrize("module", ["mmengine.logging.history_buffer", "mmengine.logging"])
def test_what_mmengine_stores_beside_the_weights_is_passed_over(module, tsm_file, tsm, tmp_path, monkeypatch):
    state = torch.load(tsm_file, weights_only=True)["state_dict"]
    monkeypatch.setattr(HistoryBuffer, "__module__", module)
    monkeypatch.setitem(sys.modules, "mmengine", types.ModuleType("mmengine"))
    monkeypatch.setitem(sys.modules, "mmengine.logging", types.ModuleType("mmengine.logging"))
    holder = types.ModuleType(module)
    holder.HistoryBuffer = HistoryBuffer
    monkeypatch.setitem(sys.modules, module, holder)
    content = {
        "state_dict": state
        | {"data_preprocessor.mean": torch.zeros(3), "ema_backbone_conv1_bn_weight": state[NORM]},
        "message_hub": {
            "log_scalars": {"train/loss": HistoryBuffer()},
            "runtime_info": {"lr": np.float32(0.1)},
        },
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}},
    }
    path = save(content, tmp_path / "run.pth")
    monkeypatch.undo()
    model = TSMResNet(**TINY, weights=path)
    for ours, theirs in zip(model.get_weights(), tsm.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


NORM = "backbone.conv1.bn.weight"


def test_of_averaged_weights_those_are_taken_that_their_code_tests_with(tsm_file, tmp_path):
    """mmengine swaps the averaged weights into `state_dict`; timm keeps them in an entry of their own."""
    state = torch.load(tsm_file, weights_only=True)["state_dict"]
    last = {name: value + 1 for name, value in state.items()}
    mmengine = {"state_dict": state, "ema_state_dict": {f"module.{name}": v for name, v in last.items()}}
    timm = {"state_dict": last, "state_dict_ema": state}
    for content in (mmengine, timm):
        model = TSMResNet(**TINY, weights=save(content, tmp_path / "ema.pth"))
        np.testing.assert_array_equal(value_of(model, "conv1_bn/gamma"), state[NORM].numpy())


def test_several_dictionaries_of_tensors_are_not_chosen_from(tsm_file, tsm, tmp_path):
    state = torch.load(tsm_file, weights_only=True)["state_dict"]
    path = save({"teacher": state, "student": state}, tmp_path / "two.pth")
    with pytest.raises(
        ArgumentError, match="several dictionaries of tensors .'teacher', 'student'.: save one"
    ):
        load_weights(tsm, path)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin"])
def test_other_endings_and_the_home_folder_are_read(suffix, tsm_file, tsm, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    content = torch.load(tsm_file, weights_only=True)
    save(content, tmp_path / f"net{suffix}")
    model = TSMResNet(**TINY, weights=f"~/net{suffix}")
    np.testing.assert_array_equal(value_of(model, "conv1_bn/gamma"), value_of(tsm, "conv1_bn/gamma"))


def test_a_file_of_paddle_is_refused_with_the_way_out(tsm, tmp_path):
    (tmp_path / "tsm.pdparams").write_bytes(b"\x80\x04")
    with pytest.raises(ArgumentError, match="pickle of PaddlePaddle.*save them as .safetensors"):
        load_weights(tsm, tmp_path / "tsm.pdparams")


def test_a_file_without_a_head_gives_the_rest(tsm_file, tsm, tmp_path, lines):
    state = torch.load(tsm_file, weights_only=True)["state_dict"]
    state = {name: value for name, value in state.items() if not name.startswith("cls_head")}
    model = TSMResNet(**TINY, weights=save(state, tmp_path / "backbone.pth"))
    np.testing.assert_array_equal(value_of(model, "conv1_bn/gamma"), value_of(tsm, "conv1_bn/gamma"))
    assert "The head starts anew." in lines()[0]


@pytest.mark.parametrize("suffix", [".pth", ".weights.h5"])
@pytest.mark.parametrize("channels", [1, 2, 4, 10])
def test_other_channels_than_three_get_the_mean_over_rgb(channels, suffix, tsm_file, tsm, tmp_path, lines):
    path = tsm_file
    if suffix == ".weights.h5":
        path = tmp_path / f"tsm{suffix}"
        tsm.save_weights(path)
    model = TSMResNet(**TINY, input_shape=(None, None, None, channels), weights=str(path))
    kernel = value_of(model, "conv1_conv/conv/kernel")
    mean = value_of(tsm, "conv1_conv/conv/kernel").mean(2, keepdims=True)
    np.testing.assert_allclose(kernel, mean.repeat(channels, 2), rtol=1e-6)
    assert f"mean over RGB, repeated for {channels} channels" in lines()[0]


def test_without_a_number_of_classes_a_model_has_those_of_its_weights(tsm_file):
    arguments = {"depths": TINY["depths"], "width": TINY["width"]}
    assert TSMResNet(**arguments, weights=tsm_file).output_shape == (None, 5)
    with keras.StatelessScope(initialize_variables=False):
        assert TSMResNet(**arguments).output_shape == (None, 400)


def test_a_causal_tsm_says_that_the_weights_shift_both_ways(tsm_file, lines):
    TSMResNet(**TINY, weights=tsm_file, causal=True)
    assert lines()[0].endswith("Of TSM's shift it has only the part that reads the previous frame.")


@pytest.mark.parametrize("ending", [".keras", ".safetensors"])
def test_files_of_this_package_say_whether_their_network_is_causal(ending, tmp_path, lines):
    for causal in (True, False):
        model = STMResNet(**TINY, causal=causal)
        path = str(tmp_path / f"{causal}{ending}")
        model.save(path) if ending == ".keras" else save_safetensors(model, path)
    STMResNet(**TINY, causal=True, weights=str(tmp_path / f"True{ending}"))
    STMResNet(**TINY, causal=False, weights=str(tmp_path / f"False{ending}"))
    assert lines() == []
    STMResNet(**TINY, causal=True, weights=str(tmp_path / f"False{ending}"))
    STMResNet(**TINY, causal=False, weights=str(tmp_path / f"True{ending}"))
    first, second = lines()
    assert "This network is causal, and the weights were trained in one that is not." in first
    assert "The weights were trained in a causal network, and this one is not causal." in second
