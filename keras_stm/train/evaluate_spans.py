"""Compares predicted spans of videos with true ones, and writes the result."""

import json
import os

from keras_stm.arguments import ArgumentError
from keras_stm.data.catalog.label_studio import read_label_studio
from keras_stm.data.catalog.spans import read_spans
from keras_stm.data.paths import absolute
from keras_stm.progress import counted, tell
from keras_stm.replacing import replacing
from keras_stm.temporal_map import evaluate_spans as compare
from keras_stm.train import run_folder
from keras_stm.train.evaluation_folder import RESULT

_READERS = {"spans": read_spans, "label_studio": read_label_studio}


def evaluate_spans(spans, data_dir, output, *, dataset="spans", split="validation", command=None):
    """Measures the mean average precision of predicted spans; prints it and writes `result.json`.

    Args:
        spans: CSV file of predicted spans, as `predicting.predict` writes it. Videos of other splits of the
            data set are ignored. Spans of videos that the data set does not have are wrong.
        data_dir: path of the true spans; see `open_dataset`.
        output: folder to write into. An earlier result is replaced.
        dataset: `"spans"` or `"label_studio"`.
        split: split of the data set; without splits, all spans are used.
        command: the command that `result.json` records, or `None`.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: a file is not as expected, or has no spans of these videos.
    """
    if dataset not in _READERS:
        raise ArgumentError(
            "dataset", dataset, f"must be one of {', '.join(map(repr, _READERS))} with `spans`"
        )
    spans, data_dir, output = map(absolute, (spans, data_dir, output))
    if not os.path.isfile(spans):
        raise ArgumentError("spans", spans, "must be a CSV file of predicted spans")
    _, every = _READERS[dataset](data_dir)
    has_splits = any(span.split for span in every)
    true = [span for span in every if span.start is not None and (not has_splits or span.split == split)]
    if not true:
        raise ArgumentError("split", split, f"must have spans in {data_dir}")
    others = {span.video for span in every} - {span.video for span in true}
    predicted = [span for span in read_spans(spans, has_score=True)[1] if span.video not in others]
    if predicted and not {span.video for span in predicted} & {span.video for span in true}:
        raise ValueError(
            f"{spans}: expected spans of videos in {data_dir}, for example {true[0].video}. "
            f"Received: {predicted[0].video}"
        )
    found = compare(
        [(span.video, span.start, span.end, span.label) for span in true],
        [(span.video, span.start, span.end, span.label, span.score) for span in predicted],
    )
    result = {
        "settings": {
            "spans": spans,
            "data_dir": data_dir,
            "dataset": dataset,
            "split": split if has_splits else None,
        },
        "mean_average_precision": found.mean,
        "average_precision": found.average_precision,
        "true_spans": found.num_true,
        "predicted_spans": found.num_predicted,
        "predicted_spans_of_other_classes": found.num_ignored,
        "command": command,
        **run_folder.environment(),
    }
    os.makedirs(output, exist_ok=True)
    with replacing(os.path.join(output, RESULT)) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2, ensure_ascii=False)
    print_report(result, output)
    return result


def print_report(result, output):
    """Prints the mean average precision and that of each class."""
    mean, true, predicted = (
        result[name] for name in ("mean_average_precision", "true_spans", "predicted_spans")
    )
    width = max(map(len, (*true, "mean")))
    tell(f"{'':{width}}{''.join(f'  IoU {each}' for each in mean)}   true  predicted")
    rows = [(name, row, true[name], predicted[name]) for name, row in result["average_precision"].items()]
    for name, row, *counts in (*rows, ("mean", mean, sum(true.values()), sum(predicted.values()))):
        shares = "".join(f"{share:9.1%}" for share in row.values())
        tell(f"{name:{width}}{shares}{counts[0]:7,}{counts[1]:11,}")
    ignored = result["predicted_spans_of_other_classes"]
    if ignored:
        tell(f"Ignored {counted(ignored, 'predicted span')} of classes without true spans.")
    tell(f"Result: {os.path.join(output, RESULT)}")
