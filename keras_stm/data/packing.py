"""Packs a data set into shards of JPEG frames, for `keras-stm pack`; see `shards`."""

import itertools
import os
import sys
import typing

import av
import numpy as np
from av.video.reformatter import Interpolation

from keras_stm.data import augment, frame_folder, frames, images, shards
from keras_stm.data.catalog import open_dataset
from keras_stm.data.dataset import SPLITS, Dataset, describe_unused
from keras_stm.data.exclude import read_exclude
from keras_stm.data.left_out import LeftOut
from keras_stm.data.parallel import in_order
from keras_stm.data.paths import absolute
from keras_stm.data.video import VideoError
from keras_stm.differences import differences
from keras_stm.file_names import utf8_path
from keras_stm.progress import Progress, counted, tell

# Shards of ten-second clips, like those of Kinetics, stay below 1 GB. A killed process loses little work.
_CLIPS_IN_SHARD = 100


def pack(
    data_dir,
    output,
    dataset="folder",
    fold=1,
    class_order="sorted",
    group_by=None,
    exclude=None,
    splits=None,
    short_side=256,
    quality=95,
    num_shards=None,
    worker=(1, 1),
    workers=None,
    max_unreadable=0.5,
):
    """Packs a data set, or this worker's part of it, and prints its progress.

    Args:
        data_dir: path of the data set, `root` of `open_dataset`.
        output: folder for the shards, or its URL. Existing shards are kept.
        dataset: name of the data set; see `open_dataset`.
        fold: see `open_dataset`.
        class_order: see `open_dataset`.
        group_by: see `open_dataset`.
        exclude: text file of clips to exclude, one path per line.
        splits: any of train, validation and test. `None` packs all that exist.
        short_side: larger frames are scaled down to this short side in pixels.
        quality: quality of the JPEGs, 1 to 100.
        num_shards: number of shards of each split. `None` makes one per hundred clips.
        worker: `(number, count)`: the number of this worker, from 1, and the number of all workers
            that share the work.
        workers: clips packed at the same time. `None` is the number of processors.
        max_unreadable: share of the clips of a split that may be unreadable.

    Returns:
        Whether all shards exist, including those of other workers.

    Raises:
        ValueError: the data set or split does not exist, `output` is not UTF-8 or holds shards of other
            clips or settings, or too many clips are unreadable.
    """
    import tensorflow as tf

    data_dir, output, exclude = map(absolute, (data_dir, output, exclude))
    utf8_path("output", output)
    if shards.is_packed(data_dir):
        raise ValueError(f"`data_dir` must not be packed already. Received: data_dir={data_dir!r}")
    jobs = []
    options = {
        "fold": fold,
        "class_order": class_order,
        "group_by": group_by,
        "exclude": read_exclude(exclude) if exclude else (),
    }
    opened_splits = _open_splits(splits, dataset, data_dir, **options)
    unused = describe_unused(path for opened in opened_splits.values() for path in opened.unused)
    if unused:
        tell(unused)
    for split, opened in opened_splits.items():
        total = len(opened.records)
        settings = {
            "dataset": dataset,
            "fold": fold,
            "class_order": class_order,
            "fingerprint": opened.fingerprint,
            "short_side": short_side,
            "quality": quality,
            "clips": opened.clips_fingerprint(),
            "num_shards": min(total, num_shards or -(-total // _CLIPS_IN_SHARD)),
        }
        root = os.path.dirname(data_dir) if os.path.isfile(data_dir) else data_dir
        jobs.append(_Job(split, opened, root, output, settings, LeftOut(total, max_unreadable, tell)))
    for job in jobs:
        # Shards with other settings raise here, before hours of work.
        _finished_shards(job)
    tf.io.gfile.makedirs(output)
    finished = []
    for job in jobs:
        _write_shards(job, worker, workers or os.cpu_count())
        finished.append(_finish(job))
    return all(finished)


class _Job(typing.NamedTuple):
    """A split to pack; `settings` are those of `shards.write_shard`, the same for all its shards."""

    split: str
    dataset: Dataset
    root: str
    output: str
    settings: dict
    left_out: LeftOut


def _open_splits(splits, name, root, **options):
    """Returns `{split: Dataset}` of the given splits.

    If none are given, opens all splits, without a validation set that is the test set.
    """
    opened = {}
    for split in splits or SPLITS:
        try:
            opened[split] = open_dataset(name, root, split=split, **options)
        except ValueError as error:
            if splits or split != "test":
                raise ValueError(f"`data_dir`: {error}") from error
            tell(f"No test set is packed: {error}")
            continue
        if opened[split].missing:
            count = counted(len(opened[split].missing), "clip")
            tell(f"{split}: skipped {count} that its lists name, but that do not exist")
    if not splits and "test" in opened and opened["test"].records == opened["validation"].records:
        del opened["validation"]
    return opened


def _finished_shards(job):
    """Returns `{index: sidecar}` of the finished shards.

    Raises:
        ValueError: the folder has shards, of this or another split, with other settings.
    """
    finished = {}
    for split, index, sidecar in shards.read_sidecars(job.output):
        their_own = () if split == job.split else ("clips", "num_shards")
        names = [name for name in job.settings if name not in their_own]
        different = differences(sidecar["settings"], job.settings, names)
        if different:
            raise ValueError(
                f"{job.output} holds shards of {split} with other settings ({'; '.join(different)}); pass "
                "another `output`, or delete them"
            )
        if split == job.split:
            finished[index] = sidecar
    return finished


def _write_shards(job, worker, workers):
    """Writes the missing shards of this worker.

    Shard `i` of `n` has the clips `i`, `i + n`, `i + 2 * n` and so on, whichever worker writes it.
    """
    number, count = worker
    total, num_shards = len(job.dataset.records), job.settings["num_shards"]
    todo = sorted(set(range(number - 1, num_shards, count)) - set(_finished_shards(job)))
    positions = [position for index in todo for position in range(index, total, num_shards)]
    if not positions:
        return
    progress = Progress(
        len(positions),
        "clip",
        f"{job.split}: {counted(len(positions), 'clip')} into {counted(len(todo), 'shard')}",
    )

    def read(position):
        path, _ = job.dataset.records[position]
        try:
            clip = read_clip(path, job.settings["short_side"], job.settings["quality"])
            job.dataset.check_num_frames(path, len(clip.frames))
            return position, clip
        except VideoError as error:
            return position, error

    def clips():
        for done, (position, clip) in enumerate(in_order(read, positions, workers), 1):
            path, label = job.dataset.records[position]
            if isinstance(clip, VideoError):
                job.left_out.add(path, clip)
                clip = str(clip).removeprefix(f"{path}: ")
            yield position, os.path.relpath(path, job.root), label, clip
            progress.update(done)

    for index, shard_clips in itertools.groupby(clips(), lambda clip: clip[0] % num_shards):
        shards.write_shard(job.output, job.split, index, job.settings, shard_clips)
        if not sys.stdout.isatty():
            tell(f"{job.split}: shard {index + 1} of {num_shards} is written")
    progress.close()


def _finish(job):
    """Writes the manifest if all shards of all workers are finished; returns whether they are."""
    finished = _finished_shards(job)
    num_shards = job.settings["num_shards"]
    if len(finished) < num_shards:
        tell(
            f"{job.split}: {len(finished)} of {num_shards} shards are finished; other workers have the rest."
        )
        return False
    sidecars = [finished[index] for index in range(num_shards)]
    for sidecar in sidecars:
        for path, reason in sidecar["left_out"].items():
            path = os.path.join(job.root, path)
            job.left_out.reasons[path] = f"{path}: {reason}"
    job.left_out.check()
    manifest = shards.write_manifest(job.output, job.split, job.settings, job.dataset.class_names, sidecars)
    left_out = len(manifest["left_out"])
    tell(
        f"{job.split}: {counted(manifest['clips'], 'clip')}, {counted(manifest['frames'], 'frame')}, "
        f"{manifest['bytes'] / 1e6:,.1f} MB"
        + (f"; skipped {counted(left_out, 'unreadable clip')}" if left_out else "")
    )
    return True


def read_clip(path, short_side, quality):
    """Returns all frames of a clip as JPEGs, in a `shards.PackedClip`.

    JPEGs that are not larger than `short_side` are copied byte for byte.

    Args:
        path: path of a record of a data set that is not packed.
        short_side: see `pack`.
        quality: see `pack`.

    Raises:
        VideoError: the clip cannot be read to its end, or its frames differ in size.
    """
    import tensorflow as tf

    jpegs = []
    size = None
    for frame, jpeg in _frames_and_jpegs(path):
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise VideoError(path, "unreadable", f"frame {len(jpegs)} differs in size from frame 0")
        if min(size) > short_side:
            frame, jpeg = _scale_down(frame, short_side), None
        jpegs.append(jpeg or tf.io.encode_jpeg(frame, quality=quality).numpy())
    return shards.PackedClip(jpegs, *frame.shape[:2])


def _frames_and_jpegs(path):
    """Yields each frame of a clip, and the JPEG that it comes from or `None`."""
    if not os.path.isdir(path):
        for frame in frames.iterate_frames(path):
            yield frame, None
        return
    for name in frame_folder.list_frames(path):
        image = frame_folder.read_image(path, name)
        try:
            # Decoding finds damage now and not in training, even if the JPEG is only copied.
            frame = images.decode([image], short_side=images.MAX_SIDE)[0]
        except images.ImageError as error:
            raise VideoError(path, error.kind, f"{name} {error.reason}") from error
        # A copied JPEG keeps its EXIF orientation, and reading the shard applies it again.
        yield frame, image if images.is_jpeg(image) else None


def _scale_down(frame, short_side):
    """Scales a frame `(H, W, 3)` to a short side of `short_side` pixels, bicubic and antialiased."""
    height, width = augment.short_side_shape(*frame.shape[:2], short_side)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    # This takes at most half the time of tf.image.resize.
    return frame.reformat(width, height, interpolation=Interpolation.BICUBIC, threads=1).to_ndarray()
