"""Damaged, misleading and malicious weight files: each is rejected in one line, and changes nothing."""

import contextlib
import io
import json
import os
import pickle
import resource
import stat
import struct
import tempfile
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import keras_stm
from keras_stm import inference, model_file
from keras_stm.arguments import ArgumentError
from keras_stm.weights import load_weights, save_safetensors

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow

TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 3}
CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="segments")
# The weight that cases change: its published name, its name in Keras files, its group in an HDF5 file.
NAME, SHAPE = "bn1.weight", (16,)
KERAS_NAME = "conv1_bn/0"
GROUP = "layers/batch_normalization/vars"
HUGE = 2**40
# Unpacked bytes of the bombs. One case uses the large size, which would exceed the allowed memory.
BOMB, SMALL_BOMB = 2**29, 2**25
ALLOWED = 2**27


class Files:
    """Makes bad files from good ones."""

    def __init__(self, good, folder):
        self.good = good
        self.folder = folder
        # Next to the folder, as no file may be left in the folder.
        self.marker = folder.parent / f"{folder.name}.ran"
        self.elsewhere = folder.parent / f"{folder.name}.h5"

    def write(self, suffix, content=None):
        path = self.folder / f"bad{suffix}"
        path.write_bytes((self.good / f"good{suffix}").read_bytes() if content is None else content)
        return path

    def cut(self, suffix, part):
        content = (self.good / f"good{suffix}").read_bytes()
        return self.write(suffix, content[: int(len(content) * part)])

    def flip(self, suffix, part):
        content = bytearray((self.good / f"good{suffix}").read_bytes())
        content[int(len(content) * part)] ^= 255
        return self.write(suffix, content)

    def arrays(self, changed):
        arrays = safetensors.numpy.load_file(self.good / "good.safetensors") | changed
        return {name: array for name, array in arrays.items() if array is not None}

    def safetensors(self, changed):
        """Writes the good weights with some changed or added, and without those that are `None`."""
        path = self.folder / "bad.safetensors"
        safetensors.numpy.save_file(self.arrays(changed), path)
        return path

    def header(self, change):
        """Writes the good weights with the header that `change` returns, a dictionary or bytes."""
        content = (self.good / "good.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = change(json.loads(content[8 : 8 + length]))
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        return self.write(".safetensors", struct.pack("<Q", len(header)) + header + content[8 + length :])

    def entry(self, **changed):
        """Writes the good weights with another entry for one weight in the header."""
        return self.header(lambda header: header | {NAME: header[NAME] | changed})

    def torch(self, content, suffix=".pth", **options):
        path = self.folder / f"bad{suffix}"
        torch.save(content, path, **options)
        return path

    def state(self, changed, **options):
        tensors = {name: torch.as_tensor(array) for name, array in self.arrays(changed).items()}
        return self.torch(tensors, **options)

    def attack(self):
        return _Attack(self.marker)

    def h5(self, change):
        path = self.write(".weights.h5")
        with h5py.File(path, "a") as file:
            change(file)
        return path

    def replace(self, make):
        """Writes a .weights.h5 file in which `make(group, name)` creates one weight."""

        def change(file):
            del file[GROUP]["0"]
            make(file[GROUP], "0")

        return self.h5(change)

    def other_h5(self):
        """Writes another HDF5 file, which also serves as raw numbers; returns its path."""
        with h5py.File(self.elsewhere, "w") as file:
            file["0"] = np.ones(SHAPE, "float32")
        return str(self.elsewhere)

    def zip(self, change, compression=zipfile.ZIP_STORED):
        """Writes a .keras file after `change` has changed its parts, `{name: bytes}`."""
        with zipfile.ZipFile(self.good / "good.keras") as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        change(parts)
        path = self.folder / "bad.keras"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return path

    def part(self, name, content):
        return self.zip(lambda parts: parts.update({name: content}))

    def bomb(self, name, size=SMALL_BOMB):
        """Writes a .keras file in which one part is compressed zeros."""
        path = self.zip(lambda parts: parts.pop(name))
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as part:
            for _ in range(size // 2**20):
                part.write(bytes(2**20))
        return path

    def config(self, change):
        """Writes a .keras file with the configuration that `change` returns."""

        def change_parts(parts):
            parts["config.json"] = json.dumps(change(json.loads(parts["config.json"]))).encode()

        return self.zip(change_parts)

    def layer(self, config):
        """Writes a .keras file with another configuration for one layer."""

        def change(model):
            layers = model["config"]["layers"]
            layers[3] = {**layers[3], **config}
            return model

        return self.config(change)

    def loaded_h5(self, change):
        """Writes a .keras file after `change` has changed its weights."""
        with open(self.h5(change), "rb") as file:
            content = file.read()
        os.remove(self.folder / "bad.weights.h5")
        return self.part("model.weights.h5", content)


class _Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def full(value, dtype="float32"):
    return np.full(SHAPE, value, dtype)


def old_pickle(files):
    """Writes a pickle of protocol 0 by hand, in which the argument of `os.system` is text."""
    return files.write(".pth", f"cos\nsystem\n(S'touch {files.marker}'\ntR.".encode())


def npz_in_disguise(files, suffix):
    content = io.BytesIO()
    np.savez(content, weights=np.array([files.attack()], object))
    return files.write(suffix, content.getvalue())


def npy_in_disguise(files):
    content = io.BytesIO()
    np.save(content, np.array([files.attack()], object), allow_pickle=True)
    return files.write(".pth", content.getvalue())


def script(files):
    path = files.folder / "bad.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    return path


def packed_torch(files):
    """Writes a checkpoint whose storage is compressed zeros, which PyTorch's reader would unpack."""
    path = files.torch({"conv1.weight": torch.zeros(4)})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            with archive.open(name, "w") as part:
                for _ in range(SMALL_BOMB // 2**20 if name.endswith("data/0") else 0):
                    part.write(bytes(2**20))
                part.write(content)
    return path


def huge_storage(files):
    """Writes a checkpoint of the old format that states a storage of 8 GiB."""
    content = files.torch({"conv1.weight": torch.zeros(77)}, _use_new_zipfile_serialization=False)
    # The pickle stores 77 as a one-byte integer (K), and 2**31 - 1 as a four-byte integer (J).
    spoilt = content.read_bytes().replace(b"K\x4d", b"J\xff\xff\xff\x7f")
    return files.write(".pth", spoilt)


def hard_link_circle(file):
    file[GROUP]["circle"] = file["layers"]


def hard_link_avalanche(file):
    """Adds groups that each double the number of paths: there are too many paths to visit."""
    below = file["layers/batch_normalization"]
    for depth in range(60):
        group = file.create_group(f"layers/level{depth}")
        group.create_group("vars").attrs["name"] = "a"
        group["one"] = group["other"] = below
        below = group


def shape_bomb(group, name):
    group.create_dataset(name, (HUGE,), "float32", chunks=(2**20,))


def packed_dataset(group, name):
    shape = (SMALL_BOMB // 4,)
    dataset = group.create_dataset(name, shape, "float32", chunks=(2**20,), compression="gzip")
    for start in range(0, shape[0], 2**20):
        dataset[start : start + 2**20] = 0


def lead_elsewhere(file, path):
    """Replaces the layers with a link to the right layers in another file."""
    del file["layers"]
    file["layers"] = h5py.ExternalLink(str(path), "layers")


def virtual(files):
    layout = h5py.VirtualLayout(SHAPE, "float32")
    layout[:] = h5py.VirtualSource(files.other_h5(), "0", SHAPE)
    return lambda group, name: group.create_virtual_dataset(name, layout)


def raw_elsewhere(files):
    external = [(files.other_h5(), 0, 64)]
    return lambda group, name: group.create_dataset(name, SHAPE, "float32", external=external)


def same_name(file):
    file["layers/batch_normalization"].copy(file["layers/batch_normalization"], file["layers"], "again")


def encrypted(files):
    """Writes a .keras file whose parts are marked as encrypted."""
    content = files.write(".keras").read_bytes()
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content = content[: start + place] + b"\x01" + content[start + place + 1 :]
    return files.write(".keras", content)


SUFFIXES = (".safetensors", ".pth", ".weights.h5", ".keras")
# The file for `load_weights`, and a part of the error.
WEIGHTS = {
    # Pickles that would run code.
    "a hook in a checkpoint": (lambda f: f.torch({"hook": f.attack()}), "contains more than tensors"),
    "a hook in a checkpoint of the old format": (
        lambda f: f.torch({"hook": f.attack()}, ".pt", _use_new_zipfile_serialization=False),
        "contains more than tensors",
    ),
    "a hook among tensors": (
        lambda f: f.torch({"state_dict": {"conv1.weight": f.attack()}}, ".pth.tar"),
        "contains more than tensors",
    ),
    "a bare pickle": (lambda f: f.write(".pth", pickle.dumps(f.attack())), "contains more than tensors"),
    "a pickle by hand": (old_pickle, "not a PyTorch checkpoint"),
    "an npz archive as a checkpoint": (lambda f: npz_in_disguise(f, ".pt"), "not a PyTorch checkpoint"),
    "an npz archive as safetensors": (lambda f: npz_in_disguise(f, ".safetensors"), "not a safetensors"),
    "an npz archive as a model": (lambda f: npz_in_disguise(f, ".keras"), "no Keras weights"),
    "an npy file as a checkpoint": (npy_in_disguise, "not a PyTorch checkpoint"),
    "an npz archive": (lambda f: npz_in_disguise(f, ".npz"), "`weights` must be None, 'imagenet' or a file"),
    "a script": (script, "not a PyTorch checkpoint"),
    # Incomplete files, and files with another content than their name says.
    **{
        f"{part} of a {suffix} file": (lambda f, s=suffix, p=part: f.cut(s, p), "damaged")
        for suffix in SUFFIXES
        for part in (0.001, 0.999)
    },
    **{
        f"text named {suffix}": (lambda f, s=suffix: f.write(s, b"weights: see below\n" * 99), "damaged")
        for suffix in SUFFIXES
    },
    "a damaged byte in a model": (lambda f: f.flip(".keras", 0.5), "Bad CRC-32"),
    "a model without weights": (
        lambda f: f.zip(lambda parts: parts.pop("model.weights.h5")),
        "no item named",
    ),
    "a model whose weights are text": (lambda f: f.part("model.weights.h5", b"text"), "file signature"),
    "an encrypted model": (encrypted, "encrypted"),
    "another format": (lambda f: f.write(".onnx", b"x"), "`weights` must be None, 'imagenet' or a file"),
    # Missing, unexpected and wrong weights.
    "a missing weight": (lambda f: f.safetensors({NAME: None}), f"1 missing: {NAME}"),
    "no weights": (lambda f: f.torch({}), "missing: "),
    "an unexpected weight": (lambda f: f.safetensors({"x": full(0)}), "1 unexpected: x"),
    "a wrong shape": (lambda f: f.safetensors({NAME: np.ones(17)}), r"bn1.weight \(17,\) instead of \(16,\)"),
    "a transposed kernel": (
        lambda f: f.safetensors({"fc.weight": np.ones((512, 3), "float32")}),
        r"fc.weight \(512, 3\) instead of \(3, 512\)",
    ),
    **{
        f"{value} in {where}": (make, f"1 not finite: {name}")
        for value, where, name, make in (
            (np.nan, "safetensors", NAME, lambda f: f.safetensors({NAME: full(np.nan)})),
            (-np.inf, "a checkpoint", NAME, lambda f: f.state({NAME: full(-np.inf)})),
            (
                np.inf,
                "a .weights.h5 file",
                KERAS_NAME,
                lambda f: f.replace(lambda group, index: group.update({index: full(np.inf)})),
            ),
        )
    },
    "a number beyond float32": (lambda f: f.safetensors({NAME: full(1e300, "float64")}), "1 not finite: bn1"),
    **{
        f"a weight of {dtype}": (
            lambda f, d=dtype: f.safetensors({NAME: full(1, d)}),
            f"1 not of floating point: {NAME} {dtype}",
        )
        for dtype in ("int64", "bool", "complex64")
    },
    "integers in a checkpoint": (lambda f: f.state({NAME: full(1, "int32")}), "not of floating point: bn1"),
    "words in HDF5": (
        lambda f: f.replace(lambda group, name: group.update({name: ["a"] * 16})),
        f"not of floating point: {KERAS_NAME} object",
    ),
    "nothing in HDF5": (
        lambda f: f.replace(lambda group, name: group.create_dataset(name, dtype="float32")),
        rf"{KERAS_NAME} \(\) instead of \(16,\)",
    ),
    "a folder for a weight in HDF5": (
        lambda f: f.replace(lambda group, name: group.create_group(name)),
        f"missing: {KERAS_NAME}",
    ),
    # Checkpoints of other things than plain tensors.
    "a list for a checkpoint": (lambda f: f.torch([torch.ones(1)]), "no `state_dict` of tensors"),
    "a number for a weight": (lambda f: f.torch({"conv1.weight": 1.0}), "no `state_dict` of tensors"),
    "a number for a name": (lambda f: f.torch({1: torch.ones(1)}), "no `state_dict` of tensors"),
    "nothing for a state": (lambda f: f.torch({"state_dict": None}), "no `state_dict` of tensors"),
    "a sparse tensor": (lambda f: f.state({NAME: torch.eye(4).to_sparse()}), "not plain arrays"),
    "a tensor without numbers": (lambda f: f.state({NAME: torch.ones(16, device="meta")}), "plain arrays"),
    # Names.
    "a name that is a path": (lambda f: f.safetensors({"../../x": full(0)}), r"unexpected: \.\./\.\./x\."),
    "no name": (lambda f: f.safetensors({"": full(0)}), "1 unexpected: "),
    "an endless name": (lambda f: f.safetensors({"x" * 10**5: full(0)}), r"unexpected: x{80}\.\.\."),
    "a name with control characters": (
        lambda f: f.safetensors({"\x1b[2J\n\u202e": full(0)}),
        r"unexpected: '\\x1b\[2J\\n\\u202e'",
    ),
    "two names for one weight": (
        lambda f: f.safetensors({f"module.{NAME}": full(0)}),
        f"is ambiguous .it has two weights {NAME}",
    ),
    "a path for a layer's name in HDF5": (
        lambda f: f.h5(lambda file: file[GROUP].attrs.update({"name": "../../x"})),
        r"missing: conv1_bn/0, .*unexpected: \.\./\.\./x/0",
    ),
    "one name for two layers in HDF5": (lambda f: f.h5(same_name), "it has two weights conv1_bn/0"),
    "no name of a layer in HDF5": (lambda f: f.h5(lambda file: file[GROUP].attrs.clear()), "name"),
    # Headers with wrong statements.
    "a header of exabytes": (lambda f: f.write(".safetensors", b"\xff" * 8 + b"{}"), "not a safetensors"),
    "a header of a gigabyte": (
        lambda f: f.write(".safetensors", struct.pack("<Q", 2**30) + b"{}"),
        "not a safetensors",
    ),
    "no header": (lambda f: f.write(".safetensors", bytes(8)), "not a safetensors"),
    "a header of text": (lambda f: f.header(lambda header: b"weights"), "not a safetensors"),
    "a header without end": (lambda f: f.header(lambda header: b'{"a":' * 10**5), "not a safetensors"),
    "overlapping weights": (lambda f: f.entry(data_offsets=[0, 64]), "not a safetensors"),
    "a weight after the end": (lambda f: f.entry(data_offsets=[HUGE, HUGE + 64]), "not a safetensors"),
    "a shape of terabytes": (lambda f: f.entry(shape=[HUGE]), "not a safetensors"),
    "a negative shape": (lambda f: f.entry(shape=[-16]), "not a safetensors"),
    "an unknown type": (lambda f: f.entry(dtype="F31"), "not a safetensors"),
    "a storage of gigabytes in a checkpoint": (huge_storage, "not a PyTorch checkpoint"),
    "a tensor that repeats one number": (
        lambda f: f.torch({"conv1.weight": torch.ones(1).half().expand(HUGE)}),
        "not plain arrays .it would be 2,199,023,255,552 bytes",
    ),
    # Files that unpack to too many bytes, and files that refer to other files.
    "a checkpoint that is a bomb": (packed_torch, "it would be 33,"),
    "a model that is a bomb": (lambda f: f.bomb("model.weights.h5", BOMB), "it would be 53"),
    "HDF5 of a shape of terabytes": (lambda f: f.replace(shape_bomb), "it would be 4,398,"),
    "HDF5 that is a bomb": (lambda f: f.replace(packed_dataset), r"it would be 3\d,"),
    "HDF5 with a link to another file": (
        lambda f: f.replace(lambda group, name: group.update({name: h5py.ExternalLink(f.other_h5(), "0")})),
        f"1 missing: {KERAS_NAME}",
    ),
    "HDF5 whose layers are in another file": (
        lambda f: f.h5(lambda file: lead_elsewhere(file, f.good / "good.weights.h5")),
        "no weights in `layers`",
    ),
    "HDF5 with numbers in another file": (lambda f: f.replace(raw_elsewhere(f)), "lies in another file"),
    "HDF5 with a view of another file": (lambda f: f.replace(virtual(f)), "lies in another file"),
    "HDF5 whose links go in a circle": (
        lambda f: f.replace(lambda group, name: group.update({name: h5py.SoftLink(group.name)})),
        f"1 missing: {KERAS_NAME}",
    ),
    "HDF5 within itself": (
        lambda f: f.replace(lambda group, name: hard_link_circle(group.file)),
        "1 missing",
    ),
    # Paths that are not regular files.
    "a folder": (lambda f: made(f, os.mkdir), "`weights` is not a file that exists"),
    "a pipe": (lambda f: made(f, os.mkfifo), "`weights` is not a file that exists"),
    "a device": (lambda f: made(f, lambda p: os.symlink("/dev/zero", p)), "`weights` is not a file that"),
    "a link to itself": (
        lambda f: made(f, lambda p: os.symlink("bad.pth", p)),
        "`weights` is not a file that",
    ),
    "nothing": (lambda f: f.folder / "bad.pth", "`weights` is not a file that exists"),
}


def made(files, make):
    path = files.folder / "bad.pth"
    make(path)
    return path


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras_stm.STMResNet(**TINY)


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    """A folder with the model's weights in each kind of file."""
    folder = tmp_path_factory.mktemp("good")
    save_safetensors(model, folder / "good.safetensors")
    model.save_weights(folder / "good.weights.h5")
    model.save(folder / "good.keras")
    model_file.annotate(folder / "good.keras", ("a", "b", "c"), CLIP)
    arrays = safetensors.numpy.load_file(folder / "good.safetensors")
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "good.pth")
    return folder


@pytest.fixture
def files(good, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return Files(good, folder)


@contextlib.contextmanager
def nothing_happens(files):
    """Checks that the block leaves the folder unchanged, runs no code of a file, and takes little memory."""
    before = [(path.name, path.lstat().st_size) for path in sorted(files.folder.iterdir())]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
    assert [(path.name, path.lstat().st_size) for path in sorted(files.folder.iterdir())] == before
    assert not files.marker.exists()
    assert taken < ALLOWED


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_bad_file_is_refused_in_one_line_and_the_model_stays_as_it_was(case, model, files):
    make, message = WEIGHTS[case]
    path = make(files)
    before = model.get_weights()
    with nothing_happens(files), pytest.raises(ArgumentError, match=message) as error:
        load_weights(model, path)
    assert error.value.name == "weights" and str(error.value.value) == str(path)
    assert str(error.value).endswith(f"Received: weights={error.value.value!r}")
    assert path.name in str(error.value) and str(error.value).isprintable()
    assert len(str(error.value)) < 1000
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_is_not_built_with_a_bad_file(files):
    path = str(files.torch({"hook": files.attack()}))
    with nothing_happens(files), pytest.raises(ArgumentError) as error:
        keras_stm.STMResNet(**TINY, weights=path)
    assert (error.value.name, error.value.value) == ("weights", path)


def test_a_file_that_must_not_be_read_is_refused(model, good):
    """Root may read every file, so the test switches to another user if root runs it."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for suffix in SUFFIXES:
            path = os.path.join(folder, f"bad{suffix}")
            with open(path, "wb") as file:
                file.write((good / f"good{suffix}").read_bytes())
            os.chmod(path, 0)
            try:
                if user == 0:
                    os.seteuid(65534)
                with pytest.raises(ArgumentError, match=f"bad{suffix} .*[Pp]ermission denied"):
                    load_weights(model, path)
                with pytest.raises(ArgumentError, match="[Pp]ermission"):
                    inference.load(path)
            finally:
                os.seteuid(user)


@pytest.mark.parametrize(
    "dtype, suffix", [("float64", ".safetensors"), ("float16", ".pth"), ("bfloat16", ".weights.h5")]
)
def test_weights_of_another_precision_are_converted(dtype, suffix, model, files):
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    arrays = {name: array.astype(dtype) for name, array in files.arrays({}).items()}
    path = files.folder / f"converted{suffix}"
    if suffix == ".safetensors":
        safetensors.numpy.save_file(arrays, path)
    elif suffix == ".pth":
        kind = getattr(torch, np.dtype(dtype).name)
        torch.save(
            {name: torch.from_numpy(array.astype("float32")).to(kind) for name, array in arrays.items()}, path
        )
    else:
        keras.config.set_dtype_policy(np.dtype(dtype).name)
        other = keras_stm.STMResNet(**TINY)
        keras.config.set_dtype_policy("float32")
        other.set_weights(model.get_weights())
        other.save_weights(path)
    loaded = keras_stm.STMResNet(**TINY, weights=str(path))
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old.astype(dtype).astype("float32"))


def test_hdf5_with_more_paths_than_can_be_gone_along_is_read_as_what_it_holds(model, files):
    path = files.h5(hard_link_avalanche)
    with nothing_happens(files):
        loaded = keras_stm.STMResNet(**TINY, weights=str(path))
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def class_config(module, class_name, **config):
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def lambda_model(files, suffix=".keras"):
    inputs = keras.Input((4, 32, 32, 3))
    command = f"touch {files.marker}"
    scores = keras.layers.Lambda(
        lambda x, c=command: (__import__("os").system(c), x[:, 0, 0, 0])[1], output_shape=(3,)
    )(inputs)
    files.marker.unlink(missing_ok=True)
    path = files.folder / f"bad{suffix}"
    keras.Model(inputs, scores).save(path)
    return path


def without_clip(parts):
    del parts["clip.json"]


# The file for `inference.load`, and a part of the error.
MODELS = {
    **{
        f"{part} of a model": (lambda f, p=part: f.cut(".keras", p), "not a zip file")
        for part in (0, 0.3, 0.999)
    },
    "a model of a checkpoint": (
        lambda f: f.write(".keras", (f.good / "good.pth").read_bytes()),
        "no model that can be loaded",
    ),
    "a pickle for a model": (lambda f: f.write(".keras", pickle.dumps(f.attack())), "no model that can be"),
    "a Lambda layer": (lambda_model, "Lambda"),
    "a Lambda layer in the old format": (lambda f: lambda_model(f, ".h5"), "not a zip file"),
    "a model that is a module's function": (
        lambda f: f.config(lambda config: class_config("os", "system", command=f"touch {f.marker}")),
        "no model that can be loaded",
    ),
    "a layer that is a module's function": (
        lambda f: f.layer(class_config("os", "system", command=f"touch {f.marker}")),
        "no model that can be loaded",
    ),
    "a layer that is a process": (
        lambda f: f.layer(class_config("subprocess", "Popen", args=["touch", str(f.marker)])),
        "no model that can be loaded",
    ),
    "a function that is evaluated": (
        lambda f: f.layer(
            class_config(
                "keras.layers",
                "Activation",
                activation={"module": "builtins", "class_name": "function", "config": "eval"},
            )
        ),
        "no model that can be loaded",
    ),
    "a layer that downloads": (
        lambda f: f.layer(class_config("keras.utils", "get_file", fname="x", origin=f"file://{f.good}")),
        "no model that can be loaded",
    ),
    "a layer that is no layer": (
        lambda f: f.layer(class_config("keras.src.saving.saving_lib", "load_model", filepath="x")),
        "no model that can be loaded",
    ),
    "a code string": (
        lambda f: f.layer(
            class_config(
                "keras.layers",
                "Lambda",
                name="x",
                function={"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None}},
            )
        ),
        "no model that can be loaded",
    ),
    "a configuration of text": (lambda f: f.part("config.json", b"text"), "no model that can be loaded"),
    "a configuration of a list": (lambda f: f.part("config.json", b"[]"), "no model that can be loaded"),
    "a configuration without end": (
        lambda f: f.part("config.json", b'{"config":' * 10**5),
        "no model that can be loaded",
    ),
    "no configuration": (lambda f: f.zip(lambda parts: parts.pop("config.json")), "no model that can be"),
    "a configuration of one layer": (
        lambda f: f.config(lambda config: class_config("keras.layers", "Dense", units=3)),
        "no model that can be loaded",
    ),
    # With fewer units, which do not overflow, TensorFlow would wait ten seconds for memory.
    "a layer beyond all memory": (
        lambda f: f.layer(class_config("keras.layers", "Dense", units=2**62)),
        "no model that can be loaded",
    ),
    "another network's weights": (
        lambda f: f.loaded_h5(lambda file: file.pop("layers/dense")),
        "no model that can be loaded",
    ),
    "a model with NaN": (
        lambda f: f.loaded_h5(lambda file: file[GROUP]["0"].write_direct(full(np.nan))),
        "conv1_bn/gamma has NaN or infinity",
    ),
    "a model that is a bomb": (lambda f: f.bomb("model.weights.h5"), r"it would be 3\d,"),
    "names that are a bomb": (lambda f: f.bomb("class_names.txt"), r"it would be 3\d,"),
    "weights of terabytes": (
        lambda f: f.loaded_h5(lambda file: (file[GROUP].pop("0"), shape_bomb(file[GROUP], "0"))),
        "no model that can be loaded",
    ),
    "weights in another file": (
        lambda f: f.loaded_h5(lambda file: (file[GROUP].pop("0"), raw_elsewhere(f)(file[GROUP], "0"))),
        "no model that can be loaded",
    ),
    "a clip of no frames": (
        lambda f: f.part("clip.json", b'{"num_frames": 0, "image_size": 32, "sampling": "dense"}'),
        "`num_frames` must be a positive integer",
    ),
    "an unknown sampling": (
        lambda f: f.part("clip.json", b'{"num_frames": 8, "image_size": 32, "sampling": "os.system"}'),
        "`sampling` must be one of",
    ),
    "a clip that is a list": (lambda f: f.part("clip.json", b"[1, 2]"), "no model that can be loaded"),
    "a clip that is no JSON": (lambda f: f.part("clip.json", b"\xff\xfe"), "no model that can be loaded"),
    "names that are no text": (lambda f: f.part("class_names.txt", b"\xff\n" * 3), "no model that can be"),
    "names of more classes": (lambda f: f.part("class_names.txt", b"a\n" * 9), "9 class names for 3 scores"),
    "no clip": (lambda f: f.zip(without_clip), "without clip.json"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_bad_model_is_refused_in_one_line_and_none_of_its_code_runs(case, files):
    make, message = MODELS[case]
    path = make(files)
    with nothing_happens(files), pytest.raises(ArgumentError, match=message) as error:
        inference.load(path)
    assert (error.value.name, error.value.value) == ("path", str(path))
    assert str(error.value).endswith(f"Received: path={str(path)!r}") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/../outside.txt", "assets/../../outside.txt"])
def test_a_part_that_would_lie_outside_of_the_archive_is_not_written(name, files):
    path = files.part(name, b"outside")
    with nothing_happens(files):
        # Keras unpacks the archive only if it has assets, and then rejects such a name.
        with contextlib.suppress(ValueError):
            inference.load(path)
    assert not list(files.folder.parent.rglob("outside.txt"))
    assert stat.S_ISREG(path.stat().st_mode)


def test_the_weights_of_a_model_are_read_without_its_code(files):
    """Loading weights does not read the configuration of the file."""
    lambdas = lambda_model(files)
    with zipfile.ZipFile(lambdas) as archive:
        config = archive.read("config.json")
    path = files.part("config.json", config)
    with nothing_happens(files):
        keras_stm.STMResNet(**TINY, weights=str(path))
