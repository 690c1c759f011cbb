"""The check of a data set: its findings, the files that it writes, and its statistics."""

import json
import os
import shutil

import av
import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import checking, frames, open_dataset
from keras_stm.data.checking import Clip
from keras_stm.data.video import VideoInfo
from tests.data.catalog import shipped
from tests.data.messy import cut, good, write_messy
from tests.data.videos import damage, write_video


@pytest.fixture(scope="module")
def messy(made_once):
    return made_once("my clips", write_messy)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("work") / "output"


@pytest.fixture(scope="module")
def found(messy, output):
    return checking.check(str(messy), str(output))


@pytest.fixture(scope="module")
def findings(found, output):
    content = json.loads((output / "check_data.json").read_text())
    # JSON turns tuples into lists.
    assert content == json.loads(json.dumps(found.findings))
    return content


def paths(entries):
    return [entry["path"] for entry in entries]


def test_clips_that_cannot_be_read_are_told_apart_by_what_is_wrong(findings):
    found = {kind: paths(clips) for kind, clips in findings["unreadable"].items()}
    assert found == {
        "missing": [],
        "unreadable": ["train/jump/folder.mp4", "train/jump/text.mp4", "val/jump/empty.mp4"],
        "no video stream": ["train/jump/sound.mp4"],
        "truncated": ["train/clap/cut.mp4"],
        "too large": [],
    }
    (sound,) = findings["unreadable"]["no video stream"]
    assert sound == {
        "path": "train/jump/sound.mp4",
        "split": "train",
        "class": "jump",
        "reason": "holds no video stream",
    }


def test_clips_are_counted_by_split_and_class_those_alone_that_can_be_read(findings):
    assert {split: (found["clips"], found["readable"]) for split, found in findings["splits"].items()} == {
        "train": (16, 12),
        "validation": (4, 3),
    }
    assert findings["splits"]["train"]["balance"] == {
        "smallest": ["push", 1],
        "largest": ["clap", 6],
        "median": 2.5,
        "ratio": 6,
        "empty": [],
    }
    assert findings["splits"]["validation"]["balance"]["empty"] == ["push"]


def test_what_a_picture_needs_is_returned(found):
    assert found.class_names == ("clap", "jump", "pull", "push")
    assert found.class_sizes == {"train": [6, 3, 2, 1], "validation": [1, 1, 1, 0]}
    assert found.facts["frames"].count(12) == 14 and found.facts["short side"] == [32] * 15


def test_a_clip_is_too_short_that_has_fewer_frames_than_a_model_takes(findings):
    assert paths(findings["too_short"]) == ["train/clap/short.mp4"]
    assert findings["too_short"][0]["frames"] == 7


def test_copies_are_found_within_and_across_splits(findings):
    assert [paths(group) for group in findings["copies"]] == [
        ["train/clap/a again.mp4", "train/clap/a.mp4"],
        ["train/pull/h.mp4", "train/pull/leaks.mp4", "val/pull/leaked.mp4"],
    ]


def test_resolution_frame_rate_and_length_are_summarised(findings):
    facts = findings["facts"]
    assert facts["width x height"] == {"most_frequent": [["48 x 32", 15]]}
    assert facts["short side"] == {"most_frequent": [[32, 15]], "min": 32, "median": 32, "max": 32}
    assert facts["frames/s"] == {"most_frequent": [[10, 15]], "min": 10, "median": 10, "max": 10}
    assert facts["seconds"] == {"most_frequent": [[1.2, 14], [0.7, 1]], "min": 0.7, "median": 1.2, "max": 1.2}
    assert facts["frames"] == {"most_frequent": [[12, 14], [7, 1]], "min": 7, "median": 12, "max": 12}


def test_the_findings_tell_what_was_checked(findings, messy):
    assert findings["data_dir"] == str(messy)
    assert findings["decoded"] == "first, middle and last frame"
    assert findings["fingerprint"] == open_dataset("folder", messy).fingerprint
    assert findings["versions"]["av"] == av.__version__


def test_training_with_the_exclusion_list_leaves_out_those_clips_and_no_other(findings, messy, output):
    assert sorted(os.listdir(output)) == ["check_data.json", "exclude.txt"]
    first, *excluded = (output / "exclude.txt").read_text().splitlines()
    assert first.startswith("# ")
    for split, count in (("train", 12), ("validation", 3)):
        dataset = open_dataset("folder", messy, split=split, exclude=excluded)
        assert len(dataset.records) == count
        for path, _ in dataset.records:
            frames.read_frames(path, [0])


def test_damage_between_the_frames_that_are_looked_at_is_found_by_decoding_all(tmp_path):
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4"):
        good(tmp_path / "data" / name)
    path = write_video(tmp_path / "data" / "b" / "damaged.mp4", options={"g": "1", "bf": "0"})
    damage(path, 7)
    assert checking.inspect(path, "train", 0, decode=False).reason is None
    output = tmp_path / "output"
    checking.check(str(tmp_path / "data"), str(output), decode=True)
    assert (output / "exclude.txt").read_text().splitlines()[1:] == ["b/damaged.mp4"]
    unreadable = json.loads((output / "check_data.json").read_text())["unreadable"]
    assert paths(sum(unreadable.values(), [])) == ["b/damaged.mp4"]


def test_decoding_all_takes_long_clips_in_parts(tmp_path, monkeypatch):
    path = good(tmp_path / "clip.mp4", num_frames=12)
    read = []
    monkeypatch.setattr(checking.frames, "read_frames", lambda path, indices: read.append(list(indices)))
    monkeypatch.setattr(checking, "CHUNK_BYTES", 5 * 32 * 48 * 3)
    checking.inspect(path, "train", 0, decode=True)
    assert read == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def write_frames(folder, num_frames=9, brightness=100):
    image = np.full((16, 24, 3), brightness, "uint8")
    files = {f"{i:05d}.jpg": tf.io.encode_jpeg(image).numpy() for i in range(1, num_frames + 1)}
    shipped.write(folder, files)


def test_frame_folders_with_missing_and_damaged_and_copied_clips(tmp_path):
    """Jester: 1000 is missing, 1001 is damaged, 1003 is a copy of 1002. Test clips have no labels."""
    class_names = [f"Swiping {name}" for name in "ABCDE"]
    root = tmp_path / "jester"
    shipped.write(root, shipped.jester(class_names, clips="20bn-jester-v1/"))
    clips = root / "20bn-jester-v1"
    for number in (1001, 1002, 1003, 1004, *range(3000, 3005)):
        write_frames(clips / str(number), brightness=number // 1000 + 10 * (number % 10))
    shutil.rmtree(clips / "1000")
    os.truncate(clips / "1001" / "00005.jpg", 100)
    shutil.rmtree(clips / "1003")
    shutil.copytree(clips / "1002", clips / "1003")

    findings = checking.check(str(root), dataset="jester", splits=["train", "test"]).findings
    train, test = findings["splits"].values()
    assert (train["clips"], train["readable"], test["readable"]) == (4, 3, 5)
    assert train["missing"] == ["1000"]
    assert test["balance"] is None
    assert train["balance"]["empty"] == class_names[:2]
    assert [clip["path"].split("/")[1] for clip in findings["unreadable"]["unreadable"]] == ["1001"]
    assert [[clip["class"] for clip in group] for group in findings["copies"]] == [class_names[2:4]]
    assert findings["facts"]["seconds"] == {"most_frequent": []}


def test_a_folder_named_like_a_video_and_a_split_of_two_names(tmp_path):
    """UCF-101 uses its test set for validation. The check must not report this as leakage."""
    root = tmp_path / "ucf101"
    shipped.write(root, shipped.ucf101(["Archery", "Bowling"]))
    videos = sorted(root.rglob("*.avi"))
    for path in videos:
        path.unlink()
        write_video(path, codec="mpeg4", num_frames=8, brightness=10 * videos.index(path))
    videos[1].unlink()
    videos[1].mkdir()
    findings = checking.check(str(root), dataset="ucf101", splits=["train", "validation", "test"]).findings
    assert list(findings["splits"]) == ["train", "validation"]
    assert findings["copies"] == []
    assert paths(findings["unreadable"]["unreadable"]) == [str(videos[1].relative_to(root))]


def test_paths_of_a_list_are_relative_to_its_folder(tmp_path):
    for name in "abc":
        good(tmp_path / "videos" / f"{name}.mp4")
    cut(tmp_path / "videos" / "cut.mp4")
    root = tmp_path / "clips.txt"
    root.write_text("videos/a.mp4 0\nvideos/b.mp4 1\nvideos/c.mp4 0\nvideos/cut.mp4 1\n")
    findings = checking.check(str(root), dataset="list").findings
    excluded = paths(sum(findings["unreadable"].values(), []))
    assert excluded == ["videos/cut.mp4"]
    for split in ("train", "validation"):
        records = open_dataset("list", root, split=split, exclude=excluded).records
        assert str(tmp_path / "videos" / "cut.mp4") not in [path for path, _ in records]


def test_what_names_suggest_what_is_unused_and_what_a_list_states_wrongly_is_found(tmp_path):
    names = [f"{c}/person{p}_clip{i}.mp4" for c in "ab" for p in range(3) for i in range(2)]
    for name in names:
        good(tmp_path / "clips" / name)
    (tmp_path / "clips" / "a" / "notes.txt").touch()
    findings = checking.check(str(tmp_path / "clips")).findings
    assert findings["suggested_group_by"] == r"([^/]*person\d+)_clip\d+"
    assert findings["unused"] == ["a/notes.txt"]
    again = checking.check(str(tmp_path / "clips"), group_by=findings["suggested_group_by"]).findings
    assert again["suggested_group_by"] is None and again["group_by"] == findings["suggested_group_by"]
    assert again["splits"]["validation"]["clips"] == 4

    for name in "abc":
        write_frames(tmp_path / "list" / name)
    shipped.write(tmp_path / "list", {"train.txt": "a 9 0\nb 8 1\n", "val.txt": "c 9 1\n"})
    (found,) = checking.check(str(tmp_path / "list"), dataset="list").findings["unreadable"]["unreadable"]
    assert (found["path"], found["reason"]) == ("b", "holds 9 frames, but the list states 8")


def test_a_check_that_is_stopped_writes_nothing_and_reads_no_further(messy, tmp_path, monkeypatch):
    read = []

    def probe(path):
        read.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(checking.frames, "probe", probe)
    with pytest.raises(KeyboardInterrupt):
        checking.check(str(messy), str(tmp_path), workers=1)
    assert os.listdir(tmp_path) == []
    assert len(read) < 19


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([], None),
        ([None, None], None),
        ([0, 0, 2, 2, 2, 2, 2, 1], (["b", 1], ["c", 5], 2, 5, ["d"])),
        ([0, 0, 0, 1, 1], (["b", 2], ["a", 3], 2.5, 1.5, ["c", "d"])),
        ([3], (["d", 1], ["d", 1], 1, 1, ["a", "b", "c"])),
    ],
)
def test_class_balance(labels, expected):
    balance = checking.class_balance(labels, ("a", "b", "c", "d"))
    assert (balance and tuple(balance.values())) == expected


@pytest.mark.parametrize(
    "values, expected",
    [
        ([], {"most_frequent": []}),
        ([7], {"most_frequent": [[7, 1]], "min": 7, "median": 7, "max": 7}),
        (
            [1, 9, 2, 9, 4, 4, 9, 5],
            {"most_frequent": [[9, 3], [4, 2], [1, 1]], "min": 1, "median": 4.5, "max": 9},
        ),
        (["a", "b", "b"], {"most_frequent": [["b", 2], ["a", 1]]}),
    ],
)
def test_spread(values, expected):
    assert checking.spread(values) == expected


def test_facts_leave_out_what_is_not_known():
    infos = [VideoInfo(300, 720, 1280, 29.97003, 10.01), VideoInfo(36, 176, 100, None, None)]
    assert checking.facts([Clip("", "train", 0, info) for info in infos]) == {
        "width x height": ["1280 x 720", "100 x 176"],
        "short side": [720, 100],
        "frames/s": [29.97],
        "seconds": [10.0],
        "frames": [300, 36],
    }


@pytest.mark.parametrize(
    "keys, expected",
    [
        ("xyxzyx", [[0, 2, 5], [1, 4]]),
        ("xyz", []),
        ([None, None, "x"], []),
        ("", []),
    ],
)
def test_groups(keys, expected):
    assert checking.groups(range(len(keys)), keys) == expected


def test_files_of_one_size_are_no_copies_nor_are_packed_clips(tmp_path):
    clips = [Clip(f"{tmp_path}/train-00000-of-00001.tfrecord#{i}", "train", 0, None) for i in (0, 0)]
    for name in "ab":
        (tmp_path / name).write_text(name)
        clips.append(Clip(str(tmp_path / name), "train", 0, None))
    assert checking.find_copies(clips, workers=2) == []


def test_results_of_threads_keep_their_order():
    items = list(range(2001))
    assert checking.in_parallel(lambda item: -item, items, 4, "Counting") == [-item for item in items]
