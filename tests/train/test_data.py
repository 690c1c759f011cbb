"""The clips of a run: which are skipped and listed, which are excluded, and the order of classes."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import shlex
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_stm
from keras_stm import model_file
from keras_stm.arguments import ArgumentError
from keras_stm.commands import fit as command
from keras_stm.data import arrow_of_time, packing
from keras_stm.train import config, fit, presets
from keras_stm.train.data import CLIPS_OF_DATA, RunData, data_flags
from keras_stm.train.run import build_model
from tests.data.catalog import shipped
from tests.data.videos import write_video
from tests.train.small_runs import NARROW, SMALL, run


def open_data(data_dir, max_unreadable=0.5, **settings):
    return RunData(dataclasses.replace(SMALL, data_dir=str(data_dir), **settings), max_unreadable, workers=2)


@pytest.fixture
def newcomers_folder(clips, tmp_path):
    """A folder with three good clips, a truncated one, and a text file that is named like a video."""
    folder = tmp_path / "newcomer"
    for number, name in enumerate(("approach", "recede", "recede")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        source = sorted(pathlib.Path(clips, "train", name).iterdir())[number % 2]
        shutil.copy(source, folder / name / f"good_{number}.mp4")
    content = source.read_bytes()
    (folder / "recede" / "cut.mp4").write_bytes(content[: len(content) // 2])
    (folder / "approach" / "notes.mp4").write_text("no video at all")
    return folder


def before_training(function):
    """Returns a callback that calls `function` before the training."""
    return keras.callbacks.LambdaCallback(on_train_begin=lambda logs: function())


def test_a_newcomers_folder_trains_and_says_what_it_left_out_also_while_it_trains(
    newcomers_folder, tmp_path, monkeypatch, capsys, eagerly
):
    for number in (3, 4, 5):
        shutil.copy(
            newcomers_folder / "recede" / "good_2.mp4", newcomers_folder / "approach" / f"good_{number}.mp4"
        )
    (lost, _), *_ = open_data(newcomers_folder).train.records
    capsys.readouterr()
    vanish = before_training(lambda: os.remove(lost))
    monkeypatch.setattr("keras_stm.train.run.fit", functools.partial(fit, callbacks=[vanish]))
    monkeypatch.setattr(keras_stm.export, "save", lambda *args, **kwargs: None)
    arguments = [f"--data_dir={newcomers_folder}", f"--output={tmp_path / 'run'}"]
    command.main(["fit.py", *arguments, "--epochs=1", "--num_frames=4", "--image_size=32"])
    output = capsys.readouterr().out
    names = ["cut.mp4", "notes.mp4", os.path.basename(lost)]
    for name in names:
        lines = [line for line in output.splitlines() if line.startswith("Skipped: ") and name in line]
        assert len(lines) == 1
    assert "Skipped 3 unreadable clips of 8: left_out.txt" in output
    left_out = (tmp_path / "run" / "left_out.txt").read_text().splitlines()
    assert sorted(os.path.basename(line.split(":")[0]) for line in left_out) == sorted(names)
    assert (tmp_path / "run" / "model.keras").exists()


def test_too_many_unreadable_clips_stop_the_run_with_a_list(newcomers_folder):
    with pytest.raises(ValueError, match="2 of 5 clips cannot be read:") as error:
        open_data(newcomers_folder, max_unreadable=0.3)
    for text in ("cut.mp4", "notes.mp4", "Received: max_unreadable=0.3"):
        assert text in str(error.value)


def test_the_run_stops_when_most_clips_vanish_in_training(clips, tmp_path, eagerly):
    shutil.copytree(clips, tmp_path / "clips")
    vanish = before_training(lambda: shutil.rmtree(tmp_path / "clips" / "train"))
    with pytest.raises(ValueError, match=r"1\d of 24 clips cannot be read:"):
        run(tmp_path / "run", tmp_path / "clips", callbacks=[vanish])


def test_excluded_clips_are_left_out_without_a_word(newcomers_folder, tmp_path, capsys):
    (tmp_path / "exclude.txt").write_text("# broken\nrecede/cut.mp4\n\napproach/notes.mp4\n")
    data = open_data(newcomers_folder, exclude=str(tmp_path / "exclude.txt"))
    assert "Skipped" not in capsys.readouterr().out and not data.left_out.reasons
    names = [
        pathlib.Path(path).name for dataset in (data.train, data.validation) for path, _ in dataset.records
    ]
    assert sorted(names) == ["good_0.mp4", "good_1.mp4", "good_2.mp4"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_list_of_excluded_clips_that_cannot_be_read_is_named(content, newcomers_folder, tmp_path):
    file = tmp_path / "exclude.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ArgumentError) as error:
        open_data(newcomers_folder, exclude=str(file))
    assert (error.value.name, error.value.value) == ("exclude", str(file))


def test_what_is_not_used_and_what_is_set_apart_is_said_once(newcomers_folder, capsys):
    (newcomers_folder / "recede" / "notes.txt").touch()
    (newcomers_folder / "loose.mp4").touch()
    open_data(newcomers_folder)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines if "no clip of a class" in line] == [
        "Not used, because no clip of a class (2)"
    ]
    assert lines.count("There is no validation split: it gets 2 of 5 training clips.") == 1


def test_clips_that_are_not_as_their_list_says_are_skipped_before_training(tmp_path):
    image = tf.io.encode_jpeg(np.zeros((40, 56, 3), "uint8")).numpy()
    shipped.write(tmp_path, {f"{clip}/{i}.jpg": image for clip in "abcde" for i in range(3)})
    shipped.write(tmp_path, {"train.txt": "a 3 0\nb 3 1\nc 2 0\n", "val.txt": "d 3 0\ne 4 1\n"})
    data = open_data(tmp_path, dataset="list")
    assert list(data.left_out.reasons.values()) == [
        f"{tmp_path}/c: holds 3 frames, but the list states 2",
        f"{tmp_path}/e: holds 3 frames, but the list states 4",
    ]
    assert len(data.train.records) == 2 and len(data.validation.records) == 1


def test_groups_stay_on_one_side_and_are_no_setting_of_packed_clips(newcomers_folder, tmp_path):
    for number in (0, 1):
        folder = newcomers_folder / "approach" / f"day{number}"
        folder.mkdir()
        for clip in range(2):
            shutil.copy(newcomers_folder / "recede" / "good_1.mp4", folder / f"{clip}.mp4")
    data = open_data(newcomers_folder, group_by="parent")
    sides = [{os.path.dirname(path) for path, _ in part.records} for part in (data.train, data.validation)]
    days = {str(newcomers_folder / "approach" / f"day{number}") for number in (0, 1)}
    assert not sides[0] & sides[1] & days
    packing.pack(str(newcomers_folder), str(tmp_path / "packed"), group_by="parent")
    with pytest.raises(ArgumentError, match="`group_by` does not apply to packed clips"):
        open_data(tmp_path / "packed", group_by="parent")
    with pytest.raises(ValueError, match="`group_by` is for 'folder', 'list', not for 'jester'"):
        open_data(newcomers_folder, dataset="jester", group_by="parent")


def test_batches_are_no_larger_than_the_data_set(clips, capsys):
    assert open_data(clips, batch_size=32).batch_size == 16
    assert "Batches are of 16 clips" in capsys.readouterr().out
    assert open_data(clips, batch_size=8).batch_size == 8


def test_epochs_are_counted_from_the_updates_that_the_clips_allow(clips):
    settings = [open_data(clips, batch_size=size, epochs=0, updates=41).settings for size in (4, 8, 32)]
    assert [each.epochs for each in settings] == [11, 21, 41]


def test_a_runs_settings_repeat_its_epochs_on_another_folder_unless_they_are_to_be_counted(clips, tmp_path):
    counted = open_data(clips, epochs=0, updates=20).settings
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"settings": dataclasses.asdict(counted)}))
    saved = config.read(file)
    assert saved.epochs == 10 and saved.with_counted_epochs(2).epochs == 10
    assert dataclasses.replace(saved, epochs=0).with_counted_epochs(1).epochs == 20


def test_flags_of_the_clips_are_text_for_a_shell_without_usual_values():
    values = {**CLIPS_OF_DATA, "data_dir": "/my clips", "group_by": r"(g\d+)", "fold": 2, "epochs": 3}
    text = data_flags(values)
    assert shlex.split(text) == ["--data_dir=/my clips", r"--group_by=(g\d+)", "--fold=2"]


def test_the_list_of_what_chooses_clips_has_the_usual_values():
    """The defaults of `Config` and of the flags are the same."""
    assert {name: getattr(presets.PRESETS["small"], name) for name in CLIPS_OF_DATA} == CLIPS_OF_DATA


@pytest.mark.parametrize("place", ["folder", "URL"])
def test_packed_clips_are_known_by_their_folder_and_train(place, clips, tmp_path):
    packed = str(tmp_path / "packed") if place == "folder" else f"ram://{tmp_path.name}/packed"
    packing.pack(clips, packed)
    data = open_data(packed)
    assert data.is_packed and data.train.class_names == arrow_of_time.CLASS_NAMES
    batches = list(data.training_batches(initial_epoch=0))
    assert [clip.shape for clip, _ in batches] == [(8, 4, 32, 32, 3)] * 4
    assert sum(len(labels) for _, labels in data.validation_batches()) == 8


def test_packed_clips_are_sampled_as_the_clips_that_were_packed(tmp_path):
    video = pathlib.Path(write_video(tmp_path / "0.mp4", 8)).read_bytes()
    for split, counts in (("train", {"clap": 2, "wave": 9}), ("val", {"clap": 1, "wave": 1})):
        for name, count in counts.items():
            (tmp_path / "clips" / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "clips" / split / name / f"{i}.mp4").write_bytes(video)
    packing.pack(str(tmp_path / "clips"), str(tmp_path / "packed"), num_shards=3)
    chosen = []
    for folder in ("clips", "packed"):
        data = open_data(tmp_path / folder, batch_size=4, sampling_weights="balanced", flip="none")
        places = {path: i for i, (path, _) in enumerate(data.train.records)}
        steps = [(epoch, step) for epoch in range(2) for step in range(2)]
        chosen.append([[places[path] for path in data.batch_paths(*step)] for step in steps])
        read = [labels.numpy().tolist() for _, labels in data.training_batches(initial_epoch=0)]
        assert read == [[data.train.records[i][1] for i in batch] for batch in chosen[-1]]
    assert chosen[0] == chosen[1]
    # Two of eleven clips are of this class, but about half of those that are shown.
    assert sum(map(sum, read)) in range(6, 11)


SHIPPED = ("something_v1", "something_v2", "jester", "kinetics400", "ucf101", "hmdb51")
NAMES = ("pan left", "pan right", "wave")


def write_shipped(folder, name):
    """Writes a data set in its original layout, one folder deeper, with real clips of a few frames."""
    clip = {
        extension: pathlib.Path(write_video(folder / f"clip{extension}", 6, codec)).read_bytes()
        for extension, codec in ((".mp4", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx-vp9"))
    }
    clip[".jpg"] = tf.io.encode_jpeg(np.full((40, 56, 3), 90, "uint8")).numpy()
    files = getattr(shipped, name)(NAMES, notes="labels/", clips="clips/")
    files = {path: content or clip[os.path.splitext(path)[1]] for path, content in files.items()}
    return shipped.write(folder / name, files)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_data_set_of_the_paper_gives_batches_from_its_own_files_with_its_preset(name, tmp_path):
    settings = dataclasses.replace(
        presets.PRESETS[name],
        data_dir=write_shipped(tmp_path, name),
        weights="none",
        num_frames=4,
        image_size=32,
        epochs=1,
    )
    data = RunData(settings, 0.0, 2)
    assert data.train.class_names == data.validation.class_names and len(data.train.class_names) == 3
    ((clips, labels),) = data.training_batches(initial_epoch=0)
    assert clips.shape == (data.batch_size, 4, 32, 32, 3)
    assert sorted(labels.numpy()) == sorted(label for _, label in data.train.records)
    validation = np.concatenate([labels for _, labels in data.validation_batches()])
    assert validation.tolist() == [label for _, label in data.validation.records]


def test_packed_clips_of_another_data_set_or_fold_are_refused(tmp_path):
    packed = str(tmp_path / "packed")
    packing.pack(write_shipped(tmp_path, "ucf101"), packed, dataset="ucf101", fold=2)
    known = open_data(packed).settings
    assert (known.dataset, known.fold) == ("ucf101", 2)
    assert open_data(packed, dataset="ucf101", fold=2).settings == known
    for name, value, others in (
        ("dataset", "hmdb51", {"fold": 2}),
        ("fold", 1, {"dataset": "ucf101"}),
        ("exclude", "some.txt", {}),
    ):
        with pytest.raises(ArgumentError) as error:
            open_data(packed, **{name: value}, **others)
        assert (error.value.name, error.value.value) == (name, value)


def test_a_validation_set_that_cannot_be_read_is_named(clips, tmp_path):
    shutil.copytree(clips, tmp_path / "clips")
    for path in (tmp_path / "clips" / "val").glob("*/*"):
        path.write_bytes(b"no video")
    with pytest.raises(ValueError, match="8 unreadable clips were skipped"):
        open_data(tmp_path / "clips")


def test_clips_that_lists_name_and_that_are_not_there_are_counted_and_named(tmp_path, capsys):
    root = pathlib.Path(write_shipped(tmp_path, "ucf101"))
    lost = sorted(root.rglob("*.avi"))[0]
    lost.unlink()
    data = open_data(root, dataset="ucf101")
    assert len(data.missing) == 1 and data.missing[0].endswith(lost.name)
    assert re.search(r"^Clips that do not exist: 1 of \d: .*avi$", capsys.readouterr().out, re.MULTILINE)


def test_weights_that_are_not_there_are_named_with_what_to_do(clips, tmp_path):
    with pytest.raises(ArgumentError, match="preset kinetics400") as error:
        run(tmp_path / "run", clips, weights="nowhere.keras")
    assert (error.value.name, error.value.value) == ("weights", os.path.abspath("nowhere.keras"))
    assert not (tmp_path / "run").exists()


def test_a_data_set_without_its_folder_is_refused():
    with pytest.raises(ValueError, match="`data_dir` .*jester"):
        RunData(dataclasses.replace(SMALL, dataset="jester"), 0.5, 2)


@pytest.fixture(scope="module")
def bare_weights(tmp_path_factory):
    """The file of a model that does not name its classes."""
    path = tmp_path_factory.mktemp("weights") / "model.keras"
    NARROW(classes=8, weights=None).save(path)
    return path


@pytest.fixture
def weights(bare_weights, tmp_path):
    """The weights of a run; each test writes the names of its classes next to them."""
    return shutil.copy(bare_weights, str(tmp_path))


def write_names_beside(weights, names):
    pathlib.Path(weights).with_name("class_names.txt").write_text("".join(f"{name}\n" for name in names))


def write_names_within(weights, names):
    model_file.annotate(weights, names, model_file.ClipSettings(8, 56, "segments"))


@pytest.mark.parametrize("write_names", [write_names_beside, write_names_within])
def test_another_runs_order_of_classes_is_taken_over_with_its_weights(write_names, weights, clips, caplog):
    names = arrow_of_time.CLASS_NAMES[::-1]
    write_names(weights, names)
    assert keras.saving.load_model(weights).output_shape == (None, 8)
    data = open_data(clips, weights=weights)
    assert data.train.class_names == data.validation.class_names == names
    for path, label in data.train.records:
        assert pathlib.Path(path).parent.name == names[label]
    assert data.has_head and "order" in caplog.text


def test_weights_that_do_not_tell_their_classes_are_named(weights, clips, caplog):
    assert open_data(clips, weights=weights).has_head
    assert "does not name its classes" in caplog.text


def test_a_head_for_other_classes_starts_anew_although_their_number_is_the_same(weights, clips):
    kernel = keras.saving.load_model(weights).get_layer("predictions").kernel
    for names, same in ((arrow_of_time.CLASS_NAMES, True), ([f"class {i}" for i in range(8)], False)):
        write_names_beside(weights, names)
        settings = dataclasses.replace(SMALL, data_dir=clips, weights=weights)
        model = build_model(settings, RunData(settings, 0.5, 2))
        found = model.get_layer("predictions").kernel
        assert np.array_equal(*map(keras.ops.convert_to_numpy, (kernel, found))) == same
