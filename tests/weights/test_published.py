"""Published weights by name, from a local server: downloaded and converted once, or refused in one line."""

import functools
import hashlib
import http.server
import os
import pathlib
import socket
import sys
import threading

import keras
import numpy as np
import pytest
from absl import logging

torch = pytest.importorskip("torch")

from keras_stm import TSMResNet, VideoClassifier, hub, models  # noqa: E402
from keras_stm.arguments import ArgumentError  # noqa: E402
from keras_stm.networks import NETWORKS  # noqa: E402
from keras_stm.weights import class_names, network, published  # noqa: E402
from keras_stm.weights.network import DEPTHS as DEPTHS_OF  # noqa: E402
from keras_stm.weights.network import Network  # noqa: E402
from keras_stm.weights.published import PUBLISHED, choose, find_full_name  # noqa: E402
from tests.reference.torch_layouts import MMRecognizer  # noqa: E402
from tests.reference.torch_stm import randomize  # noqa: E402

LABELS = pathlib.Path(__file__).parents[3] / "shared" / "labels"
NAME = "tsm_resnet50/kinetics400"
# The tests take networks of this size for ResNet-50, so that files are small.
DEPTHS = (1, 1, 1, 1)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; cuts those below `cut/` in the middle."""

    asked = []

    def log_message(self, *args):
        self.asked.append(self.path)

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if self.path.startswith("/cut/") else content)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The folder that a local server serves, and its address."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://localhost:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file as mmaction2 publishes it, of a small TSM with 400 classes; and its hash."""
    net = randomize(MMRecognizer(DEPTHS, 64, 400, tsm=True))
    path = tmp_path_factory.mktemp("checkpoint") / "tsm.pth"
    torch.save({"meta": {"epoch": 50, "seed": np.int64(1)}, "state_dict": net.state_dict()}, path)
    return path.read_bytes(), hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def publish(served, checkpoint, tmp_path, monkeypatch):
    """Function that serves the checkpoint under the name of `NAME`, and returns its `Published`.

    `where` is the first folder of the address. With `right=False`, the file has another hash than published.
    """
    folder, address = served
    content, sha256 = checkpoint
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setitem(network.DEPTHS, 50, DEPTHS)
    Handler.asked.clear()

    def publish(where="good", right=True, address=address):
        monkeypatch.setattr(published, "_ROOT", f"{address}/{where}")
        stamp = f"20220831-{sha256[:8]}" if right else "20220831-00000000"
        found = find_full_name(NAME)._replace(stamp=stamp)
        others = (each for each in PUBLISHED if each.full_name != NAME)
        monkeypatch.setattr(published, "PUBLISHED", (found, *others))
        if where != "missing":
            path = folder / where / found.url.partition(f"/{where}/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return found

    return publish


def tsm(**arguments):
    return TSMResNet(DEPTHS, 64, **arguments)


def cached(tmp_path):
    """Returns the names of the files in the cache, without those of the hidden locks."""
    return sorted(path.name for path in (tmp_path / "keras" / "models").glob("*") if path.suffix != ".lock")


def test_a_name_downloads_converts_and_builds_once(publish, tmp_path, monkeypatch):
    found = publish()
    stem = os.path.splitext(os.path.basename(found.url))[0]
    model = tsm(weights="kinetics400")
    assert model.output_shape == (None, 400)
    assert cached(tmp_path) == [f"{stem}.pth", f"{stem}.safetensors"]
    assert len(Handler.asked) == 1
    monkeypatch.setitem(sys.modules, "torch", None)  # The second time needs neither network nor PyTorch.
    for name in ("tsm/kinetics400", NAME):
        for one, other in zip(tsm(weights=name).get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert tsm(weights="kinetics400", classes=7).output_shape == (None, 7)
    assert len(Handler.asked) == 1


def test_processes_that_want_the_same_weights_download_them_once(publish, tmp_path, monkeypatch):
    """Threads in place of processes: a lock of a file keeps both apart."""
    found, answers, waiting = publish(), [], []
    everyone_asks = threading.Event()
    download = published.download

    def slow_download(*args):
        assert everyone_asks.wait(30)
        download(*args)

    def note(*args):
        waiting.append(args)
        if len(waiting) == 2:
            everyone_asks.set()

    monkeypatch.setattr(published, "download", slow_download)
    monkeypatch.setattr(logging, "warning", note)
    threads = [
        threading.Thread(target=lambda: answers.append(published.file_of(found, NAME))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3 and len(set(answers)) == 1
    assert len(Handler.asked) == 1 and os.path.isfile(answers[0])


def test_a_file_that_was_put_into_the_cache_is_taken_if_it_is_the_published_one(
    publish, checkpoint, tmp_path
):
    path = tmp_path / "keras" / "models" / os.path.basename(publish(right=False).url)
    path.parent.mkdir(parents=True)
    path.write_bytes(checkpoint[0])
    with pytest.raises(ArgumentError, match=r"does not begin with 00000000\. Remove .* Received: weights="):
        tsm(weights="kinetics400")
    path.rename(path.parent / os.path.basename(publish().url))
    assert tsm(weights="kinetics400").output_shape == (None, 400)
    assert Handler.asked == []


def no_server():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"http://localhost:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"right": False}, "SHA-256"),
        ({"where": "cut"}, "retrieval incomplete|SHA-256"),
        ({"where": "missing"}, "404"),
        ({"address": None}, "refused"),
    ],
    ids=["wrong hash", "cut", "404", "no network"],
)
def test_a_failed_download_says_what_to_put_where_and_leaves_nothing(options, reason, publish, tmp_path):
    if "address" in options:
        options = {"address": no_server()}
    found = publish(**options)
    with pytest.raises(ArgumentError, match=reason) as error:
        tsm(weights="kinetics400")
    message = str(error.value)
    assert f"Download {found.url} (about 98 MB) on another machine and save it as {tmp_path}" in message
    assert message.endswith("Received: weights='kinetics400'") and "\n" not in message
    assert cached(tmp_path) == []


def test_a_classifier_by_name_knows_classes_and_clips_and_a_folder_of_that_name_wins(
    publish, tmp_path, monkeypatch
):
    publish()
    monkeypatch.setattr(models, "TSMResNet50", lambda **arguments: tsm(**arguments))
    classifier = VideoClassifier(NAME, image_size=32)
    assert classifier.class_names == class_names("kinetics400")
    assert (classifier.num_frames, classifier.sampling) == (8, "segments")
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 40, 3)).astype("uint8")
    assert classifier(frames)[0]["label"] in classifier.class_names
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir(parents=True)
    with pytest.raises(ArgumentError, match="must be the folder of a finished run"):
        VideoClassifier(NAME)


@pytest.mark.parametrize(
    "family, depth, name, expected",
    [
        ("tsm", 50, "kinetics400-16", "tsm_resnet50/kinetics400-16"),
        ("tsm", 101, "something_v2", "tsm_resnet101/something_v2"),
        ("tsn", 50, "something_v2", "tsn_resnet50/something_v2"),
        ("stm", 50, "something_v2-16", "tsm_resnet50/something_v2-16"),
        ("stm", 50, "tsn/kinetics400", "tsn_resnet50/kinetics400"),
    ],
)
def test_a_name_without_a_network_is_the_networks_own_and_tsms_for_stm(family, depth, name, expected):
    assert choose(Network(family, DEPTHS_OF[depth], 64), name).full_name == expected


@pytest.mark.parametrize(
    "found, name, message",
    [
        (
            Network("tsn", DEPTHS_OF[50], 64),
            "stm/kinetics400",
            "size are 'tsm/kinetics400', .*'kinetics400', ",
        ),
        (
            Network("stm", DEPTHS_OF[152], 64),
            "kinetics400",
            "STM with the depths of ResNet-152: there are none",
        ),
        (Network("tsm", DEPTHS_OF[50], 32), "kinetics400", r"TSM of width 32 and depths \(3, 4, 6, 3\)"),
    ],
)
def test_where_no_weights_are_published_the_error_lists_what_is(found, name, message):
    with pytest.raises(ArgumentError, match=f"{message}.* Received: weights='{name}'"):
        choose(found, name)


def test_class_names_are_those_of_the_labels():
    assert [len(class_names(name)) for name in ("kinetics400", "something_v2-16")] == [400, 174]
    if not LABELS.is_dir():
        pytest.skip("the labels of the data sets are not here")
    for name in ("kinetics400", "something_v2"):
        assert list(class_names(name)) == (LABELS / f"{name}.txt").read_text().splitlines()
    with pytest.raises(ArgumentError, match="'kinetics400', 'something_v2'. Received: name='jester'"):
        class_names("jester")


def test_every_published_file_has_a_network_and_the_digits_of_a_hash():
    assert len({each.full_name for each in PUBLISHED}) == len({each.url for each in PUBLISHED}) == 7
    for each in PUBLISHED:
        assert each.network in NETWORKS
        assert len(each.sha256) == 8 and int(each.sha256, 16) and each.url.endswith(f"-{each.sha256}.pth")
        assert each.megabytes == pytest.approx(megabytes(each.depth, each.data), rel=0.002)


@functools.cache
def megabytes(depth, data):
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(models, f"TSMResNet{depth}")(classes=len(class_names(data)))
    return 4 * model.count_params() / 1e6


def test_an_address_on_the_hub_names_the_model_there(tmp_path, monkeypatch):
    small = {"depths": DEPTHS, "width": 16}
    model = TSMResNet(**small, classes=3)
    model.save(tmp_path / "model.keras")
    asked = []
    monkeypatch.setattr(hub, "download", lambda *what: asked.append(what) or str(tmp_path / what[1]))
    loaded = TSMResNet(**small, weights="hf://me/actions")
    assert asked == [("hf://me/actions", "model.keras")]
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
