"""Scores of videos from a predict function, and how good they are. Knows neither models nor files."""

import dataclasses
import typing

import numpy as np

from keras_stm.arguments import ArgumentError, lines, positive_int
from keras_stm.progress import Progress
from keras_stm.twin_classes import time_reversal_labels

_TOP = 5


class ClassResult(typing.NamedTuple):
    """What there is to say about the videos of one class.

    Attributes:
        name: of the class.
        num_videos: of the class.
        top1, top5: share of them whose class scores best, or is among the five best.
        confused_with: name of the class that the others are most often called, or `None`.
        confused_share: share of all videos of the class that are called so.
        time_reversal: name of the class that `time_reversal_labels` finds, or `None`.
        reversed_share: share of all videos of the class that are called so, 0 where there is none.

    Shares are NaN where the class has no video.
    """

    name: str
    num_videos: int
    top1: float
    top5: float
    confused_with: str | None
    confused_share: float
    time_reversal: str | None
    reversed_share: float


class Confusion(typing.NamedTuple):
    """Videos of a class that are called another: how many, and which share of their class."""

    true: str
    predicted: str
    count: int
    share: float


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """How good the scores of videos are. Of classes that score the same the earlier comes first.

    Attributes:
        class_names: tuple of str.
        confusion_matrix: int64 array `(classes, classes)`: videos by their class, along the rows,
            and the class that scores best.
        top5_hits: int64 array `(classes,)`: videos of a class that have it among their five best.
        reversal_hits: int64 array `(classes,)`: videos of a class in which it scores better than its
            time reversal, see `time_reversal_labels`; 0 where it has none.
    """

    class_names: tuple
    confusion_matrix: np.ndarray
    top5_hits: np.ndarray
    reversal_hits: np.ndarray

    @property
    def num_videos(self):
        return int(self.class_counts.sum())

    @property
    def top1(self):
        """Share of the videos whose class scores best."""
        return float(self.confusion_matrix.trace() / self.num_videos)

    @property
    def top5(self):
        """Share of the videos whose class is among the five best."""
        return float(self.top5_hits.sum() / self.num_videos)

    @property
    def class_counts(self):
        """Videos of each class, int64 `(classes,)`."""
        return self.confusion_matrix.sum(axis=1)

    @property
    def class_accuracy(self):
        """Top-1 of each class, float64 `(classes,)`; NaN where it has no video."""
        return _share(self.confusion_matrix.diagonal(), self.class_counts)

    @property
    def mean_class_accuracy(self):
        """Top-1 of the classes that have videos, each with the same weight."""
        return float(np.nanmean(self.class_accuracy))

    @property
    def reversible(self):
        """Which classes have a time reversal by their names, bool `(classes,)`."""
        return self._reversals != np.arange(len(self.class_names))

    @property
    def within_pair_accuracy(self):
        """Share of the videos of `reversible` classes whose class scores better than its time reversal.

        `None` where there are no such videos. A model that is blind to the order of frames has 50% where
        every video is there backwards too.
        """
        return self._share_of_reversible(self.reversal_hits)

    @property
    def called_reversal(self):
        """Share of the videos of `reversible` classes that are called their time reversal, or `None`."""
        return self._share_of_reversible(self._called_reversal)

    def worst_confusions(self, count=10):
        """The most frequent mistakes, as a list of at most `count` `Confusion`."""
        positive_int("count", count)
        mistakes, counts = self._mistakes, self.class_counts
        true, predicted = np.nonzero(mistakes)
        found = [
            Confusion(
                self.class_names[i], self.class_names[j], int(mistakes[i, j]), mistakes[i, j] / counts[i]
            )
            for i, j in zip(true, predicted, strict=True)
        ]
        return sorted(found, key=lambda item: (-item.count, -item.share))[:count]

    def per_class(self):
        """List of `ClassResult`, in the order of the classes."""
        counts, names = self.class_counts, self.class_names
        worst, mistakes = self._mistakes.argmax(axis=1), self._mistakes.max(axis=1)
        columns = (
            names,
            counts.tolist(),
            self.class_accuracy.tolist(),
            _share(self.top5_hits, counts).tolist(),
            [names[j] if mistake else None for j, mistake in zip(worst, mistakes, strict=True)],
            _share(mistakes, counts).tolist(),
            [names[j] if known else None for j, known in zip(self._reversals, self.reversible, strict=True)],
            _share(self._called_reversal, counts).tolist(),
        )
        return [ClassResult(*row) for row in zip(*columns, strict=True)]

    @property
    def _mistakes(self):
        return self.confusion_matrix - np.diag(self.confusion_matrix.diagonal())

    @property
    def _reversals(self):
        return time_reversal_labels(self.class_names)

    @property
    def _called_reversal(self):
        labels = np.arange(len(self.class_names))
        return np.where(self.reversible, self.confusion_matrix[labels, self._reversals], 0)

    def _share_of_reversible(self, videos):
        total = self.class_counts[self.reversible].sum()
        return float(videos.sum() / total) if total else None


def from_scores(scores, labels, class_names):
    """What is right and wrong about scores.

    Args:
        scores: float array `(videos, classes)`.
        labels: integer array `(videos,)`, each an index into `class_names`.
        class_names: one name per class.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: there are no videos, or the arguments do not fit each other.
    """
    class_names = lines("class_names", class_names)
    scores, labels, classes = np.asarray(scores), np.asarray(labels), len(class_names)
    if scores.ndim != 2 or scores.shape[1] != classes or not len(scores):
        raise ArgumentError(
            "scores",
            scores,
            f"must be (videos, {classes}), a column for each of `class_names`",
            f"scores.shape={scores.shape}",
        )
    if not np.issubdtype(scores.dtype, np.number):
        raise ArgumentError("scores", scores, "must be numbers", f"scores of {scores.dtype}")
    if not np.isfinite(scores).all():
        raise ArgumentError("scores", scores, "must be finite numbers", "scores with NaN or infinity")
    is_index = labels.shape == scores.shape[:1] and np.issubdtype(labels.dtype, np.integer)
    if not is_index or labels.min() < 0 or labels.max() >= classes:
        raise ArgumentError("labels", labels, f"must be {len(scores)} integers from 0 to {classes - 1}")
    reversals = time_reversal_labels(class_names)[labels]
    ranks = _ranks(scores, labels)
    confusion_matrix = np.zeros((classes, classes), "int64")
    np.add.at(confusion_matrix, (labels, scores.argmax(axis=1)), 1)
    is_better = (ranks < _ranks(scores, reversals)) & (reversals != labels)
    return Evaluation(
        class_names,
        confusion_matrix,
        np.bincount(labels[ranks < _TOP], minlength=classes),
        np.bincount(labels[is_better], minlength=classes),
    )


def evaluate(predict_fn, views, class_names, batch_size=32, on_video=None, progress=True):
    """Scores videos, averaged over the views of each (paper, section 4.2), and compares with the labels.

    All views of a video go through `predict_fn` together, and with them those of other videos as long as they
    are no more than `batch_size`. What is in memory does not grow with the number of videos.

    Args:
        predict_fn: function from clips `(batch, T, H, W, C)` to scores `(batch, classes)` after softmax, as
            `keras_stm.inference.predict_fn` or the `predict_on_batch` of a compiled model.
        views: iterable of `(path, label, clips)`, a video each: `clips` a float array
            `(views, T, H, W, C)`, as `keras_stm.data.make_views` gives them.
        class_names: one name per class, in the order of the scores.
        batch_size: clips that go through `predict_fn` together; those of one video even where they are more.
        on_video: function of `(path, label, scores)` that is called for each video in turn, to keep what is
            not kept here; scores float64 `(classes,)`.
        progress: if true, shows a bar with the time left where a person watches, lines where a file does.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: there is no video, a label is none of a class, `predict_fn` gives other scores, or an
            argument is not as above.
    """
    class_names = lines("class_names", class_names)
    classes = len(class_names)
    if progress:
        progress = Progress(len(views) if hasattr(views, "__len__") else None, "video", lines=True)
    total, done = None, 0
    for batch in _batches(views, positive_int("batch_size", batch_size), classes):
        scores = np.asarray(predict_fn(np.concatenate([clips for _, _, clips in batch])))
        ends = np.cumsum([len(clips) for _, _, clips in batch])
        if scores.shape != (ends[-1], classes):
            raise ArgumentError(
                "predict_fn",
                predict_fn,
                f"must return scores ({ends[-1]}, {classes}) of {ends[-1]} clips and {classes} `class_names`",
                f"scores.shape={scores.shape}",
            )
        scores = [part.mean(axis=0, dtype="float64") for part in np.split(scores, ends[:-1])]
        for (path, label, _), row in zip(batch, scores, strict=True):
            if not np.isfinite(row).all():
                raise ArgumentError(
                    "predict_fn",
                    predict_fn,
                    "must return finite scores",
                    f"scores with NaN or infinity for {path!r}",
                )
            if on_video:
                on_video(path, label, row)
        part = from_scores(scores, [label for _, label, _ in batch], class_names)
        total = part if total is None else _add(total, part)
        done += len(batch)
        if progress:
            progress.update(done)
    if total is None:
        raise ArgumentError("views", views, "must give at least one video", "none, or none that can be read")
    if progress:
        progress.close()
    return total


def _batches(views, batch_size, classes):
    """Lists of `(path, label, clips)` of no more than `batch_size` clips in all, but for single videos."""
    batch, size = [], 0
    for path, label, clips in views:
        if not isinstance(label, int | np.integer) or not 0 <= label < classes:
            raise ArgumentError(
                "views",
                views,
                f"must have labels from 0 to {classes - 1}, indices into `class_names`",
                f"label={label!r} for {path!r}",
            )
        if np.ndim(clips) != 5 or not len(clips):
            raise ArgumentError(
                "views",
                views,
                "must have clips (views, T, H, W, C), at least one",
                f"clips.shape={np.shape(clips)} for {path!r}",
            )
        # Clips of another size cannot be in the same array.
        if batch and (size + len(clips) > batch_size or clips.shape[1:] != batch[0][2].shape[1:]):
            yield batch
            batch, size = [], 0
        batch.append((path, label, clips))
        size += len(clips)
    if batch:
        yield batch


def _ranks(scores, labels):
    """How many classes come before that of each label, `(videos,)`."""
    own = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
    is_earlier = np.arange(scores.shape[1]) < labels[:, np.newaxis]
    return ((scores > own) | ((scores == own) & is_earlier)).sum(axis=1)


def _add(first, second):
    counts = {
        name: getattr(first, name) + getattr(second, name)
        for name in ("confusion_matrix", "top5_hits", "reversal_hits")
    }
    return dataclasses.replace(first, **counts)


def _share(part, whole):
    with np.errstate(invalid="ignore"):
        return part / whole
