"""Makes data sets of labelled parts of videos."""

import collections
import dataclasses
import hashlib
import os
import typing

from keras_stm.arguments import ArgumentError
from keras_stm.data import fragment
from keras_stm.data.catalog.clips import to_dataset
from keras_stm.data.frames import file_of


class Span(typing.NamedTuple):
    """A labelled part of a video.

    Attributes:
        video: path of the video.
        start, end: times in microseconds, see `fragment`; both are `None` for a whole video.
        label: name of the class.
        split: `"train"`, `"validation"`, `"test"` or `None`.
        score: number, if the span is a prediction.
    """

    video: str
    start: int | None
    end: int | None
    label: str
    split: str | None = None
    score: float | None = None

    @property
    def path(self):
        """Path of the record of the span."""
        return self.video if self.start is None else fragment.join(self.video, self.start, self.end)


def find_annotations(root, name, ending, what):
    """Returns the path of the file of annotations: `root` itself, or a file in the folder `root`.

    Args:
        root: path of a file or folder.
        name: name that is preferred.
        ending: ending of other names, of which the folder may have one.
        what: description of the file, for the error message.

    Raises:
        ValueError: there is no such file, or there are several.
    """
    if os.path.isfile(root):
        return root
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    found = [n for n in names if n.lower().endswith(ending) and not n.startswith(".")]
    if name in names:
        found = [name]
    if len(found) != 1:
        there = f", but it holds {', '.join(found[:3])}" if found else ""
        raise ArgumentError("root", root, f"must be {what}, or a folder that holds one{there}")
    return os.path.join(root, found[0])


def open_spans_of(file, spans, split, exclude, validation_split, seed):
    """Returns the `Dataset` of one split of spans; classes are the labels of the training spans, sorted.

    Without spans of validation, videos are set apart for it, so that no video is on both sides.

    Args:
        file: path of the file of annotations.
        spans: list of `Span`, with unique paths.
        split: see `open_dataset`.
        exclude: see `open_dataset`.
        validation_split: see `open_dataset`.
        seed: see `open_dataset`.

    Raises:
        ValueError: there is no such split, there are too few classes or videos, or no video exists.
    """
    folder = os.path.dirname(file)
    of_split = collections.defaultdict(list)
    for span in spans:
        of_split[span.split or "train"].append(span)
    class_names = tuple(sorted({span.label for span in of_split["train"]}))
    if len(class_names) < 2:
        raise ValueError(
            f"{file}: expected training spans of at least two labels. Received: {list(class_names)!r}"
        )
    is_apart = split == "validation" and not of_split["validation"]
    chosen = of_split["train" if is_apart else split]
    if not chosen:
        raise ArgumentError(
            "split", split, f"must be 'train' or 'validation', because {file} has no test spans"
        )
    unknown = sorted({span.label for span in chosen} - set(class_names))
    if unknown:
        raise ValueError(f"{file}: expected only labels of training spans for {split}. Received: {unknown!r}")
    labels = {_name(span.path, folder): class_names.index(span.label) for span in chosen}
    exists = {video: os.path.exists(video) for video in {span.video for span in chosen}}
    paths = {_name(span.path, folder): span.path for span in chosen if exists[span.video]}
    dataset = to_dataset(folder, labels, paths, class_names, exclude)
    if split == "test" or of_split["validation"]:
        return dataset
    return _set_apart(dataset, split, validation_split, seed, file)


def _name(path, folder):
    return path.removeprefix(os.path.join(folder, ""))


def _set_apart(dataset, split, validation_split, seed, file):
    """Returns the spans of one split; whole videos are for validation, about a share of each class.

    In an order that depends on the seed and the paths, a video is set apart if that brings the numbers of
    validation spans nearer to the wanted ones, and leaves each class a span to train on.
    """
    folder = os.path.dirname(file)
    counts = collections.defaultdict(collections.Counter)
    for path, label in dataset.records:
        counts[file_of(path)][label] += 1
    total = sum(counts.values(), collections.Counter())
    wanted = {label: max(1, round(count * validation_split)) for label, count in total.items()}

    def rank(video):
        return hashlib.sha256(os.fsencode(f"{seed}/{os.path.relpath(video, folder)}")).digest()

    def distance(held):
        return sum(abs(held[label] - count) for label, count in wanted.items())

    def leaves_some(held, video):
        return all(held[label] < total[label] for label in counts[video])

    apart, held = set(), collections.Counter()
    videos = sorted(counts, key=rank)
    for video in videos:
        more = held + counts[video]
        if leaves_some(more, video) and distance(more) < distance(held):
            apart.add(video)
            held = more
    if not apart:
        # Each video holds more than the wanted spans.
        possible = [video for video in videos if leaves_some(counts[video], video)]
        if not possible:
            raise ValueError(
                f"{file}: expected spans of some label in two videos, so that one video is for validation; a "
                f"column `split` may set spans apart instead. Received: {len(videos)} videos"
            )
        apart = {min(possible, key=lambda video: distance(counts[video]))}
    records = [
        record for record in dataset.records if (file_of(record[0]) in apart) == (split == "validation")
    ]
    return dataclasses.replace(dataset, records=records, set_apart=True)
