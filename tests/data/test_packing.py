"""Packing: its output, resuming after an interruption, and rejected input."""

import concurrent.futures
import json
import os
import shutil

import av
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_stm.data import frames, open_dataset, packing
from keras_stm.data.packing import pack, read_clip
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError
from tests.data.videos import KINDS, write_video


def write_frames(folder, num_frames=6, height=32, width=48, seed=0):
    """Writes JPEGs of grey noise. JPEG loses too much of coloured noise for the comparisons here."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 256, (num_frames, height // 8, width // 8, 1), "uint8")
    for i, image in enumerate(images.repeat(8, axis=1).repeat(8, axis=2).repeat(3, axis=3)):
        (folder / f"{i + 1:05d}.jpg").write_bytes(tf.io.encode_jpeg(image, quality=80).numpy())
    return str(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Class folders of videos of all kinds and of frame folders, with one broken training clip a class."""
    root = tmp_path_factory.mktemp("clips")
    for split in ("train", "val"):
        (root / split / "clap").mkdir(parents=True)
        for i, (codec, options, extension) in enumerate(KINDS.values()):
            write_video(
                root / split / "clap" / f"{i}{extension}", num_frames=10 + i, codec=codec, options=options
            )
        for i in range(4):
            write_frames(root / split / "wave" / f"{i}", num_frames=3 + i, seed=i)
    (root / "train" / "clap" / "broken.mp4").write_bytes(b"no video at all" * 100)
    damaged = root / "train" / "wave" / "2" / "00004.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return root


BROKEN = {"train/clap/broken.mp4", "train/wave/2"}


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    """The output of an uninterrupted run with three shards."""
    output = tmp_path_factory.mktemp("packed") / "whole"
    pack(str(clips), str(output), num_shards=3)
    return output


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all(path):
    return frames.read_frames(path, range).astype("float32")


def test_packed_clips_are_those_of_the_data_set_in_its_order_but_for_the_broken(clips, whole):
    for split, broken in (("train", BROKEN), ("validation", set())):
        original = open_dataset("folder", clips, split)
        readable = [
            (path, label) for path, label in original.records if os.path.relpath(path, clips) not in broken
        ]
        assert len(readable) == len(original.records) - len(broken)
        dataset = open_dataset("packed", whole, split)
        assert dataset.class_names == original.class_names
        assert [label for _, label in dataset.records] == [label for _, label in readable]
        for (path, _), (original_path, _) in zip(dataset.records, readable, strict=True):
            ours, theirs = read_all(path), read_all(original_path)
            assert ours.shape == theirs.shape
            # Frames keep their order: other frames would differ by a multiple of this.
            assert np.abs(ours - theirs).mean(axis=(1, 2, 3)).max() < 4


def test_the_manifest_and_the_output_name_each_clip_that_was_left_out_once(clips, whole, tmp_path, capsys):
    with open(whole / "train.json") as file:
        left_out = json.load(file)["left_out"]
    assert set(left_out) == BROKEN
    assert left_out["train/wave/2"] == "00004.jpg is not a JPEG, or is damaged"
    pack(str(clips), str(tmp_path), splits=["train"])
    out = capsys.readouterr().out
    for path in BROKEN:
        assert out.count(f"{clips / path}") == 1
    assert "train: 8 clips, 73 frames" in out and "skipped 2 unreadable clips" in out


def test_more_broken_clips_than_allowed_stop_it_with_a_list(clips, tmp_path):
    with pytest.raises(ValueError, match="2 of 10 clips .*:\n.*\n.*\nReceived: max_unreadable=0.15"):
        pack(str(clips), str(tmp_path), splits=["train"], max_unreadable=0.15)
    assert os.listdir(tmp_path) == []
    # Neither of the two workers alone has too many unreadable clips.
    for number in (1, 2):
        run = {"splits": ["train"], "num_shards": 2, "worker": (number, 2), "max_unreadable": 0.15}
        if number == 1:
            pack(str(clips), str(tmp_path), **run)
    with pytest.raises(ValueError, match="2 of 10 clips cannot be read"):
        pack(str(clips), str(tmp_path), **run)
    assert not (tmp_path / "train.json").exists()


@pytest.mark.parametrize(
    "size, short_side, expected",
    [
        ((32, 48), 256, (32, 48)),
        ((32, 48), 32, (32, 48)),
        ((48, 32), 31, (47, 31)),
        ((64, 48), 32, (43, 32)),
        ((40, 72), 16, (16, 29)),
    ],
)
def test_frames_are_scaled_down_to_the_short_side_and_never_up(size, short_side, expected, tmp_path):
    height, width = size
    paths = [write_video(tmp_path / "video.mp4", num_frames=3, height=height, width=width)]
    paths.append(write_frames(tmp_path / "frames", 3, height, width))
    for path in paths:
        clip = read_clip(path, short_side, quality=95)
        assert (clip.height, clip.width) == expected
        decoded = np.stack([tf.io.decode_jpeg(image) for image in clip.frames]).astype("float32")
        assert decoded.shape[1:3] == expected
        # Equal to TensorFlow's resize, except for JPEG's loss. A shifted image would differ much more.
        reference = tf.image.resize(frames.read_frames(path, range), expected, "bicubic", antialias=True)
        assert np.abs(decoded - reference).mean() < 6


def test_jpegs_that_are_small_enough_are_copied_byte_for_byte(clips):
    folder = clips / "train" / "wave" / "3"
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert read_clip(str(folder), 32, 95).frames == files
    assert read_clip(str(folder), 31, 95).frames != files


def test_jpegs_are_turned_by_exif_before_and_after_packing(tmp_path):
    """Of the same frames, those in `a` are copied, and those in `b` are larger than the short side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (("a", (48, 32)), ("b", (96, 64))):
        folder = tmp_path / "clips" / "train" / name / "clip"
        folder.mkdir(parents=True)
        for i in range(2):
            picture = Image.new("RGB", size)
            picture.paste((250, 250, 250), (0, 0, size[0] // 2, size[1] // 2))
            picture.save(folder / f"{i}.jpg", exif=exif)
        shutil.copytree(tmp_path / "clips" / "train" / name, tmp_path / "clips" / "val" / name)
    pack(str(tmp_path / "clips"), str(tmp_path / "packed"), short_side=32)
    for path, _ in open_dataset("packed", tmp_path / "packed").records:
        assert frames.probe(path)[:3] == (2, 48, 32)
        found = frames.read_frames(path, [0, 1])
        assert found.shape == (2, 48, 32, 3)
        # The top left corner is now the top right one.
        assert (found[:, 8, 24] > 200).all() and (found[:, 8, 8] < 50).all()
    clip = read_clip(str(tmp_path / "clips" / "train" / "a" / "clip"), 32, 95)
    assert clip.frames[0] == (tmp_path / "clips" / "train" / "a" / "clip" / "0.jpg").read_bytes()


def test_frames_of_other_formats_become_jpegs(tmp_path):
    for i in range(2):
        Image.new("RGB", (48, 32), (100 + i, 9, 9)).save(tmp_path / f"{i}.png")
    clip = read_clip(str(tmp_path), 256, 95)
    assert all(image.startswith(b"\xff\xd8\xff") for image in clip.frames)
    assert (clip.height, clip.width) == (32, 48)


def test_clips_that_are_not_as_their_list_says_are_skipped_and_unused_files_are_named(tmp_path, capsys):
    for name in "abcd":
        write_frames(tmp_path / name, num_frames=3)
    lists = {"train.txt": "a 3 0\nb 4 1\nc 3 1\n", "val.txt": "d 3 0\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    pack(str(tmp_path), str(tmp_path / "packed"), dataset="list")
    left_out = json.loads((tmp_path / "packed" / "train.json").read_text())["left_out"]
    assert left_out == {"b": "holds 3 frames, but the list states 4"}
    capsys.readouterr()
    root = tmp_path / "classes"
    for name in ("train/x/1", "train/y/2", "val/x/3", "val/y/4"):
        write_frames(root / name)
    for name in ("train/x/note.txt", "val/y/film.rm"):
        (root / name).touch()
    pack(str(root), str(tmp_path / "again"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no clip of a class" in line]
    assert line.startswith(f"Not used, because no clip of a class (2): {root}/train/x/note.txt, ")


def test_a_video_that_is_to_be_turned_is_packed_upright(tmp_path):
    path = write_video(tmp_path / "plain.mp4", num_frames=3)
    turned = str(tmp_path / "turned.mp4")
    with av.open(path) as source, av.open(turned, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    clip = read_clip(turned, 256, 95)
    assert (clip.height, clip.width) == (48, 32)
    decoded = np.stack([tf.io.decode_jpeg(image) for image in clip.frames]).astype("float32")
    upright = np.rot90(frames.read_frames(path, range), axes=(1, 2))
    assert np.abs(decoded - upright).mean() < 4


def test_a_folder_with_frames_of_several_sizes_is_no_clip(tmp_path):
    folder = write_frames(tmp_path / "clip", 3)
    (tmp_path / "clip" / "00002.jpg").write_bytes(tf.io.encode_jpeg(np.zeros((64, 96, 3), "uint8")).numpy())
    with pytest.raises(VideoError, match="clip: frame 1 differs in size from frame 0"):
        read_clip(folder, 256, 95)


def test_quality_is_that_of_the_jpegs(clips):
    path = str(clips / "train" / "clap" / "0.mp4")
    low, high = (sum(map(len, read_clip(path, 256, quality).frames)) for quality in (50, 95))
    assert low < 0.8 * high


def stop_in_the_middle(clips, output, patch, clip="1"):
    """Packs until it reaches a clip, then stops as if the user pressed Ctrl-C."""

    def stop(path, *args):
        if path.endswith(os.path.join("wave", clip)):
            raise KeyboardInterrupt
        return read_clip(path, *args)

    with patch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(packing, "read_clip", stop)
        pack(str(clips), str(output), num_shards=3, workers=1)


def test_a_run_that_was_stopped_keeps_whole_shards_and_ends_with_the_same_bytes(
    clips, whole, tmp_path, monkeypatch
):
    stop_in_the_middle(clips, tmp_path, monkeypatch)
    before = contents(tmp_path)
    assert sorted(before) == ["train-00000-of-00003.json", "train-00000-of-00003.tfrecord"]
    with pytest.raises(ValueError, match="1 of 3 shards"):
        open_dataset("packed", tmp_path)
    written = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    pack(str(clips), str(tmp_path), num_shards=3)
    assert contents(tmp_path) == contents(whole)
    assert written == {name: (tmp_path / name).stat().st_mtime_ns for name in before}


def test_what_a_kill_leaves_is_replaced_and_the_run_ends_with_the_same_bytes(
    clips, whole, tmp_path, monkeypatch
):
    """A killed process has no time to remove its unfinished shard."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", lambda path: os.truncate(path, 10))
        stop_in_the_middle(clips, tmp_path, monkeypatch)
    left = os.listdir(tmp_path)
    assert any(".partial-" in name for name in left) and "train.json" not in left
    pack(str(clips), str(tmp_path), num_shards=3)
    assert contents(tmp_path) == contents(whole)


def test_workers_that_share_the_work_write_what_one_would(clips, whole, tmp_path, capsys):
    assert not pack(str(clips), str(tmp_path), num_shards=3, worker=(2, 2))
    assert "train: 1 of 3 shards are finished" in capsys.readouterr().out
    assert not (tmp_path / "train.json").exists()
    assert pack(str(clips), str(tmp_path), num_shards=3, worker=(1, 2))
    assert contents(tmp_path) == contents(whole)


def test_two_that_do_the_same_at_once_do_no_harm(clips, whole, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(pack, str(clips), str(tmp_path), num_shards=3, workers=1) for _ in range(2)]
    assert [run.result() for run in runs] == [True, True]
    assert contents(tmp_path) == contents(whole)


def test_the_same_command_again_touches_no_shard_and_says_what_is_there(clips, whole, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in whole.glob("*-of-*")}
    pack(str(clips), str(whole), num_shards=3)
    assert "train: 8 clips" in capsys.readouterr().out
    assert before == {path.name: path.stat().st_mtime_ns for path in whole.glob("*-of-*")}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"quality": 90}, "quality 95 there, 90 here"),
        ({"short_side": 128, "quality": 90}, "short_side 256 there, 128 here; quality 95 there, 90 here"),
        ({"num_shards": 2}, "num_shards 3 there, 2 here"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused_with_what_differs(clips, whole, change, message):
    before = contents(whole)
    with pytest.raises(ValueError, match=f"{whole} .*\\({message}\\)"):
        pack(str(clips), str(whole), **{"num_shards": 3, **change})
    assert contents(whole) == before


def test_other_clips_or_classes_in_the_same_folder_are_refused(clips, whole, tmp_path):
    copy = tmp_path / "clips"
    shutil.copytree(clips, copy)
    # A copy elsewhere is the same data set.
    pack(str(copy), str(whole), num_shards=3)
    shutil.rmtree(copy / "val" / "wave" / "0")
    with pytest.raises(ValueError, match=r"shards of validation .*\(clips '9-.*' there, '8-.*' here\)"):
        pack(str(copy), str(whole), num_shards=3)
    for split in ("train", "val"):
        (copy / split / "wave").rename(copy / split / "bow")
    with pytest.raises(ValueError, match=r"shards of .*\(fingerprint '.*' there, '.*' here"):
        pack(str(copy), str(whole), splits=["train"], num_shards=3)


def test_a_packed_data_set_is_not_packed_again(whole, tmp_path):
    with pytest.raises(ValueError, match=f"`data_dir` .* Received: data_dir='{whole}'"):
        pack(str(whole), str(tmp_path / "again"))


def test_excluded_clips_are_not_packed_and_not_named(clips, tmp_path, capsys):
    (tmp_path / "exclude.txt").write_text("\n".join(BROKEN))
    pack(str(clips), str(tmp_path / "packed"), exclude=str(tmp_path / "exclude.txt"))
    assert "kipped" not in capsys.readouterr().out
    assert json.loads((tmp_path / "packed" / "train.json").read_text())["left_out"] == {}


def test_the_test_set_of_ucf101_is_packed_once_and_validates(tmp_path):
    root = tmp_path / "ucf"
    names = [f"{name}/v_{name}_g0{i}_c01.avi" for name in ("Bowling", "Skiing") for i in (1, 2)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / name, num_frames=3, codec="mpeg4")
    (root / "classInd.txt").write_text("1 Bowling\n2 Skiing\n")
    (root / "trainlist01.txt").write_text(f"{names[0]} 1\n{names[2]} 2\n")
    (root / "testlist01.txt").write_text(f"{names[1]}\n{names[3]}\n")
    pack(str(root), str(tmp_path / "packed"), dataset="ucf101")
    assert not list((tmp_path / "packed").glob("validation*"))
    validation = open_dataset("packed", tmp_path / "packed", "validation")
    assert [label for _, label in validation.records] == [0, 1]
    with pytest.raises(ValueError, match="`data_dir`: .*trainlist02.txt"):
        pack(str(root), str(tmp_path / "packed"), dataset="ucf101", fold=2)


def test_shards_are_written_to_a_url(clips, whole):
    pack(str(clips), "ram://packed", num_shards=3)
    for path, expected in contents(whole).items():
        with tf.io.gfile.GFile(f"ram://packed/{path}", "rb") as file:
            assert file.read() == expected


def test_clips_wait_in_memory_a_few_at_a_time():
    started = []
    results = in_order(started.append, range(100), workers=2)
    for _ in range(10):
        next(results)
    results.close()
    assert len(started) <= 10 + 2 * 2
    assert list(in_order(lambda item: -item, range(9), workers=4)) == [-item for item in range(9)]
