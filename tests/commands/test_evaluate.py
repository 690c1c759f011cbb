"""`keras-stm evaluate`: what it writes and prints, whether it is correct, and what it rejects."""

import csv
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_stm import evaluation, inference, model_file
from keras_stm.commands import evaluate as command
from keras_stm.data import arrow_of_time, make_views, open_dataset, packing
from keras_stm.train import data as run_data
from keras_stm.train import evaluate
from keras_stm.train.run import save_model
from tests.data.catalog import shipped
from tests.layers.check_layer import randomize
from tests.reference.backend import compute, numpy
from tests.train.small_runs import NARROW

CLASS_NAMES = arrow_of_time.CLASS_NAMES
EVALUATE = pathlib.Path(__file__).parents[2] / "training" / "evaluate.py"
FILES = ["confusion.png", "per_class.csv", "result.json", "scores.csv"]


@pytest.fixture(scope="module")
def finished(trained_run, tmp_path_factory):
    """A folder with the model of a run, into which evaluations are written."""
    output = tmp_path_factory.mktemp("run") / "finished"
    output.mkdir()
    shutil.copy(trained_run / "model.keras", output)
    return output


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Loads and compiles once: most tests use the same model."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "predict_fn"):
            patch.setattr(inference, name, functools.cache(getattr(inference, name)))
        yield


@pytest.fixture(scope="module")
def result(finished, clips):
    return evaluate.evaluate(finished, data_dir=clips)


def folder_of(finished, name):
    return finished / "evaluation" / name


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_as_good_as_training_says(trained_run, finished, result):
    (epoch,) = read_table(trained_run / "history.csv")
    rows = read_table(folder_of(finished, "clips-validation-efficient") / "scores.csv")
    loss = -np.mean([np.log(float(row[row["label"]])) for row in rows])
    assert loss == pytest.approx(float(epoch["val_loss"]), rel=1e-5)
    assert result["results"]["ordered"]["top1"] == pytest.approx(float(epoch["val_accuracy"]))
    assert result["results"]["ordered"]["videos"] == 8


def test_the_folder_in_the_run_holds_all_that_is_promised_and_nothing_else(finished, result):
    folder = folder_of(finished, "clips-validation-efficient")
    assert sorted(os.listdir(folder)) == FILES
    assert not [name for name in os.listdir(finished / "evaluation") if name.startswith(".")]
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_result_tells_what_it_depends_on(finished, clips, result):
    assert result["settings"] == {
        **{"dataset": "folder", "fold": 1, "class_order": "sorted", "data_dir": clips, "exclude": None},
        "group_by": None,
        **{"split": "validation", "protocol": "efficient", "num_frames": 4, "image_size": 32},
        **{"clips": 1, "crops": 1, "sampling": "segments", "frames": "ordered", "seed": 0},
        "precision": "float32",
        "class_fingerprint": open_dataset("folder", clips).fingerprint,
        "model_sha256": evaluate.sha256(finished / "model.keras"),
    }
    assert result["versions"]["keras"] == keras.__version__
    assert result["left_out"] == {"missing": 0, "unreadable": 0}
    assert {"command", "commit", "hardware", "model", "batch_size"} <= set(result)


def test_the_tables_say_what_the_numbers_say(finished, result):
    folder = folder_of(finished, "clips-validation-efficient")
    rows = read_table(folder / "scores.csv")
    assert list(rows[0]) == ["path", "label", "predicted", *CLASS_NAMES]
    scores = np.array([[float(row[name]) for name in CLASS_NAMES] for row in rows])
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-4)
    assert [row["predicted"] for row in rows] == [CLASS_NAMES[i] for i in scores.argmax(axis=1)]
    assert [row["label"] for row in rows] == [pathlib.Path(row["path"]).parent.name for row in rows]
    found = evaluation.from_scores(scores, [CLASS_NAMES.index(row["label"]) for row in rows], CLASS_NAMES)
    assert evaluate.summarize(found) == result["results"]["ordered"]
    classes = read_table(folder / "per_class.csv")
    assert [row["name"] for row in classes] == list(CLASS_NAMES)
    assert [float(row["top1"]) for row in classes] == found.class_accuracy.tolist()


def test_the_scores_are_the_models(finished, clips, result):
    model = inference.load(finished).model
    dataset = open_dataset("folder", clips, split="validation")
    paths, _, views = zip(*make_views(dataset, num_frames=4, image_size=32), strict=True)
    rows = read_table(folder_of(finished, "clips-validation-efficient") / "scores.csv")
    assert [row["path"] for row in rows] == list(paths)
    scores = [[float(row[name]) for name in CLASS_NAMES] for row in rows]
    np.testing.assert_allclose(scores, numpy(compute(model, np.concatenate(views))), atol=1e-5)


def test_the_same_command_again_gives_the_same_numbers(finished, clips, tmp_path):
    # Batches of this shape are already compiled.
    arguments = {"data_dir": clips, "split": "test", "clips": 2, "frames": "shuffled", "batch_size": 8}
    folder = folder_of(finished, "clips-test-2x1-shuffled")
    found, scores = [], []
    for _ in range(2):
        found.append(evaluate.evaluate(finished, **arguments))
        scores.append([(folder / f"scores{order}.csv").read_bytes() for order in ("", "_shuffled")])
    assert found[0]["results"] == found[1]["results"] and found[0]["order"] == found[1]["order"]
    assert scores[0] == scores[1]
    assert scores[0][0] != scores[0][1]


def test_reversed_clips_are_compared_with_the_ordered_ones(finished, clips, capsys):
    """The embedded data set's validation split also has each clip backwards, in the partner class."""
    found = evaluate.evaluate(finished, data_dir=clips, num_frames=8, frames="reversed")
    folder = folder_of(finished, "clips-validation-efficient-8frames-reversed")
    assert sorted(os.listdir(folder)) == sorted(
        [*FILES, "confusion_reversed.png", "per_class_reversed.csv", "scores_reversed.csv"]
    )
    ordered, altered = found["results"]["ordered"], found["results"]["reversed"]
    assert ordered["reversible_classes"] == 8
    assert altered["called_reversal"] == ordered["top1"]
    assert altered["top1"] == ordered["called_reversal"]
    assert altered["within_pair_accuracy"] == pytest.approx(1 - ordered["within_pair_accuracy"])
    assert found["order"] == {
        "frames": "reversed",
        "top1_ordered": ordered["top1"],
        "top1_reversed": altered["top1"],
        "difference": ordered["top1"] - altered["top1"],
    }
    scores = {row["path"]: row for row in read_table(folder / "scores.csv")}
    for row in read_table(folder / "scores_reversed.csv"):
        label = row["label"]
        partner = scores[row["path"].replace(f"/{label}/", f"/{arrow_of_time.REVERSED[label]}/")]
        for name in CLASS_NAMES:
            assert float(row[name]) == pytest.approx(float(partner[name]), abs=1e-5)
    printed = capsys.readouterr().out
    assert f"Frame order accounts for {100 * found['order']['difference']:.1f} points of top-1" in printed
    assert (
        f"{altered['called_reversal']:.1%} of the reversed clips of these classes are predicted as" in printed
    )


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A folder with a causal model that predicts several classes, and its rate."""
    output = tmp_path_factory.mktemp("causal")
    keras.utils.set_random_seed(0)
    model = NARROW(classes=8, weights=None, causal=True)
    randomize(model)
    save_model(model, output / "model.keras", CLASS_NAMES, model_file.ClipSettings(4, 32, "segments", 2.0))
    return output


def test_streams_are_measured_with_and_without_a_reset(causal, clips, capsys):
    command.main(["evaluate", f"--model={causal}", f"--data_dir={clips}", "--protocol=stream", "--streams=3"])
    printed = capsys.readouterr().out
    folder = folder_of(causal, "clips-validation-stream-3streams")
    reset = ["confusion_reset.png", "per_class_reset.csv", "scores_reset.csv"]
    assert sorted(os.listdir(folder)) == sorted([*FILES, *reset])
    result = json.loads((folder / "result.json").read_text())
    settings = result["settings"]
    assert (settings["protocol"], settings["streams"], settings["rate"]) == ("stream", 3, 2.0)
    assert result["command"].endswith("--streams=3") and result["left_out"]["unreadable"] == 0
    of_stream, of_reset = result["results"]["ordered"], result["results"]["reset"]
    assert of_stream["videos"] == 8
    assert result["stream"]["never_right"] == 8 - round(8 * of_stream["top1"])
    assert f"{result['stream']['named_before']:.1%} of the frames after another class" in printed
    # A clip lasts as long as the rate says, so that a stream after a reset sees what `efficient` sees.
    clip = evaluate.evaluate(causal, data_dir=clips)
    assert of_reset == clip["results"]["ordered"]
    by_path = {row["path"]: row for row in read_table(folder / "scores_reset.csv")}
    for row in read_table(folder_of(causal, "clips-validation-efficient") / "scores.csv"):
        for name in CLASS_NAMES:
            assert float(row[name]) == pytest.approx(float(by_path[row["path"]][name]), abs=1e-4)
    # A stream that is never reset sees something else.
    assert (folder / "scores.csv").read_text() != (folder / "scores_reset.csv").read_text()


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--clips=2", "--clips does not apply"),
        ("--frames=still", "--frames does not apply"),
        ("--streams=2", "causal=True"),
    ],
)
def test_what_streams_do_not_have_is_refused(finished, clips, flag, message):
    arguments = [f"--model={finished}", f"--data_dir={clips}", "--protocol=stream", flag]
    with pytest.raises(SystemExit, match=message):
        command.main(["evaluate", *arguments])


def test_labels_follow_the_models_order_of_classes(finished, clips, result, tmp_path):
    names = CLASS_NAMES[::-1]
    lines = [
        f"{path} {names.index(CLASS_NAMES[label])}\n"
        for path, label in open_dataset("folder", clips, split="validation").records
    ]
    shipped.write(
        tmp_path / "lists",
        {"classes.txt": "\n".join(names), **dict.fromkeys(("train.txt", "validation.txt"), "".join(lines))},
    )
    found = evaluate.evaluate(finished, data_dir=str(tmp_path / "lists"), dataset="list")
    assert found["results"] == result["results"]
    assert folder_of(finished, "lists-validation-efficient").is_dir()


def test_packed_clips_are_known_by_their_folder(finished, clips, tmp_path):
    packing.pack(clips, str(tmp_path / "packed"))
    found = evaluate.evaluate(finished, data_dir=str(tmp_path / "packed"))
    assert found["results"]["ordered"]["videos"] == 8
    assert found["settings"]["dataset"] == "folder"


def test_what_cannot_be_read_is_left_out_counted_and_named(finished, clips, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    (data / "val" / "recede" / "notes.mp4").write_text("no video")
    found = evaluate.evaluate(finished, tmp_path / "output", data_dir=str(data))
    assert found["results"]["ordered"]["videos"] == 8
    assert found["left_out"] == {"missing": 0, "unreadable": 1}
    (line,) = (tmp_path / "output" / "left_out.txt").read_text().splitlines()
    assert line.startswith(f"{data}/val/recede/notes.mp4: ")
    assert "Skipped 1 unreadable video: left_out.txt" in capsys.readouterr().out
    with pytest.raises(ValueError, match="1 of 9 clips cannot be read"):
        evaluate.evaluate(finished, tmp_path / "other", data_dir=str(data), max_unreadable=0.1)
    assert not (tmp_path / "other").exists()


def test_validation_is_what_training_set_apart_although_some_clips_cannot_be_read(finished, clips, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pathlib.Path(clips) / "train", data)
    first = sorted(data.glob("recede/*.mp4"))[0]
    for i in range(10):
        shutil.copy(first, data / "recede" / f"copy{i}.mp4")
    # A fifth of 12 clips is two, a fifth of 13 clips is three.
    (data / "recede" / "notes.mp4").write_text("no video")
    found = evaluate.evaluate(finished, tmp_path / "output", data_dir=str(data))
    settings = evaluate.data_settings("", data_dir=str(data))
    trained_on = run_data.RunData(settings, 0.5, 2)
    rows = read_table(tmp_path / "output" / "scores.csv")
    assert sorted(row["path"] for row in rows) == sorted(path for path, _ in trained_on.validation.records)
    naive = open_dataset("folder", data, split="validation").records
    assert {path for path, _ in naive} & {path for path, _ in trained_on.train.records}
    assert found["left_out"]["unreadable"] == 1


def test_the_clips_are_those_of_training_unless_other_data_is_given(tmp_path):
    of_run = {"dataset": "ucf101", "data_dir": "/ucf", "fold": 2, "exclude": "/bad.txt", "group_by": None}
    (tmp_path / "config.json").write_text(json.dumps({"settings": of_run}))

    def chosen(**given):
        settings = evaluate.data_settings(str(tmp_path), **given)
        return settings.dataset, settings.data_dir, settings.fold, settings.exclude

    trained = ("ucf101", "/ucf", 2, "/bad.txt")
    assert chosen() == chosen(data_dir="/ucf") == chosen(data_dir="/ucf", dataset="ucf101") == trained
    assert chosen(fold=1) == ("ucf101", "/ucf", 1, "/bad.txt")
    assert chosen(data_dir="/other") == ("folder", "/other", 1, None)
    assert chosen(data_dir="/ucf", dataset="list") == ("list", "/ucf", 1, None)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="must have a whole config.json"):
        chosen()


@pytest.fixture
def output(finished, result, tmp_path):
    """A folder that holds an evaluation."""
    return shutil.copytree(folder_of(finished, "clips-validation-efficient"), tmp_path / "output")


def test_an_evaluation_that_stops_on_the_way_leaves_nothing_and_what_was_there(
    finished, clips, output, tmp_path, monkeypatch
):
    before = {name: (output / name).read_bytes() for name in os.listdir(output)}

    def stop(predict_fn, views, class_names, batch_size, on_video):
        on_video("a.mp4", 0, np.ones(8))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", stop)
    for again in (output, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(finished, again, data_dir=clips)
    assert os.listdir(tmp_path) == ["output"]
    assert {name: (output / name).read_bytes() for name in os.listdir(output)} == before


def test_a_folder_that_holds_something_else_is_refused(finished, clips, output):
    with pytest.raises(ValueError, match="seed 0 there, 1 here"):
        evaluate.evaluate(finished, output, data_dir=clips, seed=1)
    (output / "notes.txt").touch()
    with pytest.raises(ValueError, match="notes.txt"):
        evaluate.evaluate(finished, output, data_dir=clips)
    with pytest.raises(ValueError, match="notes.txt is a file"):
        evaluate.evaluate(finished, output / "notes.txt", data_dir=clips)
    with pytest.raises(ValueError, match="test"):
        evaluate.evaluate(finished, clips, data_dir=clips)
    (output / "notes.txt").unlink()
    (output / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="result.json"):
        evaluate.evaluate(finished, output, data_dir=clips)


def test_a_data_set_of_other_classes_is_refused_in_a_line_that_says_what_to_do(finished, clips, tmp_path):
    shutil.copytree(pathlib.Path(clips, "val", "recede"), tmp_path / "data" / "wave")
    shutil.copytree(pathlib.Path(clips, "val", "approach"), tmp_path / "data" / "nod")
    for folder in ("wave", "nod"):
        shutil.copy(tmp_path / "data" / folder / "00000.mp4", tmp_path / "data" / folder / "1.mp4")
    with pytest.raises(ValueError) as error:
        evaluate.evaluate(finished, data_dir=str(tmp_path / "data"))
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for part in ("other classes", "'nod', 'wave'", "'approach'", "keras-stm fit --weights="):
        assert part in message


def test_a_test_set_without_labels_is_refused(finished, tmp_path):
    root = shipped.write(tmp_path / "jester", shipped.jester(CLASS_NAMES))
    with pytest.raises(ValueError, match="`split`: "):
        evaluate.evaluate(finished, data_dir=root, dataset="jester", split="test")


def test_the_command_evaluates(finished, clips, tmp_path):
    # Two batches of the same shape: 4 videos with 2 clips of 3 crops each.
    flags = ["--protocol=paper", "--clips=2", "--batch_size=24", "--output=o"]
    arguments = [sys.executable, str(EVALUATE), f"--model={finished}", f"--data_dir={clips}", *flags]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "o")) == FILES
    found = json.loads((tmp_path / "o" / "result.json").read_text())
    assert (found["settings"]["clips"], found["settings"]["crops"]) == (2, 3)
    assert found["command"].startswith(f"{EVALUATE} --model=") and "--clips=2" in found["command"]
    assert f"top-1 {found['results']['ordered']['top1']:.1%}" in done.stdout


@pytest.mark.parametrize("protocol", ["efficient", "stream"])
def test_bfloat16_gives_nearly_the_same_in_a_folder_of_its_own(protocol, causal, clips):
    scores = []
    for precision, ending in (("float32", ""), ("bfloat16", "-bfloat16")):
        flags = [f"--data_dir={clips}", f"--protocol={protocol}", f"--precision={precision}"]
        command.main(["evaluate", f"--model={causal}", *flags])
        folder = folder_of(causal, f"clips-validation-{protocol}{ending}")
        assert json.loads((folder / "result.json").read_text())["settings"]["precision"] == precision
        rows = read_table(folder / "scores.csv")
        scores.append([[float(row[name]) for name in CLASS_NAMES] for row in rows])
    assert 0 < np.abs(np.subtract(*scores)).max() < 0.1


def test_an_evaluation_of_a_version_without_precision_is_replaced(finished, clips, tmp_path):
    found = evaluate.evaluate(finished, tmp_path / "old", data_dir=clips)
    del found["settings"]["precision"]
    (tmp_path / "old" / "result.json").write_text(json.dumps(found))
    assert evaluate.evaluate(finished, tmp_path / "old", data_dir=clips)["settings"]["precision"] == "float32"


@pytest.mark.parametrize(
    "settings,expected",
    [
        ({}, "clips-validation-efficient"),
        ({"data_dir": None}, "arrow_of_time-validation-efficient"),
        ({"data_dir": "/data/my.clips.txt", "dataset": "list"}, "my.clips-validation-efficient"),
        ({"dataset": "jester", "split": "test", "frames": "still"}, "jester-test-efficient-still"),
        ({"protocol": "paper", "clips": 10, "crops": 3}, "clips-validation-paper"),
        ({"protocol": "paper", "clips": 10}, "clips-validation-10x1"),
        ({"num_frames": 16, "image_size": 64}, "clips-validation-efficient-16frames-64px"),
        ({"protocol": "stream", "streams": 8}, "clips-validation-stream"),
        ({"precision": "bfloat16"}, "clips-validation-efficient-bfloat16"),
        ({"dataset": "ucf101", "fold": 2, "seed": 3}, "ucf101-validation-efficient-fold2-seed3"),
    ],
)
def test_a_folder_is_named_for_what_is_not_as_usual(settings, expected):
    usual = {
        **{"dataset": "folder", "data_dir": "/data/clips/", "split": "validation", "protocol": "efficient"},
        **{"clips": 1, "crops": 1, "num_frames": 8, "image_size": 56, "frames": "ordered"},
        **{"fold": 1, "seed": 0, "precision": "float32"},
    }
    trained = inference.Trained(None, (), 8, 56, "segments", None, "/model.keras", "/")
    assert evaluate.name_evaluation({**usual, **settings}, trained) == expected
