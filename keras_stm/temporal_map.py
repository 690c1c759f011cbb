"""Mean average precision of spans in time, by the definition of ActivityNet (Heilbron et al., CVPR 2015)."""

import collections
import dataclasses

import numpy as np

from keras_stm.arguments import ArgumentError

THRESHOLDS = (0.3, 0.5, 0.7)


@dataclasses.dataclass(frozen=True)
class SpanEvaluation:
    """Results of `evaluate_spans`.

    Attributes:
        average_precision: `{class name: {threshold: number}}`, for the classes of the true spans, sorted.
        num_true: `{class name: number of true spans}`.
        num_predicted: `{class name: number of predicted spans}`, for the same classes.
        num_ignored: number of predicted spans of other classes.
    """

    average_precision: dict
    num_true: dict
    num_predicted: dict
    num_ignored: int

    @property
    def mean(self):
        """`{threshold: mean average precision}` over the classes of the true spans."""
        rows = list(self.average_precision.values())
        return {threshold: float(np.mean([row[threshold] for row in rows])) for threshold in rows[0]}


def evaluate_spans(true, predicted, thresholds=THRESHOLDS):
    """Compares predicted spans with true ones.

    In each class, predictions are taken by descending score. A prediction is correct if its temporal
    intersection over union with a true span of the same video is at least the threshold, and that span is
    not matched yet; it matches the one with the largest. All others are false positives. The average
    precision is the area under the interpolated precision: at each recall, the highest precision at that
    recall or a higher one.

    Args:
        true: list of `(video, start, end, label)`.
        predicted: list of `(video, start, end, label, score)`.
        thresholds: values of the temporal intersection over union, above 0 and at most 1.

    Returns:
        `SpanEvaluation`.

    Raises:
        ValueError: there are no true spans, or a threshold is not as above.
    """
    if not true:
        raise ArgumentError("true", true, "must hold at least one span")
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise ArgumentError("thresholds", thresholds, "must be above 0 and at most 1")
    true_of, predicted_of = (collections.defaultdict(list) for _ in range(2))
    for span in true:
        true_of[span[3]].append(span)
    for span in predicted:
        predicted_of[span[3]].append(span)
    names = sorted(true_of)
    return SpanEvaluation(
        {
            name: {each: average_precision(true_of[name], predicted_of[name], each) for each in thresholds}
            for name in names
        },
        {name: len(true_of[name]) for name in names},
        {name: len(predicted_of[name]) for name in names},
        sum(len(spans) for name, spans in predicted_of.items() if name not in true_of),
    )


def average_precision(true, predicted, threshold):
    """Returns the average precision of the predicted spans of one class; see `evaluate_spans`."""
    free = collections.defaultdict(list)
    for video, start, end, *_ in true:
        free[video].append((start, end))
    hits = []
    # Sorting is stable: of two predictions with the same score, the first one counts first.
    for video, start, end, *_ in sorted(predicted, key=lambda span: -span[4]):
        overlaps = [overlap((start, end), other) for other in free[video]]
        is_hit = bool(overlaps) and max(overlaps) >= threshold
        if is_hit:
            del free[video][int(np.argmax(overlaps))]
        hits.append(is_hit)
    if not any(hits):
        return 0.0
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    return float(interpolated[hits].sum() / len(true))


def overlap(one, other):
    """Returns the temporal intersection over union of two `(start, end)`."""
    intersection = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    union = (one[1] - one[0]) + (other[1] - other[0]) - intersection
    return intersection / union
