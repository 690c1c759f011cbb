"""The folder of one evaluation: which files it holds, and how they are written."""

import contextlib
import csv
import json
import os

from keras_stm.data.views import FRAMES
from keras_stm.differences import differences
from keras_stm.evaluation import ClassResult
from keras_stm.file_names import open_text
from keras_stm.plots.confusion import plot_confusion
from keras_stm.train.run_folder import LEFT_OUT

RESULT = "result.json"
# The results of streams with a reset before each video.
RESET = "reset"
# One file of each for every order of frames, and for `RESET`.
PER_CLASS, SCORES, CONFUSION = "per_class.csv", "scores.csv", "confusion.png"


def check(output, settings):
    """Raises `ValueError` if the folder holds anything except an evaluation with the same settings."""
    if not os.path.exists(output):
        return
    if not os.path.isdir(output):
        raise ValueError(f"{output} is a file; pass another `output`.")
    known = {_file("", name, order) for name in (PER_CLASS, SCORES, CONFUSION) for order in (*FRAMES, RESET)}
    present = set(os.listdir(output))
    foreign = sorted(present - known - {RESULT, LEFT_OUT})
    if foreign or (present and RESULT not in present):
        raise ValueError(
            f"{output} is not the folder of an evaluation: it holds {(foreign or sorted(present))[0]}; pass "
            "another `output`."
        )
    if not present:
        return
    try:
        with open(os.path.join(output, RESULT), encoding="utf-8") as file:
            # Earlier evaluations know only one precision.
            theirs = {"precision": "float32", **json.load(file)["settings"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output} has a damaged {RESULT} ({error!r}); remove the folder.") from error
    different = differences(theirs, settings, settings)
    if different:
        raise ValueError(
            f"{output} holds an evaluation with other settings ({'; '.join(different)}); pass another "
            "`output`, or remove that folder."
        )


@contextlib.contextmanager
def write_scores(folder, order, class_names):
    """Yields a function of `(path, label, scores)` that adds a video to the table of an order of frames."""
    with open_text(_file(folder, SCORES, order), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "predicted", *class_names))

        def write(path, label, scores):
            predicted = class_names[scores.argmax()]
            writer.writerow((path, class_names[label], predicted, *(f"{score:.6g}" for score in scores)))

        yield write


def write_evaluation(folder, order, evaluation, title):
    """Writes the table of classes, with empty cells for NaN, and the picture of the confusion matrix."""
    with open(_file(folder, PER_CLASS, order), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ClassResult._fields)
        for row in evaluation.per_class():
            writer.writerow("" if value != value else _rounded(value) for value in row)
    plot_confusion(_file(folder, CONFUSION, order), evaluation, title)


def write_result(folder, result, left_out):
    """Writes the result and, if videos were skipped, a text file with one line for each of them."""
    if left_out:
        path = os.path.join(folder, LEFT_OUT)
        with open_text(path, "w") as file:
            file.writelines(f"{line}\n" for line in left_out)
    path = os.path.join(folder, RESULT)
    # JSON must be valid UTF-8: bytes of file names that are not become escapes, which JSON reads back.
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(result, file, indent=2, ensure_ascii=False)


def _rounded(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def _file(folder, name, order):
    stem, extension = os.path.splitext(name)
    return os.path.join(folder, name if order == "ordered" else f"{stem}_{order}{extension}")
