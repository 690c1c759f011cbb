"""Writes and reads packed clips: shards of JPEG frames, one file for many clips.

`keras-stm pack` writes the shards. A shard, for example `train-00003-of-00016.tfrecord`, has these
TFRecords for each clip:

    header   tf.train.Example: path, label if there is one, height, width, frame_sizes, frame_crc32
    frame    the bytes of a JPEG, frame_sizes[0] of them
    frame    ...

The path of a clip is `train-00003-of-00016.tfrecord#<byte>`, with the byte at which its header starts.
From there, a reader finds any of its frames without reading the others. The sidecar of the shard,
`train-00003-of-00016.json`, is written after the shard and lists its clips. When all shards of a split
are finished, the manifest, `train.json`, lists them. The folder may be a URL that `tf.io.gfile`
supports, such as `gs://bucket/folder`.
"""

import collections.abc
import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import typing
import zlib

from keras_stm.class_names import fingerprint
from keras_stm.data import images
from keras_stm.data.dataset import SPLITS
from keras_stm.data.paths import is_url
from keras_stm.data.video import MAX_BYTES, MAX_PACKETS, VideoError, VideoInfo, resolve_indices
from keras_stm.replacing import PARTIAL, replacing

# Increase this with every change that other versions of this file do not understand.
FORMAT = 1
_FILE = re.compile(rf"({'|'.join(SPLITS)})-(\d{{5}})-of-(\d{{5}})\.(.+)")
# Bytes of a TFRecord: its length; its length and a checksum, before the data; a checksum, after the data.
_LENGTH, _FRONT, _BACK = 8, 12, 4
# Maximum bytes of the header of a clip: a frame's size and checksum take less than 16.
_MAX_HEADER = 16 * MAX_PACKETS
# Number of small files that are read at the same time: each takes long if the folder is a URL.
_THREADS = 16


class PackedClip(typing.NamedTuple):
    """A clip to pack: `frames`, a list of the bytes of JPEGs, and their `height` and `width`."""

    frames: list
    height: int
    width: int


class ShardFile(typing.NamedTuple):
    """A file of a shard, parsed from its name: split, index, number of shards, and ending."""

    split: str
    index: int
    num_shards: int
    ending: str


class Manifest(typing.NamedTuple):
    """Contents of a finished split: the `settings` of `write_shard`, class names, and paths of shards."""

    path: str
    settings: dict
    class_names: tuple
    shards: list


def is_packed(root):
    """Returns whether a folder or URL holds shards, finished or not."""
    return bool(list_shards(root))


def list_shards(root):
    """Returns the `ShardFile`s in a folder or URL, including sidecars and unfinished shards."""
    matches = filter(None, map(_FILE.fullmatch, _list_files(root)))
    return [ShardFile(match[1], int(match[2]), int(match[3]), match[4]) for match in matches]


def read_settings(root):
    """Returns the `settings` of `write_shard` of a finished split.

    Raises:
        ValueError: no split is finished.
    """
    for split in SPLITS:
        manifest = read_manifest(root, split)
        if manifest:
            return manifest.settings
    raise ValueError(f"{root}: packing is not finished; the same `keras-stm pack` command resumes it")


def read_manifest(root, split):
    """Returns the `Manifest` of a split, or `None` if the split is not finished.

    Raises:
        ValueError: the manifest is damaged.
    """
    path = _manifest_path(root, split)
    if os.path.basename(path) not in _list_files(root):
        return None
    content = _read_json(path)
    with _as_written(path):
        settings, class_names = dict(content["settings"]), tuple(content["class_names"])
        if fingerprint(class_names) != settings["fingerprint"]:
            raise ValueError(f"{path}: the class names are not those that were packed")
        shards = [os.path.join(root, name) for name in content["shards"]]
        return Manifest(path, settings, class_names, shards)


def list_clips(manifest):
    """Returns `(path, label)` of the clips of a split, in the order of the data set that was packed.

    Raises:
        ValueError: a shard is missing, damaged or from another packing; the message names it.
    """
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        clips = pool.map(lambda shard: _clips_of_shard(shard, manifest), manifest.shards)
        return [(path, label) for _, path, label in sorted(itertools.chain.from_iterable(clips))]


def count_frames(path):
    """Returns the number of frames in a packed clip.

    Raises:
        VideoError: the shard does not exist, no clip starts there, or the clip is damaged or truncated.
    """
    with _open_clip(path) as (_, header):
        return len(header.sizes)


def read_frames(path, indices):
    """Reads frames of a packed clip by their 0-based index.

    Args:
        path: path of a record of a packed data set: the shard, `#` and the byte at which the clip starts.
        indices: integers in any order, repeats allowed, or a function that maps the number of frames
            in the clip to such integers.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, scaled down by `images.decode`.

    Raises:
        VideoError: see `count_frames`; or a requested frame is damaged or too large.
        ValueError: an index is out of range.
    """
    with _open_clip(path) as (file, header):
        indices = resolve_indices(path, indices, len(header.sizes))
        if sum(header.sizes[index] for index in indices) > MAX_BYTES:
            message = f"its frames have more than {MAX_BYTES:,} bytes ({header.path})"
            raise VideoError(path, "too large", message)
        jpegs = []
        for index in indices:
            file.seek(header.starts[index] + _FRONT)
            jpegs.append(file.read(header.sizes[index]))
            # A JPEG with a few wrong bits may still be decoded, but to a wrong picture.
            if zlib.crc32(jpegs[-1]) != header.checksums[index]:
                raise VideoError(path, "unreadable", f"frame {index} is damaged ({header.path})")
    try:
        return images.decode(jpegs)
    except images.ImageError as error:
        message = f"frame {indices[error.index]} {error.reason} ({header.path})"
        raise VideoError(path, error.kind, message) from error


def probe(path):
    """Returns the `VideoInfo` of a packed clip; the frame rate is unknown.

    Raises:
        VideoError: see `count_frames`.
    """
    with _open_clip(path) as (_, header):
        return VideoInfo(len(header.sizes), header.height, header.width, None, None)


def write_shard(root, split, index, settings, clips):
    """Writes a shard and its sidecar; neither has its final name before it is complete.

    Args:
        root: existing folder, or a URL.
        split: `"train"`, `"validation"` or `"test"`.
        index: number of the shard, from 0.
        settings: dictionary that JSON can hold, the same for all shards of a split. `num_shards` is
            the number of shards, and `fingerprint` is that of the class names.
        clips: iterable of `(position, path, label, clip)`. `position` is the index among all clips of
            the split. `path` identifies the clip in the original data set. `label` may be `None`.
            `clip` is a `PackedClip`, or the reason if the clip is skipped.
    """
    import tensorflow as tf

    shard = os.path.join(root, shard_name(split, index, settings["num_shards"]))
    sidecar = _sidecar_path(shard)
    rows, left_out, size = [], {}, 0
    try:
        with replacing(shard, shared=True) as partial, tf.io.TFRecordWriter(partial) as writer:
            for position, path, label, clip in clips:
                if isinstance(clip, str):
                    left_out[path] = clip
                    continue
                rows.append((position, size, label, len(clip.frames), path))
                for data in (_make_header(path, label, clip), *clip.frames):
                    writer.write(data)
                    size += _FRONT + len(data) + _BACK
        _write_json(sidecar, {"settings": settings, "bytes": size, "clips": rows, "left_out": left_out})
    except (FileNotFoundError, tf.errors.NotFoundError):
        # Another process may have finished the shard and removed this process's file; see below.
        if os.path.basename(sidecar) not in _list_files(root):
            raise
    # A process that was killed while it wrote the shard has left a file.
    stem = os.path.basename(os.path.splitext(shard)[0])
    for file in _list_files(root):
        if file.startswith(stem) and PARTIAL in file:
            # Another process may remove it at the same time.
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.remove(os.path.join(root, file))


def write_manifest(root, split, settings, class_names, sidecars):
    """Finishes a split and returns its manifest.

    Args:
        root: see `write_shard`.
        split: see `write_shard`.
        settings: see `write_shard`.
        class_names: tuple of str.
        sidecars: the sidecars of all shards, in order.
    """
    clips = [clip for sidecar in sidecars for clip in sidecar["clips"]]
    manifest = {
        "settings": settings,
        "class_names": list(class_names),
        "clips": len(clips),
        "frames": sum(num_frames for *_, num_frames, _ in clips),
        "bytes": sum(sidecar["bytes"] for sidecar in sidecars),
        "left_out": {path: reason for sidecar in sidecars for path, reason in sidecar["left_out"].items()},
        "shards": [shard_name(split, index, len(sidecars)) for index in range(len(sidecars))],
    }
    _write_json(_manifest_path(root, split), manifest)
    return manifest


def read_sidecars(root):
    """Returns `[(split, index, sidecar)]` of all finished shards in a folder.

    Raises:
        ValueError: a sidecar is damaged.
    """
    files = [file for file in list_shards(root) if file.ending == "json"]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        names = (shard_name(file.split, file.index, file.num_shards) for file in files)
        sidecars = pool.map(lambda name: _read_json(_sidecar_path(os.path.join(root, name))), names)
        return [(file.split, file.index, sidecar) for file, sidecar in zip(files, sidecars, strict=True)]


def shard_name(split, index, num_shards):
    """Returns the file name of a shard."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def _sidecar_path(shard):
    return f"{os.path.splitext(shard)[0]}.json"


def _manifest_path(root, split):
    return os.path.join(root, f"{split}.json")


def _clips_of_shard(shard, manifest):
    """Returns `(position, path, label)` of each clip of a shard.

    Raises:
        ValueError: the shard or its sidecar is missing, damaged or does not belong to the manifest.
    """
    sidecar_path = _sidecar_path(shard)
    num_classes = len(manifest.class_names)
    sidecar = _read_json(sidecar_path)
    with _as_written(sidecar_path):
        if sidecar["settings"] != manifest.settings:
            raise ValueError(f"{sidecar_path}: belongs to another packing than {manifest.path}")
        num_bytes = sidecar["bytes"]
        clips = [(clip[0], f"{shard}#{clip[1]:d}", clip[2]) for clip in sidecar["clips"]]
        unknown = [label for _, _, label in clips if label not in (None, *range(num_classes))]
        if unknown:
            raise ValueError(f"{sidecar_path}: label {unknown[0]!r} is none of the {num_classes} classes")
    try:
        with _open_file(shard) as file:
            size = _size(file)
    except OSError as error:
        raise ValueError(f"{shard}: cannot be read ({error})") from error
    if size != num_bytes:
        raise ValueError(
            f"{shard}: has {size} bytes, but {num_bytes} were written; copy it again, or delete its "
            ".json and pack again"
        )
    return clips


class _Header(typing.NamedTuple):
    path: str
    height: int
    width: int
    # For each frame: number of bytes, their checksum, and where in the shard its TFRecord starts.
    sizes: collections.abc.Sequence
    checksums: collections.abc.Sequence
    starts: collections.abc.Sequence


def _make_header(path, label, clip):
    import tensorflow as tf

    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {
        "path": tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.fsencode(path)])),
        "height": integers([clip.height]),
        "width": integers([clip.width]),
        "frame_sizes": integers(map(len, clip.frames)),
        "frame_crc32": integers(map(zlib.crc32, clip.frames)),
    }
    if label is not None:
        feature["label"] = integers([label])
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Otherwise the order of the features, and so the file, may differ from run to run.
    return example.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _open_clip(path):
    """Yields the open shard and the `_Header` of a clip in it."""
    shard, _, start = os.fspath(path).rpartition("#")
    try:
        with _open_file(shard) as file:
            yield file, _read_header(path, file, int(start))
    except FileNotFoundError as error:
        raise VideoError(path, "missing", "no such shard") from error
    except OSError as error:
        raise VideoError(path, "unreadable", f"cannot be read ({error})") from error


def _read_header(path, file, start):
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    file_size = _size(file)
    file.seek(start)
    size = int.from_bytes(file.read(_LENGTH), "little")
    # A damaged length must not decide how much is read.
    if start + _FRONT + size + _BACK > file_size:
        raise VideoError(path, "truncated", "the shard is truncated, or no clip starts there")
    if size > _MAX_HEADER:
        raise VideoError(path, "too large", f"has a header of {size:,} bytes, or no clip starts there")
    file.seek(start + _FRONT)
    try:
        features = tf.train.Example.FromString(file.read(size)).features.feature
        sizes, checksums = (features[name].int64_list.value for name in ("frame_sizes", "frame_crc32"))
        height, width = (features[name].int64_list.value[0] for name in ("height", "width"))
        original = os.fsdecode(features["path"].bytes_list.value[0])
    except (DecodeError, IndexError):
        sizes = checksums = ()
    if not sizes or len(sizes) != len(checksums) or min(sizes) < 1:
        raise VideoError(path, "unreadable", "no clip starts there, or the clip is damaged")
    record_sizes = (_FRONT + n + _BACK for n in (size, *sizes))
    _, *starts, end = itertools.accumulate(record_sizes, initial=start)
    if end > file_size:
        raise VideoError(path, "truncated", f"the shard is truncated within the clip ({original})")
    return _Header(original, height, width, sizes, checksums, starts)


def _write_json(path, content):
    import tensorflow as tf

    with replacing(path, shared=True) as partial, tf.io.gfile.GFile(partial, "w") as file:
        file.write(json.dumps({"format": FORMAT, **content}))


def _read_json(path):
    try:
        with _open_file(path) as file:
            content = json.loads(file.read())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path}: not from a packed data set of format {FORMAT}; pack again into a new folder"
        )
    return content


@contextlib.contextmanager
def _as_written(path):
    """Turns errors from missing keys and wrong types in a JSON file into `ValueError`."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path}: differs from what `keras-stm pack` writes ({error!r}); pack again into a new folder"
        ) from error


def _list_files(root):
    """Returns the names in a folder; none if the folder does not exist."""
    root = os.fspath(root)
    if not is_url(root):
        return os.listdir(root) if os.path.isdir(root) else []
    import tensorflow as tf

    try:
        return tf.io.gfile.listdir(root)
    except tf.errors.NotFoundError:
        return []


@contextlib.contextmanager
def _open_file(path):
    """Opens a file for reading bytes; turns errors while it is open into `OSError`."""
    if not is_url(path):
        # GFile is not used, because it reads half a megabyte after every seek. There is no buffer,
        # because the frames are apart.
        with open(path, "rb", buffering=0) as file:
            yield file
        return
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            yield file
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(error.message) from error
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _size(file):
    file.seek(0, os.SEEK_END)
    return file.tell()
