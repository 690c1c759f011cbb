import os

import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.data.catalog import open_dataset
from tests.data.errors import argument_error


def make_folder(root, files):
    """Writes empty files, as catalogues read only names; returns the root."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def names(dataset, root):
    return [(os.path.relpath(path, root), label) for path, label in dataset.records]


def class_folders(root, sizes=(("b", 10), ("a", 5), ("c", 1))):
    return make_folder(root, [f"{name}/{i}.mp4" for name, size in sizes for i in range(size)])


def test_classes_are_sorted_and_labels_index_them(tmp_path):
    root = class_folders(tmp_path)
    for split in ("train", "validation"):
        dataset = open_dataset("folder", root, split)
        assert dataset.class_names == ("a", "b", "c")
        for path, label in dataset.records:
            assert os.path.basename(os.path.dirname(path)) == dataset.class_names[label]


def test_split_is_disjoint_complete_and_stratified(tmp_path):
    root = class_folders(tmp_path)
    train, validation = (open_dataset("folder", root, s).records for s in ("train", "validation"))
    assert not set(train) & set(validation)
    assert len(train + validation) == 16
    # Validation gets a fifth of each class, and at least one clip if one remains for training.
    assert [[r[1] for r in part].count(0) for part in (train, validation)] == [4, 1]
    assert [[r[1] for r in part].count(1) for part in (train, validation)] == [8, 2]
    assert [[r[1] for r in part].count(2) for part in (train, validation)] == [1, 0]


@pytest.mark.parametrize("validation_split", [0.01, 0.5, 0.99])
def test_every_class_keeps_a_clip_on_each_side(tmp_path, validation_split):
    root = class_folders(tmp_path, [("a", 2), ("b", 7)])
    for split in ("train", "validation"):
        dataset = open_dataset("folder", root, split, validation_split=validation_split)
        assert {label for _, label in dataset.records} == {0, 1}


def test_split_depends_on_the_seed_and_the_names_alone(tmp_path):
    root = class_folders(tmp_path / "here")
    moved = class_folders(tmp_path / "there" / "train")
    first, other = (names(open_dataset("folder", root, seed=seed), root) for seed in (1, 2))
    assert first != other
    assert first == names(open_dataset("folder", tmp_path / "there", seed=1), moved)


def test_split_never_changes(tmp_path):
    """Otherwise a trained model would be validated with clips that it has seen."""
    root = class_folders(tmp_path)
    assert names(open_dataset("folder", root, "validation"), root) == [
        ("a/2.mp4", 0),
        ("b/2.mp4", 1),
        ("b/9.mp4", 1),
    ]


@pytest.mark.parametrize("clip", range(10))
def test_at_most_one_clip_changes_sides_where_another_is_excluded(tmp_path, clip):
    root = class_folders(tmp_path, [("a", 10), ("b", 10)])

    def validation(**arguments):
        return set(names(open_dataset("folder", root, "validation", validation_split=0.3, **arguments), root))

    before, after = validation(), validation(exclude=[f"a/{clip}.mp4"])
    excluded = {(f"a/{clip}.mp4", 0)}
    assert len((before - excluded) ^ after) <= 1
    assert not excluded & after
    # Excluding a clip is the same as deleting it. So adding a clip also moves at most one other.
    os.remove(os.path.join(root, f"a/{clip}.mp4"))
    assert validation() == after


def test_a_class_is_divided_without_its_excluded_clips(tmp_path):
    root = make_folder(tmp_path, ["a/1.mp4", "a/2.mp4", "a/3.mp4", "b/1.mp4"])
    for bad in ("a/1.mp4", "a/2.mp4", "a/3.mp4"):
        sizes = [len(open_dataset("folder", root, s, exclude=[bad]).records) for s in ("train", "validation")]
        assert sizes == [2, 1]


def test_class_without_a_clip_left_keeps_its_label(tmp_path):
    root = make_folder(tmp_path, ["a/1.mp4", "b/1.mp4", "c/1.mp4"])
    dataset = open_dataset("folder", root, exclude=["b/1.mp4"])
    assert dataset.class_names == ("a", "b", "c")
    assert names(dataset, root) == [("a/1.mp4", 0), ("c/1.mp4", 2)]


@pytest.mark.parametrize(
    "train,validation,test",
    [
        ("train", "val", "test"),
        ("training", "valid", "testing"),
        ("Train", "Validation", "TEST"),
        ("Training", "dev", "Testing"),
    ],
)
def test_split_folders_are_taken_as_they_are(tmp_path, train, validation, test):
    files = [f"{train}/a/1.mp4", f"{train}/b/2.mp4", f"{validation}/b/3.mp4", f"{test}/a/4.mp4"]
    root = make_folder(tmp_path, files)
    for split, expected in {
        "train": [(f"{train}/a/1.mp4", 0), (f"{train}/b/2.mp4", 1)],
        "validation": [(f"{validation}/b/3.mp4", 1)],
        "test": [(f"{test}/a/4.mp4", 0)],
    }.items():
        dataset = open_dataset("folder", root, split)
        assert names(dataset, root) == expected
        assert dataset.class_names == ("a", "b")


def test_missing_validation_folder_is_split_from_train(tmp_path):
    root = class_folders(tmp_path / "train") and str(tmp_path)
    make_folder(tmp_path, ["test/a/x.mp4"])
    train, validation = (open_dataset("folder", root, s).records for s in ("train", "validation"))
    assert len(train) == 13 and len(validation) == 3
    assert names(open_dataset("folder", root, "test"), root) == [("test/a/x.mp4", 0)]


def test_class_may_be_called_train(tmp_path):
    root = make_folder(tmp_path, ["train/1.mp4", "tram/2.mp4"])
    assert open_dataset("folder", root).class_names == ("train", "tram")


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_folders_of_frames_are_clips(tmp_path, prefix):
    files = [
        "train/1/00001.jpg",
        "train/2.mp4",
        "tram/1/1.JPEG",
        "tram/2/1.jpg",
        "tram/3/notes.txt",
        "tram/4/.1.jpg",
    ]
    root = make_folder(tmp_path, [prefix + file for file in files])
    splits = [open_dataset("folder", root, split) for split in ("train", "validation")]
    found = sorted(clip for split in splits for clip in names(split, root))
    expected = [("train/1", 0), ("train/2.mp4", 0), ("tram/1", 1), ("tram/2", 1)]
    assert found == [(prefix + clip, label) for clip, label in expected]
    assert splits[0].class_names == ("train", "tram")


def test_hidden_and_other_files_are_ignored(tmp_path):
    root = make_folder(
        tmp_path,
        ["a/1.MP4", "a/.2.mp4", "a/notes.txt", "b/3.webm", "b/4.avi", ".git/5.mp4", "readme.md"],
    )
    splits = [open_dataset("folder", root, split) for split in ("train", "validation")]
    found = sorted(file for split in splits for file in names(split, root))
    assert found == [("a/1.MP4", 0), ("b/3.webm", 1), ("b/4.avi", 1)]


def test_a_folder_without_clips_is_no_class_and_counts_as_unused(tmp_path):
    root = class_folders(tmp_path)
    make_folder(tmp_path, ["empty/readme.md"])
    dataset = open_dataset("folder", root)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.unused == (f"{root}/empty",)


@pytest.mark.parametrize(
    "files,split,found",
    [
        ([], "train", ".webm"),
        (["a/1.txt", "b/2.jpg"], "train", "b/2.jpg must lie in a folder of the frames of one clip"),
        (["val/a/1.mp4", "val/b/1.mp4", "TEST/a/2.mp4"], "train", "a folder train beside val and TEST"),
        (["val/a/1.mp4", "val/b/1.mp4"], "validation", "a folder train beside val"),
        (["Dev/a/1.mp4", "testing/a/2.mp4", "extra/3.mp4"], "train", "a folder train beside Dev and testing"),
        (["1.mp4", "2.mp4"], "train", ".webm"),
        (["a/1.mp4", "a/2.mp4"], "train", "1 (a)"),
        (["a/1.mp4", "b/1.mp4"], "validation", "two clips"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/c/1.mp4"], "validation", "'c'"),
    ],
)
def test_a_wrong_folder_is_named_in_one_line(tmp_path, files, split, found):
    root = make_folder(tmp_path, files)
    with pytest.raises(ArgumentError) as error:
        open_dataset("folder", root, split)
    assert (error.value.name, error.value.value) == ("root", root)
    assert found in str(error.value) and "\n" not in str(error.value)


def test_a_split_that_is_not_there_is_named(tmp_path):
    root = make_folder(tmp_path, ["a/1.mp4", "b/1.mp4"])
    with argument_error("split", "test"):
        open_dataset("folder", root, "test")


def test_missing_root_is_named(tmp_path):
    with argument_error("root", str(tmp_path / "no")):
        open_dataset("folder", tmp_path / "no")


def test_a_folder_that_is_named_like_a_video_counts_as_a_clip_that_reading_will_refuse(tmp_path):
    root = class_folders(tmp_path)
    (tmp_path / "a" / "odd.mp4").mkdir()
    (tmp_path / "a" / "notes").mkdir()
    found = [
        path for split in ("train", "validation") for path, _ in open_dataset("folder", root, split).records
    ]
    assert os.path.join(root, "a", "odd.mp4") in found and len(found) == 17


@pytest.mark.parametrize("others", [("val", "validation"), ("val", "Val"), ("dev", "VALID")])
def test_two_folders_for_the_same_split_are_refused(tmp_path, others):
    files = [f"{folder}/a/{i}.mp4" for i, folder in enumerate(others)]
    root = make_folder(tmp_path, ["train/a/1.mp4", "train/b/1.mp4", *files])
    with argument_error("root", root):
        open_dataset("folder", root)


@pytest.mark.parametrize("folder", ["val", "test"])
def test_a_link_to_nowhere_is_not_taken_for_no_folder(tmp_path, folder):
    root = make_folder(tmp_path, ["train/a/1.mp4", "train/a/2.mp4", "train/b/1.mp4"])
    (tmp_path / folder).symlink_to("nowhere")
    with pytest.raises(ValueError, match=f"^{tmp_path}/{folder}: "):
        open_dataset("folder", root, "validation")
    (tmp_path / folder).unlink()
    (tmp_path / folder).touch()
    with pytest.raises(ValueError, match=f"^{tmp_path}/{folder}: "):
        open_dataset("folder", root, "validation")


def test_a_class_whose_name_is_no_utf_8_is_refused(tmp_path):
    root = make_folder(tmp_path, ["a/1.mp4", os.fsdecode(b"caf\xe9/1.mp4")])
    with pytest.raises(ValueError, match=r"'caf\\udce9'"):
        open_dataset("folder", root)


def test_a_relative_root_opens_the_same_records(tmp_path, monkeypatch):
    root = class_folders(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    assert (
        open_dataset("folder", "clips") == open_dataset("folder", "./clips") == open_dataset("folder", root)
    )


def test_clips_lie_at_any_depth_and_are_sorted_by_path(tmp_path):
    files = ["a/2.mp4", "a/1/z.mov", "a/1/frames/00001.png", "b/day/1/1.mkv"]
    root = make_folder(tmp_path, ["train/" + file for file in files] + ["val/a/1.mp4"])
    assert names(open_dataset("folder", root), root) == [
        ("train/a/1/frames", 0),
        ("train/a/1/z.mov", 0),
        ("train/a/2.mp4", 0),
        ("train/b/day/1/1.mkv", 1),
    ]


def test_what_is_not_used_is_named(tmp_path):
    files = ["train/a/1.mp4", "train/a/s/notes.txt", "train/b/1.mp4", "train/loose.mp4", "val/a/film.rm"]
    files += ["val/a/2.mp4", "extra/a/3.mp4", "loose.avi", "README.md", ".git/a/1.mp4", "__MACOSX/a/1.mp4"]
    root = make_folder(tmp_path, files)
    unused = {
        split: [os.path.relpath(path, root) for path in open_dataset("folder", root, split).unused]
        for split in ("train", "validation")
    }
    assert unused == {
        "train": ["extra", "loose.avi", "train/a/s/notes.txt", "train/loose.mp4"],
        "validation": ["extra", "loose.avi", "val/a/film.rm"],
    }
