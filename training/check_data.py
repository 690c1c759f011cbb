"""Checks a data set before a week of training depends on it.

Opens every clip, counts its frames and decodes the first, the middle and the last one, which finds files
that are no videos and tails that are missing; --decode decodes all frames, which also finds damage in
between and takes several times as long. Looks for copies: files of the same bytes, frame folders of the
same names, sizes and first frame.

  python training/check_data.py --data_dir=FOLDER                           # FOLDER/<class>/*.mp4
  python training/check_data.py --data_dir=FOLDER --dataset=something_v2    # as it was unpacked
  python training/check_data.py --data_dir=FOLDER --split=train,validation,test --decode

Prints a report and writes into --output:
  check_data.json    all findings
  exclude.txt        the clips that cannot be read, for fit.py --exclude
  histograms.png     resolution, frame rate, length, clips per class

Exit status: 0 where all clips can be read, whatever else was found; 2 where exclude.txt names some; 1 where
there was no check.
"""

import collections
import hashlib
import importlib.metadata
import json
import os
import shlex
import statistics
import sys
import time
import typing

import before_tensorflow  # noqa: F401

# isort: split
import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf
from absl import flags

import command_line
import config
from keras_stm.arguments import ArgumentError
from keras_stm.data import frames, open_dataset, video
from keras_stm.data.packed import is_packed
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError, VideoInfo
from run_data import absolute
from run_folder import RunFolder

FINDINGS = "check_data.json"
EXCLUDE = "exclude.txt"
HISTOGRAMS = "histograms.png"
# Examples of a finding in the report; the JSON file has all.
_LISTED = 3
# Frames that are decoded at a time with --decode: a limit on memory.
CHUNK_BYTES = 2**27
_SECONDS_BETWEEN_LINES = 30
# A median short side, or seconds, above which packing pays.
_LARGE = 340
_LONG = 5
# What a picture has room for: values with a bar of their own, bars of a histogram, class names and their
# characters.
_VALUES = 8
_BINS = 40
_NAMES = 30
_NAME_LENGTH = 30


def define_flags(values):
    flags.DEFINE_string(
        "data_dir", None, "Folder of the data set, or one that pack.py wrote.", flag_values=values
    )
    flags.DEFINE_enum(
        "dataset",
        "folder",
        config.UNPACKED,
        "What --data_dir holds, as for fit.py. A folder that pack.py wrote is known by itself.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "fold", 1, "Split of UCF-101 and HMDB-51.", lower_bound=1, upper_bound=3, flag_values=values
    )
    flags.DEFINE_list(
        "split", ["train", "validation"], "Which of train, validation and test to check.", flag_values=values
    )
    flags.DEFINE_integer(
        "num_frames", 8, "Clips with fewer are named as too short.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_boolean(
        "decode", False, "Decode all frames of all clips, not three of each.", flag_values=values
    )
    flags.DEFINE_integer(
        "workers", None, "Clips read at the same time. Default: all cores.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder for what is written. Default: saved_models/check_data-<name of data_dir>.",
        flag_values=values,
    )


def main(argv):
    values, _ = command_line.parse(define_flags, argv, __doc__)
    if not values.data_dir:
        sys.exit("check_data.py: --data_dir is missing: the folder of the data set to check")
    # What decodes JPEG files here would take the memory of a GPU that a training may be using.
    tf.config.set_visible_devices([], "GPU")
    try:
        findings = check(
            values.data_dir,
            values.output,
            dataset=values.dataset,
            fold=values.fold,
            splits=values.split,
            num_frames=values.num_frames,
            decode=values.decode,
            workers=values.workers,
        )
    except KeyboardInterrupt:
        print("\ncheck_data.py: stopped; nothing was written.", file=sys.stderr, flush=True)
        # Not sys.exit, which waits until the clips that are being read have been.
        os._exit(1)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"check_data.py: {error}")
    sys.exit(2 if any(findings["unreadable"].values()) else 0)


def check(
    data_dir,
    output=None,
    dataset="folder",
    fold=1,
    splits=("train", "validation"),
    num_frames=8,
    decode=False,
    workers=None,
):
    """Checks a data set, prints the report and writes it into the folder `output`.

    Args:
        data_dir, dataset, fold: the data set, as for `open_dataset`.
        output: folder; `None` is `saved_models/check_data-<name of data_dir>`.
        splits: which to check.
        num_frames: clips with fewer frames are named as too short.
        decode: if true, all frames are decoded.
        workers: clips read at the same time; the number of processors where it is `None`.

    Returns:
        The findings, as `check_data.json` holds them.

    Raises:
        ValueError: there is no such data set or split.
    """
    data_dir = absolute(data_dir)
    output = output or os.path.join("saved_models", f"check_data-{os.path.basename(data_dir)}")
    output = os.path.expanduser(output)
    if is_packed(data_dir):
        dataset = "packed"
    datasets = open_splits(data_dir, dataset, fold, splits)
    class_names = next(iter(datasets.values())).class_names
    # Now, so that what is in its way shows before hours of reading.
    os.makedirs(output, exist_ok=True)

    workers = workers or os.cpu_count()
    records = [(path, split, label) for split, opened in datasets.items() for path, label in opened.records]
    clips = in_parallel(lambda record: inspect(*record, decode), records, workers, "Reading")
    copies = find_copies([clip for clip in clips if clip.info], workers)

    findings = {
        "data_dir": data_dir,
        "dataset": dataset,
        "fold": fold,
        "num_frames": num_frames,
        "decoded": "all frames" if decode else "first, middle and last frame",
        "versions": {name: importlib.metadata.version(name) for name in ("keras_stm", "av", "tensorflow")},
        **summarize(clips, copies, datasets, num_frames, data_dir),
    }
    folder = RunFolder(output, settings=None)
    with folder.replacing(HISTOGRAMS) as path:
        plot(path, clips, class_names)
    with folder.replacing(EXCLUDE) as path, open(path, "w", encoding="utf-8") as file:
        file.write("# Clips that cannot be read, found by check_data.py; relative to --data_dir.\n")
        file.writelines(f"{clip['path']}\n" for clips in findings["unreadable"].values() for clip in clips)
    with folder.replacing(FINDINGS) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(findings, file, indent=2)
    print_report(findings)
    print_next(findings, output)
    return findings


def open_splits(data_dir, dataset, fold, splits):
    """`{split: Dataset}`; of two that are the same, as UCF-101's validation and test, the first."""
    if not splits:
        raise ArgumentError("splits", splits, "must name one or more")
    datasets = {}
    for split in splits:
        opened = open_dataset(dataset, data_dir, split=split, fold=fold)
        if all(opened.records != other.records for other in datasets.values()):
            datasets[split] = opened
    return datasets


class Clip(typing.NamedTuple):
    """What is kept of a clip: little, as there may be hundreds of thousands."""

    path: str
    split: str
    label: int | None
    # `None` where it cannot be read: then what is wrong, of `video.KINDS` and in words.
    info: VideoInfo | None
    kind: str | None = None
    reason: str | None = None


def inspect(path, split, label, decode):
    """Reads a clip: its first, middle and last frame, or with `decode` all of them."""
    try:
        info = frames.probe(path)
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
    """`[function(item) for item in items]` by threads, while it shows how far they are."""
    results = []
    show = _progress(len(items), title)
    for result in in_order(function, items, workers):
        results.append(result)
        show(len(results))
    return results


def _progress(total, title):
    """A function that shows how many are done: a bar where a person watches, lines where a file does."""
    if sys.stdout.isatty():
        print(title)
        return keras.utils.Progbar(total, unit_name="clip").update
    next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def show(done):
        nonlocal next_line
        if done == total or time.monotonic() >= next_line:
            print(f"{title}: {done:,} of {total:,}", flush=True)
            next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    return show


def find_copies(clips, workers):
    """Groups of two or more clips with the same content, in the order of their first."""
    sizes = in_parallel(lambda clip: _or_none(_size, clip.path), clips, workers, "Comparing sizes")
    alike = [clip for group in groups(clips, sizes) for clip in group]
    contents = in_parallel(lambda clip: _or_none(_content, clip.path), alike, workers, "Comparing contents")
    return groups(alike, contents)


def groups(items, keys):
    """Lists of two or more items that have the same key; `None` is the key of those that have none."""
    found = collections.defaultdict(list)
    for item, key in zip(items, keys, strict=True):
        if key is not None:
            found[key].append(item)
    return [group for group in found.values() if len(group) > 1]


def _or_none(key, path):
    try:
        return key(path)
    except OSError:
        # A packed clip, which is no file of its own, or a file that has vanished since it was read.
        return None


def _size(path):
    return hash(_list_files(path)) if os.path.isdir(path) else os.path.getsize(path)


def _content(path):
    files = _list_files(path) if os.path.isdir(path) else ()
    with open(os.path.join(path, files[0][0]) if files else path, "rb") as file:
        return hash(files), hashlib.file_digest(file, "sha256").digest()


def _list_files(folder):
    """`((name, size), ...)` in the order of names."""
    with os.scandir(folder) as entries:
        return tuple(sorted((entry.name, entry.stat().st_size) for entry in entries))


def summarize(clips, copies, datasets, num_frames, data_dir):
    """What there is to say about the clips, as JSON can hold it.

    Args:
        clips: list of `Clip`.
        copies: groups of them, of the same content.
        datasets: `{split: Dataset}`.
        num_frames: clips with fewer frames are too short.
        data_dir: what paths are made relative to, a folder or a list in one.
    """
    one = next(iter(datasets.values()))
    folder = data_dir if os.path.isdir(data_dir) else os.path.dirname(data_dir)

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
        "unreadable": {
            kind: [entry(clip, reason=clip.reason) for clip in clips if clip.kind == kind]
            for kind in video.KINDS
        },
        "too_short": [
            entry(clip, frames=clip.info.num_frames) for clip in readable if clip.info.num_frames < num_frames
        ],
        "copies": [[entry(clip) for clip in group] for group in copies],
        "facts": {name: spread(values) for name, values in facts(readable).items()},
    }


def class_balance(labels, class_names):
    """How many clips the classes have.

    Args:
        labels: index of the class of each clip; `None` where a test set has none.
        class_names: names by index.

    Returns:
        `None` where no clip has a label, or a dictionary: of the classes that have clips the `smallest` and
        the `largest` as `[name, clips]`, the `median` and the `ratio` of largest to smallest; and the names
        of the `empty` ones.
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


# What numbers are rounded to.
_STEPS = {"short side": 1, "frames/s": 0.01, "seconds": 0.1, "frames": 1}


def facts(clips):
    """`{name: values}` of clips that can be read, without those that are unknown."""
    infos = [clip.info for clip in clips]
    return {
        "width x height": [f"{info.width} x {info.height}" for info in infos],
        "short side": [min(info.width, info.height) for info in infos],
        "frames/s": [round(info.frame_rate, 2) for info in infos if info.frame_rate],
        "seconds": [round(info.seconds, 1) for info in infos if info.seconds],
        "frames": [info.num_frames for info in infos],
    }


def spread(values):
    """The three `most_frequent` values as `[value, count]`; of numbers also `min`, `median` and `max`."""
    summary = {"most_frequent": [list(pair) for pair in collections.Counter(values).most_common(3)]}
    if values and not isinstance(values[0], str):
        summary.update(min=min(values), median=statistics.median(values), max=max(values))
    return summary


def print_report(findings):
    """Prints what a person wants to know, a screenful."""
    print(f"\n{findings['data_dir']}: {findings['classes']} classes")
    for split, found in findings["splits"].items():
        print(f"{split:>12}{found['clips']:10,} clips, {found['readable']:,} of them can be read")
        if found["balance"]:
            (smallest, least), (largest, most) = found["balance"]["smallest"], found["balance"]["largest"]
            median, ratio = _text(found["balance"]["median"]), _text(found["balance"]["ratio"])
            print(f"{least:22,} ({smallest}) to {most:,} ({largest}) a class, median {median}, ratio {ratio}")
            if found["balance"]["empty"]:
                print(f"{'':22} none of {_first(found['balance']['empty'])}")
        if found["missing"]:
            print(f"{len(found['missing']):22,} more are listed but not there: {_first(found['missing'])}")

    leaks, copies = [], []
    for group in findings["copies"]:
        example = _first([f"{clip['path']} ({clip['class'] or 'no label'})" for clip in group], " = ")
        (copies if len({clip["split"] for clip in group}) == 1 else leaks).append(example)
    _print_examples("LEAKAGE", "the same clip in several splits; the model will look too good", leaks)
    for kind, clips in findings["unreadable"].items():
        _print_examples(kind, f"in {EXCLUDE}", [f"{clip['path']}: {clip['reason']}" for clip in clips])
    _print_examples(
        "too short",
        f"fewer than {findings['num_frames']} frames, which will be repeated; not in {EXCLUDE}",
        [f"{clip['path']}: {clip['frames']}" for clip in findings["too_short"]],
    )
    _print_examples("copies", f"the same clip several times in one split; not in {EXCLUDE}", copies)

    print(f"\n{'':16}{'min':>9}{'median':>9}{'max':>9}   most frequent")
    for name, found in findings["facts"].items():
        numbers = "".join(f"{_text(found.get(key, '')):>9}" for key in ("min", "median", "max"))
        frequent = ", ".join(f"{_text(value)} ({count:,})" for value, count in found["most_frequent"])
        print(f"{name:16}{numbers}   {frequent or 'not known'}")


def _print_examples(title, meaning, examples):
    if examples:
        print(f"\n{title} ({len(examples):,}): {meaning}")
        for example in examples[:_LISTED]:
            print(f"  {example}")


def _first(names, separator=", "):
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return separator.join(names[:_LISTED]) + more


def _text(value):
    return value if isinstance(value, str) else f"{value:,.2f}".rstrip("0").rstrip(".")


def print_next(findings, output):
    """Prints where the findings are, and what to do about them."""
    print(f"\n{', '.join((FINDINGS, EXCLUDE, HISTOGRAMS))}: {output}")
    medians = {name: found.get("median", 0) for name, found in findings["facts"].items()}
    if findings["dataset"] != "packed" and (medians["short side"] > _LARGE or medians["seconds"] > _LONG):
        print("The clips are large or long: training/pack.py makes them several times faster to read.")
    if any(findings["unreadable"].values()):
        values = {"data_dir": findings["data_dir"], "exclude": os.path.join(output, EXCLUDE)}
        if findings["dataset"] not in ("folder", "packed"):
            values["dataset"] = findings["dataset"]
        if findings["fold"] != 1:
            values["fold"] = findings["fold"]
        command = shlex.join(f"--{name}={value}" for name, value in values.items())
        print(f"To train without what cannot be read:\n  python training/fit.py {command}")


def plot(path, clips, class_names):
    """Draws resolution, frame rate, length and clips per class of the clips that can be read, as PNG."""
    readable = [clip for clip in clips if clip.info]
    values = facts(readable)
    resolution = "width x height" if len(set(values["width x height"])) <= _VALUES else "short side"
    length = "seconds" if values["seconds"] else "frames"
    figure = matplotlib.figure.Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2).flat
    for title, name in (("resolution", resolution), ("frame rate", "frames/s"), ("length", length)):
        _plot_values(next(axes), values[name], title, name)
    _plot_classes(next(axes), readable, class_names)
    figure.savefig(path, dpi=100, format="png")


def _plot_values(axes, values, title, name):
    """A bar for each value where there are few, a histogram otherwise."""
    counts = dict(collections.Counter(values).most_common())
    axes.set_title(f"{title}, {name}" if values else f"{title}: not known", loc="left")
    if not values:
        axes.set_axis_off()
    elif len(counts) > _VALUES:
        # A few very long clips would leave a single bar for all others.
        limit = np.percentile(values, 99)
        shown = [value for value in values if value <= limit]
        # Bars of a whole number of steps: others would hold one value more or less in turn.
        step = _STEPS[name]
        width = step * max(1, round((max(shown) - min(shown)) / step / _BINS))
        axes.hist(shown, bins=np.arange(min(shown) - step / 2, limit + width, width))
        axes.set(xlabel=name, ylabel="clips")
        if len(shown) < len(values):
            axes.set_xlabel(f"{name}; the largest 1%, up to {_text(max(values))}, are not drawn")
    else:
        bars = axes.barh(range(len(counts)), counts.values(), tick_label=[_text(value) for value in counts])
        axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=3)
        axes.set(xlabel="clips", ylim=(max(len(counts), _VALUES) - 0.5, -0.5))
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(integer=True)


def _plot_classes(axes, clips, class_names):
    """Bars of the classes by size, the splits stacked; with names where these can be read."""
    counts = collections.defaultdict(lambda: np.zeros(len(class_names), int))
    for clip in clips:
        if clip.label is not None:
            counts[clip.split][clip.label] += 1
    below = np.zeros(len(class_names), int)
    order = np.argsort(-sum(counts.values(), below), kind="stable")
    places = np.arange(len(class_names))
    named = len(class_names) <= _NAMES
    for split, sizes in counts.items():
        if named:
            axes.barh(places, sizes[order], left=below, label=split)
        else:
            axes.bar(places, sizes[order], bottom=below, width=1, label=split)
        below = below + sizes[order]
    if named:
        names = [class_names[label] for label in order]
        names = [f"{name[:_NAME_LENGTH]}..." if len(name) > _NAME_LENGTH else name for name in names]
        axes.set_yticks(places, names, fontsize="small")
        axes.set(xlabel="clips", ylim=(max(len(names), _VALUES) - 0.5, -0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        axes.set(xlabel="classes, from the largest to the smallest", ylabel="clips")
        axes.margins(x=0)
    axes.set_title("clips per class", loc="left")
    if counts:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(counts), frameon=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
