"""`keras_stm.export.save_web`: the page's files, and the page in a browser."""

import base64
import contextlib
import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading

import av
import numpy as np
import pytest

import keras_stm
from keras_stm import fold_batch_norm
from keras_stm.arguments import ArgumentError
from keras_stm.data import views
from keras_stm.export import web
from tests import browser
from tests.layers.check_layer import randomize
from tests.reference.backend import numpy
from tests.test_export import REAL_CLIPS, small_causal

T, SIZE, RATE = 4, 32, 5
NAMES = ("<img src=x onerror=window.harm=1>", "größer", "'\"&amp;")
PAGE = ["index.html", "model.onnx", "page.js", "settings.json"]


def sha384(content):
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


@pytest.fixture
def model(monkeypatch):
    """A causal model whose conversion takes no time."""
    monkeypatch.setattr(
        "keras_stm.export.writers.WRITERS",
        {"onnx_step": lambda model, path, **options: pathlib.Path(path).write_text("model")},
    )
    return small_causal()


def save(model, path, **arguments):
    arguments = {"num_frames": T, "image_size": SIZE, "rate": RATE, **arguments}
    keras_stm.export.save_web(model, path, **arguments)


def test_a_copied_runtime_makes_the_page_independent_of_other_servers(model, tmp_path):
    (tmp_path / "package" / "dist").mkdir(parents=True)
    contents = {"ort.wasm.bundle.min.mjs": b"script", "ort-wasm-simd-threaded.wasm": b"binary"}
    for name, content in contents.items():
        (tmp_path / "package" / "dist" / name).write_bytes(content)
    save(model, tmp_path / "web", class_names=NAMES, runtime=tmp_path / "package")
    assert sorted(os.listdir(tmp_path / "web")) == sorted([*PAGE, "runtime"])
    settings = json.loads((tmp_path / "web" / "settings.json").read_text())
    assert (settings["class_names"], settings["rate"]) == (list(NAMES), RATE)
    for part, content in settings["runtime"].items():
        copy = tmp_path / "web" / content["url"]
        assert copy.read_bytes() == part.encode() and content["integrity"] == sha384(part.encode())


def test_without_a_runtime_a_fixed_version_comes_from_a_public_server(model, tmp_path):
    save(model, tmp_path / "web")
    assert sorted(os.listdir(tmp_path / "web")) == PAGE
    settings = json.loads((tmp_path / "web" / "settings.json").read_text())
    assert settings["class_names"] == ["0", "1", "2"]
    for part in settings["runtime"].values():
        assert part["url"].startswith("https://cdn.jsdelivr.net/npm/onnxruntime-web@")
        assert part["integrity"].startswith("sha384-")


@pytest.mark.parametrize("name, value", [("rate", None), ("rate", 0), ("runtime", "nowhere"), ("path", "")])
def test_a_wrong_argument_is_named_before_anything_is_written(name, value, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError) as error:
        save(model, **{"path": tmp_path / "web", name: value})
    assert error.value.name == name
    assert os.listdir(tmp_path) == []


def test_an_existing_folder_is_refused_and_kept(model, tmp_path):
    (tmp_path / "precious").write_text("")
    with pytest.raises(ArgumentError, match="Received: path="):
        save(model, tmp_path)
    assert os.listdir(tmp_path) == ["precious"]


# From here on, a browser computes.


@pytest.fixture(scope="module")
def runtime(made_once):
    """The folder of the pinned version of ONNX Runtime Web."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    version = web.CDN.partition("@")[2].partition("/")[0]

    def make(folder):
        folder.mkdir()
        command = ["npm", "install", "--ignore-scripts", f"onnxruntime-web@{version}"]
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if process.returncode:
            pytest.skip(f"npm cannot install onnxruntime-web: {process.stderr[-200:]}")

    return made_once("onnxruntime_web", make) / "node_modules" / "onnxruntime-web"


@pytest.fixture(scope="module")
def network():
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3, causal=True)
    randomize(model)
    head = model.get_layer("predictions")
    # With larger weights, one class would always have all of the score.
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.002, head.kernel.shape))
    return model


@pytest.fixture(scope="module")
def requests():
    """What browsers have requested."""
    return []


@pytest.fixture(scope="module")
def folder(network, runtime, tmp_path_factory):
    """The folder of the page."""
    if browser.CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    if not REAL_CLIPS.is_dir():
        pytest.skip("no real clips next to the checkout")
    folder = tmp_path_factory.mktemp("page") / "web"
    save(network, folder, class_names=NAMES, runtime=runtime)
    return folder


@contextlib.contextmanager
def serve(folder, requests):
    """Yields the URL of a folder; `requests` collects what browsers request."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.requestline)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def address(folder, requests):
    with serve(folder, requests) as address:
        yield address


# Keeps what the page takes and answers. Arrays of numbers would be slow to transfer.
RECORD = """
window.taken = [];
addEventListener("frame", ({ detail }) => {
  let text = "";
  for (let i = 0; i < detail.pixels.length; i += 32768) {
    text += String.fromCharCode(...detail.pixels.subarray(i, i + 32768));
  }
  taken.push({ ...detail, pixels: btoa(text) });
});
addEventListener("scores", ({ detail }) => {
  const label = document.querySelector("#best span").textContent;
  Object.assign(taken.at(-1), { scores: [...detail.scores], label });
});
"""


def open_page(address, *flags):
    return browser.open_page(address, "--autoplay-policy=no-user-gesture-required", *flags)


def wait_until_ready(page):
    page.wait_for("document.getElementById('camera')?.disabled === false")
    page.evaluate(RECORD)


def read_taken(page):
    """Returns times, frames `(T, H, W, 3)`, scores and labels of the frames that the page has answered."""
    taken = [each for each in page.evaluate("taken") if "scores" in each]
    frames = [
        np.frombuffer(base64.b64decode(each["pixels"]), "uint8").reshape(each["height"], each["width"], 3)
        for each in taken
    ]
    times, scores, labels = ([each[key] for each in taken] for key in ("time", "scores", "label"))
    return times, np.stack(frames), np.array(scores), labels


def scores_in_python(model, frames):
    """Returns the scores after each of the raw frames `(T, H, W, 3)`."""
    stream = keras_stm.stream_model(fold_batch_norm(model), SIZE, T)
    state, scores = keras_stm.initial_state(stream), []
    for frame in views.read_views(frames, len(frames), SIZE)[0]:
        state = stream({"frame": frame[np.newaxis], **state})
        scores.append(numpy(state.pop("scores"))[0])
    return np.array(scores)


def assert_answers(model, frames, scores, labels, originals):
    """Checks answers against Python's for the frames that the page took, and for those of the video file."""
    np.testing.assert_allclose(scores, scores_in_python(model, frames), atol=1e-3)
    expected = scores_in_python(model, originals)
    np.testing.assert_allclose(scores, expected, atol=1e-2)
    assert labels == [NAMES[index] for index in expected.argmax(1)]
    # Without this check, constant answers would pass.
    assert np.ptp(expected, axis=0).max() > 0.05


@pytest.fixture(scope="module")
def clip():
    return REAL_CLIPS / "arm_wrestling_h264_340x256.mp4"


@pytest.fixture(scope="module")
def decoded(clip):
    """The first seconds of the clip: times and frames in Python."""
    with av.open(clip) as container:
        found = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    times, frames = zip(*found, strict=True)
    return np.array(times) - times[0], np.stack(frames)


@pytest.mark.slow
def test_a_file_that_is_dropped_or_chosen_is_answered_as_in_python(address, network, clip, decoded, requests):
    with open_page(address) as page:
        wait_until_ready(page)
        requests.clear()
        page.choose_file("#file", clip)
        page.wait_for("document.getElementById('message').textContent.includes('has ended')")
        times, frames, scores, labels = read_taken(page)
        assert page.evaluate("document.querySelector('img') === null && window.harm === undefined")

        page.evaluate("taken.length = 0")
        page.evaluate(
            "document.addEventListener('change', ({ target }) => window.file = target.files[0], true)"
        )
        page.choose_file("#file", clip)
        page.evaluate("""{
          document.getElementById("stop").click();
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(file);
          taken.length = 0;
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""")
        page.wait_for("taken.filter((each) => each.scores).length > 3")
        of_drop = read_taken(page)
    np.testing.assert_array_equal(of_drop[2], scores[: len(of_drop[2])])

    source_times, source = decoded
    assert times == [index / RATE for index in range(int(source_times[-1] * RATE) + 1)]
    originals = source[np.searchsorted(source_times, np.array(times) + 1e-3, side="right") - 1]
    assert_answers(network, frames, scores, labels, originals)
    # The page sent nothing, and loaded nothing more.
    assert requests == []


@pytest.mark.slow
def test_a_camera_is_answered_as_in_python(address, network, decoded, tmp_path):
    times, source = decoded
    source = source[times < 3]
    video = tmp_path / "camera.y4m"
    with av.open(video, "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("wrapped_avframe", rate=30)
        stream.height, stream.width = source.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in source:
            frame = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
    flags = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={video}")
    with open_page(address, *flags) as page:
        wait_until_ready(page)
        page.evaluate("document.getElementById('camera').click()")
        page.wait_for("taken.filter((each) => each.scores).length >= 15")
        page.evaluate("document.getElementById('stop').click()")
        times, frames, scores, labels = read_taken(page)
    # Frames come at the rate of the training, in the order of time.
    assert abs(np.median(np.diff(times)) - 1 / RATE) < 0.02
    small = source[:, ::8, ::8].astype("float32")
    distances = [np.abs(small - frame[::8, ::8]).mean((1, 2, 3)) for frame in frames]
    assert max(map(min, distances)) < 4
    assert_answers(network, frames, scores, labels, source[np.argmin(distances, axis=1)])


@pytest.mark.slow
def test_the_page_tells_what_went_wrong(address, tmp_path):
    (tmp_path / "notes.mp4").write_text("no video")
    with open_page(address) as page:
        wait_until_ready(page)
        page.choose_file("#file", tmp_path / "notes.mp4")
        page.wait_for("document.getElementById('message').textContent.includes('cannot play notes.mp4')")
        page.evaluate("document.getElementById('camera').click()")
        page.wait_for("document.getElementById('message').textContent.includes('There is no camera')")


@pytest.mark.slow
def test_a_runtime_that_somebody_changed_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "web")
    with open(copy / "runtime" / "ort.wasm.bundle.min.mjs", "a") as file:
        file.write("window.harm = 1;")
    with serve(copy, []) as address, open_page(address) as page:
        page.wait_for("document.getElementById('message')?.textContent.includes('another version')")
        assert page.evaluate("window.harm === undefined && document.getElementById('camera').disabled")


@pytest.mark.slow
def test_the_hashes_of_the_pinned_version_are_those_of_npms_files(runtime):
    """The public server publishes the same files."""
    for name, expected in web.CDN_HASHES.items():
        assert sha384((runtime / "dist" / name).read_bytes()) == expected


@pytest.mark.slow
def test_the_page_fits_a_phone(address):
    with open_page(address) as page:
        wait_until_ready(page)
        for width in (320, 390, 1280):
            page.resize(width, 800, mobile=width < 1000)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
