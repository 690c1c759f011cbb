import json
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import Dataset, frames, images, open_dataset, shards
from keras_stm.data.video import VideoError
from tests.data.errors import argument_error
from tests.data.videos import state_jpeg_size

CLASS_NAMES = ("clap", "wave")
SETTINGS = {"fingerprint": Dataset([], CLASS_NAMES).fingerprint, "num_shards": 2, "quality": 95}


def make_jpegs(num_frames, seed=0, height=24, width=32):
    """Returns JPEG files of noise; each has another length in bytes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_frames, height // 8, width // 8, 3), "uint8")
    return [tf.io.encode_jpeg(image.repeat(8, axis=0).repeat(8, axis=1)).numpy() for image in images]


# Position, path, label and frames; the fourth clip is skipped.
CLIPS = [
    (0, "clap/a.mp4", 0, make_jpegs(5, 0)),
    (1, "clap/b.mp4", 0, make_jpegs(1, 1)),
    (2, "wave/c.mp4", 1, make_jpegs(12, 2)),
    (3, "wave/d.mp4", 1, None),
    (4, "wave/e.mp4", None, make_jpegs(7, 4)),
]


def write(root, split="train", indices=(0, 1), manifest=True, settings=SETTINGS):
    """Packs `CLIPS` as `keras-stm pack` does."""
    for index in indices:
        clips = (
            (position, path, label, shards.PackedClip(jpegs, 24, 32) if jpegs else "cut off")
            for position, path, label, jpegs in CLIPS[index::2]
        )
        shards.write_shard(root, split, index, settings, clips)
    if manifest:
        sidecars = {index: sidecar for name, index, sidecar in shards.read_sidecars(root) if name == split}
        shards.write_manifest(root, split, settings, CLASS_NAMES, [sidecars[index] for index in range(2)])
    return root


@pytest.fixture
def root(tmp_path):
    return write(str(tmp_path))


def test_records_have_the_order_and_the_labels_that_were_packed(root):
    dataset = open_dataset("packed", root)
    assert dataset.class_names == CLASS_NAMES
    assert [label for _, label in dataset.records] == [0, 0, 1, None]
    assert [frames.count_frames(path) for path, _ in dataset.records] == [5, 1, 12, 7]


def test_packed_clips_can_be_excluded(root):
    records = open_dataset("packed", root).records
    assert open_dataset("packed", root, exclude=[records[0][0]]).records == records[1:]


def test_frames_are_those_of_the_jpegs_at_any_indices(root):
    clips = [jpegs for *_, jpegs in CLIPS if jpegs]
    for (path, _), jpegs in zip(open_dataset("packed", root).records, clips, strict=True):
        expected = images.decode(jpegs)
        total = len(jpegs)
        assert shards.probe(path) == (total, 24, 32, None, None)
        for indices in (range(total), [total - 1], [0, total - 1, 0]):
            np.testing.assert_array_equal(shards.read_frames(path, indices), expected[list(indices)])
        last = shards.read_frames(path, lambda total_frames: [total_frames - 1])
        np.testing.assert_array_equal(last, expected[-1:])


@pytest.mark.parametrize("indices", [[5], [-1], []])
def test_indices_out_of_range_are_refused(root, indices):
    path, _ = open_dataset("packed", root).records[0]
    with argument_error("indices", indices):
        shards.read_frames(path, indices)


def test_any_reader_of_tfrecords_reads_a_shard_and_finds_its_checksums_right(root):
    records = list(tf.data.TFRecordDataset(os.path.join(root, shards.shard_name("train", 0, 2))))
    expected = []
    for _, path, label, jpegs in CLIPS[::2]:
        header = tf.train.Example.FromString(records[len(expected)].numpy()).features.feature
        assert header["path"].bytes_list.value[:] == [path.encode()]
        assert header["label"].int64_list.value[:] == ([] if label is None else [label])
        assert header["height"].int64_list.value[:] + header["width"].int64_list.value[:] == [24, 32]
        assert header["frame_sizes"].int64_list.value[:] == [len(image) for image in jpegs]
        assert header["frame_crc32"].int64_list.value[:] == [zlib.crc32(image) for image in jpegs]
        expected += [records[len(expected)].numpy(), *jpegs]
    assert [record.numpy() for record in records] == expected


def test_the_manifest_counts_and_names_what_was_left_out(root):
    with open(os.path.join(root, "train.json")) as file:
        manifest = json.load(file)
    names = [shards.shard_name("train", index, 2) for index in range(2)]
    assert manifest == {
        "format": shards.FORMAT,
        "settings": SETTINGS,
        "class_names": list(CLASS_NAMES),
        "clips": 4,
        "frames": 25,
        "bytes": sum(os.path.getsize(os.path.join(root, shard)) for shard in names),
        "left_out": {"wave/d.mp4": "cut off"},
        "shards": names,
    }


def test_a_url_is_read_as_a_folder_is(root):
    url = write("ram://bucket/packed")
    assert shards.is_packed(url)
    here, there = open_dataset("packed", root), open_dataset("packed", url)
    assert there.class_names == here.class_names
    for (path, label), (other, other_label) in zip(here.records, there.records, strict=True):
        assert other == path.replace(root, url) and label == other_label
        assert frames.count_frames(other) == frames.count_frames(path)
        np.testing.assert_array_equal(frames.read_frames(other, [0]), frames.read_frames(path, [0]))
    with pytest.raises(VideoError, match="^ram://bucket/packed/none.tfrecord#0: "):
        frames.count_frames("ram://bucket/packed/none.tfrecord#0")
    assert not shards.is_packed("ram://bucket/nothing")


def test_a_folder_is_packed_where_it_holds_shards_finished_or_not(tmp_path):
    assert not shards.is_packed(tmp_path / "none")
    (tmp_path / "train.json").touch()
    (tmp_path / "train").mkdir()
    assert not shards.is_packed(tmp_path)
    assert shards.is_packed(write(str(tmp_path), indices=[1], manifest=False))


def test_validation_is_test_where_only_test_is_packed(tmp_path):
    root = write(str(tmp_path), "test")
    assert open_dataset("packed", root, "validation") == open_dataset("packed", root, "test")
    write(root, "validation")
    path, _ = open_dataset("packed", root, "validation").records[0]
    assert os.path.basename(path).startswith("validation-")


def cut(path, size):
    os.truncate(path, size)


def edit(path, old, new):
    with open(path, "r+b") as file:
        content = file.read()
        assert old in content
        file.seek(0)
        file.truncate()
        file.write(content.replace(old, new, 1))


def rewrite(path, text):
    with open(path, "w") as file:
        file.write(text)


def make_folder(path):
    os.remove(path)
    os.mkdir(path)


NO_MANIFEST = ("null", "[]", "{}", '{"format": "1"}')
SHARD = "train-00001-of-00002.tfrecord"
SIDECAR = "train-00001-of-00002.json"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: cut(f"{root}/{SHARD}", 100), f"{SHARD}: .*100 bytes"),
        (lambda root: os.remove(f"{root}/{SHARD}"), f"{SHARD}: "),
        (lambda root: cut(f"{root}/{SIDECAR}", 100), f"{SIDECAR}: .*JSON"),
        (lambda root: os.remove(f"{root}/{SIDECAR}"), f"{SIDECAR}: "),
        (lambda root: edit(f"{root}/{SIDECAR}", b"95", b"90"), f"{SIDECAR}: .*another packing"),
        (lambda root: edit(f"{root}/{SIDECAR}", b'"format": 1', b'"format": 0'), f"{SIDECAR}: .*format 1"),
        (lambda root: edit(f"{root}/train.json", b"wave", b"wink"), "train.json: .*class names"),
        (lambda root: cut(f"{root}/train.json", 0), "train.json: .*JSON"),
        (lambda root: edit(f"{root}/train.json", b'"shards"', b'"sharks"'), "train.json: .*keras-stm pack"),
        (
            lambda root: edit(f"{root}/train.json", b'"settings": {', b'"settings": 1, "x": {'),
            "train.json: .*keras-stm pack",
        ),
        (
            lambda root: edit(f"{root}/{SIDECAR}", b'"clips"', b'"clip"'),
            f"{SIDECAR}: .*keras-stm pack",
        ),
        (
            lambda root: edit(f"{root}/{SIDECAR}", b'"bytes"', b'"byte"'),
            f"{SIDECAR}: .*keras-stm pack",
        ),
        (
            lambda root: edit(f"{root}/{SIDECAR}", b"[1, 0, 0,", b"[1, 0, 7,"),
            f"{SIDECAR}: .*label 7",
        ),
        (lambda root: os.remove(f"{root}/train.json"), "train .*2 of 2 shards"),
        *(
            (lambda root, text=text: rewrite(f"{root}/train.json", text), "train.json: .*format 1")
            for text in NO_MANIFEST
        ),
        (lambda root: make_folder(f"{root}/{SIDECAR}"), f"{SIDECAR}: "),
    ],
)
def test_what_is_wrong_in_the_folder_is_named_when_it_is_opened(root, spoil, message):
    spoil(root)
    with pytest.raises(ValueError, match=message) as error:
        open_dataset("packed", root)
    assert str(error.value).startswith(root) and "\n" not in str(error.value)


def test_a_split_that_is_not_packed_or_not_to_the_end_is_refused(tmp_path):
    root = write(str(tmp_path), indices=[1], manifest=False)
    with pytest.raises(ValueError, match="train .*1 of 2 shards"):
        open_dataset("packed", root)
    with argument_error("split", "test"):
        open_dataset("packed", root, "test")


def clip_error(path):
    with pytest.raises(VideoError) as error:
        shards.read_frames(path, range(shards.count_frames(path)))
    assert str(error.value).startswith(path)
    return error.value


def test_a_place_where_no_clip_starts_is_an_error(root):
    """Every seventh byte of a small shard, and bytes after its end, except where clips start."""
    shard = os.path.join(root, shards.shard_name("train", 0, 2))
    starts = {
        int(path.rpartition("#")[2]) for path, _ in open_dataset("packed", root).records if shard in path
    }
    assert len(starts) == 3
    for start in {*range(0, os.path.getsize(shard) + 3, 7)} - starts:
        assert clip_error(f"{shard}#{start}").kind in ("unreadable", "truncated")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.99])
def test_a_shard_that_is_cut_off_after_it_was_opened_is_an_error(root, share):
    path, _ = open_dataset("packed", root).records[3]  # the last in its shard
    shard, _, start = path.rpartition("#")
    os.truncate(shard, int(start) + int(share * (os.path.getsize(shard) - int(start))))
    assert clip_error(path).kind == "truncated"


@pytest.mark.parametrize(
    "sizes, checksums",
    [([-5], [0]), ([0], [0]), ([2**62, 2**62], [0, 0]), ([9], []), ([], []), ([40, -20], [0, 0])],
)
def test_a_header_that_lies_is_an_error_before_anything_is_read_by_it(tmp_path, sizes, checksums):
    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {
        "path": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a.mp4"])),
        "height": integers([24]),
        "width": integers([32]),
        "frame_sizes": integers(sizes),
        "frame_crc32": integers(checksums),
    }
    shard = str(tmp_path / "train-00000-of-00001.tfrecord")
    with tf.io.TFRecordWriter(shard) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        writer.write(bytes(20))
    with pytest.raises(VideoError, match="no clip starts there, or .* damaged|truncated within the clip"):
        shards.count_frames(f"{shard}#0")


def test_a_wrong_bit_anywhere_is_an_error_or_changes_no_frame(root):
    path, _ = open_dataset("packed", root).records[0]
    shard = path.rpartition("#")[0]
    expected = shards.read_frames(path, range(5))
    with open(shard, "rb") as file:
        content = file.read()
    found = 0
    for place in range(0, sum(map(len, CLIPS[0][3])), 11):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        with open(shard, "wb") as file:
            file.write(damaged)
        try:
            read = shards.read_frames(path, range(5))
        except VideoError:
            found += 1
        else:
            np.testing.assert_array_equal(read, expected)
    assert found > 100


def test_a_damaged_frame_is_named_with_the_clip_that_was_packed(root):
    path, _ = open_dataset("packed", root).records[2]
    edit(path.rpartition("#")[0], CLIPS[2][3][7], CLIPS[2][3][7][:-30] + bytes(30))
    shards.read_frames(path, [6, 8])
    with pytest.raises(VideoError, match=r"^.*-of-00002.tfrecord#\d+: frame 7 .*\(wave/c.mp4\)"):
        shards.read_frames(path, [6, 7])


def test_what_was_packed_and_is_no_jpeg_is_named(tmp_path):
    jpegs = make_jpegs(3)
    clip = shards.PackedClip([*jpegs[:2], b"no picture"], 24, 32)
    shards.write_shard(str(tmp_path), "train", 0, SETTINGS, [(0, "wave/c.mp4", 1, clip)])
    path = str(tmp_path / shards.shard_name("train", 0, 2)) + "#0"
    np.testing.assert_array_equal(shards.read_frames(path, [1, 0]), images.decode(jpegs[1::-1]))
    with pytest.raises(VideoError, match=r"#0: frame 2 .*\(wave/c.mp4\)"):
        shards.read_frames(path, [1, 2, 2])


def test_a_header_that_is_too_large_is_not_read(root):
    shard = os.path.join(root, shards.shard_name("train", 0, 2))
    start = os.path.getsize(shard)
    with open(shard, "ab") as file:
        file.write((2**30).to_bytes(8, "little"))
    # The file is sparse: the zeros take no disk space.
    os.truncate(shard, start + 2**30 + 16)
    error = clip_error(f"{shard}#{start}")
    assert error.kind == "too large" and "a header of 1,073,741,824 bytes" in str(error)


def test_frames_larger_than_a_clip_may_be_are_not_read(root, monkeypatch):
    path, _ = open_dataset("packed", root).records[0]
    total = sum(map(len, CLIPS[0][3]))
    monkeypatch.setattr(shards, "MAX_BYTES", total)
    shards.read_frames(path, range(5))
    monkeypatch.setattr(shards, "MAX_BYTES", total - 1)
    assert clip_error(path).kind == "too large"


def test_packed_frame_that_is_too_large_is_named(tmp_path):
    clip = shards.PackedClip([state_jpeg_size(make_jpegs(1)[0], 65500, 65500)], 24, 32)
    shards.write_shard(str(tmp_path), "train", 0, SETTINGS, [(0, "wave/c.mp4", 1, clip)])
    error = clip_error(str(tmp_path / shards.shard_name("train", 0, 2)) + "#0")
    assert error.kind == "too large" and "frame 0 is too large: frames of 65500x65500" in str(error)


def test_a_shard_that_vanishes_is_missing(root):
    path, _ = open_dataset("packed", root).records[0]
    os.remove(path.rpartition("#")[0])
    assert clip_error(path).kind == "missing"


def test_an_error_while_a_shard_is_written_leaves_nothing(tmp_path):
    def clips():
        yield 0, "a.mp4", 0, shards.PackedClip(make_jpegs(3), 24, 32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_shard(str(tmp_path), "train", 0, SETTINGS, clips())
    assert os.listdir(tmp_path) == []


def test_a_shard_that_another_process_finishes_meanwhile_is_left_as_it_is(tmp_path):
    root = str(tmp_path)

    def clips():
        yield 0, "a.mp4", 0, shards.PackedClip(make_jpegs(3), 24, 32)
        assert any(".partial-" in name for name in os.listdir(root))
        write(root, indices=[0], manifest=False)
        files.update((name, (tmp_path / name).read_bytes()) for name in os.listdir(root))

    files = {}
    shards.write_shard(root, "train", 0, SETTINGS, clips())
    assert sorted(files) == ["train-00000-of-00002.json", "train-00000-of-00002.tfrecord"]
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(root)} == files
