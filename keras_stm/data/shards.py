"""Packed clips: shards of JPEG frames, one file for many clips, and frame indices -> frames.

`keras-stm pack` writes them. A shard, say `train-00003-of-00016.tfrecord`, has for each clip these
TFRecords:

    header   tf.train.Example: path, label where there is one, height, width, frame_sizes, frame_crc32
    frame    the bytes of a JPEG, frame_sizes[0] of them
    frame    ...

A clip is known by the byte at which its header starts, `train-00003-of-00016.tfrecord#<byte>`: from
there a reader finds any of its frames without reading the others. Beside the shard, and written
after it, lies its sidecar, `train-00003-of-00016.json`, which lists its clips. Once all shards of a
split are there a manifest, `train.json`, counts them. The folder may be a URL that `tf.io.gfile`
knows, such as `gs://bucket/folder`.
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
from keras_stm.data import jpeg
from keras_stm.data.dataset import SPLITS
from keras_stm.data.paths import is_url
from keras_stm.data.video import MAX_BYTES, MAX_PACKETS, VideoError, VideoInfo, resolve_indices
from keras_stm.replacing import PARTIAL, replacing

# To be raised with every change that other versions of this file do not understand.
FORMAT = 1
_FILE = re.compile(rf"({'|'.join(SPLITS)})-(\d{{5}})-of-(\d{{5}})\.(.+)")
# Bytes of a TFRecord: its length, that and a checksum in front of the data, a checksum behind.
_LENGTH, _FRONT, _BACK = 8, 12, 4
# Bytes of the header of a clip: a frame's size and checksum take less than 16.
_MAX_HEADER = 16 * MAX_PACKETS
# Small files that are read at the same time: each takes long where the folder is a URL.
_THREADS = 16


class PackedClip(typing.NamedTuple):
    """Frames of `height` and `width` as they are packed, a list of the bytes of JPEGs."""

    frames: list
    height: int
    width: int


class ShardFile(typing.NamedTuple):
    """A file of a shard by its name: its split, its place among as many, and what the name ends in."""

    split: str
    index: int
    num_shards: int
    ending: str


class Manifest(typing.NamedTuple):
    """What a finished split states: the `settings` of `write_shard`, its classes, and paths of its shards."""

    path: str
    settings: dict
    class_names: tuple
    shards: list


def is_packed(root):
    """Whether a folder, or a URL, holds shards, finished or not."""
    return bool(list_shards(root))


def list_shards(root):
    """`ShardFile`s of all files of shards in a folder or URL, sidecars and unfinished ones as well."""
    matches = filter(None, map(_FILE.fullmatch, _list_files(root)))
    return [ShardFile(match[1], int(match[2]), int(match[3]), match[4]) for match in matches]


def read_settings(root):
    """The `settings` of `write_shard` of a split that is packed to the end.

    Raises:
        ValueError: there is none.
    """
    for split in SPLITS:
        manifest = read_manifest(root, split)
        if manifest:
            return manifest.settings
    raise ValueError(f"{root}: packing is not finished; the same `keras-stm pack` command goes on")


def read_manifest(root, split):
    """The `Manifest` of a split, or `None` where it is not packed to the end.

    Raises:
        ValueError: it is damaged.
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
    """`(path, label)` of the clips of a split, in the order in which they were packed.

    Raises:
        ValueError: a shard is missing, damaged or of another packing; says which.
    """
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        clips = pool.map(lambda shard: _clips_of_shard(shard, manifest), manifest.shards)
        return [(path, label) for _, path, label in sorted(itertools.chain.from_iterable(clips))]


def count_frames(path):
    """Number of frames in a packed clip.

    Raises:
        VideoError: there is no such shard, or no clip starts there, or it is damaged or cut off.
    """
    with _open_clip(path) as (_, header):
        return len(header.sizes)


def read_frames(path, indices):
    """Frames of a packed clip by their 0-based place.

    Args:
        path: of a record of a packed data set: the shard, `#` and the byte at which the clip starts.
        indices: integers in any order, repeats allowed, or a function from the number of frames to them.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, scaled down as in `jpeg.decode`.

    Raises:
        VideoError: as `count_frames`, or one of the frames is damaged.
        ValueError: an index is out of range.
    """
    with _open_clip(path) as (file, header):
        indices = resolve_indices(path, indices, len(header.sizes))
        if sum(header.sizes[index] for index in indices) > MAX_BYTES:
            message = f"its frames have more than {MAX_BYTES:,} bytes ({header.path})"
            raise VideoError(path, "too large", message)
        images = []
        for index in indices:
            file.seek(header.starts[index] + _FRONT)
            images.append(file.read(header.sizes[index]))
            # A JPEG with a few wrong bits may still be decoded, to a wrong picture.
            if zlib.crc32(images[-1]) != header.checksums[index]:
                raise VideoError(path, "unreadable", f"frame {index} is damaged ({header.path})")
    try:
        return jpeg.decode(images)
    except jpeg.JpegError as error:
        message = f"frame {indices[error.index]} {error.reason} ({header.path})"
        raise VideoError(path, error.kind, message) from error


def probe(path):
    """`VideoInfo` of a packed clip; it states no frame rate.

    Raises:
        VideoError: as `count_frames`.
    """
    with _open_clip(path) as (_, header):
        return VideoInfo(len(header.sizes), header.height, header.width, None, None)


def write_shard(root, split, index, settings, clips):
    """Writes a shard and its sidecar; neither shows under its name before it is complete.

    Args:
        root: a folder that exists, or a URL.
        split: `"train"`, `"validation"` or `"test"`.
        index: number of the shard, from 0.
        settings: dictionary that JSON can hold, the same for all shards of a split: their number is
            its `num_shards`, the fingerprint of the class names its `fingerprint`.
        clips: `(position, path, label, clip)`s: the place among all clips of the split, the path
            that the clip is known by, the label or `None`, and a `PackedClip` or, where it is left
            out, the reason.
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
        # Another process may have finished the shard and, see below, removed this one's file.
        if os.path.basename(sidecar) not in _list_files(root):
            raise
    # Whoever was killed while writing the shard has left a file.
    stem = os.path.basename(os.path.splitext(shard)[0])
    for file in _list_files(root):
        if file.startswith(stem) and PARTIAL in file:
            # Another process may be at the same.
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.remove(os.path.join(root, file))


def write_manifest(root, split, settings, class_names, sidecars):
    """Finishes a split and returns its manifest.

    Args:
        root, split, settings: as in `write_shard`.
        class_names: tuple of str.
        sidecars: those of all shards in their order.
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
    """`[(split, index, sidecar)]` of all finished shards in a folder.

    Raises:
        ValueError: a sidecar is damaged.
    """
    files = [file for file in list_shards(root) if file.ending == "json"]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        names = (shard_name(file.split, file.index, file.num_shards) for file in files)
        sidecars = pool.map(lambda name: _read_json(_sidecar_path(os.path.join(root, name))), names)
        return [(file.split, file.index, sidecar) for file, sidecar in zip(files, sidecars, strict=True)]


def shard_name(split, index, num_shards):
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def _sidecar_path(shard):
    return f"{os.path.splitext(shard)[0]}.json"


def _manifest_path(root, split):
    return os.path.join(root, f"{split}.json")


def _clips_of_shard(shard, manifest):
    """`(position, path, label)` of each clip of a shard that is what its sidecar and the manifest say."""
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
            f"{shard}: has {size} bytes where {num_bytes} were written; copy it anew, or delete its "
            ".json and pack again"
        )
    return clips


class _Header(typing.NamedTuple):
    path: str
    height: int
    width: int
    # Of each frame: number of bytes, their checksum, and where in the shard its TFRecord starts.
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
    # Or the order of the features, and so the file, may differ from run to run.
    return example.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _open_clip(path):
    """Gives the open shard and the `_Header` of a clip in it."""
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
    # A length that is damaged must not be read by.
    if start + _FRONT + size + _BACK > file_size:
        raise VideoError(path, "truncated", "the shard is cut off, or no clip starts there")
    if size > _MAX_HEADER:
        raise VideoError(path, "too large", f"a header of {size:,} bytes, or no clip starts there")
    file.seek(start + _FRONT)
    try:
        features = tf.train.Example.FromString(file.read(size)).features.feature
        sizes, checksums = (features[name].int64_list.value for name in ("frame_sizes", "frame_crc32"))
        height, width = (features[name].int64_list.value[0] for name in ("height", "width"))
        original = os.fsdecode(features["path"].bytes_list.value[0])
    except (DecodeError, IndexError):
        sizes = checksums = ()
    if not sizes or len(sizes) != len(checksums) or min(sizes) < 1:
        raise VideoError(path, "unreadable", "no clip starts there, or it is damaged")
    record_sizes = (_FRONT + n + _BACK for n in (size, *sizes))
    _, *starts, end = itertools.accumulate(record_sizes, initial=start)
    if end > file_size:
        raise VideoError(path, "truncated", f"the shard is cut off within the clip ({original})")
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
        raise ValueError(f"{path}: damaged, no JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not of a packed data set of format {FORMAT}; pack again into a new folder")
    return content


@contextlib.contextmanager
def _as_written(path):
    """What a JSON file lacks, or has of a wrong type, leaves as `ValueError`."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path}: not as `keras-stm pack` writes it ({error!r}); pack again into a new folder"
        ) from error


def _list_files(root):
    """Names in a folder; none where there is no such folder."""
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
    """Opens a file for reading bytes; what goes wrong while it is open is an `OSError`."""
    if not is_url(path):
        # Not by GFile, which reads half a megabyte after every seek, and without a buffer, as frames
        # lie apart.
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
