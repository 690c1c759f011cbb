"""Packs a data set into shards of JPEG frames, from which fit.py reads clips several times faster.

Frames keep their size, or are scaled down to a short side of --short_side; JPEGs that need not be scaled are
copied byte for byte. Clips that cannot be read to their end are left out and named.

  python training/pack.py --data_dir=FOLDER --output=PACKED                          # FOLDER/<class>/*.mp4
  python training/pack.py --data_dir=FOLDER --output=PACKED --dataset=something_v2   # as it was unpacked
  python training/pack.py --data_dir=FOLDER --output=PACKED --worker=3/16            # third of 16 machines
  python training/fit.py --data_dir=PACKED

PACKED may be a path that TensorFlow knows, as gs://bucket/folder. The same command again goes on after the
last whole shard of one that was stopped.
"""

import itertools
import os
import re
import sys
import typing

import before_tensorflow  # noqa: F401

# isort: split
import av
import keras
import numpy as np
import tensorflow as tf
from absl import flags
from av.video.reformatter import Interpolation

import command_line
import config
from keras_stm.arguments import ArgumentError
from keras_stm.data import (
    Dataset,
    LeftOut,
    VideoError,
    augment,
    catalog,
    frame_folder,
    jpeg,
    open_dataset,
    packed,
    video,
)
from keras_stm.data.parallel import in_order
from run_data import absolute, clips_fingerprint, read_exclude

# Below 1 GB with clips of ten seconds, as in Kinetics, and little is lost with a process that is killed.
_CLIPS_IN_SHARD = 100


def define_flags(values):
    flags.DEFINE_string("data_dir", None, "Folder of the data set.", flag_values=values)
    flags.DEFINE_string("output", None, "Folder for the shards, also a gs:// path.", flag_values=values)
    flags.DEFINE_enum(
        "dataset",
        "folder",
        config.UNPACKED,
        "What --data_dir holds, as for fit.py.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "fold", 1, "Split of UCF-101 and HMDB-51.", lower_bound=1, upper_bound=3, flag_values=values
    )
    flags.DEFINE_enum(
        "class_order",
        "sorted",
        ["sorted", "raw"],
        "Order of the classes of Something-Something v1.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "exclude", None, "Text file of clips to leave out, as for fit.py.", flag_values=values
    )
    flags.DEFINE_list(
        "split",
        None,
        "Which of train, validation and test to pack. Default: all that exist.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "short_side", 256, "Short side to scale larger frames down to.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "quality",
        95,
        "Of the JPEGs; 90 needs a quarter less space.",
        lower_bound=1,
        upper_bound=100,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_shards",
        None,
        f"Of each split. Default: one for {_CLIPS_IN_SHARD} clips.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "worker", "1/1", "3/16 is the third of 16 that share --output, on any machines.", flag_values=values
    )
    flags.DEFINE_integer(
        "workers",
        None,
        "Clips packed at the same time. Default: all cores.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_unreadable",
        0.5,
        "Stop once more than this share of the clips of a split turned out to be unreadable.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )


def main(argv):
    values, _ = command_line.parse(define_flags, argv, __doc__)
    for name, what in (("data_dir", "the folder of the data set"), ("output", "the folder for the shards")):
        if not values[name].value:
            sys.exit(f"pack.py: --{name} is missing: {what}")
    # What codes JPEGs here would take the memory of a GPU that a training may be using.
    tf.config.set_visible_devices([], "GPU")
    try:
        pack(
            values.data_dir,
            values.output,
            dataset=values.dataset,
            fold=values.fold,
            class_order=values.class_order,
            exclude=values.exclude,
            splits=values.split,
            short_side=values.short_side,
            quality=values.quality,
            num_shards=values.num_shards,
            worker=parse_worker(values.worker),
            workers=values.workers,
            max_unreadable=values.max_unreadable,
        )
    except KeyboardInterrupt:
        again = "The same command goes on after the last whole shard."
        print(f"\npack.py: stopped. {again}", file=sys.stderr, flush=True)
        # Not sys.exit, which waits until the clips that are being read have been.
        os._exit(1)
    except tf.errors.OpError as error:
        sys.exit(f"pack.py: {error.message}")
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"pack.py: {error}")


def pack(
    data_dir,
    output,
    dataset="folder",
    fold=1,
    class_order="sorted",
    exclude=None,
    splits=None,
    short_side=256,
    quality=95,
    num_shards=None,
    worker=(1, 1),
    workers=None,
    max_unreadable=0.5,
):
    """Packs a data set, or the part of it that is this worker's.

    Args:
        data_dir, dataset, fold, class_order: the data set, as for `open_dataset`.
        exclude: text file of clips to leave out, a path a line.
        output: folder for the shards, or its URL. Those that are there already are kept.
        splits: which of train, validation and test; `None` is all that exist.
        short_side: pixels on the short side that larger frames are scaled down to.
        quality: of the JPEGs, 1 to 100.
        num_shards: of each split; `None` is one for a hundred clips.
        worker: `(number, count)`: which one, from 1, this is of those that share the work.
        workers: clips packed at the same time; `None` is the number of processors.
        max_unreadable: share of the clips of a split that may turn out to be unreadable.

    Raises:
        ValueError: there is no such data set or split, `output` holds shards of other clips or
            settings, or too many clips are unreadable.
    """
    data_dir, output, exclude = map(absolute, (data_dir, output, exclude))
    # On a line of its own, not behind the progress bar.
    log = (lambda line: print(f"\n{line}")) if sys.stdout.isatty() else print
    if packed.is_packed(data_dir):
        raise ValueError(f"--data_dir: {data_dir} is packed already")
    jobs = []
    options = {"fold": fold, "class_order": class_order, "exclude": read_exclude(exclude) if exclude else ()}
    for split, opened in open_splits(splits, dataset, data_dir, **options).items():
        total = len(opened.records)
        settings = {
            "dataset": dataset,
            "fold": fold,
            "class_order": class_order,
            "fingerprint": opened.fingerprint,
            "short_side": short_side,
            "quality": quality,
            "clips": clips_fingerprint(opened),
            "num_shards": min(total, num_shards or -(-total // _CLIPS_IN_SHARD)),
        }
        root = os.path.dirname(data_dir) if os.path.isfile(data_dir) else data_dir
        jobs.append(Job(split, opened, root, output, settings, LeftOut(total, max_unreadable, log)))
    for job in jobs:
        # Here, so that what is wrong shows before hours of work.
        finished_shards(job)
    tf.io.gfile.makedirs(output)
    finished = []
    for job in jobs:
        write_shards(job, worker, workers or os.cpu_count())
        finished.append(finish(job))
    if all(finished):
        preset = f" --preset={dataset}" if dataset in config.PRESETS else ""
        print(f"Try next:\n  python training/fit.py{preset} --data_dir={output}")


class Job(typing.NamedTuple):
    """A split to pack; `settings` are those of `packed.write_shard`, in all its shards."""

    split: str
    dataset: Dataset
    root: str
    output: str
    settings: dict
    left_out: LeftOut


def open_splits(splits, name, root, **options):
    """`{split: Dataset}` of some splits, or of all but a validation set that is the test set."""
    opened = {}
    for split in splits or catalog.SPLITS:
        try:
            opened[split] = open_dataset(name, root, split=split, **options)
        except ValueError as error:
            if splits or split != "test":
                raise ValueError(f"--data_dir: {error}") from error
            print(f"Without a test set: {error}")
            continue
        if opened[split].missing:
            print(f"{split}: {len(opened[split].missing):,} clips that its lists name are not there")
    if not splits and "test" in opened and opened["test"].records == opened["validation"].records:
        del opened["validation"]
    return opened


def finished_shards(job):
    """`{index: sidecar}` of the shards that are there.

    Raises:
        ValueError: the folder has shards, of this or another split, with other settings.
    """
    finished = {}
    for split, index, sidecar in packed.read_sidecars(job.output):
        theirs = sidecar["settings"]
        their_own = () if split == job.split else ("clips", "num_shards")
        different = [
            f"{name} {theirs[name]!r} there, {value!r} here"
            for name, value in job.settings.items()
            if theirs[name] != value and name not in their_own
        ]
        if different:
            raise ValueError(
                f"{job.output} holds shards of {split} with other settings ({'; '.join(different)}); give "
                "another folder with --output, or delete them"
            )
        if split == job.split:
            finished[index] = sidecar
    return finished


def write_shards(job, worker, workers):
    """Writes those of this worker's shards that are not there yet.

    The clips of shard `i` of `n` are `i`, `i + n`, `i + 2 * n` and so on, whoever writes it.
    """
    number, count = worker
    total, num_shards = len(job.dataset.records), job.settings["num_shards"]
    todo = sorted(set(range(number - 1, num_shards, count)) - set(finished_shards(job)))
    positions = [position for index in todo for position in range(index, total, num_shards)]
    progbar = None
    if positions and sys.stdout.isatty():
        print(f"{job.split}: {len(positions):,} clips into {len(todo)} shards")
        progbar = keras.utils.Progbar(len(positions), unit_name="clip")

    def read(position):
        path, _ = job.dataset.records[position]
        try:
            return position, read_clip(path, job.settings["short_side"], job.settings["quality"])
        except VideoError as error:
            return position, error

    def clips():
        for position, clip in in_order(read, positions, workers):
            path, label = job.dataset.records[position]
            if isinstance(clip, VideoError):
                job.left_out.add(path, clip)
                clip = str(clip).removeprefix(f"{path}: ")
            yield position, os.path.relpath(path, job.root), label, clip
            if progbar:
                progbar.add(1)

    for index, shard_clips in itertools.groupby(clips(), lambda clip: clip[0] % num_shards):
        packed.write_shard(job.output, job.split, index, job.settings, shard_clips)
        if not progbar:
            print(f"{job.split}: shard {index + 1} of {num_shards} is written", flush=True)


def finish(job):
    """Writes the manifest where all shards are there, whoever wrote them; returns whether they are."""
    finished = finished_shards(job)
    num_shards = job.settings["num_shards"]
    if len(finished) < num_shards:
        print(f"{job.split}: {len(finished)} of {num_shards} shards are there; other workers have the rest.")
        return False
    sidecars = [finished[index] for index in range(num_shards)]
    for sidecar in sidecars:
        for path, reason in sidecar["left_out"].items():
            path = os.path.join(job.root, path)
            job.left_out.reasons[path] = f"{path}: {reason}"
    job.left_out.check()
    manifest = packed.write_manifest(job.output, job.split, job.settings, job.dataset.class_names, sidecars)
    left_out = len(manifest["left_out"])
    print(
        f"{job.split}: {manifest['clips']:,} clips, {manifest['frames']:,} frames, "
        f"{manifest['bytes'] / 1e6:,.1f} MB"
        + (f"; {left_out:,} clips could not be read and were left out" if left_out else "")
    )
    return True


def read_clip(path, short_side, quality):
    """All frames of a clip as JPEGs, a `packed.PackedClip`.

    Raises:
        VideoError: the clip cannot be read to its end, or has frames of several sizes.
    """
    images = []
    size = None
    for frame, image in _frames_and_jpegs(path):
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise VideoError(path, "unreadable", f"frame {len(images)} is not as large as frame 0")
        if min(size) > short_side:
            frame, image = scale_down(frame, short_side), None
        images.append(image or tf.io.encode_jpeg(frame, quality=quality).numpy())
    return packed.PackedClip(images, *frame.shape[:2])


def _frames_and_jpegs(path):
    """Each frame of a clip with the JPEG that it comes from, or `None`."""
    if not os.path.isdir(path):
        for frame in video.iterate_frames(path):
            yield frame, None
        return
    for name in frame_folder.list_frames(path):
        image = frame_folder.read_image(path, name)
        try:
            # Also where it is only copied: what is damaged is found now, not when it trains.
            yield jpeg.decode([image], short_side=jpeg.MAX_SIDE)[0], image
        except jpeg.JpegError as error:
            raise VideoError(path, error.kind, f"{name} {error.reason}") from error


def scale_down(frame, short_side):
    """A frame `(H, W, 3)` with a short side of `short_side` pixels: bicubic, antialiased."""
    height, width = augment.short_side_shape(*frame.shape[:2], short_side)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    # Half the time of tf.image.resize, or less.
    return frame.reformat(width, height, interpolation=Interpolation.BICUBIC, threads=1).to_ndarray()


def parse_worker(text):
    """`(3, 16)` of `"3/16"`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ArgumentError("worker", text, "must be k/n with k from 1 to n, as 3/16")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
