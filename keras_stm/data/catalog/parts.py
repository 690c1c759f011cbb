"""Makes data sets of labelled parts of videos."""

import collections
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
    """Returns the spans of one split; whole videos are set apart for validation, see `Dataset.part`."""
    folder = os.path.dirname(file)

    def video_of(path):
        return os.path.relpath(file_of(path), folder)

    try:
        # An empty validation split is an error for the training split too: it would be noticed late.
        parts = {
            name: dataset.part(name, validation_split, seed, folder, video_of)
            for name in ("train", "validation")
        }
    except ArgumentError as error:
        videos = {video_of(path) for path, _ in dataset.records}
        raise ValueError(
            f"{file}: expected spans of some label in two videos, so that one video is for validation; a "
            f"column `split` may set spans apart instead. Received: {len(videos)} videos"
        ) from error
    return parts[split]
