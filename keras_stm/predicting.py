"""Predicts the classes of videos in files and folders, and writes the predictions to files."""

import csv
import itertools
import json
import math
import os
import typing

from keras_stm import inference
from keras_stm.arguments import ArgumentError, absolute_path
from keras_stm.data import frames
from keras_stm.data.catalog.spans import COLUMNS
from keras_stm.data.fragment import seconds_text
from keras_stm.data.frame_folder import FRAME_EXTENSIONS
from keras_stm.data.searching import search
from keras_stm.data.video import VIDEO_EXTENSIONS, VideoError
from keras_stm.file_names import open_text
from keras_stm.progress import Progress
from keras_stm.replacing import replacing
from keras_stm.video_classifier import VideoClassifier

# Attributes of the classifier that the JSON file contains.
_SETTINGS = ("protocol", "num_frames", "image_size", "sampling", "precision")


class Found(typing.NamedTuple):
    """Videos that `find_clips` found, and problems on the way.

    Attributes:
        clips: list of paths without duplicates.
        problems: list of dictionaries with the keys `"file"` and `"error"`.
    """

    clips: list
    problems: list


def find_clips(paths):
    """Finds videos in files and folders.

    Folders and their subfolders are searched for videos and folders of frames; see `searching.search`.

    Args:
        paths: list of files and folders.

    Returns:
        `Found`.
    """
    clips, problems = [], []

    def cannot_list(error):
        problems.append({"file": error.filename, "error": f"cannot be read ({error.strerror})"})

    for path in paths:
        # Files are accepted as they are: only reading tells whether a file is a video.
        found = search(path, on_error=cannot_list).clips if os.path.isdir(path) else [path]
        if not found:
            endings = ", ".join(FRAME_EXTENSIONS)
            error = f"holds no {', '.join(VIDEO_EXTENSIONS)} file and no folder of {endings} frames"
            problems.append({"file": path, "error": error})
        clips += found
    return Found(list(dict.fromkeys(clips)), problems)


def predict(
    found,
    model,
    *,
    top_k=5,
    protocol="efficient",
    batch_size=8,
    precision="float32",
    window=None,
    stride=None,
    json_file=None,
    csv_file=None,
    spans_file=None,
    threshold=0.5,
    on_answer=None,
):
    """Predicts the classes of videos; writes files if at least one video has predictions.

    Args:
        found: `Found`, the result of `find_clips`.
        model: see `VideoClassifier`.
        top_k: see `VideoClassifier`.
        protocol: see `VideoClassifier`.
        batch_size: see `VideoClassifier`.
        precision: see `VideoClassifier`.
        window: length of a window, see `VideoClassifier.timeline`. `None` predicts each video as a whole.
        stride: see `VideoClassifier.timeline`.
        json_file: path of a JSON file to write, or `None`. An existing file is replaced.
        csv_file: path of a CSV file to write, or `None`. An existing file is replaced.
        spans_file: path of a CSV file of spans to write, or `None`; needs `window`. The file has the columns
            of the data set `"spans"`, and the score of each span; see `find_spans`. An existing file is
            replaced.
        threshold: score that windows must exceed to be in `spans_file`.
        on_answer: function that is called with each returned dictionary as soon as it is known.

    Returns:
        List of one dictionary for each problem and each video, as in the JSON file. The keys are `"file"`;
        `"predictions"` or, with a window, `"windows"` and `"spans"`; and `"error"` if the video cannot be
        read. If a video is damaged further on, its dictionary has `"error"` and the windows up to there.

    Raises:
        ValueError: the model cannot be loaded, or an argument is not as above.
        OSError: a file cannot be written.
    """
    if spans_file and window is None:
        raise ArgumentError("spans_file", spans_file, "needs a `window`")
    on_answer = on_answer or (lambda answer: None)
    for problem in found.problems:
        on_answer(problem)
    answers = list(found.problems)
    if not found.clips:
        return answers

    classifier = VideoClassifier(
        model, top_k=top_k, protocol=protocol, batch_size=batch_size, precision=precision
    )
    if window is None:
        each = _answer_clips(classifier, found.clips)
    else:
        each = (_answer_windows(classifier, clip, window, stride) for clip in found.clips)
    for answer in each:
        on_answer(answer)
        answers.append(answer)

    if any(map(is_answered, answers)):
        if json_file:
            name = model if inference.is_name(model) else absolute_path("model", model)
            settings = {setting: getattr(classifier, setting) for setting in _SETTINGS}
            _write_json(json_file, {"model": name, **settings, "videos": answers})
        if csv_file:
            _write_table(csv_file, list(filter(is_answered, answers)))
        if spans_file:
            _write_spans(spans_file, list(filter(is_answered, answers)), threshold)
    return answers


def is_answered(answer):
    """Returns whether an answer has predictions, with or without an error."""
    return "predictions" in answer or "windows" in answer


def _answer_clips(classifier, clips):
    """Yields the answer for each clip, and shows a progress bar in a terminal."""
    progress = Progress(len(clips), "video")
    for number, (path, answer) in enumerate(zip(clips, classifier.iterate(clips), strict=True), 1):
        progress.clear()
        if isinstance(answer, VideoError):
            yield {"file": path, "error": answer.args[2]}
        else:
            yield {"file": path, "predictions": answer}
        progress.update(number)


def _answer_windows(classifier, path, window, stride):
    """Returns the answer for one clip as a timeline."""
    windows, error = [], {}
    try:
        timeline = classifier.timeline(path, window, stride)
        progress = Progress(math.ceil(frames.probe(path).seconds), "second")
        try:
            for answer in timeline:
                windows.append(answer)
                progress.update(math.ceil(answer["end"]))
        finally:
            progress.clear()
    except VideoError as damage:
        error = {"error": damage.args[2]}
    if not windows:
        return {"file": path, **error}
    return {"file": path, "spans": merge(windows), "windows": windows, **error}


def moments(windows):
    """Splits the time between overlapping windows: each moment belongs to the window with the nearest middle.

    Returns:
        List of `(start, end, predictions)`, one per window, in seconds. Each end is the start of the next.
    """
    middles = [(window["start"] + window["end"]) / 2 for window in windows]
    changes = [(one + other) / 2 for one, other in itertools.pairwise(middles)]
    limits = [windows[0]["start"], *changes, windows[-1]["end"]]
    return [
        (start, end, window["predictions"])
        for (start, end), window in zip(itertools.pairwise(limits), windows, strict=True)
    ]


def merge(windows):
    """Merges consecutive windows with the same best class.

    Returns:
        List of dictionaries with the keys `"start"`, `"end"`, `"label"` and `"score"`; the score is the mean
        over the windows.
    """
    return find_spans(windows, 0)


def find_spans(windows, threshold):
    """Merges consecutive windows whose best class is the same, and has a score above a threshold.

    Returns:
        List like that of `merge`.
    """

    def best(moment):
        first = moment[2][0]
        return first["label"] if first["score"] > threshold else None

    spans = []
    for label, group in itertools.groupby(moments(windows), best):
        if label is None:
            continue
        group = list(group)
        score = sum(predictions[0]["score"] for _, _, predictions in group) / len(group)
        spans.append({"start": group[0][0], "end": group[-1][1], "label": label, "score": score})
    return spans


def _write_json(path, content):
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)


def _write_table(path, answers):
    """Writes answers as CSV: one row for each video or window, with its classes, best first."""
    times = ["start", "end"] if "windows" in answers[0] else []
    rows = [
        [answer["file"], *(f"{row[time]:.3f}" for time in times), row["predictions"]]
        for answer in answers
        for row in answer.get("windows", [answer])
    ]
    classes = range(1, len(rows[0][-1]) + 1)
    with replacing(path) as partial, open_text(partial, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", *times, *(f"{what}_{i}" for i in classes for what in ("label", "score"))])
        for *row, predictions in rows:
            writer.writerow([*row, *(value for prediction in predictions for value in prediction.values())])


def _write_spans(path, answers, threshold):
    """Writes the spans of answers as CSV; paths of videos are relative to the folder of the file."""
    folder = os.path.dirname(os.path.abspath(path))
    with replacing(path) as partial, open_text(partial, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "score"])
        for answer in answers:
            video = os.path.relpath(frames.file_of(answer["file"]), folder)
            # Times of a part count from its first frame. They are not rounded further, so that the spans have
            # the frames of their windows.
            offset = int(frames.frame_times(answer["file"])[0])
            for span in find_spans(answer["windows"], threshold):
                times = [seconds_text(offset + round(span[time] * 1e6)) for time in ("start", "end")]
                writer.writerow([video, *times, span["label"], f"{span['score']:.6g}"])


def render(answer, target):
    """Writes a copy of the video with its predictions drawn on it.

    Args:
        answer: a dictionary without an error that `predict` returned.
        target: see `rendering.render`. An existing file is replaced.

    Raises:
        VideoError: the video cannot be read to its end. In this case, no file is written.
        ImportError: matplotlib or Pillow is not installed.
        OSError: `target` cannot be written.
    """
    # Imported here, because only this function needs matplotlib and Pillow.
    from keras_stm import rendering

    if "windows" in answer:
        drawn = [(end, predictions) for _, end, predictions in moments(answer["windows"])]
        drawn[-1] = (math.inf, drawn[-1][1])
    else:
        drawn = [(math.inf, answer["predictions"])]
    progress = Progress(frames.count_frames(answer["file"]), "frame")
    try:
        with replacing(target) as path:
            rendering.render(answer["file"], path, drawn, progress.update)
    finally:
        progress.clear()
