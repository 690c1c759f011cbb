"""Scores videos with a predict function and measures the accuracy, without knowledge of models or files."""

import dataclasses
import typing

import numpy as np

from keras_stm.arguments import ArgumentError, lines, positive_int
from keras_stm.progress import Progress
from keras_stm.twin_classes import time_reversal_labels

_TOP = 5


class ClassResult(typing.NamedTuple):
    """Results for the videos of one class.

    Attributes:
        name: name of the class.
        num_videos: number of videos of the class.
        top1, top5: share of its videos whose class scores best, or is among the five best.
        confused_with: name of the wrong class that is predicted most often, or `None`.
        confused_share: share of the class's videos that are predicted as `confused_with`.
        time_reversal: name of the class that `time_reversal_labels` finds, or `None`.
        reversed_share: share of the class's videos that are predicted as `time_reversal`; 0 if it is `None`.

    Shares are NaN if the class has no videos.
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
    """Number of videos of one class that are predicted as another class, and their share of the class."""

    true: str
    predicted: str
    count: int
    share: float


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of an evaluation. If classes have the same score, the earlier class ranks first.

    Attributes:
        class_names: tuple of str.
        confusion_matrix: int64 array `(classes, classes)`: number of videos by true class (rows) and
            predicted class (columns).
        top5_hits: int64 array `(classes,)`: number of videos of each class that have it among their five
            best classes.
        reversal_hits: int64 array `(classes,)`: number of videos of each class that rank it above its time
            reversal, see `time_reversal_labels`; 0 if it has none.
    """

    class_names: tuple
    confusion_matrix: np.ndarray
    top5_hits: np.ndarray
    reversal_hits: np.ndarray

    @property
    def num_videos(self):
        """Number of videos."""
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
        """Number of videos of each class, int64 `(classes,)`."""
        return self.confusion_matrix.sum(axis=1)

    @property
    def class_accuracy(self):
        """Top-1 of each class, float64 `(classes,)`; NaN if the class has no videos."""
        return _share(self.confusion_matrix.diagonal(), self.class_counts)

    @property
    def mean_class_accuracy(self):
        """Mean top-1 over the classes that have videos; each class has the same weight."""
        return float(np.nanmean(self.class_accuracy))

    @property
    def reversible(self):
        """For each class, whether `class_names` contains its time reversal, bool `(classes,)`."""
        return self._reversals != np.arange(len(self.class_names))

    @property
    def within_pair_accuracy(self):
        """Share of the videos of `reversible` classes that rank their class above its time reversal.

        `None` if these classes have no videos. A model that ignores the order of frames reaches 50% if
        every video also occurs reversed.
        """
        return self._share_of_reversible(self.reversal_hits)

    @property
    def called_reversal(self):
        """Share of the videos of `reversible` classes that are predicted as the time reversal, or `None`."""
        return self._share_of_reversible(self._called_reversal)

    def worst_confusions(self, count=10):
        """Returns the most frequent mistakes, as a list of at most `count` `Confusion` objects."""
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
        """Returns a list of one `ClassResult` per class, in the order of the classes."""
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
    """Compares scores with labels.

    Args:
        scores: float array `(videos, classes)`.
        labels: integer array `(videos,)` of indices into `class_names`.
        class_names: one name per class.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: there are no videos, or the arguments do not match each other.
    """
    class_names = lines("class_names", class_names)
    scores, labels, classes = np.asarray(scores), np.asarray(labels), len(class_names)
    if scores.ndim != 2 or scores.shape[1] != classes or not len(scores):
        raise ArgumentError(
            "scores",
            scores,
            f"must have shape (videos, {classes}), one column for each of `class_names`",
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
    """Scores videos, averaged over the views of each video (paper, section 4.2), and compares with labels.

    All views of a video are in the same batch. Several videos share a batch if it has at most `batch_size`
    clips. Memory use does not grow with the number of videos.

    Args:
        predict_fn: function from clips `(batch, T, H, W, C)` to scores `(batch, classes)` after softmax, for
            example the result of `keras_stm.inference.predict_fn`, or `predict_on_batch` of a compiled model.
        views: iterable of `(path, label, clips)`, one per video, as `keras_stm.data.make_views` returns;
            `clips` is a float array `(views, T, H, W, C)`.
        class_names: one name per class, in the order of the scores.
        batch_size: maximum number of clips in a batch. A video with more views is a batch of its own.
        on_video: function of `(path, label, scores)` that is called for each video, in order; `scores` is a
            float64 array `(classes,)`. The result of `evaluate` does not hold the scores.
        progress: whether to print the progress: a bar with the time left in a terminal, lines otherwise.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: there is no video, a label does not belong to a class, `predict_fn` returns scores of
            another shape, or an argument is not as above.
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
                f"must return scores ({ends[-1]}, {classes}) for {ends[-1]} clips and {classes} classes",
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
        raise ArgumentError("views", views, "must yield at least one video", "none, or only unreadable ones")
    if progress:
        progress.close()
    return total


def _batches(views, batch_size, classes):
    """Yields lists of `(path, label, clips)` with at most `batch_size` clips, or with a single video."""
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
                "must have clips of shape (views, T, H, W, C), with at least one view",
                f"clips.shape={np.shape(clips)} for {path!r}",
            )
        # An array holds only clips of the same size.
        if batch and (size + len(clips) > batch_size or clips.shape[1:] != batch[0][2].shape[1:]):
            yield batch
            batch, size = [], 0
        batch.append((path, label, clips))
        size += len(clips)
    if batch:
        yield batch


def _ranks(scores, labels):
    """Number of classes that rank before the class of each label, `(videos,)`."""
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
