"""Finds what is wrong with the clips of a data set, and describes them, for `keras-stm check-data`."""

import collections
import hashlib
import importlib.metadata
import json
import os
import statistics
import typing

from keras_stm.arguments import ArgumentError
from keras_stm.data import fragment, frames, grouping, video
from keras_stm.data.catalog import open_dataset
from keras_stm.data.parallel import in_order
from keras_stm.data.paths import absolute
from keras_stm.data.shards import is_packed
from keras_stm.data.video import VideoError, VideoInfo
from keras_stm.file_names import open_text
from keras_stm.progress import Progress
from keras_stm.replacing import replacing

FINDINGS = "check_data.json"
EXCLUDE = "exclude.txt"
# Maximum bytes of the frames that `decode` decodes at a time, to limit memory.
CHUNK_BYTES = 2**27
# Ratio of the largest to the smallest class at which training should weigh the classes.
IMBALANCED = 10


class Check(typing.NamedTuple):
    """Results of `check`.

    Attributes:
        findings: dictionary, the content of `check_data.json`.
        facts: `{name: values}` of the readable clips; see `facts`.
        class_sizes: `{split: list}`, the number of readable clips of each class.
        class_names: tuple of str.
    """

    findings: dict
    facts: dict
    class_sizes: dict
    class_names: tuple


def check(
    data_dir,
    output=None,
    dataset="folder",
    fold=1,
    group_by=None,
    splits=("train", "validation"),
    num_frames=8,
    decode=False,
    workers=None,
):
    """Opens every clip of a data set, looks for copies, and prints its progress.

    Args:
        data_dir: path of the data set, `root` of `open_dataset`.
        output: folder for `check_data.json` with all findings and `exclude.txt` with the unreadable
            clips. `None` writes nothing.
        dataset: name of the data set; see `open_dataset`.
        fold: see `open_dataset`.
        group_by: see `open_dataset`.
        splits: splits to check.
        num_frames: clips with fewer frames are listed as too short.
        decode: if true, decodes all frames; otherwise the first, the middle and the last one.
        workers: clips read at the same time. `None` is the number of processors.

    Returns:
        `Check`.

    Raises:
        ValueError: the data set or split does not exist.
    """
    data_dir = absolute(data_dir)
    if is_packed(data_dir):
        dataset = "packed"
    datasets = _open_splits(data_dir, splits, name=dataset, fold=fold, group_by=group_by)
    class_names = next(iter(datasets.values())).class_names
    if output:
        # The folder is made now, so that an error shows before hours of reading.
        os.makedirs(output, exist_ok=True)

    workers = workers or os.cpu_count()
    records = [(path, split, label) for split, opened in datasets.items() for path, label in opened.records]

    def read(record):
        return inspect(*record, decode, datasets[record[1]].check_num_frames)

    clips = in_parallel(read, records, workers, "Reading")
    readable = [clip for clip in clips if clip.info]
    copies = find_copies(readable, workers)
    values = facts(readable)

    findings = {
        "data_dir": data_dir,
        "dataset": dataset,
        "fold": fold,
        "group_by": group_by,
        "suggested_group_by": _suggest_groups(datasets, dataset, data_dir) if group_by is None else None,
        "num_frames": num_frames,
        "decoded": "all frames" if decode else "first, middle and last frame",
        "versions": {name: importlib.metadata.version(name) for name in ("keras_stm", "av", "tensorflow")},
        **_summarize(clips, copies, datasets, num_frames, data_dir),
        "facts": {name: spread(found) for name, found in values.items()},
    }
    if output:
        _write(findings, output)
    return Check(findings, values, _class_sizes(readable, datasets, class_names), class_names)


def _open_splits(data_dir, splits, **options):
    """Returns `{split: Dataset}`; of two equal splits, like UCF-101's validation and test, only the first."""
    if not splits:
        raise ArgumentError("splits", splits, "must name at least one split")
    datasets = {}
    for split in splits:
        opened = open_dataset(root=data_dir, split=split, **options)
        if all(opened.records != other.records for other in datasets.values()):
            datasets[split] = opened
    return datasets


def _suggest_groups(datasets, name, data_dir):
    """Returns a value of `group_by` that names of clips suggest, if validation is set apart from training."""
    names = [
        os.path.relpath(path, _folder_of(data_dir))
        for dataset in datasets.values()
        if dataset.set_apart
        for path, _ in dataset.records
    ]
    return grouping.suggest(names, has_class_folders=name == "folder")


def _folder_of(data_dir):
    return data_dir if os.path.isdir(data_dir) else os.path.dirname(data_dir)


def _write(findings, output):
    with replacing(os.path.join(output, EXCLUDE)) as path, open_text(path, "w") as file:
        file.write("# Unreadable clips, found by keras-stm check-data; paths are relative to `data_dir`.\n")
        file.writelines(f"{clip['path']}\n" for clips in findings["unreadable"].values() for clip in clips)
    with replacing(os.path.join(output, FINDINGS)) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(findings, file, indent=2)


class Clip(typing.NamedTuple):
    """Facts about a clip, only a few, because there may be hundreds of thousands of clips."""

    path: str
    split: str
    label: int | None
    # `None` if the clip is unreadable. Then `kind`, one of `video.KINDS`, and `reason` say what is wrong.
    info: VideoInfo | None
    kind: str | None = None
    reason: str | None = None


def inspect(path, split, label, decode, check_num_frames=lambda path, count: None):
    """Reads the first, middle and last frame of a clip, or all with `decode`; returns a `Clip`.

    `check_num_frames` is a function like `Dataset.check_num_frames`.
    """
    try:
        info = frames.probe(path)
        check_num_frames(path, info.num_frames)
        if decode:
            step = max(1, CHUNK_BYTES // (info.height * info.width * 3))
            for start in range(0, info.num_frames, step):
                frames.read_frames(path, range(start, min(start + step, info.num_frames)))
        else:
            frames.read_frames(path, lambda count: [0, count // 2, count - 1])
    except VideoError as error:
        return Clip(path, split, label, None, error.kind, str(error).removeprefix(f"{path}: "))
    return Clip(path, split, label, info)


def in_parallel(function, items, workers, title):
    """Returns `[function(item) for item in items]`, computed by threads, and shows progress."""
    results = []
    progress = Progress(len(items), "clip", title, lines=True)
    for result in in_order(function, items, workers):
        results.append(result)
        progress.update(len(results))
    progress.close()
    return results


def find_copies(clips, workers):
    """Returns groups of two or more clips with the same content, in the order of their first clips."""
    sizes = in_parallel(lambda clip: _or_none(_size, clip.path), clips, workers, "Comparing sizes")
    alike = [clip for group in groups(clips, sizes) for clip in group]
    contents = in_parallel(lambda clip: _or_none(_content, clip.path), alike, workers, "Comparing contents")
    return groups(alike, contents)


def groups(items, keys):
    """Returns lists of two or more items with the same key; items with the key `None` are in no list."""
    found = collections.defaultdict(list)
    for item, key in zip(items, keys, strict=True):
        if key is not None:
            found[key].append(item)
    return [group for group in found.values() if len(group) > 1]


def _or_none(key, path):
    try:
        return key(path)
    except OSError:
        # A packed clip is not a file of its own, and any other file may have vanished since it was read.
        return None


def _size(path):
    part = fragment.parse(path)
    if part:
        return hash((_size(part.file), part.start, part.end))
    return hash(_list_files(path)) if os.path.isdir(path) else os.path.getsize(path)


def _content(path):
    part = fragment.parse(path)
    if part:
        return _content(part.file), part.start, part.end
    files = _list_files(path) if os.path.isdir(path) else ()
    with open(os.path.join(path, files[0][0]) if files else path, "rb") as file:
        return hash(files), hashlib.file_digest(file, "sha256").digest()


def _list_files(folder):
    """Returns `((name, size), ...)`, sorted by name."""
    with os.scandir(folder) as entries:
        return tuple(sorted((entry.name, entry.stat().st_size) for entry in entries))


def _summarize(clips, copies, datasets, num_frames, data_dir):
    """Returns the findings about the clips, in a form that JSON can hold.

    Args:
        clips: list of `Clip`.
        copies: groups of clips with the same content.
        datasets: `{split: Dataset}`.
        num_frames: clips with fewer frames are too short.
        data_dir: folder that paths are made relative to, or a list in this folder.
    """
    one = next(iter(datasets.values()))
    folder = _folder_of(data_dir)

    def entry(clip, **more):
        name = None if clip.label is None else one.class_names[clip.label]
        return {"path": os.path.relpath(clip.path, folder), "split": clip.split, "class": name, **more}

    readable = [clip for clip in clips if clip.info]
    splits = {}
    for split, dataset in datasets.items():
        labels = [clip.label for clip in readable if clip.split == split]
        splits[split] = {
            "clips": len(dataset.records),
            "readable": len(labels),
            "missing": [os.path.relpath(path, folder) for path in dataset.missing],
            "balance": class_balance(labels, one.class_names),
        }
    return {
        "classes": len(one.class_names),
        "fingerprint": one.fingerprint,
        "splits": splits,
        "unused": sorted(
            {os.path.relpath(path, folder) for dataset in datasets.values() for path in dataset.unused}
        ),
        "unreadable": {
            kind: [entry(clip, reason=clip.reason) for clip in clips if clip.kind == kind]
            for kind in video.KINDS
        },
        "too_short": [
            entry(clip, frames=clip.info.num_frames) for clip in readable if clip.info.num_frames < num_frames
        ],
        "copies": [[entry(clip) for clip in group] for group in copies],
    }


def _class_sizes(clips, datasets, class_names):
    """Returns `{split: list}`, the number of clips of each class, without splits that have no labels."""
    sizes = {split: [0] * len(class_names) for split in datasets}
    for clip in clips:
        if clip.label is not None:
            sizes[clip.split][clip.label] += 1
    return {split: counts for split, counts in sizes.items() if any(counts)}


def class_balance(labels, class_names):
    """Returns how evenly the clips are spread over the classes.

    Args:
        labels: index of the class of each clip; `None` if a test set has no labels.
        class_names: names by index.

    Returns:
        `None` if no clip has a label. Otherwise a dictionary. Over the classes that have clips, it has the
        `smallest` and the `largest` as `[name, clips]`, the `median`, and the `ratio` of largest to smallest.
        It also has the names of the `empty` classes.
    """
    counts = collections.Counter(label for label in labels if label is not None)
    if not counts:
        return None
    ordered = sorted((count, class_names[label]) for label, count in counts.items())
    (least, smallest), (most, largest) = ordered[0], ordered[-1]
    return {
        "smallest": [smallest, least],
        "largest": [largest, most],
        "median": statistics.median(counts.values()),
        "ratio": most / least,
        "empty": [name for label, name in enumerate(class_names) if label not in counts],
    }


def facts(clips):
    """Returns `{name: values}` of readable clips, without unknown values."""
    infos = [clip.info for clip in clips]
    return {
        "width x height": [f"{info.width} x {info.height}" for info in infos],
        "short side": [min(info.width, info.height) for info in infos],
        "frames/s": [round(info.frame_rate, 2) for info in infos if info.frame_rate],
        "seconds": [round(info.seconds, 1) for info in infos if info.seconds],
        "frames": [info.num_frames for info in infos],
    }


def spread(values):
    """Returns the three `most_frequent` values as `[value, count]`, and `min`, `median`, `max` of numbers."""
    summary = {"most_frequent": [list(pair) for pair in collections.Counter(values).most_common(3)]}
    if values and not isinstance(values[0], str):
        summary.update(min=min(values), median=statistics.median(values), max=max(values))
    return summary
