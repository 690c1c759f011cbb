"""The data doctor: what it finds, what it leaves behind, and its statistics."""

import json
import os
import shutil
import subprocess
import sys
from unittest import mock

import av
import numpy as np
import pytest
import tensorflow as tf

import check_data
from check_data import Clip
from keras_stm.data import frames, open_dataset
from keras_stm.data.video import VideoInfo
from tests.data.catalog import shipped
from tests.data.videos import damage, write_audio, write_video

SCRIPT = check_data.__file__


def good(path, num_frames=12):
    """A video that is like no other, as its name gives its brightness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, num_frames, brightness=sum(path.name.encode()) % 200)


def cut(path):
    good(path)
    os.truncate(path, os.path.getsize(path) // 2)


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Four classes, of 6, 3, 2 and 1 clips that can be read; of the last none for validation."""
    root = tmp_path_factory.mktemp("data") / "my clips"
    train, val = root / "train", root / "val"
    for name in "abcd":
        good(train / "clap" / f"{name}.mp4")
    good(train / "clap" / "short.mp4", num_frames=7)
    shutil.copy(train / "clap" / "a.mp4", train / "clap" / "a again.mp4")
    for name in "efg":
        good(train / "jump" / f"{name}.mp4")
    good(train / "pull" / "h.mp4")
    shutil.copy(train / "pull" / "h.mp4", train / "pull" / "leaks.mp4")
    good(train / "push" / "i.mp4")
    for name in ("clap", "jump"):
        good(val / name / f"{name}.mp4")
    (val / "pull").mkdir()
    shutil.copy(train / "pull" / "h.mp4", val / "pull" / "leaked.mp4")

    cut(train / "clap" / "cut.mp4")
    (train / "jump" / "text.mp4").write_text("not a video")
    (val / "jump" / "empty.mp4").touch()
    write_audio(train / "jump" / "sound.mp4")
    (train / "jump" / "folder.mp4").mkdir()
    return root


@pytest.fixture(scope="module")
def command(messy, tmp_path_factory):
    """A process that has checked `messy`, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("work")
    arguments = [sys.executable, SCRIPT, f"--data_dir={messy}"]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True), folder


@pytest.fixture(scope="module")
def output(command):
    return command[1] / "saved_models" / "check_data-my clips"


@pytest.fixture(scope="module")
def report(command):
    """What is printed about `messy`."""
    return command[0].stdout


@pytest.fixture(scope="module")
def findings(report, output):
    return json.loads((output / "check_data.json").read_text())


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
    first, *excluded = (output / "exclude.txt").read_text().splitlines()
    assert first.startswith("# ")
    for split, count in (("train", 12), ("validation", 3)):
        dataset = open_dataset("folder", messy, split=split, exclude=excluded)
        assert len(dataset.records) == count
        for path, _ in dataset.records:
            frames.read_frames(path, [0])


def test_nothing_else_is_written_and_the_histograms_are_a_picture(report, output):
    assert sorted(os.listdir(output)) == ["check_data.json", "exclude.txt", "histograms.png"]
    content = (output / "histograms.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 10_000


def test_the_report_is_a_screenful_that_names_all_of_it(report, messy):
    assert len(report.splitlines()) < 50
    for text in (
        "16 clips, 12 of them can be read",
        "1 (push) to 6 (clap) a class, median 2.5, ratio 6",
        "none of push",
        "LEAKAGE (1)",
        "train/pull/h.mp4 (pull) = train/pull/leaks.mp4 (pull) = val/pull/leaked.mp4 (pull)",
        "copies (1)",
        "truncated (1)",
        "too short (1): fewer than 8 frames",
        f"fit.py '--data_dir={messy}' '--exclude=saved_models/check_data-my clips/exclude.txt'",
    ):
        assert text in report


def test_damage_between_the_frames_that_are_looked_at_is_found_by_decoding_all(tmp_path):
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4"):
        good(tmp_path / "data" / name)
    path = write_video(tmp_path / "data" / "b" / "damaged.mp4", options={"g": "1", "bf": "0"})
    damage(path, 7)
    assert check_data.inspect(path, "train", 0, decode=False).reason is None
    output = tmp_path / "output"
    with pytest.raises(SystemExit) as stop:
        check_data.main([SCRIPT, f"--data_dir={tmp_path / 'data'}", f"--output={output}", "--decode"])
    assert stop.value.code == 2
    unreadable = json.loads((output / "check_data.json").read_text())["unreadable"]
    assert paths(sum(unreadable.values(), [])) == ["b/damaged.mp4"]


def test_decoding_all_takes_long_clips_in_parts(tmp_path, monkeypatch):
    path = good(tmp_path / "clip.mp4", num_frames=12)
    read = []
    monkeypatch.setattr(check_data.frames, "read_frames", lambda path, indices: read.append(list(indices)))
    monkeypatch.setattr(check_data, "CHUNK_BYTES", 5 * 32 * 48 * 3)
    check_data.inspect(path, "train", 0, decode=True)
    assert read == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def write_frames(folder, num_frames=9, brightness=100):
    image = np.full((16, 24, 3), brightness, "uint8")
    files = {f"{i:05d}.jpg": tf.io.encode_jpeg(image).numpy() for i in range(1, num_frames + 1)}
    shipped.write(folder, files)


def test_frame_folders_with_missing_and_damaged_and_copied_clips(tmp_path, capsys):
    """Jester: 1000 is missing, 1001 damaged, 1002 and 1003 are the same; test clips have no labels."""
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

    findings = check_data.check(
        str(root), str(tmp_path / "output"), dataset="jester", splits=["train", "test"]
    )
    train, test = findings["splits"].values()
    assert (train["clips"], train["readable"], test["readable"]) == (4, 3, 5)
    assert train["missing"] == ["1000"]
    assert test["balance"] is None
    assert train["balance"]["empty"] == class_names[:2]
    assert [clip["path"].split("/")[1] for clip in findings["unreadable"]["unreadable"]] == ["1001"]
    assert [[clip["class"] for clip in group] for group in findings["copies"]] == [class_names[2:4]]
    assert findings["facts"]["seconds"] == {"most_frequent": []}
    assert "--dataset=jester" in capsys.readouterr().out


def test_a_folder_named_like_a_video_and_a_split_of_two_names(tmp_path):
    """UCF-101: validation is test, which must not look like leakage."""
    root = tmp_path / "ucf101"
    shipped.write(root, shipped.ucf101(["Archery", "Bowling"]))
    videos = sorted(root.rglob("*.avi"))
    for path in videos:
        path.unlink()
        write_video(path, codec="mpeg4", num_frames=8, brightness=10 * videos.index(path))
    videos[1].unlink()
    videos[1].mkdir()
    findings = check_data.check(
        str(root),
        str(tmp_path / "output"),
        dataset="ucf101",
        splits=["train", "validation", "test"],
    )
    assert list(findings["splits"]) == ["train", "validation"]
    assert findings["copies"] == []
    assert paths(findings["unreadable"]["unreadable"]) == [str(videos[1].relative_to(root))]


def test_paths_of_a_list_are_relative_to_its_folder(tmp_path):
    for name in "abc":
        good(tmp_path / "videos" / f"{name}.mp4")
    cut(tmp_path / "videos" / "cut.mp4")
    root = tmp_path / "clips.txt"
    root.write_text("videos/a.mp4 0\nvideos/b.mp4 1\nvideos/c.mp4 0\nvideos/cut.mp4 1\n")
    findings = check_data.check(str(root), str(tmp_path / "output"), dataset="list")
    excluded = paths(sum(findings["unreadable"].values(), []))
    assert excluded == ["videos/cut.mp4"]
    for split in ("train", "validation"):
        records = open_dataset("list", root, split=split, exclude=excluded).records
        assert str(tmp_path / "videos" / "cut.mp4") not in [path for path, _ in records]


def test_a_check_that_is_stopped_writes_nothing_and_reads_no_further(messy, tmp_path, monkeypatch):
    read = []

    def probe(path):
        read.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(check_data.frames, "probe", probe)
    with pytest.raises(KeyboardInterrupt):
        check_data.check(str(messy), str(tmp_path), workers=1)
    assert os.listdir(tmp_path) == []
    assert len(read) < 19


def test_the_command_shows_how_far_it_is_and_tells_by_its_status_that_there_is_something_to_exclude(command):
    process, _ = command
    assert process.returncode == 2, process.stderr
    assert "Reading: 20 of 20" in process.stdout


@pytest.mark.parametrize(
    "outcome, status",
    [
        ({"unreadable": {"missing": [], "truncated": []}}, 0),
        ({"unreadable": {"missing": [], "truncated": ["a.mp4"]}}, 2),
        (ValueError("no such split"), "check_data.py: no such split"),
        (PermissionError("no space"), "check_data.py: no space"),
    ],
)
def test_the_status_tells_whether_there_is_something_to_exclude(monkeypatch, outcome, status):
    monkeypatch.setattr(check_data, "check", mock.Mock(side_effect=[outcome]))
    with pytest.raises(SystemExit) as stop:
        check_data.main([SCRIPT, "--data_dir=clips"])
    assert stop.value.code == status


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
    balance = check_data.class_balance(labels, ("a", "b", "c", "d"))
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
    assert check_data.spread(values) == expected


def test_facts_leave_out_what_is_not_known():
    infos = [VideoInfo(300, 720, 1280, 29.97003, 10.01), VideoInfo(36, 176, 100, None, None)]
    assert check_data.facts([Clip("", "train", 0, info) for info in infos]) == {
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
    assert check_data.groups(range(len(keys)), keys) == expected


def test_files_of_one_size_are_no_copies_nor_are_packed_clips(tmp_path):
    clips = [Clip(f"{tmp_path}/train-00000-of-00001.tfrecord#{i}", "train", 0, None) for i in (0, 0)]
    for name in "ab":
        (tmp_path / name).write_text(name)
        clips.append(Clip(str(tmp_path / name), "train", 0, None))
    assert check_data.find_copies(clips, workers=2) == []


def test_results_of_threads_keep_their_order():
    items = list(range(2001))
    assert check_data.in_parallel(lambda item: -item, items, 4, "Counting") == [-item for item in items]


@pytest.mark.parametrize(
    "dataset, short_side, seconds, expected",
    [
        ("folder", 340, 5, False),
        ("folder", 341, 5, True),
        ("folder", 340, 5.1, True),
        ("jester", 100, None, False),
        ("packed", 256, 10, False),
    ],
)
def test_packing_is_advised_for_large_or_long_clips(capsys, dataset, short_side, seconds, expected):
    facts = {"short side": {"median": short_side}, "seconds": {"median": seconds} if seconds else {}}
    findings = {"dataset": dataset, "facts": facts, "unreadable": {}}
    check_data.print_next(findings, "output")
    assert ("pack.py" in capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    "num_classes, num_clips, known", [(2, 0, True), (2, 1, False), (30, 100, False), (400, 1000, True)]
)
def test_any_data_set_makes_a_picture(tmp_path, num_classes, num_clips, known):
    rng = np.random.default_rng(0)
    clips = []
    for i in range(num_clips):
        height, width, count = rng.integers(50, 1000, 3).tolist()
        rate, seconds = (rng.uniform(10, 60), rng.exponential(10)) if known else (None, None)
        label = int(rng.integers(num_classes)) if known else None
        clips.append(Clip(str(i), "train", label, VideoInfo(count, height, width, rate, seconds)))
    check_data.plot(tmp_path / "picture.png", clips, ["a long name " * 9] * num_classes)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
