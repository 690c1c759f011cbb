"""The Hugging Face Hub: uploads end at the call into its library, downloads come from a local server."""

import http.server
import json
import pathlib
import sys
import threading

import keras
import numpy as np
import pytest

from keras_stm import hub, inference, model_file
from keras_stm.arguments import ArgumentError
from keras_stm.commands import push as push_command
from keras_stm.train import pushing

library = pytest.importorskip("huggingface_hub", reason="the Hub needs huggingface_hub")

NAMES = ("clap | <b>", "wave")


def make_run(folder):
    """Writes what a run's folder holds, with one evaluation."""
    clip = keras.Input((None, None, None, 3))
    x = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(clip)
    keras.Model(clip, keras.layers.Dense(2, "softmax")(x), name="stm_small").save(folder / "model.keras")
    model_file.annotate(folder / "model.keras", NAMES, model_file.ClipSettings(4, 32, "segments"))
    settings = {
        "dataset": "folder",
        "model": "stm_small",
        "weights": "/home/me/a.keras",
        "data_dir": "/home/me/clips",
    }
    record = {"settings": settings, "versions": {"keras": "3.15"}, "hardware": {"system": "mine"}}
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "curves.png").write_bytes(b"png")
    evaluation = folder / "evaluation" / "clips-validation"
    evaluation.mkdir(parents=True)
    views = {"clips": 1, "crops": 1, "num_frames": 4, "image_size": 32, "split": "validation"}
    result = {"videos": 9, "top1": 0.876, "top5": 1.0, "mean_class_accuracy": 0.5}
    content = {"settings": views, "results": {"ordered": result}, "command": "in /home/me"}
    (evaluation / "result.json").write_text(json.dumps(content))
    (evaluation / "per_class.csv").write_text("name,num_videos,top1\nclap | <b>,9,0.876\nwave,0,\n")
    (evaluation / "confusion.png").write_bytes(b"png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def uploaded(monkeypatch):
    """What the library was told to upload: its arguments, and the files by their paths."""
    got = {"files": {}}

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        got.update(repo_id=repo_id, commit_message=commit_message)
        root = pathlib.Path(folder_path)
        got["files"] = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    monkeypatch.setattr(library.HfApi, "create_repo", lambda self, name, exist_ok: f"https://hub/{name}")
    monkeypatch.setattr(library.HfApi, "upload_folder", upload_folder)
    return got


def test_a_run_is_uploaded_with_a_card_and_without_paths_of_this_machine(run, uploaded, capsys):
    push_command.main(["push", str(run), "me/actions", "--license=cc-by-4.0"])
    assert "https://hub/me/actions: load it by hf://me/actions" in capsys.readouterr().out
    files = uploaded["files"]
    assert uploaded["repo_id"] == "me/actions"
    assert files["model.keras"] == (run / "model.keras").read_bytes()
    assert files["class_names.txt"].decode() == "clap | <b>\nwave\n"
    assert not any(b"/home/me" in content for content in files.values())
    assert {"evaluation/clips-validation/confusion.png", "evaluation/clips-validation/per_class.csv"} <= set(
        files
    )
    card = files["README.md"].decode()
    for part in (
        *("license: cc-by-4.0\n", 'VideoClassifier("hf://me/actions")', "on own clips: 2 classes"),
        *("1 clip x 1 crop of 4 frames, 32 px, split validation, 9 videos", "| 87.6% | 100.0% | 50.0% |"),
        *("| clap \\| &lt;b> | 9 | 87.6% |", "| wave | 0 |  |", "confusion.png", "curves.png", "keras 3.15"),
    ):
        assert part in card, part


def test_what_is_no_run_or_no_name_is_refused_before_anything_is_uploaded(run, uploaded, tmp_path):
    for path, name, message in (
        (run, "actions", "Received: name='actions'"),
        (tmp_path, "me/actions", "Received: path"),
    ):
        with pytest.raises(ArgumentError, match=message):
            pushing.push(path, name)
    assert uploaded["files"] == {}


def test_a_refused_upload_is_one_line(run, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("401: no such user\nmore")

    monkeypatch.setattr(library.HfApi, "create_repo", refuse)
    with pytest.raises(ArgumentError, match=r"could not be uploaded \(401: no such user\). Received: name="):
        pushing.push(run, "me/actions")


@pytest.fixture(scope="module")
def endpoint(run):
    """The address of a server that answers like the Hub for one file of one model."""
    content = (run / "model.keras").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            found = self.path == "/me/actions/resolve/main/model.keras"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.send_header("ETag", '"0123456789"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            return found

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()


@pytest.fixture
def from_endpoint(endpoint, tmp_path, monkeypatch):
    """Lets the library, which reads HF_ENDPOINT when it is imported, download from the local server."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_model_of_the_hub_is_downloaded_and_used(run, from_endpoint):
    trained = inference.load("hf://me/actions")
    assert trained.class_names == NAMES and trained.num_frames == 4
    assert trained.folder.endswith("saved_models/me-actions")
    for one, other in zip(trained.model.get_weights(), inference.load(run).model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_the_hub_does_not_have_is_one_line(from_endpoint):
    with pytest.raises(ArgumentError, match="could not be downloaded: model.keras of me/none") as error:
        inference.load("hf://me/none")
    assert "\n" not in str(error.value)


def test_without_its_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_stm\[hub\]'"):
        hub.download("hf://me/actions", "model.keras")
