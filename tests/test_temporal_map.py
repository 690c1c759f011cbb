"""Mean average precision of spans, compared with a case computed by hand and a loop over recalls."""

import numpy as np
import pytest

from keras_stm.temporal_map import average_precision, evaluate_spans, overlap

TRUE = [("v", 0, 10, "a"), ("v", 20, 30, "a"), ("w", 0, 10, "a"), ("w", 50, 60, "b")]
PREDICTED = [
    # By descending score: overlap 1; a duplicate; 6 / 14 with the second; no video; 8 / 10 with the third.
    ("v", 0, 10, "a", 0.9),
    ("v", 0, 9, "a", 0.8),
    ("v", 24, 34, "a", 0.7),
    ("x", 0, 10, "a", 0.6),
    ("w", 2, 10, "a", 0.5),
    ("w", 40, 45, "b", 0.9),
    ("w", 0, 10, "unknown", 0.9),
]


def test_a_case_computed_by_hand():
    found = evaluate_spans(TRUE, PREDICTED)
    # At 0.3: correct are 1, 3 and 5. Precisions there are 1/1, 2/3, 3/5.
    # At 0.5 and 0.7: correct are 1 and 5, with precisions 1/1 and 2/5; one of three spans is not found.
    low, high = (1 + 2 / 3 + 3 / 5) / 3, (1 + 2 / 5) / 3
    assert found.average_precision == {
        "a": pytest.approx({0.3: low, 0.5: high, 0.7: high}),
        "b": {0.3: 0, 0.5: 0, 0.7: 0},
    }
    assert found.mean == pytest.approx({0.3: low / 2, 0.5: high / 2, 0.7: high / 2})
    assert (found.num_true, found.num_predicted) == ({"a": 3, "b": 1}, {"a": 5, "b": 1})
    assert found.num_ignored == 1


@pytest.mark.parametrize(
    "predicted, expected",
    [
        ([], 0),
        ([(0, 10, 0.9), (20, 30, 0.8)], 1),
        # Precision is interpolated: a false positive counts less between correct ones than before them.
        ([(0, 10, 0.9), (50, 60, 0.8), (20, 30, 0.7)], (1 + 2 / 3) / 2),
        ([(50, 60, 0.9), (0, 10, 0.8), (20, 30, 0.7)], 2 / 3),
        # The larger overlap is matched, so that both predictions are correct.
        ([(3, 28, 0.9), (0, 12, 0.8)], 1),
        # False positives behind the last correct prediction change nothing.
        ([(0, 10, 0.9), *((50, 60, 0.1) for _ in range(9))], 1 / 2),
        # A better prediction comes too late for a span that is matched.
        ([(0, 12, 0.9), (0, 10, 0.8)], 1 / 2),
        ([(20, 30, 0.8), (0, 10, 0.9)], 1),
    ],
)
def test_average_precision_of_one_class(predicted, expected):
    true = [("v", 0, 10, "a"), ("v", 20, 30, "a")]
    predicted = [("v", start, end, "a", score) for start, end, score in predicted]
    assert average_precision(true, predicted, 0.25) == pytest.approx(expected)


def test_a_loop_over_recalls_gives_the_same():
    rng = np.random.default_rng(0)
    for _ in range(50):
        true = [(f"{rng.integers(3)}", start, start + 4, "a") for start in rng.integers(0, 40, 8)]
        predicted = [
            (f"{rng.integers(3)}", start, start + rng.integers(1, 8), "a", rng.random())
            for start in rng.integers(0, 40, 20)
        ]
        assert average_precision(true, predicted, 0.4) == pytest.approx(by_loops(true, predicted, 0.4))


def by_loops(true, predicted, threshold):
    """Follows ActivityNet's description, without arrays."""
    matched, points, hits = set(), [(0.0, 0.0)], 0
    for count, (video, start, end, _, _) in enumerate(sorted(predicted, key=lambda span: -span[4]), 1):
        candidates = [
            (overlap((start, end), span[1:3]), -i)
            for i, span in enumerate(true)
            if span[0] == video and i not in matched
        ]
        if candidates and max(candidates)[0] >= threshold:
            matched.add(-max(candidates)[1])
            hits += 1
        points.append((hits / len(true), hits / count))
    area = 0.0
    for number in range(1, len(true) + 1):
        reached = [precision for recall, precision in points if recall >= number / len(true) - 1e-9]
        area += max(reached, default=0.0) / len(true)
    return area


def test_overlap():
    assert overlap((0, 10), (0, 10)) == 1
    assert overlap((0, 10), (5, 15)) == pytest.approx(1 / 3)
    assert overlap((0, 10), (10, 20)) == overlap((0, 1), (5, 6)) == 0


def test_no_true_spans_and_wrong_thresholds_are_refused():
    with pytest.raises(ValueError, match="`true` must hold at least one span"):
        evaluate_spans([], PREDICTED)
    for thresholds in ((), (0,), (0.5, 1.5)):
        with pytest.raises(ValueError, match="`thresholds` must be above 0"):
            evaluate_spans(TRUE, PREDICTED, thresholds)
