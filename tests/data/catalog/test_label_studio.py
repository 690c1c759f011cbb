"""Label Studio's JSON export. The sample is rebuilt after the documentation and sources of version 1.20."""

import json
import os

import numpy as np
import pytest

from keras_stm.data import frames
from keras_stm.data.catalog import label_studio, open_dataset
from tests.data.videos import decode_all, write_video


def region(start, end, *labels):
    return {
        "original_length": 6,
        "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)},
        "id": "tL3xq",
        "from_name": "videoLabels",
        "to_name": "video",
        "type": "timelinelabels",
        "origin": "manual",
    }


def choice(*choices):
    value = {"choices": list(choices)}
    return {
        "value": value,
        "id": "Zf1",
        "from_name": "ch",
        "to_name": "video",
        "type": "choices",
        "origin": "manual",
    }


RECTANGLE = {
    "value": {"framesCount": 60, "duration": 6, "sequence": [], "labels": ["Person"]},
    "id": "q8",
    "from_name": "box",
    "to_name": "video",
    "type": "videorectangle",
    "origin": "manual",
}


def annotation(*results, **more):
    return {
        "id": 7,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-11-05T09:12:44.120633Z",
        "updated_at": "2024-11-05T09:12:44.120655Z",
        "draft_created_at": None,
        "lead_time": 61.3,
        "prediction": {},
        "result_count": len(results),
        "task": 1,
        **more,
    }


def task(video, *annotations, **data):
    return {
        "id": 1,
        "annotations": list(annotations),
        "file_upload": video.rpartition("/")[2],
        "drafts": [],
        "predictions": [],
        "data": {"video": video, **data},
        "meta": {},
        "created_at": "2024-11-05T09:10:01.513742Z",
        "updated_at": "2024-11-05T09:12:44.146926Z",
        "inner_id": 1,
        "total_annotations": len(annotations),
        "cancelled_annotations": 0,
        "total_predictions": 0,
        "comment_count": 0,
        "project": 1,
        "updated_by": 1,
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("source") / "video.mp4", 60, options={"bf": "2", "g": "10"})


@pytest.fixture
def write(tmp_path, source, monkeypatch):
    """A function that writes an export and the videos of these names; returns the folder."""
    label_studio._tell_once.cache_clear()

    def write(tasks, *names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(source, tmp_path / name)
        (tmp_path / "project-1-at-2024-11-05-09-14-1a2b3c4d.json").write_text(json.dumps(tasks))
        return tmp_path

    return write


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(label_studio, "tell", lines.append)
    return lines


def spans_of(root):
    _, spans = label_studio.read_label_studio(str(root))
    return [(os.path.relpath(span.path, root), span.label) for span in spans]


def test_frames_count_from_1_and_the_last_one_is_included(write, source):
    results = region(1, 1, "a"), region(11, 20, "b"), region(51, 60, "a"), region(31, 61, "b")
    root = write([task("/data/upload/1/3d3ad63e-long.mp4", annotation(*results))], "3d3ad63e-long.mp4")
    expected = decode_all(source)
    paths = [path for path, _ in spans_of(root)]
    assert paths[:2] == ["3d3ad63e-long.mp4#t=0,0.1", "3d3ad63e-long.mp4#t=1,2"]
    for path, part in zip(paths, (slice(0, 1), slice(10, 20), slice(50, 60), slice(30, 60)), strict=True):
        np.testing.assert_array_equal(frames.read_frames(str(root / path), range), expected[part])


def test_frames_are_exact_where_the_container_rounds_times(write, tmp_path):
    """WebM has whole milliseconds, and 30 frames a second do not fit."""
    times = [round(i * 1000 / 30) for i in range(60)]
    path = write_video(tmp_path / "v.webm", 60, "libvpx-vp9", times=times)
    root = write([task("v.webm", annotation(*(region(i, i + 2, f"{i}") for i in range(1, 58))))])
    assert spans_of(root) and os.path.exists(path)
    for i, (part, _) in enumerate(spans_of(root)):
        assert frames.count_frames(str(root / part)) == 3
        assert frames.frame_times(str(root / part))[0] == times[i] * 1000


def test_an_export_is_a_data_set(write, told):
    tasks = [
        task(f"/data/upload/1/{i:08x}-{name}.mp4", annotation(region(1, 10, "wave"), region(21, 30, "clap")))
        for i, name in enumerate("abcde")
    ]
    tasks.append(task("/data/upload/1/0000000f-whole.mp4", annotation(choice("clap"))))
    root = write(tasks, *(f"{name}.mp4" for name in "abcd"), "00000004-e.mp4", "sub/whole.mp4")
    train, validation = (open_dataset("label_studio", root, split) for split in ("train", "validation"))
    assert train.class_names == ("clap", "wave") and not told
    assert len(train.records) + len(validation.records) == 11
    sides = [{frames.file_of(path) for path, _ in dataset.records} for dataset in (train, validation)]
    assert all(sides) and not sides[0] & sides[1]
    assert (str(root / "sub/whole.mp4"), 0) in train.records + validation.records


def test_what_is_no_span_is_counted_in_one_line(write, told):
    tasks = [
        task("a.mp4", annotation(region(1, 5, "x"), RECTANGLE, choice("x"))),
        task("b.mp4", annotation(region(1, 5, "y"), was_cancelled=True), annotation()),
        task("c.mp4"),
        task("d.mp4", annotation(region(1, 5, "y"), id=1, ground_truth=True), annotation(region(1, 5, "x"))),
        task(
            "e.mp4",
            annotation(region(5, None, "y"), region(61, 70, "y"), region(9, 8, "y"), region(1, 2, "x", "y")),
        ),
        task("f.mp4", annotation(choice("x", "y"))),
        task("g.mp4", annotation(region(1, 5, "x"), region(1, 5, "y"), region(1, 5, "y"), region(6, 6, "x"))),
        task(
            "h.mp4",
            annotation({**region(1, 5), "type": "choices", "value": {"ranges": [], "choices": ["x"]}}),
        ),
    ]
    root = write(tasks, *(f"{name}.mp4" for name in "abcdefgh"))
    for _ in range(2):
        assert spans_of(root) == [("a.mp4#t=0,0.5", "x"), ("d.mp4#t=0,0.5", "y"), ("g.mp4#t=0.5,0.6", "x")]
    (line,) = told
    start, what = line.split(": not used: ")
    assert start == f"{root}/project-1-at-2024-11-05-09-14-1a2b3c4d.json"
    assert what.split(", ") == [
        "cancelled annotations (1)",
        "choices of videos with spans (1)",
        "empty annotations (1)",
        "further annotations of a task (1)",
        "results of type choices (1)",
        "results of type videorectangle (1)",
        "spans outside of their video (2)",
        "spans with several labels (2)",
        "spans without a start and an end (1)",
        "tasks without annotation (1)",
        "timelinelabels without one label (1)",
        "videos with several choices (1)",
    ]


@pytest.mark.parametrize(
    "text, there, found",
    [
        ("/data/upload/1/abcd1234-v.mp4", ["abcd1234-v.mp4", "v.mp4"], "abcd1234-v.mp4"),
        ("/data/upload/1/abcd1234-v.mp4", ["sub/v.mp4"], "sub/v.mp4"),
        ("/data/upload/1/abcd1234-my_clip_1.mp4", ["my clip (1).mp4"], "my clip (1).mp4"),
        ("/data/local-files/?d=raw%2Fday%201/v.mp4", ["day 1/v.mp4", "day 2/v.mp4"], "day 1/v.mp4"),
        ("s3://bucket/day%202/v.mp4", ["day 1/v.mp4", "day 2/v.mp4"], "day 2/v.mp4"),
        ("https://host/a/v.mp4?token=1#t=3", ["v.mp4"], "v.mp4"),
        ("v.mp4", [".hidden/v.mp4"], "v.mp4"),
    ],
)
def test_videos_are_found_by_their_names(write, text, there, found):
    root = write([task(text, annotation(choice("x")), other="text")], *there)
    assert spans_of(root) == [(found, "x")]


def test_a_video_that_does_not_exist_or_cannot_be_read_is_left_to_those_who_read_it(write, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    tasks = [
        task(name, annotation(region(1, 48, "x"), region(49, 96, "y"))) for name in ("broken.mp4", "gone.mp4")
    ]
    tasks.append(task("good.mp4", annotation(region(1, 48, "x"), region(49, 60, "y"))))
    root = write(tasks, "good.mp4")
    datasets = [open_dataset("label_studio", root, split) for split in ("train", "validation")]
    assert all(len(dataset.missing) == 2 for dataset in datasets)
    found = {os.path.basename(path) for dataset in datasets for path, _ in dataset.records}
    assert found == {"good.mp4#t=0,4.8", "good.mp4#t=4.8,6", "broken.mp4#t=0,2", "broken.mp4#t=2,4"}


@pytest.mark.parametrize(
    "content, message",
    [
        ([{"video": "a.mp4", "videoLabels": [], "id": 1}], "entry 1: expected a task .*JSON-MIN"),
        ([task("a.txt", annotation(choice("x")))], "entry 1: expected the path of a video in `data`"),
        ([task("a.mp4", {"id": 1})], "entry 1: expected annotations with a list `result`"),
        ([task("a.mp4", annotation("x"))], "entry 1: expected annotations .* of objects"),
        ([task("a.mp4", annotation(region("1", 2, "x")))], "entry 1: expected numbers"),
        ([task("a.mp4", annotation(region(1, 2, 3)))], "entry 1: expected text as label"),
        ([task("a.mp4", annotation())], "expected timelinelabels or choices, but there are none"),
        ({"a": 1}, "expected a list"),
    ],
)
def test_another_file_is_refused(write, content, message):
    root = write(content)
    with pytest.raises(ValueError, match=f"^{root}/project-1.*{message}"):
        open_dataset("label_studio", root)


def test_a_name_that_fits_several_videos_is_refused(write):
    root = write([task("/data/upload/1/v.mp4", annotation(choice("x")))], "a/v.mp4", "b/v.mp4")
    with pytest.raises(
        ValueError, match=f"a video that is there once, not {root}/a/v.mp4 and {root}/b/v.mp4"
    ):
        open_dataset("label_studio", root)
