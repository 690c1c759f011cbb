"""Files and folders -> what happens in their videos, as dictionaries and in files."""

import csv
import itertools
import json
import math
import os
import typing

from keras_stm.arguments import absolute_path
from keras_stm.data import frames
from keras_stm.data.frame_folder import FRAME_EXTENSIONS
from keras_stm.data.video import VIDEO_EXTENSIONS, VideoError
from keras_stm.progress import Progress
from keras_stm.replacing import replacing
from keras_stm.video_classifier import VideoClassifier

# What a JSON file says of the classifier.
_SETTINGS = ("protocol", "num_frames", "image_size", "sampling")


class Found(typing.NamedTuple):
    """What there is among files and in folders.

    Attributes:
        clips: list of paths, each once.
        problems: list of dictionaries of `"file"` and `"error"`.
    """

    clips: list
    problems: list


def find_clips(paths):
    """The videos among files and in folders, and what there is to say of the others.

    Folders are searched for videos, also those further down; one that holds .jpg frames and no video is one
    video.

    Args:
        paths: list of files and folders.

    Returns:
        `Found`.
    """
    clips, problems = [], []
    for path in paths:
        # Whether a file is a video shows when it is read.
        found = _search(path, problems) if os.path.isdir(path) else [path]
        if not found:
            error = f"holds no {', '.join(VIDEO_EXTENSIONS)} file and no folder of .jpg frames"
            problems.append({"file": path, "error": error})
        clips += found
    return Found(list(dict.fromkeys(clips)), problems)


def _search(root, problems):
    """Videos in a folder and further down, in the order of their names; adds folders that cannot be read."""

    def cannot_list(error):
        problems.append({"file": error.filename, "error": f"cannot be read ({error.strerror})"})

    clips, seen = [], set()
    for folder, subfolders, names in os.walk(root, onerror=cannot_list, followlinks=True):
        # Links may lead round in a circle.
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith("."))
        videos = [os.path.join(folder, name) for name in names if name.lower().endswith(VIDEO_EXTENSIONS)]
        if not videos and any(name.lower().endswith(FRAME_EXTENSIONS) for name in names):
            videos = [folder]
        clips += videos
    return clips


def predict(
    found,
    model,
    *,
    top_k=5,
    protocol="efficient",
    batch_size=8,
    window=None,
    stride=None,
    json_file=None,
    csv_file=None,
    on_answer=None,
):
    """Names what happens in videos; where any was answered, also in files.

    Args:
        found: `Found`.
        model, top_k, protocol, batch_size: as for `VideoClassifier`.
        window, stride: as for `VideoClassifier.timeline`; `window` is `None` where there is none.
        json_file, csv_file: paths of files, or `None`. What is there is replaced.
        on_answer: function of an answer, which is called with each as soon as it is known.

    Returns:
        A dictionary for each problem and each video, as the JSON file holds them: `"file"`; `"predictions"`
        or, with a window, `"windows"` and `"spans"`; `"error"` where it cannot be read, beside the windows
        until there where the damage was met on the way.

    Raises:
        ValueError: the model cannot be loaded, or an argument is not as above.
        OSError: a file cannot be written.
    """
    on_answer = on_answer or (lambda answer: None)
    for problem in found.problems:
        on_answer(problem)
    answers = list(found.problems)
    if not found.clips:
        return answers

    classifier = VideoClassifier(model, top_k=top_k, protocol=protocol, batch_size=batch_size)
    if window is None:
        each = _answer_clips(classifier, found.clips)
    else:
        each = (_answer_windows(classifier, clip, window, stride) for clip in found.clips)
    for answer in each:
        on_answer(answer)
        answers.append(answer)

    if any(map(is_answered, answers)):
        if json_file:
            settings = {name: getattr(classifier, name) for name in _SETTINGS}
            _write_json(json_file, {"model": absolute_path("model", model), **settings, "videos": answers})
        if csv_file:
            _write_table(csv_file, list(filter(is_answered, answers)))
    return answers


def is_answered(answer):
    """Whether there is anything but an error."""
    return "predictions" in answer or "windows" in answer


def _answer_clips(classifier, clips):
    """Gives the answer to each clip; a bar shows how far it is where a person watches."""
    progress = Progress(len(clips), "video")
    for number, (path, answer) in enumerate(zip(clips, classifier.iterate(clips), strict=True), 1):
        progress.clear()
        if isinstance(answer, VideoError):
            yield {"file": path, "error": answer.args[2]}
        else:
            yield {"file": path, "predictions": answer}
        progress.update(number)


def _answer_windows(classifier, path, window, stride):
    """The answer to a clip as a timeline."""
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
    """Which window tells what happens when.

    Where windows overlap it is the one whose middle is nearer.

    Returns:
        `(start, end, predictions)` of each window, in seconds, end being the next one's start.
    """
    middles = [(window["start"] + window["end"]) / 2 for window in windows]
    changes = [(one + other) / 2 for one, other in itertools.pairwise(middles)]
    limits = [windows[0]["start"], *changes, windows[-1]["end"]]
    return [
        (start, end, window["predictions"])
        for (start, end), window in zip(itertools.pairwise(limits), windows, strict=True)
    ]


def merge(windows):
    """Spans of the same best class: dictionaries of start, end, label and the mean score of its windows."""
    spans = []
    for label, group in itertools.groupby(moments(windows), lambda moment: moment[2][0]["label"]):
        group = list(group)
        score = sum(predictions[0]["score"] for _, _, predictions in group) / len(group)
        spans.append({"start": group[0][0], "end": group[-1][1], "label": label, "score": score})
    return spans


def _write_json(path, content):
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)


def _write_table(path, answers):
    """Writes answers as CSV: a row for each video or window, with its classes from best on."""
    times = ["start", "end"] if "windows" in answers[0] else []
    rows = [
        [answer["file"], *(f"{row[time]:.3f}" for time in times), row["predictions"]]
        for answer in answers
        for row in answer.get("windows", [answer])
    ]
    classes = range(1, len(rows[0][-1]) + 1)
    # File names need not be valid text.
    with (
        replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", *times, *(f"{what}_{i}" for i in classes for what in ("label", "score"))])
        for *row, predictions in rows:
            writer.writerow([*row, *(value for prediction in predictions for value in prediction.values())])


def render(answer, target):
    """Writes the video with the answer drawn on it.

    Args:
        answer: one of `predict`, without an error.
        target: as for `rendering.render`. What is there is replaced.

    Raises:
        VideoError: the video cannot be read to its end; nothing is written then.
        ImportError: if matplotlib or Pillow is not installed.
        OSError: `target` cannot be written.
    """
    # Here, as only this needs these packages.
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
