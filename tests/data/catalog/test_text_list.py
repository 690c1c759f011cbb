import os

import pytest

from keras_stm.data.catalog import open_dataset
from keras_stm.data.video import VideoError
from tests.data.catalog import shipped
from tests.data.errors import argument_error

TRAIN = "a 1.mp4 0\nb/frames one 30 2\nb/2.webm 2\n"
CLIPS = {"a 1.mp4": "", "b/frames one/00001.jpg": "", "b/2.webm": "", "c.avi": ""}


def relative(dataset, root):
    return [(os.path.relpath(path, root), label) for path, label in dataset.records]


def write(tmp_path, **lists):
    return shipped.write(tmp_path, {**CLIPS, **{f"{name}.txt": text for name, text in lists.items()}})


@pytest.mark.parametrize("validation", ["val", "validation", "Dev", "valid"])
def test_lists_name_videos_and_folders_of_frames(tmp_path, validation):
    root = write(tmp_path, train=TRAIN, test="c.avi 3\n", **{validation: "./c.avi 0"})
    for split, expected in {
        "train": [("a 1.mp4", 0), ("b/frames one", 2), ("b/2.webm", 2)],
        "validation": [("c.avi", 0)],
        "test": [("c.avi", 3)],
    }.items():
        dataset = open_dataset("list", root, split)
        assert relative(dataset, root) == expected
        # The largest label of all lists decides, so every split has the same class names.
        assert dataset.class_names == ("0", "1", "2", "3")


def test_classes_file_gives_the_names(tmp_path):
    root = write(tmp_path, train=TRAIN, val="c.avi 0", classes="fall\nget up\nrun\n")
    assert open_dataset("list", root).class_names == ("fall", "get up", "run")
    write(tmp_path, classes="fall\nrun\n")
    with pytest.raises(ValueError, match="train.txt, line 2: .* 0 to 1.* 'b/frames one 30 2'"):
        open_dataset("list", root)


def test_absolute_paths_are_taken_as_they_are(tmp_path):
    write(tmp_path)
    root = shipped.write(
        tmp_path / "lists", {"train.txt": f"{tmp_path}/c.avi 0\n", "val.txt": "../a 1.mp4 0\n"}
    )
    assert open_dataset("list", root).records == [(f"{tmp_path}/c.avi", 0)]
    assert relative(open_dataset("list", root, "validation"), tmp_path) == [("a 1.mp4", 0)]


@pytest.mark.parametrize("file", ["train.txt", "mine.txt"])
def test_validation_is_set_apart_where_there_is_no_list_for_it(tmp_path, file):
    text = "".join(f"{i}.mp4 {i % 2}\n" for i in range(20))
    shipped.write(tmp_path, {file: text, **{f"{i}.mp4": "" for i in range(20)}})
    root = tmp_path / file if file == "mine.txt" else tmp_path
    train, validation = (open_dataset("list", root, split).records for split in ("train", "validation"))
    assert not set(train) & set(validation)
    assert len(train) == 16
    assert sorted(label for _, label in validation) == [0, 0, 1, 1]
    assert open_dataset("list", root, "validation", seed=1).records != validation
    with argument_error("split", "test"):
        open_dataset("list", root, "test")


def test_missing_clips_are_named_and_the_others_kept(tmp_path):
    root = write(tmp_path, train=TRAIN + "no.mp4 0\nnowhere/at/all 7 1\n", val="c.avi 0")
    dataset = open_dataset("list", root)
    assert len(dataset.records) == 3
    assert dataset.missing == (f"{root}/no.mp4", f"{root}/nowhere/at/all")
    write(tmp_path, train="no.mp4 0\n")
    with pytest.raises(ValueError, match="^`root` .* no.mp4"):
        open_dataset("list", root)


@pytest.mark.parametrize(
    "line",
    [
        "c.avi",
        "c.avi -1",
        "c.avi 1.0",
        "c.avi run",
        "c.avi 100000",  # too large for a label, also without classes.txt: the names would fill the memory
        f"c.avi {'9' * 5000}",
        f"c.avi{' ' * 10**5}x",  # parsing this line once took minutes
        "7",
        "b/frames one",
        "b/frames 1",
        "b/frames 0 1",
        "b/frames -3 1",
    ],
)
def test_a_malformed_line_is_named(tmp_path, line):
    root = write(tmp_path, train=f"a 1.mp4 0\n{line}\n")
    with pytest.raises(ValueError, match=f"train.txt, line 2: .* 99999.*'{line[:5]}"):
        open_dataset("list", root)


@pytest.mark.parametrize(
    "lists,message",
    [
        ({"train": "a.mp4 0\n./a.mp4 1\n"}, "train.txt, line 2: .* 'a.mp4'"),
        ({"train": "a.mp4 0\n../lists/a.mp4 1\n"}, "train.txt, line 2: .* 'a.mp4'"),
        ({"train": "c.avi 0\n", "val": "", "validation": ""}, "^`root` .* val.txt and validation.txt"),
        ({"train": ""}, "train.txt: "),
        ({"train": "c.avi 0\n", "val": "c.avi\n"}, "val.txt, line 1: "),
        (
            {"train": "c.avi 0\n", "classes": "a\nb\na\n"},
            "classes.txt, line 3: .* 'a'",
        ),
        ({"val": "c.avi 0\n"}, "^`root` .* train.txt"),
    ],
)
def test_a_malformed_set_of_lists_is_named(tmp_path, lists, message):
    with pytest.raises(ValueError, match=message):
        open_dataset("list", write(tmp_path / "lists", **lists))


@pytest.mark.parametrize("file", ["train.txt", "val.txt", "classes.txt"])
def test_a_folder_or_a_broken_link_is_not_taken_for_no_list(tmp_path, file):
    for place in ("folder", "link"):
        root = write(tmp_path / place, train=TRAIN)
        (tmp_path / place / file).unlink(missing_ok=True)
        if place == "folder":
            os.mkdir(os.path.join(root, file))
        else:
            os.symlink("nowhere", os.path.join(root, file))
        with pytest.raises(ValueError, match=f"{file}: "):
            open_dataset("list", root)


def test_a_clip_that_comes_twice_is_found_by_its_absolute_path_too(tmp_path):
    root = write(tmp_path, train=f"c.avi 0\n{tmp_path}/c.avi 1\n")
    with pytest.raises(ValueError, match="train.txt, line 2: .* 'c.avi'"):
        open_dataset("list", root)


def test_a_list_may_be_given_by_its_name_alone(tmp_path, monkeypatch):
    root = write(tmp_path, train=TRAIN)
    monkeypatch.chdir(root)
    assert open_dataset("list", "train.txt") == open_dataset("list", os.path.join(root, "train.txt"))


def test_the_number_of_frames_that_a_list_states_is_checked_for_folders(tmp_path):
    root = write(tmp_path, train=TRAIN + "c.avi 7 0\n", val="c.avi 0")
    dataset = open_dataset("list", root)
    assert dataset.stated_frames == {f"{root}/b/frames one": 30}
    dataset.check_num_frames(f"{root}/b/frames one", 30)
    dataset.check_num_frames(f"{root}/c.avi", 8)
    for count, kind in ((29, "truncated"), (31, "unreadable")):
        with pytest.raises(
            VideoError, match=f"frames one: holds {count} frames, but the list states 30$"
        ) as e:
            dataset.check_num_frames(f"{root}/b/frames one", count)
        assert e.value.kind == kind


def test_videos_have_any_usual_ending(tmp_path):
    root = shipped.write(tmp_path, {"train.txt": "a.MTS 0\nb.3gp 1\n", "val.txt": "a.MTS 0\n", "a.MTS": ""})
    dataset = open_dataset("list", root)
    assert relative(dataset, root) == [("a.MTS", 0)] and dataset.missing == (f"{root}/b.3gp",)


def test_a_line_may_name_a_part_of_a_video_and_a_file_whose_name_is_not_utf_8(tmp_path):
    name = b"caf\xe9.mov".decode(errors="surrogateescape")
    for file in ("a.mov", name):
        (tmp_path / file).touch()
    lines = ["a.mov#t=0,1 0", "a.mov#t=1,2 1", "b.mov#t=1,2 1", f"{name} 0"]
    (tmp_path / "train.txt").write_text("\n".join(lines), errors="surrogateescape")
    (tmp_path / "val.txt").write_text("a.mov 0")
    dataset = open_dataset("list", tmp_path)
    assert relative(dataset, tmp_path) == [("a.mov#t=0,1", 0), ("a.mov#t=1,2", 1), (name, 0)]
    assert [os.path.basename(path) for path in dataset.missing] == ["b.mov#t=1,2"]


@pytest.mark.parametrize("line", ["c.avi#t=3,2 0", "c.avi#t=1s,2s 0", "c.avi#t=3,2 5 0"])
def test_what_is_wrong_with_the_times_of_a_part_is_said(tmp_path, line):
    root = write(tmp_path, train=f"a 1.mp4 0\n{line}\n")
    with pytest.raises(ValueError, match="train.txt, line 2: expected #t=START,END with START before END"):
        open_dataset("list", root)


def test_frames_of_videos_and_their_parts_are_not_stated(tmp_path):
    root = write(tmp_path, train="c.avi#t=0,1 5 0\nc.avi 9 1\nb/frames one 30 1\n", val="a 1.mp4 0")
    dataset = open_dataset("list", root)
    assert dataset.stated_frames == {f"{root}/b/frames one": 30}
