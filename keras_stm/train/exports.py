"""Writes several exports of a run, and measures each on validation clips, in turn on the same machine."""

import contextlib
import dataclasses
import itertools
import json
import os
import tempfile
import time
import typing

import numpy as np

from keras_stm import export, inference
from keras_stm.arguments import ArgumentError
from keras_stm.data import make_views
from keras_stm.export import device, exported, web
from keras_stm.formats import MODELS
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.models.stream import stream_model
from keras_stm.progress import Progress, tell
from keras_stm.replacing import PARTIAL, replacing
from keras_stm.train import run_folder
from keras_stm.train.evaluate import data_settings, for_model, open_data

REPORT = "exports.json"
# Most validation clips that are measured, and clips of noise where there is no data.
_MEASURED = 400
_NOISE = 30
# Clips that a model scores before it is the next one's turn. The first of them is not timed: the threads of
# the model before may still be busy, and a runtime prepares itself.
_TURN = 10
_MIB = 2**20


class Row(typing.NamedTuple):
    """One line of the report.

    Attributes:
        format: one of `keras_stm.formats.FORMATS`.
        precision: one of `keras_stm.formats.PRECISIONS`.
        path: absolute path of the folder.
        bytes: size of the model's files.
        clips_per_second: one clip after the other, the median; `None` for a web page.
        ratio: `clips_per_second` over that of float32 in the same format.
        top1: accuracy from 0 to 1, like the next two only with data.
        top1_drop: that of the Keras model minus `top1`.
        score_difference: largest difference of a score from the Keras model.
        agreement: share of the clips with the best class of the Keras model.
    """

    format: str
    precision: str
    path: str
    bytes: int
    clips_per_second: float | None = None
    ratio: float | None = None
    top1: float | None = None
    top1_drop: float | None = None
    score_difference: float | None = None
    agreement: float | None = None


def write_exports(
    model,
    output=None,
    formats=("onnx",),
    precisions=("float32",),
    *,
    top_k=5,
    stream=False,
    rate=None,
    runtime=None,
    calibration_clips=200,
    max_drop=None,
    max_unreadable=0.5,
    workers=None,
    **data,
):
    """Writes each format in each precision into `output/<format>-<precision>`, and measures them.

    Prints a table, and writes it into `output/exports.json`, a list of `Row`s. Rows of earlier exports in
    the folder stay.

    Args:
        model: see `keras_stm.inference.load`.
        output: folder to write into. `None` is `exports`, next to the model.
        formats: some of `keras_stm.formats.FORMATS`.
        precisions: some of `keras_stm.formats.PRECISIONS`.
        top_k: see `keras_stm.export.save`.
        stream: see `keras_stm.export.save_device`.
        rate: see `keras_stm.export.save_web`. `None` is the rate of the training.
        runtime: see `keras_stm.export.save_web`.
        calibration_clips: number of training clips for int8.
        max_drop: largest loss of top-1 in percentage points; an export that loses more is not written.
        max_unreadable: see `keras_stm.train.evaluate.evaluate`.
        workers: see `keras_stm.train.evaluate.evaluate`.
        **data: see `keras_stm.train.evaluate.data_settings`. By default, the data of the run is used. Without
            any, accuracies are not measured.

    Returns:
        List of the `Row`s of the written exports, and list of those that lose more than `max_drop`.

    Raises:
        ValueError: an export exists, data is needed and missing, or an argument is not as above.
        ImportError: a package is not installed.
    """
    trained = inference.load(model)
    output = os.path.abspath(os.path.expanduser(output or os.path.join(trained.folder, device.EXPORTS)))
    wanted = [(format, precision) for format in formats for precision in precisions]
    _check(wanted, output)
    clips = _Clips(trained, data, max_unreadable, workers)
    if max_drop is not None:
        clips.require("max_drop", max_drop)
    settings = {
        "class_names": trained.class_names,
        "num_frames": trained.num_frames,
        "image_size": trained.image_size,
    }
    rate = trained.rate if rate is None else rate
    # Errors come before the first export is written.
    if stream or "web" in formats:
        stream_model(trained.model, trained.image_size, trained.num_frames)
    if "web" in formats:
        rate_of_page(rate)
        web.runtime_files(runtime)
    calibration = None
    if "int8" in precisions:
        clips.require("precision", "int8")
        calibration = clips.calibration(calibration_clips)

    def write(format, precision, path):
        purpose = "" if (format, precision) in wanted else ", to compare with"
        tell(f"Writing {format}, {precision}{purpose}")
        if format == "saved_model":
            export.save(
                trained.model,
                os.path.join(path, "1"),
                **settings,
                sampling=trained.sampling,
                top_k=top_k,
                precision=precision,
            )
        elif format == "web":
            export.save_web(trained.model, path, **settings, rate=rate, runtime=runtime, precision=precision)
        else:
            export.save_device(
                trained.model,
                path,
                format,
                precision,
                **settings,
                sampling=trained.sampling,
                rate=rate,
                stream=stream,
                clips=calibration,
            )

    os.makedirs(output, exist_ok=True)
    # Nothing is in its place before it is measured.
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=output) as folder:
        # The speed of each export is compared with float32 in the same format.
        exact = [(format, "float32") for format in formats if format != "web"]
        for format, precision in dict.fromkeys([*wanted, *exact]):
            write(format, precision, os.path.join(folder, name_export(format, precision)))
        rows = _measure(trained, folder, list(dict.fromkeys([*wanted, *exact])), clips)
        rows = [row for row in rows if (row.format, row.precision) in wanted]
        _print_table(rows, clips, trained)
        refused = [
            row for row in rows if max_drop is not None and row.top1_drop and 100 * row.top1_drop > max_drop
        ]
        kept = []
        for row in rows:
            if row not in refused:
                path = os.path.join(output, name_export(row.format, row.precision))
                os.rename(row.path, path)
                kept.append(row._replace(path=path))
    _write_report(output, kept)
    return kept, refused


def rate_of_page(rate):
    """Returns the rate of a web page, or raises `ValueError` if the model does not state it."""
    if rate is None:
        raise ArgumentError(
            "rate", rate, "must be given: the model's file does not contain the rate of its training"
        )
    return rate


def name_export(format, precision):
    """Returns the name of the folder of an export."""
    return f"{format}-{precision}"


def _check(wanted, output):
    for format, precision in wanted:
        if precision == "int8" and format not in MODELS:
            raise ArgumentError(
                "precision",
                precision,
                f"is for {', '.join(MODELS)}",
                f"precision='int8', format={format!r}",
            )
        if format in MODELS:
            export.need_for_devices(format, precision)
        path = os.path.join(output, name_export(format, precision))
        if os.path.exists(path):
            raise ArgumentError("output", path, "must not exist. Remove it, or pass another folder")


class _Clips:
    """Clips of the data set of a run, or `found` is false and `reason` says why there are none."""

    def __init__(self, trained, data, max_unreadable, workers):
        self._trained = trained
        self._options = (max_unreadable, workers)
        self.found, self.reason = False, None
        is_run = os.path.isfile(os.path.join(trained.folder, run_folder.CONFIG))
        if not is_run and not data.get("data_dir"):
            self.reason = "the model is not in the folder of its run, and `data_dir` is not given"
            return
        try:
            self._settings = data_settings(trained.folder, **data)
            self._opened, self._left_out = self._open("validation")
        except (ValueError, OSError) as error:
            # Data that is named must be there; that of the training may have gone.
            if data.get("data_dir"):
                raise
            self.reason = f"the data of the training cannot be read ({error})"
        else:
            self.found = True

    def _open(self, split):
        opened, left_out = open_data(split, self._settings, *self._options)
        return for_model(opened, split, self._trained), left_out

    def require(self, argument, value):
        """Raises `ValueError` for an argument that needs data if there is none."""
        if not self.found:
            raise ArgumentError(argument, value, f"needs clips, but {self.reason}")

    def calibration(self, count):
        """Returns preprocessed training clips, evenly from the whole split."""
        opened, left_out = self._open("train")
        views = self._views(_thin(opened, count), left_out)
        return np.concatenate([clips for _, _, clips in views])

    def validation(self):
        """Yields `(label, clip)`, or `(None, noise)` if there is no data."""
        if self.found:
            for _, label, clips in self._views(_thin(self._opened, _MEASURED), self._left_out):
                yield label, clips
            return
        shape = (1, self._trained.num_frames, self._trained.image_size, self._trained.image_size, 3)
        for seed in range(_NOISE):
            yield None, np.random.default_rng(seed).normal(size=shape).astype("float32")

    def __len__(self):
        return min(len(self._opened.records), _MEASURED) if self.found else _NOISE

    def _views(self, opened, left_out):
        trained = self._trained
        return make_views(
            opened,
            num_frames=trained.num_frames,
            image_size=trained.image_size,
            sampling=trained.sampling,
            workers=self._options[1],
            left_out=left_out,
        )


def _thin(opened, count):
    """Returns a `Dataset` with at most `count` of the clips, evenly from first to last."""
    total = len(opened.records)
    chosen = np.arange(min(count, total)) * total // min(count, total)
    return dataclasses.replace(opened, records=[opened.records[index] for index in chosen])


def _measure(trained, folder, names, clips):
    """Returns a `Row` for each `(format, precision)`, whose folders are in `folder`."""
    paths = {name: os.path.join(folder, name_export(*name)) for name in names}
    models = {name: _open_export(name[0], path) for name, path in paths.items()}
    models = {name: model for name, model in models.items() if model}
    models["keras"] = inference.predict_fn(fold_batch_norm(trained.model))
    seconds = {name: [] for name in models}
    scores = {name: [] for name in models}
    labels = []
    progress = Progress(len(clips), "clip", "Measuring")
    validation = clips.validation()
    while turn := list(itertools.islice(validation, _TURN)):
        labels += [label for label, _ in turn]
        for name, model in models.items():
            for number, (_, clip) in enumerate(turn):
                start = time.perf_counter()
                scores[name].append(model(clip)[0])
                if number or len(turn) == 1:
                    seconds[name].append(time.perf_counter() - start)
        progress.update(len(labels))
    speed = {name: 1 / np.median(each) for name, each in seconds.items()}
    scores = {name: np.stack(each) for name, each in scores.items()}
    rows = []
    for name, path in paths.items():
        row = Row(*name, path, _size(path))
        if name in models:
            ratio = speed[name] / speed[name[0], "float32"]
            row = row._replace(clips_per_second=float(speed[name]), ratio=float(ratio))
            if clips.found:
                row = row._replace(**_compare(scores[name], scores["keras"], np.array(labels)))
        rows.append(row)
    return rows


def _compare(scores, expected, labels):
    best, best_expected = scores.argmax(axis=1), expected.argmax(axis=1)
    top1 = float((best == labels).mean())
    return {
        "top1": top1,
        "top1_drop": float((best_expected == labels).mean()) - top1,
        "score_difference": float(np.abs(scores - expected).max()),
        "agreement": float((best == best_expected).mean()),
    }


def _open_export(format, path):
    """Returns a function from one preprocessed clip to scores; `None` for a page, which needs a browser."""
    if format == "web":
        return None
    if format != "saved_model":
        return exported.load(path).model
    import tensorflow as tf

    loaded = tf.saved_model.load(os.path.join(path, "1"))
    signature = loaded.signatures["float"]
    # The function must keep the loaded model: the signature does not.
    return lambda clip, keep=loaded: signature(clip=tf.constant(clip))["scores"].numpy()


def _size(path):
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(map(os.path.getsize, files))


def _print_table(rows, clips, trained):
    if clips.found:
        tell(f"\n{trained.model.name}: {len(clips)} validation clips, one at a time, on this machine")
    else:
        tell(f"\n{trained.model.name}: no accuracy, because {clips.reason}")
    columns = ("format", "precision", "MiB", "clips/s", "ratio", "top-1", "lost", "scores", "same class")
    cells = [columns]
    for row in rows:
        cells.append(
            (
                row.format,
                row.precision,
                f"{row.bytes / _MIB:.1f}",
                _shown(row.clips_per_second, "{:.1f}"),
                _shown(row.ratio, "{:.2f}"),
                _shown(row.top1, "{:.1%}"),
                "-" if row.top1_drop is None else f"{100 * row.top1_drop:+.1f}",
                _shown(row.score_difference, "{:.0e}"),
                _shown(row.agreement, "{:.1%}"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        texts = (
            text.ljust(width) if index < 2 else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        tell("  ".join(texts).rstrip())
    tell("ratio: speed to float32 in the same format; lost: points of top-1; scores: largest difference")


def _shown(value, form):
    return "-" if value is None else form.format(value)


def _write_report(output, rows):
    path = os.path.join(output, REPORT)
    before = []
    with contextlib.suppress(OSError, ValueError, TypeError):
        with open(path, encoding="utf-8") as file:
            before = [row for row in json.load(file) if os.path.isdir(row["path"])]
    names = {row.path for row in rows}
    before = [row for row in before if row["path"] not in names]
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump([*before, *(row._asdict() for row in rows)], file, indent=1)
        file.write("\n")
