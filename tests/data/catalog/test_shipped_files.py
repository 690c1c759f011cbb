"""The six data sets in their published layouts."""

import json
import os
import pathlib
import re

import pytest

from keras_stm.data.catalog import open_dataset
from tests.data.catalog import shipped

CLASS_NAMES = ("Pushing something", "Bending something", "Pulling it right out")
LABELS = pathlib.Path(__file__).parents[4] / "shared" / "labels"
WITHOUT_VALIDATION = ("ucf101", "hmdb51")


def number(path):
    """Returns the number of a clip; see `shipped`."""
    return int(re.search(r"[123]\d\d\d", os.path.basename(path))[0])


def class_names_of(name):
    # Class folders of UCF-101 and HMDB-51 have no blanks in their names.
    return [c.replace(" ", "") for c in CLASS_NAMES] if name in WITHOUT_VALIDATION else list(CLASS_NAMES)


def write(tmp_path, name, unpacked=True, **options):
    notes, clips = shipped.FOLDERS[name] if unpacked else ("", "")
    return shipped.write(tmp_path, shipped.WRITERS[name](class_names_of(name), notes, clips, **options))


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("name", ["something_v1", "something_v2", "jester", "kinetics400"])
def test_each_split_has_its_clips_with_the_labels_of_their_classes(tmp_path, name, unpacked):
    root = write(tmp_path, name, unpacked)
    for split, first in shipped.FIRST.items():
        dataset = open_dataset(name, root, split)
        assert [number(path) for path, _ in dataset.records] == [first, first + 1, first + 2]
        assert all(os.path.exists(path) for path, _ in dataset.records)
        assert dataset.missing == ()
        found = [label if label is None else dataset.class_names[label] for _, label in dataset.records]
        assert found == ([None] * 3 if split == "test" else list(CLASS_NAMES))


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("fold", [1, 2, 3])
@pytest.mark.parametrize("name", WITHOUT_VALIDATION)
def test_each_fold_has_its_clips_with_the_labels_of_their_classes(tmp_path, name, fold, unpacked):
    root = write(tmp_path, name, unpacked)
    number_of = {"ucf101": r"_g0(\d)_", "hmdb51": r"_(\d)\.avi"}[name]
    for split in ("train", "test"):
        dataset = open_dataset(name, root, split, fold=fold)
        groups = [int(re.search(number_of, path)[1]) for path, _ in dataset.records]
        assert groups == ([fold] if split == "test" else sorted({1, 2, 3} - {fold})) * 3
        for path, label in dataset.records:
            assert os.path.isfile(path)
            assert os.path.basename(os.path.dirname(path)) == dataset.class_names[label]
    validation = open_dataset(name, root, "validation", fold=fold)
    assert validation == open_dataset(name, root, "test", fold=fold)


@pytest.mark.parametrize("name", shipped.WRITERS)
def test_class_names_come_in_the_order_of_the_published_labels(tmp_path, name):
    path = LABELS / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    class_names = path.read_text().splitlines()
    root = shipped.write(tmp_path, shipped.WRITERS[name](class_names))
    if name == "something_v1":
        assert open_dataset(name, root, class_order="raw").class_names == tuple(class_names)
        class_names = sorted(class_names)
    dataset = open_dataset(name, root)
    assert dataset.class_names == tuple(class_names)
    assert {label for _, label in dataset.records} == set(range(len(class_names)))
    assert open_dataset(name, root, "test").class_names == dataset.class_names


def test_raw_class_order_is_that_of_the_csv(tmp_path):
    root = write(tmp_path, "something_v1")
    raw = open_dataset("something_v1", root, class_order="raw")
    assert raw.class_names == CLASS_NAMES
    assert [label for _, label in raw.records] == [0, 1, 2]
    by_default = open_dataset("something_v1", root)
    assert by_default.class_names == tuple(sorted(CLASS_NAMES))
    assert [label for _, label in by_default.records] == [2, 0, 1]


def test_later_file_names_of_something_v2_are_known(tmp_path):
    root = write(tmp_path, "something_v2", prefix="")
    assert len(open_dataset("something_v2", root, "validation").records) == 3


@pytest.mark.parametrize("validation", ["validate", "val"])
@pytest.mark.parametrize(
    "clips", ["", "{label}/", "{split}/", "{split}/{label}/", "kinetics/{split}/{label}/"]
)
def test_kinetics_clips_lie_in_any_of_the_usual_folders(tmp_path, clips, validation):
    root = shipped.write(tmp_path, shipped.kinetics400(CLASS_NAMES, clips=clips, validation=validation))
    for split in shipped.FIRST:
        assert len(open_dataset("kinetics400", root, split).records) == 3


def test_kinetics_folders_may_have_underscores_and_other_names(tmp_path):
    files = shipped.kinetics400(CLASS_NAMES, clips="validation/{label}/")
    root = shipped.write(tmp_path, {file.replace(" ", "_"): text for file, text in files.items()})
    assert len(open_dataset("kinetics400", root, "validation").records) == 3


def test_kinetics_test_lists_may_have_quotes_no_labels_and_further_columns(tmp_path):
    root = write(tmp_path, "kinetics400")
    text = '"youtube_id","time_start","time_end","split","is_cc"\n"-a_3001","7","17","test","0"\n'
    shipped.write(tmp_path, {"kinetics400/test.csv": text})
    assert [label for _, label in open_dataset("kinetics400", root, "test").records] == [None]


@pytest.mark.parametrize("name", shipped.WRITERS)
def test_missing_clips_are_named_and_the_others_kept(tmp_path, name):
    root = write(tmp_path, name, unpacked=False)
    complete = open_dataset(name, root)
    gone, _ = complete.records[1]
    os.rename(gone, tmp_path / "elsewhere")
    dataset = open_dataset(name, root)
    assert dataset.missing == (gone,) if name != "kinetics400" else len(dataset.missing) == 1
    assert dataset.records == complete.records[:1] + complete.records[2:]
    assert dataset.class_names == complete.class_names


@pytest.mark.parametrize("name", shipped.WRITERS)
def test_no_clip_at_all_is_an_error_that_names_some(tmp_path, name):
    notes, _ = shipped.FOLDERS[name]
    files = shipped.WRITERS[name](class_names_of(name), notes, clips="")
    root = shipped.write(tmp_path, {file: text for file, text in files.items() if file.startswith(notes)})
    first = {"ucf101": "v_Push", "hmdb51": "A_", "kinetics400": "-a_1000_000007_000017.mp4"}.get(name, "1000")
    with pytest.raises(ValueError, match=f"^`root` .*{first}"):
        open_dataset(name, root)


def test_clips_may_be_spread_over_folders_and_of_copies_the_first_is_taken(tmp_path):
    files = shipped.something_v2(CLASS_NAMES, clips="m/")
    copies = {f"{folder}/1000.webm": "" for folder in "zfhdbgc"}
    files["n/1001.webm"] = files.pop("m/1001.webm")
    root = shipped.write(tmp_path, files | copies)
    found = [os.path.relpath(path, root) for path, _ in open_dataset("something_v2", root).records]
    assert found == ["b/1000.webm", "n/1001.webm", "m/1002.webm"]


@pytest.mark.parametrize("unpacked", [True, False])
def test_folders_of_frames_and_deep_ones_are_not_listed(tmp_path, monkeypatch, unpacked):
    """A data set has more than 100,000 of them, so listing them would be slow."""
    root = write(tmp_path, "jester", unpacked)
    shipped.write(tmp_path, {"other/deep/1.txt": ""})
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.path.basename(path)) or scandir(path))
    open_dataset("jester", root)
    assert os.path.basename(root) in listed and ("20bn-jester-v1" in listed) == unpacked
    assert not {"1000", "2000", "3000", "deep"} & set(listed)


@pytest.mark.parametrize("name", shipped.WRITERS)
def test_folders_may_be_links_and_have_any_name(tmp_path, name):
    write(tmp_path, name)
    root = tmp_path / "set [1]"
    root.mkdir()
    for folders in shipped.FOLDERS[name]:
        folder = folders.split("/")[0]
        (root / folder).symlink_to(tmp_path / folder)
    assert open_dataset(name, root).missing == ()


def test_classes_are_in_the_order_of_their_numbers(tmp_path):
    files = shipped.something_v2(CLASS_NAMES) | shipped.ucf101(["Run", "Fall"])
    numbers = {"Bending something": "2", "Pushing something": "1", "Pulling it right out": "0"}
    files["something-something-v2-labels.json"] = json.dumps(numbers)
    files["classInd.txt"] = "2 Fall\n1 Run\n"
    root = shipped.write(tmp_path, files)
    assert open_dataset("something_v2", root).class_names == tuple(reversed(numbers))
    assert open_dataset("ucf101", root).class_names == ("Run", "Fall")


@pytest.mark.parametrize(
    "name,file",
    [
        ("something_v1", "something-something-v1-labels.csv"),
        ("something_v2", "something-something-v2-labels.json or labels.json"),
        ("jester", "jester-v1-labels.csv"),
        ("kinetics400", "train.csv"),
        ("ucf101", "classInd.txt"),
        ("hmdb51", r"\*_test_split1.txt"),
    ],
)
@pytest.mark.parametrize("root", ["", "no"])
def test_missing_annotations_are_named(tmp_path, name, file, root):
    with pytest.raises(ValueError, match=f"^`root` .* {file}"):
        open_dataset(name, tmp_path / root)


@pytest.mark.parametrize("ending", [".mp4", ".MKV", ".avi", ".webm", ".mp4.webm"])
@pytest.mark.parametrize("name", ["something_v2", "kinetics400", "ucf101", "hmdb51"])
def test_videos_may_have_other_endings_than_the_published_ones(tmp_path, name, ending):
    files = shipped.WRITERS[name](class_names_of(name), *shipped.FOLDERS[name])
    usual = {"something_v2": ".webm", "kinetics400": ".mp4"}.get(name, ".avi")
    for file in list(files):
        if file.endswith(usual):
            files[file.removesuffix(usual) + ending] = files.pop(file)
    root = shipped.write(tmp_path, files)
    for split in ("train", "validation"):
        dataset = open_dataset(name, root, split)
        assert dataset.missing == () and len(dataset.records) >= 3
        assert all(path.endswith(ending) for path, _ in dataset.records)


def test_the_published_ending_comes_first_and_a_folder_is_no_video(tmp_path):
    files = shipped.something_v2(CLASS_NAMES, clips="clips/")
    del files["clips/1001.webm"]
    files |= {"clips/1000.avi": b"", "clips/1000.mp4": b"", "clips/1001/00001.jpg": b"", "clips/.mp4": b""}
    dataset = open_dataset("something_v2", shipped.write(tmp_path, files))
    assert [os.path.basename(path) for path, _ in dataset.records] == ["1000.webm", "1002.webm"]
    assert dataset.missing == (str(tmp_path / "1001.webm"),)
