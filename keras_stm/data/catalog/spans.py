"""Opens CSV files of labelled spans of videos."""

import math
import os

from keras_stm.class_names import is_line
from keras_stm.data.catalog.annotations import by_name, read_table
from keras_stm.data.catalog.clips import SPLIT_NAMES
from keras_stm.data.catalog.parts import Span, find_annotations, open_spans_of
from keras_stm.data.fragment import microseconds

COLUMNS = ("video", "start", "end", "label")
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def open_spans(root, split, exclude, *, validation_split, seed):
    """Opens the spans of a CSV file with the columns `video`, `start`, `end`, `label` and perhaps `split`."""
    file, spans = read_spans(root)
    return open_spans_of(file, spans, split, exclude, validation_split, seed)


def read_spans(root, has_score=False):
    """Returns the path of the CSV file, and its rows as a list of `Span` with unique paths.

    Args:
        root: path of the file, or of a folder with `spans.csv` or with one file that ends in `.csv`.
        has_score: whether the spans are predictions. They have a column `score`, and may occur with
            several labels.

    Raises:
        ValueError: the file is missing, a row is not as expected, or a span occurs twice.
    """
    file = find_annotations(root, "spans.csv", ".csv", f"a CSV file of {','.join(COLUMNS)}")
    folder = os.path.dirname(file)

    def parse(row):
        fields = row.value
        if not fields["video"] or not fields["label"]:
            raise row.expected("a video and a label")
        if not is_line(fields["label"]):
            raise row.expected("a label in UTF-8")
        start, end = microseconds(fields["start"]), microseconds(fields["end"])
        if start is None or end is None or start >= end:
            raise row.expected("a start and a later end, in seconds, mm:ss or hh:mm:ss")
        split = _SPLIT_OF.get(fields["split"].lower()) if "split" in fields else None
        if "split" in fields and split is None:
            raise row.expected(f"a split out of {', '.join(_SPLIT_OF)}, not {fields['split'][:40]!r}")
        score = _number(fields["score"]) if has_score else None
        if has_score and score is None:
            raise row.expected("a number as score")
        # The path is normalised, so that a span that is listed twice is found.
        video = os.path.normpath(os.path.join(folder, fields["video"]))
        span = Span(video, start, end, fields["label"], split, score)
        name = span.path.removeprefix(os.path.join(folder, ""))
        return (name, span.label) if has_score else name, span

    rows = read_table(file, (*COLUMNS, "score") if has_score else COLUMNS)
    return file, list(by_name(rows, parse).values())


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
