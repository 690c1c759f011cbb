"""Long videos from one end to the other: train on spans, predict, evaluate and embed; in one process."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from keras_stm import inference
from keras_stm.commands import check_data, embed, evaluate, pack, predict
from keras_stm.data import frames, load_clip, open_dataset, shards
from keras_stm.data.frames import file_of
from keras_stm.embedding import feature_model
from keras_stm.train.data import RunData
from tests import brightness
from tests.data.videos import write_video
from tests.reference.backend import compute, numpy
from tests.train import small_runs

# Seconds of the classes in each video: half of it is dark, half is bright.
SECONDS = {"dark": (0, 3), "bright": (3, 6)}


def command(module, *arguments):
    return module.main([module.__name__.rpartition(".")[2], *map(str, arguments)])


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Three copies of a video of 6 seconds that becomes brighter, and `spans.csv` with parts of them."""
    folder = tmp_path_factory.mktemp("footage")
    rows = ["video,start,end,label"]
    # Encoding the same frames twice does not always give the same bytes.
    video = pathlib.Path(write_video(folder / "0.mp4", 60, options={"bf": "2", "g": "10"})).read_bytes()
    for i in range(3):
        (folder / f"{i}.mp4").write_bytes(video)
        rows += [f"{i}.mp4,{s + j},{s + j + 1},{name}" for name, (s, _) in SECONDS.items() for j in range(3)]
    (folder / "spans.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return brightness.write_run(tmp_path_factory.mktemp("saved_models") / "run")


def test_whoever_trains_on_class_folders_can_train_on_spans(footage, tmp_path):
    with small_runs.untraced():
        small_runs.run(tmp_path / "run", footage, dataset="spans", epochs=1, batch_size=12)
    history = read_table(tmp_path / "run" / "history.csv")
    assert len(history) == 1
    output = tmp_path / "result"
    arguments = [f"--model={tmp_path / 'run'}", f"--data_dir={footage / 'spans.csv'}", "--dataset=spans"]
    command(evaluate, *arguments, f"--output={output}")
    scores = read_table(output / "scores.csv")
    assert {row["label"] for row in scores} == {"bright", "dark"}
    # One of three videos is set apart, with all of its spans.
    assert len(scores) == 6 and len({file_of(row["path"]) for row in scores}) == 1
    accuracy = json.loads((output / "result.json").read_text())["results"]["ordered"]["top1"]
    assert accuracy == pytest.approx(float(history[0]["val_accuracy"]))


def test_spans_are_checked_and_packed_like_clips(footage, tmp_path, capsys):
    bad = tmp_path / "bad.csv"
    rows = (footage / "spans.csv").read_text().splitlines()[1:]
    rows = [f"{footage}/{row},train" for row in rows[:7]] + [f"{footage}/{row},val" for row in rows[12:18]]
    rows += [f"{footage}/0.mp4,99,100,dark,train"]
    bad.write_text("\n".join(["video,start,end,label,split", *rows]))
    assert command(check_data, f"--data_dir={bad}", "--dataset=spans", f"--output={tmp_path}/check") == 2
    findings = json.loads((tmp_path / "check" / "check_data.json").read_text())
    assert findings["facts"]["frames"]["most_frequent"] == [[10, 13]]
    (unreadable,) = findings["unreadable"]["unreadable"]
    assert unreadable["reason"].startswith("has no frames from 99 s to 100 s")
    # The videos are copies, so spans of the same times are copies, too.
    assert len(findings["copies"]) == 6
    pack_to = ["--dataset=spans", f"--output={tmp_path}/packed"]
    exclude = f"--exclude={tmp_path}/check/exclude.txt"
    assert command(pack, f"--data_dir={bad}", *pack_to, exclude, "--split=train,validation") is None
    packed, spans = open_dataset("packed", tmp_path / "packed"), open_dataset("spans", bad)
    assert len(packed.records) == len(spans.records) - 1 == 7
    for (path, label), (part, of_part) in zip(packed.records, spans.records, strict=False):
        assert label == of_part and shards.count_frames(path) == 10
        difference = frames.read_frames(path, range).astype(int) - frames.read_frames(part, range)
        assert np.abs(difference).mean() < 5


def test_predictions_are_spans_to_evaluate_and_to_train_on(footage, run, tmp_path, capsys):
    output = tmp_path / "found" / "spans.csv"
    output.parent.mkdir()
    arguments = [f"--model={run}", "--window=1", f"--spans={output}", "--threshold=0.6"]
    # The second path is a part: its times are still those of the whole video.
    assert command(predict, footage / "0.mp4", f"{footage / '1.mp4'}#t=1,6", *arguments) == 0
    assert f"{output}: 6 spans with scores above 0.6\n" in capsys.readouterr().out
    rows = read_table(output)
    assert list(rows[0]) == ["video", "start", "end", "label", "score"]
    assert [row["video"] for row in rows] == [
        os.path.relpath(footage / f"{i}.mp4", output.parent) for i in (0,) * 3 + (1,) * 3
    ]
    whole, part = rows[:3], rows[3:]
    assert [row["label"] for row in whole] == [row["label"] for row in part] == list(brightness.NAMES)
    assert (float(whole[0]["start"]), float(part[0]["start"])) == (0, 1)
    assert float(whole[2]["end"]) == float(part[2]["end"]) == 6
    assert all(0.6 < float(row["score"]) <= 1 for row in rows)
    # Windows between two classes have lower scores, so there are gaps or the next span.
    for one, other in ((whole[0], whole[1]), (whole[1], whole[2])):
        assert float(one["end"]) <= float(other["start"]) and float(one["start"]) < float(one["end"])
    assert open_dataset("spans", output).class_names == tuple(sorted(brightness.NAMES))

    truth = tmp_path / "truth.csv"
    times = {row["label"]: (row["start"], row["end"]) for row in whole}
    lines = [f"{footage}/0.mp4,{start},{end},{label}" for label, (start, end) in times.items()]
    truth.write_text("\n".join(["video,start,end,label", *lines, f"{footage}/1.mp4,0,1,dark"]))
    compared = [f"--spans={output}", "--dataset=spans", f"--data_dir={truth}", f"--output={tmp_path}/result"]
    capsys.readouterr()
    assert command(evaluate, *compared) is None
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    # The spans of the part are wrong; its `dark` begins where the true one ends.
    assert result["true_spans"] == {"bright": 1, "dark": 2, "middle": 1}
    assert result["average_precision"]["dark"] == {"0.3": 0.5, "0.5": 0.5, "0.7": 0.5}
    assert 0.3 < result["mean_average_precision"]["0.7"] < 1
    out = capsys.readouterr().out
    assert "IoU 0.3  IoU 0.5  IoU 0.7" in out and f"{result['mean_average_precision']['0.5']:.1%}" in out


@pytest.mark.parametrize("split, expected", [("train", 1.0), ("validation", 0.0)])
def test_only_videos_of_the_split_are_compared(split, expected, tmp_path):
    """The videos need not exist."""
    (tmp_path / "truth.csv").write_text("video,start,end,label,split\na.mp4,0,9,x,train\nb.mp4,0,9,x,val\n")
    (tmp_path / "spans.csv").write_text("video,start,end,label,score\na.mp4,0,9,x,0.9\nb.mp4,9,10,x,0.8\n")
    arguments = [f"--spans={tmp_path}/spans.csv", "--dataset=spans", f"--data_dir={tmp_path}/truth.csv"]
    command(evaluate, *arguments, f"--output={tmp_path}", f"--split={split}")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["mean_average_precision"] == dict.fromkeys(("0.3", "0.5", "0.7"), expected)
    assert result["predicted_spans"] == {"x": 1} and result["settings"]["split"] == split


@pytest.mark.parametrize(
    "predicted, arguments, message",
    [
        ("v.mp4,0,1,x,0.5", ["--model=run"], "pass no --model"),
        ("v.mp4,0,1,x,0.5", ["--dataset=folder"], "`dataset` must be one of 'spans', 'label_studio'"),
        ("w.mp4,0,1,x,0.5", [], "expected spans of videos in .*v.mp4. Received: .*w.mp4"),
        ("v.mp4,0,1,x,high", [], "line 2: expected a number as score"),
        ("v.mp4,0,1,x,nan", [], "line 2: expected a number as score"),
    ],
)
def test_what_cannot_be_compared_is_told(predicted, arguments, message, tmp_path):
    (tmp_path / "truth.csv").write_text("video,start,end,label\nv.mp4,0,9,x\n")
    (tmp_path / "spans.csv").write_text(f"video,start,end,label,score\n{predicted}\n")
    given = [f"--spans={tmp_path}/spans.csv", "--dataset=spans", f"--data_dir={tmp_path}/truth.csv"]
    with pytest.raises(SystemExit, match=message):
        command(evaluate, *given, f"--output={tmp_path}/result", *arguments)
    assert not (tmp_path / "result").exists()


def test_spans_need_windows(footage, run, tmp_path):
    with pytest.raises(SystemExit, match="--spans needs --window"):
        command(predict, footage / "0.mp4", f"--model={run}", f"--spans={tmp_path}/spans.csv")


@pytest.fixture(scope="module")
def model(trained_run):
    return inference.load(trained_run)


def test_features_are_what_the_classifier_gets(trained_run, model, footage, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    paths = [str(footage / "0.mp4"), f"{footage / '1.mp4'}#t=1,3", str(tmp_path / "broken.mp4")]
    output = tmp_path / "features"
    assert command(embed, *paths, f"--model={trained_run}", f"--output={output}", "--batch_size=2") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"embed: {paths[2]}: not a video") and error.count("\n") == 1
    features = np.load(output / "features.npy")
    assert features.dtype == np.float32
    assert [tuple(row.values()) for row in read_table(output / "paths.csv")] == [
        (path, "") for path in paths[:2]
    ]
    # The classifier's scores follow from the features: it is linear up to its mean over time.
    head = model.model.get_layer("predictions")
    logits = features @ numpy(head.kernel) + numpy(head.bias)
    clips = np.concatenate([load_clip(path, model.num_frames, model.image_size) for path in paths[:2]])
    scores = numpy(compute(model.model, clips))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(exponents / exponents.sum(axis=1, keepdims=True), scores, rtol=1e-4, atol=1e-6)


def test_a_split_of_any_data_set_has_features_with_labels(trained_run, footage, tmp_path):
    data = [f"--data_dir={footage}", "--dataset=spans", "--split=validation", "--protocol=paper"]
    assert command(embed, f"--model={trained_run}", *data, f"--output={tmp_path}") == 0
    rows = read_table(tmp_path / "paths.csv")
    expected = open_dataset("spans", footage, split="validation")
    names = [(path, expected.class_names[label]) for path, label in expected.records]
    assert [(row["path"], row["label"]) for row in rows] == names
    assert np.load(tmp_path / "features.npy").shape == (
        6,
        feature_model(inference.load(trained_run).model).output_shape[-1],
    )


def test_a_split_is_that_of_training_although_some_clips_cannot_be_read(trained_run, clips, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    video = sorted(pathlib.Path(clips).rglob("*.mp4"))[0]
    for i in range(26):
        path = data / "ab"[i % 2] / f"person{i // 2:02}_clip{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, path)
    (data / "a" / "person99_clip0.mp4").write_text("no video")
    run.mkdir()
    shutil.copy(trained_run / "model.keras", run)
    settings = dataclasses.replace(small_runs.SMALL, data_dir=str(data), group_by="person..", exclude=None)
    (run / "config.json").write_text(json.dumps({"settings": dataclasses.asdict(settings)}))
    assert command(embed, f"--model={run}", f"--data_dir={data}", f"--output={tmp_path}/features") == 2
    expected = RunData(settings, 0.5, 2).validation.records
    rows = read_table(tmp_path / "features" / "paths.csv")
    assert [row["path"] for row in rows] == [path for path, _ in expected]
    # Without the settings of the run, other clips would be set apart.
    naive = open_dataset("folder", data, split="validation").records
    assert {path for path, _ in naive} != {path for path, _ in expected}


def test_where_nothing_is_read_nothing_is_written(trained_run, tmp_path, capsys):
    assert command(embed, tmp_path / "gone.mp4", f"--model={trained_run}", f"--output={tmp_path}/out") == 1
    assert "gone.mp4: no such file" in capsys.readouterr().err and not (tmp_path / "out").exists()
    for arguments in ([], ["a.mp4", "--data_dir=b"]):
        with pytest.raises(SystemExit, match="pass files or folders, or --data_dir, but not both"):
            command(embed, *arguments, f"--model={trained_run}")


def test_a_model_without_classifier_is_refused():
    import keras

    inputs = keras.Input((None, None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling3D(data_format="channels_last")(inputs))
    with pytest.raises(ValueError, match="`model` must end in a Dense layer"):
        feature_model(model)
