"""Names of files and folders that are not UTF-8, through all that reads and writes them."""

import contextlib
import csv
import io
import json
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from keras_stm import predicting
from keras_stm.arguments import ArgumentError
from keras_stm.commands import main, predict
from keras_stm.data import checking, open_dataset, packing
from keras_stm.data.exclude import read_exclude
from keras_stm.file_names import printable
from keras_stm.plots import figures
from keras_stm.train import evaluate, run_folder
from tests.data.videos import write_video
from tests.train.small_runs import run, untraced

GOOD, BROKEN, FOLDER = (os.fsdecode(name) for name in (b"g\xe9.mp4", b"caf\xe9.mp4", b"cl\xe9ps"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two classes with a good and a broken video in each split."""
    root = tmp_path_factory.mktemp("data") / FOLDER
    for split in ("train", "val"):
        for number, name in enumerate(("a", "b")):
            (root / split / name).mkdir(parents=True)
            write_video(root / split / name / GOOD, 8, brightness=100 * number)
            write_video(root / split / name / "1.mp4", 8, brightness=100 * number + 9)
            (root / split / name / BROKEN).write_bytes(b"x")
    frames = root / "train" / "a" / os.fsdecode(b"fr\xe9mes")
    frames.mkdir()
    image = tf.io.encode_jpeg(np.zeros((32, 48, 3), "uint8")).numpy()
    (frames / os.fsdecode(b"\xe9 1.jpg")).write_bytes(image)
    return str(root)


@contextlib.contextmanager
def utf8_output():
    """Runs steps untraced, and with an output that refuses what is not UTF-8, unlike that of pytest."""
    with untraced(), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
        yield


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with utf8_output():
        run(folder, clips, epochs=1, batch_size=2)
    return folder


def broken(clips, *splits):
    return [os.path.join(clips, split, name, BROKEN) for split in splits for name in ("a", "b")]


def read(path, **options):
    return pathlib.Path(path).read_text(encoding="utf-8", **{"errors": "surrogateescape", **options})


def test_a_run_ends_with_a_model_and_a_list_of_what_it_skipped(clips, finished):
    assert (finished / "model.keras").is_file()
    lines = read(finished / "left_out.txt").splitlines()
    assert [line.split(": ")[0] for line in lines] == broken(clips, "train", "val")
    folder = run_folder.RunFolder(finished, {})
    folder.add_left_out({"x": f"{GOOD}: again"})
    assert read(finished / "left_out.txt").splitlines() == [*lines, f"{GOOD}: again"]


def test_an_evaluation_is_written_and_replaced(clips, finished):
    with utf8_output():
        for _ in range(2):
            evaluate.evaluate(str(finished), data_dir=clips)
    (folder,) = (finished / "evaluation").iterdir()
    result = json.loads(read(folder / "result.json", errors="strict"))
    assert result["settings"]["data_dir"] == clips
    rows = list(csv.reader(read(folder / "scores.csv").splitlines()))
    assert os.path.join(clips, "val", "a", GOOD) in [row[0] for row in rows]
    lines = read(folder / "left_out.txt").splitlines()
    assert [line.split(": ")[0] for line in lines] == broken(clips, "val")


def test_predictions_are_written(clips, finished, tmp_path):
    files = {"json_file": str(tmp_path / "a.json"), "csv_file": str(tmp_path / "a.csv")}
    found = predicting.find_clips([os.path.join(clips, "val")])
    with utf8_output():
        predicting.predict(found, str(finished), **files)
    videos = json.loads(read(tmp_path / "a.json", errors="strict"))["videos"]
    assert [video["file"] for video in videos if "error" in video] == broken(clips, "val")
    rows = list(csv.reader(read(tmp_path / "a.csv").splitlines()))
    assert os.path.join(clips, "val", "a", GOOD) in [row[0] for row in rows]


def test_what_the_check_excludes_is_read_back(clips, tmp_path):
    with utf8_output():
        checking.check(clips, str(tmp_path))
    excluded = read_exclude(tmp_path / "exclude.txt")
    assert [os.path.join(clips, path) for path in excluded] == broken(clips, "train", "val")
    paths = [path for path, _ in open_dataset("folder", clips, exclude=excluded).records]
    assert len(paths) == 5 and not set(paths) & set(broken(clips, "train"))
    findings = json.loads(read(tmp_path / "check_data.json", errors="strict"))
    assert findings["data_dir"] == clips


def test_packed_clips_train_and_keep_their_names(clips, tmp_path):
    with utf8_output():
        packing.pack(clips, str(tmp_path / "packed"))
    manifest = json.loads(read(tmp_path / "packed" / "train.json", errors="strict"))
    assert [os.path.join(clips, path) for path in manifest["left_out"]] == broken(clips, "train")
    assert len(open_dataset("packed", tmp_path / "packed").records) == 5


def test_an_output_that_tensorflow_cannot_write_is_refused_before_the_work(clips, tmp_path):
    output = str(tmp_path / FOLDER)
    for refused in (
        lambda: packing.pack(clips, output),
        lambda: run(output, clips),
    ):
        with utf8_output(), pytest.raises(ArgumentError) as error:
            refused()
        assert (error.value.name, error.value.value) == ("output", output)
    assert not os.path.exists(output)


@pytest.mark.parametrize(
    "encoding,expected", [("utf-8", "é ".encode() + b"cl\xe9ps\n"), ("ascii", b"? cl?ps\n")]
)
def test_commands_print_names_in_their_bytes(monkeypatch, encoding, expected):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    main.run(["name"], lambda values: None, lambda values, paths: print(f"é {FOLDER}"), "")
    streams["stdout"].flush()
    assert streams["stdout"].buffer.getvalue() == expected


def test_pictures_show_the_bytes():
    assert printable(f"é {FOLDER}") == r"é cl\udce9ps"


# A name that would change a terminal's title, colours and direction of text.
EVIL = "a\x1b]0;owned\x07\x9b31m\u202eb\x7f"
SHOWN = r"a\x1b]0;owned\x07\x9b31m\u202eb\x7f"


def test_control_characters_of_names_never_reach_the_terminal(capsys, monkeypatch):
    assert printable(EVIL) == SHOWN
    answer = {
        "file": f"{EVIL}.mp4",
        "predictions": [{"label": EVIL, "score": 0.9}],
        "error": f"broken {EVIL}",
    }
    predict.print_answer("predict", answer)

    def fail(values, paths):
        logging.get_absl_logger().warning("%s is odd", EVIL)
        raise ValueError(f"no model {EVIL}")

    lines = []
    handler = logging.logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    monkeypatch.setattr(logging.get_absl_logger(), "handlers", [handler])
    monkeypatch.setattr(logging.get_absl_logger(), "filters", [])
    monkeypatch.setattr(main, "parse", lambda *args: (None, []))
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(type(stream), "reconfigure", lambda *args, **kwargs: None, raising=False)
    with pytest.raises(SystemExit) as error:
        main.run(["fit.py"], None, fail, "")
    assert error.value.code == f"fit.py: no model {SHOWN}" and lines == [f"{SHOWN} is odd"]
    out, err = capsys.readouterr()
    assert SHOWN in out and f"predict: {SHOWN}.mp4: broken {SHOWN}" in err
    assert not {"\x1b", "\x9b", "\u202e"} & set(out + err)


def test_pictures_show_names_as_text():
    assert figures.literal(f"$x$ {EVIL}") == rf"\$x\$ {SHOWN}"
