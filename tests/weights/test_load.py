"""`load_weights` and `weights=`: every kind of file, and the errors for files that do not fit."""

import argparse
import errno
import http.client
import logging
import os
import pickle
import ssl
import sys
import urllib.error

import keras
import numpy as np
import pytest
import safetensors.numpy

import keras_stm
from keras_stm import TSMResNet
from keras_stm.arguments import ArgumentError
from keras_stm.weights import load_weights, save_safetensors
from keras_stm.weights.imagenet import imagenet_file

TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    return model


def tiny(**kwargs):
    return keras_stm.STMResNet(**{**TINY, **kwargs})


def same_weights(model, other):
    return all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def read_reference(model, folder):
    """Returns a model's weights as arrays under the published names."""
    path = os.path.join(folder, "reference.safetensors")
    save_safetensors(model, path)
    return safetensors.numpy.load_file(path)


def torchvision_resnet(depths, width, classes, seed=0):
    """Returns random weights with the names and shapes of torchvision's ResNets."""
    rng = np.random.default_rng(seed)
    arrays = {}

    def conv(name, filters, channels, size):
        arrays[f"{name}.weight"] = rng.random((filters, channels, size, size), "float32") - 0.5

    def bn(name, channels):
        for suffix in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{suffix}"] = rng.uniform(0.5, 1, channels)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", width, 3, 7)
    bn("bn1", width)
    channels = width
    for stage, depth in enumerate(depths, 1):
        filters = width * 2 ** (stage - 1)
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            conv(f"{prefix}.conv1", filters, channels, 1)
            conv(f"{prefix}.conv2", filters, filters, 3)
            conv(f"{prefix}.conv3", 4 * filters, filters, 1)
            for number, size in ((1, filters), (2, filters), (3, 4 * filters)):
                bn(f"{prefix}.bn{number}", size)
            if block == 0:
                conv(f"{prefix}.downsample.0", 4 * filters, channels, 1)
                bn(f"{prefix}.downsample.1", 4 * filters)
            channels = 4 * filters
    arrays["fc.weight"] = rng.random((classes, channels), "float32")
    arrays["fc.bias"] = rng.normal(size=classes)
    return {name: np.asarray(a, "int64" if a.ndim == 0 else "float32") for name, a in arrays.items()}


@pytest.fixture(scope="module")
def saved():
    """A model with random weights. No test changes it."""
    return randomize(tiny())


@pytest.fixture(scope="module")
def published(saved, tmp_path_factory):
    """The weights of `saved` under the published names."""
    return read_reference(saved, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def one():
    return tiny()


@pytest.fixture
def model(one):
    """A model like `saved` with other weights."""
    return randomize(one, seed=1)


@pytest.fixture(scope="module")
def tsm():
    return TSMResNet(**TINY)


def save_keras(model, path):
    """Saves in the format that the file name states."""
    if str(path).endswith(".safetensors"):
        save_safetensors(model, path)
    else:
        (model.save if str(path).endswith(".keras") else model.save_weights)(path)


def save_torch(arrays, path, wrap=None, prefix=""):
    torch = pytest.importorskip("torch")
    state = {prefix + name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    torch.save({wrap: state, "epoch": 3} if wrap else state, path)
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        # All kinds of weights. One stage has two blocks, so that one shortcut has no convolution.
        {"fusion": "concat", "temporal_conv": "ordinary", "depths": (2, 1, 1, 1)},
        {"include_top": False, "data_format": "channels_first"},
    ],
    ids=["all", "no_top"],
)
def test_what_is_saved_is_read_back_exactly(arguments, tmp_path):
    model, other = tiny(**arguments), tiny(**arguments)
    for seed, suffix in enumerate((".safetensors", ".weights.h5", ".keras")):
        path = str(tmp_path / suffix / f"model{suffix}")
        os.mkdir(tmp_path / suffix)
        save_keras(randomize(model, seed), path)
        assert not same_weights(model, other)
        load_weights(other, path)
        assert same_weights(model, other)
        assert os.listdir(tmp_path / suffix) == [f"model{suffix}"]


def test_a_model_from_a_file_gives_and_takes_weights_as_well(saved, model, tmp_path):
    saved.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    save_safetensors(restored, tmp_path / "model.safetensors")
    load_weights(model, tmp_path / "model.safetensors")
    assert same_weights(saved, model)
    load_weights(randomize(restored, seed=2), tmp_path / "model.keras")
    assert same_weights(saved, restored)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "suffix, prefix, wrap",
    [
        (".pth", "", None),
        (".pt", "module.", None),
        (".pth.tar", "module.base_model.", "state_dict"),
    ],
)
def test_reference_checkpoints_load_however_they_are_wrapped_and_prefixed(
    suffix, prefix, wrap, saved, published, model, tmp_path
):
    arrays = {**published, "bn1.num_batches_tracked": np.array(7)}
    path = save_torch(arrays, tmp_path / f"checkpoint{suffix}", wrap, prefix)
    load_weights(model, path)
    assert same_weights(saved, model)


def test_the_argument_of_a_model_loads_a_file(saved, tmp_path):
    saved.save_weights(tmp_path / "model.weights.h5")
    assert same_weights(saved, tiny(weights=str(tmp_path / "model.weights.h5")))


def test_tsm_checkpoints_load_with_their_own_names(tsm, tmp_path):
    before = randomize(tsm).get_weights()
    arrays = {}
    for name, array in read_reference(tsm, tmp_path).items():
        prefix = "module." if name.startswith("fc.") else "module.base_model."
        arrays[prefix + name.replace("fc.", "new_fc.")] = array
    path = save_torch(arrays, tmp_path / "tsm.pth.tar", "state_dict")
    load_weights(randomize(tsm, seed=1), path)
    for old, new in zip(before, tsm.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_half_precision_checkpoints_load(saved, published, model, tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array).bfloat16() for name, array in published.items()}
    torch.save(state, tmp_path / "half.pth")
    import ml_dtypes

    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in published.items()}
    safetensors.numpy.save_file(halves, tmp_path / "half.safetensors")
    for name in ("half.pth", "half.safetensors"):
        load_weights(model, tmp_path / name)
        for ours, theirs in zip(saved.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(theirs, ours.astype(ml_dtypes.bfloat16).astype("float32"))


@pytest.mark.parametrize("name", ["model", "tsm"])
def test_a_2d_resnet_is_inflated_and_what_it_lacks_keeps_its_values(name, tmp_path, request):
    arrays = torchvision_resnet(TINY["depths"], 16, classes=5)
    path = str(tmp_path / "resnet.safetensors")
    safetensors.numpy.save_file(arrays, path)
    model = request.getfixturevalue(name)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}
    load_weights(model, path)
    after = read_reference(model, tmp_path)
    for published_name, array in arrays.items():
        if name == "tsm" and published_name.startswith("layer"):
            published_name = published_name.replace(".conv1.", ".conv1.net.")
        if not published_name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(after[published_name], array)
    temporal = [v for v in model.weights if "/temporal_conv/" in v.path or "/cmm/" in v.path]
    assert bool(temporal) == (name == "model")
    for variable in temporal:
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), before[variable.path])


@pytest.fixture(scope="module")
def depth_50():
    return keras_stm.TSNResNet50(classes=1000)


def test_imagenet_inflates_the_cached_file_and_leaves_the_head_random(depth_50, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    os.makedirs(tmp_path / "models")
    arrays = torchvision_resnet((3, 4, 6, 3), 64, classes=1000)
    safetensors.numpy.save_file(arrays, tmp_path / "models" / "resnet50.tv_in1k.safetensors")
    load_weights(depth_50, "imagenet")
    for layer, name in (("conv1_conv", "conv1"), ("conv5_block3", "layer4.2.conv1")):
        layer = depth_50.get_layer(layer)
        kernel = layer.get_weights()[0]
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), arrays[f"{name}.weight"])
    assert np.abs(depth_50.get_layer("predictions").get_weights()[0]).max() < 0.01


def visible(folder):
    """Returns the names in a folder, without those of the hidden locks."""
    return [name for name in os.listdir(folder) if not name.endswith(".lock")]


def raising(error):
    """Returns a replacement for `urlretrieve` that writes a part of the file and raises `error`."""

    def retrieve(url, path, *args):
        with open(path, "w") as file:
            file.write("a part")
        raise error

    return retrieve


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable")),
        urllib.error.HTTPError("https://huggingface.co", 503, "busy", None, None),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("timed out"),
        ssl.SSLEOFError("EOF occurred"),
        http.client.IncompleteRead(b""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_imagenet_without_a_network_says_what_file_to_put_where(error, depth_50, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", raising(error))
    with pytest.raises(ArgumentError) as error:
        load_weights(depth_50, "imagenet")
    assert (error.value.name, error.value.value) == ("weights", "imagenet")
    message = str(error.value)
    assert "https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors" in message
    assert str(tmp_path / "models" / "resnet50.tv_in1k.safetensors") in message
    assert visible(tmp_path / "models") == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_imagenet_weights_do_not_fit_on_is_no_failed_download(
    number, depth_50, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(
        "keras.src.utils.file_utils.urlretrieve", raising(OSError(number, os.strerror(number)))
    )
    with pytest.raises(OSError, match="resnet50.tv_in1k.safetensors") as error:
        load_weights(depth_50, "imagenet")
    assert error.value.errno == number
    assert visible(tmp_path / "models") == []


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()], ids=repr)
def test_imagenet_reports_nothing_else_as_a_failed_download(error, depth_50, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", raising(error))
    with pytest.raises(type(error)):
        load_weights(depth_50, "imagenet")
    assert visible(tmp_path / "models") == []


def test_imagenet_weights_are_downloaded_once(depth_50, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path, asked = tmp_path / "models" / "resnet50.tv_in1k.safetensors", []

    def retrieve(url, path, *args):
        asked.append(url)
        with open(path, "w") as file:
            file.write("all of it")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", retrieve)
    for _ in range(2):
        assert imagenet_file(depth_50) == str(path)
    assert asked == ["https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors"]
    assert visible(path.parent) == [path.name] and path.read_text() == "all of it"


@pytest.fixture(scope="module")
def seven_classes():
    return tiny(classes=7)


@pytest.mark.parametrize("suffix", [".safetensors", ".weights.h5", ".keras"])
def test_a_head_of_another_size_keeps_its_values_and_is_logged_once(
    suffix, saved, seven_classes, tmp_path, caplog
):
    path = str(tmp_path / f"model{suffix}")
    save_keras(saved, path)
    other = randomize(seven_classes, seed=1)
    head = other.get_layer("predictions").get_weights()
    with caplog.at_level(logging.WARNING):
        logging.getLogger("absl").addHandler(caplog.handler)
        load_weights(other, path)
        logging.getLogger("absl").removeHandler(caplog.handler)
    for before, after in zip(head, other.get_layer("predictions").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    for ours, theirs in zip(other.get_weights()[:-2], saved.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    lines = {record.getMessage() for record in caplog.records}
    assert len(lines) == 1
    (line,) = lines
    assert (
        f"model{suffix}" in line
        and "The head starts anew: the file has 5 classes, and this model has 7." in line
    )


def test_a_model_without_head_takes_the_rest_of_a_file_that_has_one(saved, tmp_path):
    saved.save_weights(tmp_path / "model.weights.h5")
    headless = tiny(include_top=False, weights=str(tmp_path / "model.weights.h5"))
    for ours, theirs in zip(headless.get_weights(), saved.get_weights(), strict=False):
        np.testing.assert_array_equal(ours, theirs)


def assert_refused(model, path, *parts):
    """The error names the file and contains `parts`, and the model is unchanged."""
    before = model.get_weights()
    with pytest.raises(ArgumentError) as error:
        load_weights(model, path)
    assert (error.value.name, error.value.value) == ("weights", path)
    message = str(error.value)
    assert message.endswith(f"Received: weights={path!r}")
    for part in (os.path.basename(path), *parts):
        assert part in message
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_file_that_does_not_fit_lists_the_first_of_each_kind_and_changes_nothing(
    published, model, tmp_path
):
    arrays = dict(published)
    arrays["extra.weight"] = arrays.pop("conv1.weight")
    arrays["layer1.0.shift.weight"] = np.zeros((8, 1, 3), "float32")
    path = str(tmp_path / "other.safetensors")
    safetensors.numpy.save_file(arrays, path)
    assert_refused(
        model,
        path,
        "1 missing: conv1.weight",
        "1 unexpected: extra.weight",
        "1 of another shape: layer1.0.shift.weight (8, 1, 3) instead of (16, 1, 3)",
    )


@pytest.mark.parametrize(
    "value, problem",
    [
        (np.float32(np.nan), "1 not finite: bn1.weight"),
        (np.float64(1e300), "1 not finite: bn1.weight"),
        (np.int8(1), "1 not of floating point: bn1.weight int8"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_named_and_change_nothing(
    value, problem, published, model, tmp_path
):
    arrays = dict(published)
    arrays["bn1.weight"] = np.full_like(arrays["bn1.weight"], value, dtype=value.dtype)
    path = str(tmp_path / "other.safetensors")
    safetensors.numpy.save_file(arrays, path)
    assert_refused(model, path, problem)


@pytest.mark.parametrize(
    "kwargs, problems",
    [
        (
            {"fusion": "concat", "branches": ("cmm",)},
            [
                "4 missing: conv2_block1/fusion_conv/conv/0, ",
                "4 unexpected: conv2_block1/cstm/temporal_conv/0, ",
            ],
        ),
        ({"width": 32}, ["of another shape: conv1_conv/conv/0 (7, 7, 3, 16) instead of (7, 7, 3, 32), "]),
    ],
    ids=str,
)
def test_a_file_of_another_network_is_refused_by_name(kwargs, problems, saved, tmp_path):
    saved.save_weights(tmp_path / "stm.weights.h5")
    assert_refused(tiny(**kwargs), str(tmp_path / "stm.weights.h5"), *problems)


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_checkpoint_that_would_run_code_is_refused_and_not_run(protocol, model, tmp_path):
    torch = pytest.importorskip("torch")
    content = {"state_dict": {}, "hook": _Attack(tmp_path / "attacked")}
    path = tmp_path / "attack.pth"
    if protocol == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    assert_refused(model, str(path), "save the `state_dict` alone")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>Not found</html>", b"\x00" * 100])
def test_what_is_no_checkpoint_at_all_is_not_called_dangerous(content, model, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "page.pth").write_bytes(content)
    assert_refused(model, str(tmp_path / "page.pth"), "page.pth is damaged or not a PyTorch checkpoint")


def test_parameters_load_as_tensors_do(saved, published, model, tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.nn.Parameter(torch.from_numpy(array)) for name, array in published.items()}
    torch.save(state, tmp_path / "parameters.pth")
    load_weights(model, tmp_path / "parameters.pth")
    assert same_weights(saved, model)


def test_a_checkpoint_with_training_arguments_is_refused_with_the_way_out(model, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "run.pth")
    assert_refused(model, str(tmp_path / "run.pth"), "save the `state_dict` alone")


@pytest.mark.parametrize(
    "suffix, reader",
    [
        (".safetensors", "safetensors.numpy.load_file"),
        (".keras", "h5py.File"),
        (".pth", "torch.load"),
    ],
)
def test_a_file_that_there_is_no_memory_for_is_not_called_damaged(
    suffix, reader, saved, published, model, tmp_path, monkeypatch
):
    path = tmp_path / f"model{suffix}"
    save_torch(published, path) if suffix == ".pth" else save_keras(saved, path)

    def out_of_memory(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(reader, out_of_memory)
    with pytest.raises(MemoryError):
        load_weights(model, path)


@pytest.mark.parametrize("suffix", [".safetensors", ".weights.h5", ".keras", ".pth"])
def test_a_damaged_file_is_named(suffix, saved, published, model, tmp_path):
    path = tmp_path / f"damaged{suffix}"
    if suffix == ".pth":
        save_torch(published, path)
    else:
        save_keras(saved, path)
    content = path.read_bytes()
    for kept in (0, 10, len(content) // 2):
        path.write_bytes(content[:kept])
        assert_refused(model, str(path))


def test_a_model_with_further_layers_is_refused(tmp_path):
    model = tiny(include_top=False, pooling="avg")
    model = keras.Sequential([model, keras.layers.Dense(3)])
    with pytest.raises(ArgumentError) as error:
        save_safetensors(model, tmp_path / "model.safetensors")
    assert error.value.name == "model"
    assert os.listdir(tmp_path) == []


def test_without_pytorch_safetensors_are_read_and_checkpoints_say_what_is_missing(
    saved, model, tmp_path, monkeypatch
):
    save_safetensors(saved, tmp_path / "model.safetensors")
    (tmp_path / "model.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)  # the import of torch then fails
    load_weights(model, tmp_path / "model.safetensors")
    assert same_weights(saved, model)
    with pytest.raises(ImportError, match="pip install torch"):
        load_weights(model, tmp_path / "model.pth")
