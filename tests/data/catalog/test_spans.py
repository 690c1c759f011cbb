"""CSV files of spans: what is read, and how whole videos are set apart."""

import collections
import os

import pytest

from keras_stm.data.catalog import open_dataset
from keras_stm.data.frames import file_of
from tests.data.catalog import shipped


def write(folder, text, videos="abcdefghij", name="spans.csv"):
    files = dict.fromkeys((f"videos/{video}.mp4" for video in videos), b"")
    return shipped.write(folder, {name: text, **files})


TEXT = """Start, label ,END,video,annotator,Split
1.5,wave,4,videos/a.mp4,me,train
0:04,clap,01:00:00.250,videos/a.mp4,you,Training

7,"wave, slowly",8,videos/b.mp4,,train
0,clap,2.50,videos/c.mp4,me,VAL
0,wave,2,videos/c.mp4,me,dev
0,wave,2,videos/d.mp4,me,testing
0,wave,2,videos/gone.mp4,me,test
"""


@pytest.mark.parametrize("sign", ",;\t")
def test_rows_are_records_of_parts(tmp_path, sign):
    text = (
        TEXT.replace('"wave, slowly"', "wave_slowly")
        .replace(",", sign)
        .replace("wave_slowly", '"wave, slowly"')
    )
    root = write(tmp_path, text)
    train = open_dataset("spans", root)
    assert train.class_names == ("clap", "wave", "wave, slowly")
    assert [(os.path.relpath(path, root), label) for path, label in train.records] == [
        ("videos/a.mp4#t=1.5,4", 1),
        ("videos/a.mp4#t=4,3600.25", 0),
        ("videos/b.mp4#t=7,8", 2),
    ]
    validation, test = (open_dataset("spans", root, split=split) for split in ("validation", "test"))
    assert [label for _, label in validation.records] == [0, 1] and not validation.set_apart
    assert len(test.records) == 1 and test.missing == (os.path.join(root, "videos/gone.mp4#t=0,2"),)
    assert open_dataset("spans", os.path.join(root, "spans.csv")) == train
    excluded = open_dataset("spans", root, exclude=["videos/a.mp4#t=1.5,4"])
    assert len(excluded.records) == 2 and excluded.class_names == train.class_names


def rows(counts):
    """Returns a CSV of spans; `counts` is `{video: {label: number}}`."""
    lines = ["video,start,end,label"]
    for video, labels in counts.items():
        for i, label in enumerate(collections.Counter(labels).elements()):
            lines.append(f"videos/{video}.mp4,{i},{i + 1},{label}")
    return shipped.lines(lines)


def split(root, **options):
    """Returns the videos of the training and of the validation spans, and `{label: number}` of each."""
    found = []
    for name in ("train", "validation"):
        dataset = open_dataset("spans", root, split=name, **options)
        assert dataset.set_apart
        labels = collections.Counter(dataset.class_names[label] for _, label in dataset.records)
        found += [{os.path.basename(file_of(path))[0] for path, _ in dataset.records}, labels]
    return found


def test_without_a_column_whole_videos_are_set_apart(tmp_path):
    root = write(tmp_path, rows({video: {"x": 4, "y": 2} for video in "abcdefghij"}))
    train, of_train, validation, of_validation = split(root)
    assert not train & validation and len(train | validation) == 10
    assert of_validation == {"x": 8, "y": 4} and of_train == {"x": 32, "y": 16}
    assert {frozenset(split(root, seed=seed)[2]) for seed in range(9)} > {frozenset(validation)}
    os.rename(root, moved := f"{root}-moved")
    assert split(moved)[2] == validation


@pytest.mark.parametrize(
    "counts, held",
    [
        # `a` alone has `y`, so it is never set apart.
        ({"a": {"x": 1, "y": 3}, "b": {"x": 5}, "c": {"x": 5}}, {"x": 5}),
        # Each video is more than a fifth; the smaller one is nearer to it.
        ({"a": {"x": 9, "y": 9}, "b": {"x": 5, "y": 5}}, {"x": 5, "y": 5}),
        # A long video is not chosen where short ones are enough.
        ({"a": {"x": 80, "y": 80}, **{v: {"x": 4, "y": 4} for v in "bcdef"}}, {"x": 20, "y": 20}),
    ],
)
def test_each_class_keeps_spans_to_train_on(tmp_path, counts, held):
    root = write(tmp_path, rows(counts))
    for seed in range(4):
        assert split(root, seed=seed)[3] == held


@pytest.mark.parametrize("counts", [{"a": {"x": 9, "y": 9}}, {"a": {"x": 9}, "b": {"y": 9}}])
def test_a_video_that_cannot_be_set_apart_is_explained(tmp_path, counts):
    with pytest.raises(
        ValueError, match="spans.csv: expected spans of some label in two videos.*column `split`"
    ):
        open_dataset("spans", write(tmp_path, rows(counts)))


def test_the_only_csv_of_a_folder_is_taken_whatever_its_name(tmp_path):
    root = write(tmp_path, TEXT, name="mine.CSV")
    assert len(open_dataset("spans", root).records) == 3
    (tmp_path / "other.csv").touch()
    with pytest.raises(ValueError, match="holds mine.CSV, other.csv"):
        open_dataset("spans", root)
    with pytest.raises(ValueError, match="must be a CSV file of video,start,end,label, or a folder"):
        open_dataset("spans", tmp_path / "videos")


def test_no_video_and_no_test_spans_are_told(tmp_path):
    root = write(tmp_path, rows({"a": {"x": 2, "y": 2}, "b": {"x": 2, "y": 2}}), videos="")
    with pytest.raises(ValueError, match="none of the 8 exists, for example videos/a.mp4#t=0,1"):
        open_dataset("spans", root)
    with pytest.raises(ValueError, match="has no test spans"):
        open_dataset("spans", root, split="test")


def test_names_of_videos_may_be_in_another_encoding_but_labels_not(tmp_path):
    name = b"caf\xe9.mp4".decode(errors="surrogateescape")
    (tmp_path / name).touch()
    rows = f"video,start,end,label,split\n{name},0,1,x,train\n{name},1,2,y,train\n{name},2,3,x,val\n"
    file = tmp_path / "spans.csv"
    file.write_text(rows, errors="surrogateescape")
    assert [file_of(path) for path, _ in open_dataset("spans", tmp_path).records] == [
        str(tmp_path / name)
    ] * 2
    file.write_text(rows.replace(",y,", f",{name},"), errors="surrogateescape")
    with pytest.raises(ValueError, match="spans.csv, line 3: expected a label in UTF-8"):
        open_dataset("spans", tmp_path)
