"""Evaluation with predict functions of known scores, and with a model against a plain loop."""

import pathlib

import keras
import numpy as np
import pytest

from keras_stm import decode_predictions, inference
from keras_stm.arguments import ArgumentError
from keras_stm.data import arrow_of_time, make_views
from keras_stm.data.dataset import Dataset
from keras_stm.evaluation import evaluate, from_scores
from keras_stm.twin_classes import time_reversal_labels
from tests.data.videos import write_video
from tests.reference.backend import numpy

LABELS = pathlib.Path(__file__).parents[2] / "shared" / "labels"
NAMES = tuple("abcdefg")


def video(label, *views):
    """Returns a video whose clips have one pixel per class; `answer` returns these pixels as scores."""
    return f"{label}.mp4", label, np.array(views, "float32")[:, None, None, :, None]


def answer(clips):
    return clips[:, 0, 0, :, 0]


def one_hot(label, classes=7):
    return np.eye(classes)[label]


def test_scores_are_averaged_over_the_views_before_they_are_compared():
    # Two of three views favour class 1, but less clearly than the third view favours class 0.
    views = [video(0, [0.9, 0.1], [0.4, 0.6], [0.4, 0.6])]
    given = []
    result = evaluate(answer, views, ["a", "b"], on_video=lambda *args: given.append(args), progress=False)
    assert result.top1 == 1
    ((path, label, scores),) = given
    assert (path, label) == ("0.mp4", 0)
    np.testing.assert_allclose(scores, [1.7 / 3, 1.3 / 3], rtol=1e-6)


def test_accuracies_and_confusions_of_a_case_worked_out_by_hand():
    order = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.03, 0.01])
    # Classes by score, best first. The true class is first, second, first, fifth, sixth and last.
    rankings = [
        (0, "0123456"),
        (0, "1023456"),
        (1, "1023456"),
        (2, "0134256"),
        (2, "0134526"),
        (4, "0123564"),
    ]
    views = []
    for label, ranking in rankings:
        scores = np.zeros(7)
        scores[[int(digit) for digit in ranking]] = order
        views.append(video(label, scores))
    result = evaluate(answer, views, NAMES, progress=False)
    assert result.num_videos == 6
    assert result.top1 == 2 / 6
    assert result.top5 == 4 / 6
    # The accuracies of the four classes that occur are 1/2, 1/1, 0/2 and 0/1.
    assert result.mean_class_accuracy == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert result.class_counts.tolist() == [2, 1, 2, 0, 1, 0, 0]
    np.testing.assert_array_equal(result.class_accuracy, [0.5, 1, 0, np.nan, 0, np.nan, np.nan])
    expected = np.zeros((7, 7), int)
    expected[0, 0] = expected[0, 1] = expected[1, 1] = expected[4, 0] = 1
    expected[2, 0] = 2
    np.testing.assert_array_equal(result.confusion_matrix, expected)
    assert result.worst_confusions() == [("c", "a", 2, 1.0), ("e", "a", 1, 1.0), ("a", "b", 1, 0.5)]
    assert result.worst_confusions(1) == [("c", "a", 2, 1.0)]
    rows = result.per_class()
    assert rows[0][:6] == ("a", 2, 0.5, 1.0, "b", 0.5)
    assert rows[1][:6] == ("b", 1, 1.0, 1.0, None, 0.0)
    assert rows[2][:6] == ("c", 2, 0.0, 0.5, "a", 1.0)
    assert rows[3].num_videos == 0 and np.isnan(rows[3].top1) and rows[3].confused_with is None
    assert result.within_pair_accuracy is None and result.called_reversal is None


def test_mistakes_are_in_the_order_of_their_number_and_then_of_their_share():
    labels = [0] * 4 + [1, 2, 2]
    called = [0, 0, 3, 3, 3, 2, 3]
    result = from_scores(np.eye(4)[called], labels, list("abcd"))
    assert result.worst_confusions() == [("a", "d", 2, 0.5), ("b", "d", 1, 1.0), ("c", "d", 1, 0.5)]


def test_of_classes_that_score_the_same_the_earlier_comes_first():
    scores = np.array([[0.1] * 7] * 7)
    result = from_scores(scores, range(7), NAMES)
    assert result.confusion_matrix[:, 0].tolist() == [1] * 7
    assert result.top5_hits.tolist() == [1] * 5 + [0] * 2
    best = [name for name, _ in decode_predictions(scores[:1], NAMES)[0]]
    assert best == list(NAMES[:5])


def test_a_class_is_compared_with_its_time_reversal():
    names = ("open", "wave", "close")
    scores = [
        [0.5, 0.3, 0.2],  # open, predicted as open
        [0.3, 0.4, 0.3],  # open, predicted as wave; open and close tie, and the earlier class wins
        [0.5, 0.3, 0.2],  # close, predicted as open
        [0.3, 0.4, 0.3],  # close, predicted as wave; the tie goes to open
        [0.9, 0.1, 0.0],  # wave, which has no time reversal
    ]
    result = from_scores(scores, [0, 0, 2, 2, 1], names)
    assert result.reversible.tolist() == [True, False, True]
    assert result.within_pair_accuracy == 2 / 4
    assert result.called_reversal == 1 / 4
    assert [row.time_reversal for row in result.per_class()] == ["close", None, "open"]
    assert [row.reversed_share for row in result.per_class()] == [0, 0, 0.5]


def test_no_video_of_a_class_with_a_time_reversal_is_no_division_by_zero():
    result = from_scores([[0, 1, 0]], [1], ("open", "wave", "close"))
    assert result.within_pair_accuracy is None and result.called_reversal is None


@pytest.mark.parametrize(
    "views,batch_size,expected",
    [
        ([1] * 7, 3, [3, 3, 1]),
        ([3, 3, 3], 7, [6, 3]),
        ([3, 3, 3], 2, [3, 3, 3]),
        ([2, 1, 4, 1, 1, 6, 1], 4, [3, 4, 2, 6, 1]),
    ],
)
def test_a_batch_holds_whole_videos_and_no_more_clips_than_asked(views, batch_size, expected):
    sizes = []

    def count(clips):
        sizes.append(len(clips))
        return answer(clips)

    videos = [video(i % 7, *[one_hot(i % 7)] * count_of) for i, count_of in enumerate(views)]
    result = evaluate(count, videos, NAMES, batch_size, progress=False)
    assert sizes == expected
    assert result.num_videos == len(views) and result.top1 == 1


def test_clips_of_another_length_or_size_are_a_batch_of_their_own():
    shapes = []

    def answer(clips):
        shapes.append(clips.shape)
        return np.tile([1.0, 0.0], (len(clips), 1))

    videos = [
        ("a", 0, np.zeros((1, frames, size, size, 3), "float32"))
        for frames, size in ((2, 4), (2, 4), (3, 4), (3, 5))
    ]
    assert evaluate(answer, videos, ["a", "b"], progress=False).num_videos == 4
    assert shapes == [(2, 2, 4, 4, 3), (1, 3, 4, 4, 3), (1, 3, 5, 5, 3)]


def test_the_batch_size_changes_nothing():
    rng = np.random.default_rng(0)
    videos = [video(int(rng.integers(7)), *rng.random((3, 7))) for _ in range(20)]
    first, second = (evaluate(answer, videos, NAMES, size, progress=False) for size in (1, 100))
    np.testing.assert_array_equal(first.confusion_matrix, second.confusion_matrix)
    np.testing.assert_array_equal(first.top5_hits, second.top5_hits)


def test_no_more_videos_than_a_batch_are_taken_ahead():
    """Memory use must not grow with the number of videos."""
    taken, answered = [], []

    def videos():
        for i in range(50):
            taken.append(i)
            yield video(0, one_hot(0))

    def count(clips):
        answered.append(len(taken))
        return answer(clips)

    evaluate(count, videos(), NAMES, 20, progress=False)
    assert answered == [21, 41, 50]


def test_progress_is_lines_where_no_person_watches(capsys):
    evaluate(answer, [video(0, one_hot(0))] * 3, NAMES)
    assert capsys.readouterr().out == "3 of 3 videos\n"
    evaluate(answer, [video(0, one_hot(0))] * 3, NAMES, progress=False)
    assert capsys.readouterr().out == ""


def test_progress_is_a_bar_with_the_time_left_where_a_person_watches(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    evaluate(answer, [video(0, one_hot(0))] * 3, NAMES, 1)
    printed = capsys.readouterr().out
    assert "3/3" in printed


@pytest.mark.parametrize("label", [None, 7, -1, "a", 1.0])
def test_a_label_that_is_none_of_a_class_is_named(label):
    with pytest.raises(ArgumentError, match=f"Received: label={label!r} for 'x.mp4'") as error:
        evaluate(answer, [("x.mp4", label, np.ones((1, 1, 1, 7, 1)))], NAMES, progress=False)
    assert error.value.name == "views"


@pytest.mark.parametrize(
    "predict_fn,received",
    [
        (lambda clips: answer(clips)[:, :6], r"scores.shape=\(2, 6\)"),
        (lambda clips: answer(clips)[:1], r"scores.shape=\(1, 7\)"),
        (lambda clips: answer(clips).ravel(), r"scores.shape=\(14,\)"),
        (lambda clips: answer(clips) * np.nan, "scores with NaN or infinity for '0.mp4'"),
        (lambda clips: answer(clips) + np.inf, "scores with NaN or infinity for '0.mp4'"),
    ],
)
def test_a_predict_function_that_gives_something_else_is_an_error(predict_fn, received):
    with pytest.raises(ArgumentError, match=f"Received: {received}") as error:
        evaluate(predict_fn, [video(0, one_hot(0), one_hot(1))], NAMES, progress=False)
    assert (error.value.name, error.value.value) == ("predict_fn", predict_fn)


@pytest.mark.parametrize(
    "views,batch_size,name,received",
    [
        ([], 8, "views", "none"),
        ([("x.mp4", 0, np.ones((4, 8, 8, 3)))], 8, "views", r"clips.shape=\(4, 8, 8, 3\) for 'x.mp4'"),
        ([("x.mp4", 0, np.ones((0, 4, 8, 8, 3)))], 8, "views", r"clips.shape=\(0, 4, 8, 8, 3\) for 'x.mp4'"),
        ([video(0, one_hot(0))], 0, "batch_size", "batch_size=0"),
    ],
)
def test_wrong_views_and_batches_are_named(views, batch_size, name, received):
    with pytest.raises(ArgumentError, match=f"Received: {received}") as error:
        evaluate(answer, views, NAMES, batch_size, progress=False)
    assert error.value.name == name


@pytest.mark.parametrize(
    "scores,labels,name,received",
    [
        (np.ones((2, 6)), [0, 1], "scores", r"scores.shape=\(2, 6\)"),
        (np.ones((0, 7)), [], "scores", r"scores.shape=\(0, 7\)"),
        (np.full((1, 7), np.nan), [0], "scores", "scores with NaN"),
        (np.ones((2, 7)), [0], "labels", "labels="),
        (np.ones((2, 7)), [0, 7], "labels", "labels="),
        (np.ones((2, 7)), [0.0, 1.0], "labels", "labels="),
    ],
)
def test_scores_and_labels_that_do_not_fit_are_refused(scores, labels, name, received):
    with pytest.raises(ArgumentError, match=f"Received: {received}") as error:
        from_scores(scores, labels, NAMES)
    assert error.value.name == name


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    shapes = ((32, 48), (48, 32))
    records = [
        (write_video(folder / f"{i}.mp4", 9 + i, height=height, width=width), i)
        for i, (height, width) in enumerate(shapes)
    ]
    return Dataset(records, ("a", "b"))


def test_the_paper_protocol_with_a_model_equals_a_plain_loop_over_30_views(dataset):
    inputs = keras.Input((4, 28, 28, 3))
    x = keras.layers.Conv3D(4, 3, activation="relu", data_format="channels_last")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(x)))
    views = make_views(dataset, "paper", num_frames=4, image_size=28)
    scores = {}
    evaluate(
        inference.predict_fn(model),
        views,
        dataset.class_names,
        batch_size=64,
        on_video=lambda path, label, row: scores.update({path: row}),
        progress=False,
    )
    assert list(scores) == [path for path, _ in dataset.records]
    for path, _, clips in views:
        assert len(clips) == 30
        expected = [numpy(model(clip[None], training=False))[0] for clip in clips]
        assert np.ptp(expected, axis=0).max() > 1e-3
        np.testing.assert_allclose(scores[path], np.mean(expected, axis=0), atol=1e-5)


def names_of_pairs(class_names):
    """Returns the pairs that `time_reversal_labels` finds; checks that each pair is mutual."""
    labels = time_reversal_labels(class_names)
    assert (labels[labels] == np.arange(len(class_names))).all()
    return {(class_names[i], class_names[j]) for i, j in enumerate(labels.tolist()) if i < j}


def test_time_reversals_of_the_embedded_data_set():
    labels = time_reversal_labels(arrow_of_time.CLASS_NAMES)
    found = dict(zip(arrow_of_time.CLASS_NAMES, np.array(arrow_of_time.CLASS_NAMES)[labels], strict=True))
    assert found == arrow_of_time.REVERSED


SOMETHING = {
    ("Closing something", "Opening something"),
    ("Folding something", "Unfolding something"),
    ("Moving something down", "Moving something up"),
    ("Pulling something from left to right", "Pushing something from right to left"),
    ("Pulling something from right to left", "Pushing something from left to right"),
    (
        "Turning the camera downwards while filming something",
        "Turning the camera upwards while filming something",
    ),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
}


@pytest.mark.parametrize(
    "name,expected",
    [
        ("something_v1", SOMETHING),
        ("something_v2", SOMETHING),
        (
            "jester",
            {
                ("Rolling Hand Backward", "Rolling Hand Forward"),
                ("Sliding Two Fingers Down", "Sliding Two Fingers Up"),
                ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
                ("Swiping Down", "Swiping Up"),
                ("Swiping Left", "Swiping Right"),
                ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
                ("Zooming In With Full Hand", "Zooming Out With Full Hand"),
                ("Zooming In With Two Fingers", "Zooming Out With Two Fingers"),
            },
        ),
        ("kinetics400", set()),
        ("ucf101", set()),
        ("hmdb51", set()),
    ],
)
def test_time_reversals_of_the_published_class_names(name, expected):
    path = LABELS / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    assert names_of_pairs(sorted(path.read_text().splitlines())) == expected


@pytest.mark.parametrize(
    "name,other",
    [
        ("Thumb Up", "Thumb Down"),
        ("Pretending to open something", "Pretending to close something"),
        ("Pulling something onto something", "Pushing something onto something"),
        ("PullUps", "PushUps"),
        ("opening a door", "close a door"),
        ("wave", "nod"),
    ],
)
def test_other_names_have_no_time_reversal(name, other):
    assert names_of_pairs([name, other]) == set()
