import hashlib
import os

import pytest
from absl import logging

from keras_stm.arguments import ArgumentError
from keras_stm.data.catalog import NAMES, open_dataset
from keras_stm.data.dataset import SPLITS, Dataset
from tests.data.catalog import shipped
from tests.data.errors import argument_error

DATASET = Dataset(
    [("0.mp4", 0), ("1.mp4", 1), ("2.mp4", 2), ("t.mp4", None)], ("run", "fall", "sit"), ("no.mp4",)
)


def test_names_and_splits():
    assert NAMES == (*shipped.WRITERS, "folder", "list", "spans", "label_studio", "packed")
    assert SPLITS == ("train", "validation", "test")


def test_fingerprint_never_changes():
    """Every model is saved with a fingerprint."""
    assert DATASET.fingerprint == "41d0c6273ce8fe57"


def test_fingerprint_is_the_hash_of_the_saved_class_names(tmp_path):
    (tmp_path / "class_names.txt").write_text("run\nfall\nsit\n")
    content = (tmp_path / "class_names.txt").read_bytes()
    assert DATASET.fingerprint == hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("class_names", [("fall", "run", "sit"), ("run", "fall"), ("run fall", "sit")])
def test_fingerprint_tells_orders_and_names_apart(class_names):
    assert Dataset([], class_names).fingerprint != DATASET.fingerprint


def test_fingerprint_knows_nothing_of_the_clips():
    assert Dataset([("x.mp4", 2)], DATASET.class_names).fingerprint == DATASET.fingerprint


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    return lines


def test_same_class_names_give_the_same_data_set(warnings):
    assert DATASET.with_class_names(["run", "fall", "sit"]) is DATASET
    assert not warnings


def test_other_order_of_class_names_moves_the_labels_and_says_so(warnings):
    names = ("sit", "run", "fall")
    moved = DATASET.with_class_names(names)
    assert moved.class_names == names
    assert moved.records == [("0.mp4", 1), ("1.mp4", 2), ("2.mp4", 0), ("t.mp4", None)]
    assert moved.missing == DATASET.missing
    (line,) = warnings
    assert line == (
        f"Labels follow the given order of the class names (fingerprint {moved.fingerprint}), "
        f"not the data set's ({DATASET.fingerprint})."
    )
    assert moved.with_class_names(DATASET.class_names) == DATASET


def test_other_class_names_are_told_with_both_fingerprints():
    other = Dataset([], ("run", "sit", *"abcdefg"))
    with pytest.raises(ArgumentError) as error:
        DATASET.with_class_names(other.class_names)
    assert (error.value.name, error.value.value) == ("class_names", other.class_names)
    for part in ("'fall'", "'a', 'b', 'c', 'd', 'e', 2 more", DATASET.fingerprint, other.fingerprint):
        assert part in str(error.value)


def test_a_class_name_that_comes_twice_is_told():
    with argument_error("class_names", ("run", "fall", "sit", "run")):
        DATASET.with_class_names(["run", "fall", "sit", "run"])


@pytest.mark.parametrize("as_path", ["relative to root", "absolute", "as in records"])
@pytest.mark.parametrize("name", [*shipped.WRITERS, "folder", "list"])
def test_excluded_clips_are_left_out(tmp_path, monkeypatch, name, as_path):
    monkeypatch.chdir(tmp_path)
    if name in shipped.WRITERS:
        files = shipped.WRITERS[name](["fall", "run"])
    else:
        files = {
            f"{split}/{c}/{i}.mp4": "" for split in ("train", "val") for c in ("fall", "run") for i in (1, 2)
        }
        files |= {f"{s}.txt": f"{s}/fall/1.mp4 0\n{s}/run/1.mp4 1\n" for s in ("train", "val")}
    shipped.write(tmp_path / "data", files)
    for split in ("train", "validation"):
        complete = open_dataset(name, "data", split)
        (path, _), *others = complete.records
        form = {"relative to root": os.path.relpath(path, "data"), "absolute": os.path.abspath(path)}
        exclude = [form.get(as_path, path), "in/no/list.mp4"]
        dataset = open_dataset(name, "data", split, exclude=exclude)
        assert dataset.records == others
        assert dataset.class_names == complete.class_names


def test_excluded_clips_are_not_missing(tmp_path):
    root = shipped.write(
        tmp_path, {"train.txt": "a.mp4 0\nb.mp4 0\nc.mp4 0\n", "val.txt": "a.mp4 0", "a.mp4": ""}
    )
    assert open_dataset("list", root, exclude=["b.mp4"]).missing == (f"{root}/c.mp4",)


def test_excluding_all_clips_is_an_error(tmp_path):
    root = shipped.write(tmp_path, shipped.jester(["fall", "run"]))
    with pytest.raises(ValueError, match="`exclude` must leave .* clip. Received: exclude of all 2"):
        open_dataset("jester", root, exclude=["1000", "1001", "1002"])


@pytest.mark.parametrize(
    "dataset,name,value",
    [
        ("kinetics", "name", "kinetics"),
        ("jester", "split", "val"),
        ("jester", "fold", 2),
        ("packed", "fold", 2),
        ("ucf101", "fold", 4),
        ("hmdb51", "fold", 0),
        ("something_v2", "class_order", "raw"),
        ("something_v1", "class_order", "tsm"),
        ("kinetics400", "validation_split", 0.1),
        ("ucf101", "seed", 1),
        ("folder", "validation_split", 1.0),
        ("folder", "exclude", "a.mp4"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, dataset, name, value):
    with argument_error(name, value):
        open_dataset(**{"name": dataset, "root": tmp_path, name: value})
