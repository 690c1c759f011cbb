"""The folder of one evaluation: what it holds, and how that gets there."""

import contextlib
import csv
import json
import os

from keras_stm.data.views import FRAMES
from keras_stm.differences import differences
from keras_stm.evaluation import ClassResult
from keras_stm.plots.confusion import plot_confusion
from keras_stm.train.run_folder import LEFT_OUT

RESULT = "result.json"
# Of each order of frames.
PER_CLASS, SCORES, CONFUSION = "per_class.csv", "scores.csv", "confusion.png"


def check(output, settings):
    """Raises `ValueError` where the folder holds anything but an evaluation with the same settings."""
    if not os.path.exists(output):
        return
    if not os.path.isdir(output):
        raise ValueError(f"{output} is a file; give another folder with --output.")
    known = {_file("", name, order) for name in (PER_CLASS, SCORES, CONFUSION) for order in FRAMES}
    present = set(os.listdir(output))
    foreign = sorted(present - known - {RESULT, LEFT_OUT})
    if foreign or (present and RESULT not in present):
        raise ValueError(
            f"{output} is not the folder of an evaluation, as it holds {(foreign or sorted(present))[0]}; "
            "give another one with --output."
        )
    if not present:
        return
    try:
        with open(os.path.join(output, RESULT), encoding="utf-8") as file:
            theirs = dict(json.load(file)["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output} has no evaluation in its {RESULT} ({error!r}); remove it.") from error
    different = differences(theirs, settings, settings)
    if different:
        raise ValueError(
            f"{output} holds an evaluation with other settings ({'; '.join(different)}); give another folder "
            "with --output, or remove that one."
        )


@contextlib.contextmanager
def write_scores(folder, order, class_names):
    """Yields a function of `(path, label, scores)` that adds a video to the table for an order of frames."""
    with open(_file(folder, SCORES, order), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "predicted", *class_names))

        def write(path, label, scores):
            predicted = class_names[scores.argmax()]
            writer.writerow((path, class_names[label], predicted, *(f"{score:.6g}" for score in scores)))

        yield write


def write_evaluation(folder, order, evaluation, title):
    """The classes as a table, empty where a share says nothing, and the confusion matrix as a picture."""
    with open(_file(folder, PER_CLASS, order), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ClassResult._fields)
        for row in evaluation.per_class():
            writer.writerow("" if value != value else _rounded(value) for value in row)
    plot_confusion(_file(folder, CONFUSION, order), evaluation, title)


def write_result(folder, result, left_out):
    """What is known of the evaluation, and a line for each video that was left out."""
    if left_out:
        with open(os.path.join(folder, LEFT_OUT), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in left_out)
    with open(os.path.join(folder, RESULT), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2, ensure_ascii=False)


def _rounded(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def _file(folder, name, order):
    stem, extension = os.path.splitext(name)
    return os.path.join(folder, name if order == "ordered" else f"{stem}_{order}{extension}")
