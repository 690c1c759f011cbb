"""Evaluates a run's model on a data set by the protocols of the paper, and writes a folder of results."""

import dataclasses
import hashlib
import json
import os

from keras_stm import evaluation, inference
from keras_stm.arguments import ArgumentError
from keras_stm.data import LeftOut, make_views, views
from keras_stm.data.exclude import read_exclude
from keras_stm.data.paths import absolute
from keras_stm.data.shards import is_packed
from keras_stm.data.streams import STREAMS
from keras_stm.export import exported
from keras_stm.file_names import open_text
from keras_stm.progress import counted, tell
from keras_stm.replacing import replacing_folder
from keras_stm.train import evaluation_folder, run_folder
from keras_stm.train.data import CLIPS_OF_DATA, RunData, missing_reasons, open_splits, packed_settings
from keras_stm.train.devices import leave_gpus_to_backend
from keras_stm.train.presets import PRESETS

_LISTED = 5


def evaluate(
    model,
    output=None,
    *,
    data_dir=None,
    dataset=None,
    split="validation",
    fold=None,
    class_order=None,
    group_by=None,
    exclude=None,
    protocol="efficient",
    clips=None,
    crops=None,
    num_frames=None,
    image_size=None,
    frames="ordered",
    seed=0,
    batch_size=32,
    precision="float32",
    workers=None,
    max_unreadable=0.5,
    command=None,
):
    """Evaluates a model and writes the results into the folder `output`.

    Args:
        model: folder that `keras_stm.export.save_device` wrote, which is evaluated in its runtime; or see
            `keras_stm.inference.load`.
        output: folder to write; an evaluation with the same settings in it is replaced. `None` is a folder
            within the run's folder.
        data_dir: see `Config`; `None` is the data that the model was trained on.
        dataset: see `Config`.
        split: `"train"`, `"validation"` or `"test"`.
        fold: see `Config`.
        class_order: see `Config`.
        group_by: see `Config`.
        exclude: see `Config`. On the data that the model was trained on, this and the four other settings
            of the data are as in training if they are `None`, so that the splits are the same.
        protocol: see `keras_stm.data.make_views`.
        clips: see `keras_stm.data.make_views`.
        crops: see `keras_stm.data.make_views`.
        num_frames: frames of a clip; `None` is as in training.
        image_size: height and width of a clip; `None` is as in training.
        frames: see `keras_stm.data.make_views`. With another order than `"ordered"`, the ordered frames are
            evaluated too.
        seed: see `keras_stm.data.make_views`.
        batch_size: see `keras_stm.evaluation.evaluate`.
        precision: see `keras_stm.VideoClassifier`.
        workers: number of videos read at the same time; `None` is the number of processors.
        max_unreadable: share of the videos that may be unreadable.
        command: the command that `result.json` records, or `None`.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the model, the data, the settings and the folder are inconsistent, or too many videos
            are unreadable. Nothing is written then.
    """
    leave_gpus_to_backend()
    trained = load_model(model, precision)
    given = {
        "data_dir": data_dir,
        "dataset": dataset,
        "fold": fold,
        "class_order": class_order,
        "group_by": group_by,
        "exclude": exclude,
    }
    data = data_settings(trained.folder, **given)
    opened, left_out = open_data(split, data, max_unreadable, workers)
    opened = for_model(opened, split, trained)
    options = {
        "clips": clips,
        "crops": crops,
        "num_frames": num_frames or trained.num_frames,
        "image_size": image_size or trained.image_size,
        "sampling": trained.sampling,
        "seed": seed,
        "workers": workers,
        "left_out": left_out,
    }
    orders = {
        order: make_views(opened, protocol, frames=order, **options)
        for order in dict.fromkeys(("ordered", frames))
    }
    settings = {
        **describe_data(data, split, opened, trained),
        "protocol": protocol,
        **orders["ordered"].options,
        "frames": frames,
        "seed": seed,
        "precision": precision,
    }
    output = output_folder(output, settings, trained)
    evaluation_folder.check(output, settings)
    tell(f"{trained.model.name}: {describe(settings)}")
    with replacing_folder(output) as folder:
        results = _score(trained, orders, opened.class_names, batch_size, folder)
        result = {
            "settings": settings,
            "results": {order: summarize(found) for order, found in results.items()},
            "order": compare(results, frames) if frames != "ordered" else None,
            "batch_size": batch_size,
        }
        for order, found in results.items():
            title = f"{trained.model.name}: {describe(settings)}, frames {order}: top-1 {found.top1:.1%}"
            evaluation_folder.write_evaluation(folder, order, found, title)
        finish(folder, result, trained, opened, left_out, command)
    print_report(results, result, output)
    return result


def load_model(path, precision):
    """Loads the model to evaluate: an export for devices, or see `keras_stm.inference.load`."""
    if not exported.is_export(path):
        return inference.load(path, precision)
    if precision != "float32":
        raise ArgumentError("precision", precision, "must not be given for an export, which has its own")
    return exported.load(path)


def describe_data(data, split, opened, trained):
    """Returns the settings of an evaluation that say which videos and which model it is of."""
    return {
        **{name: getattr(data, name) for name in CLIPS_OF_DATA},
        "split": split,
        "class_fingerprint": opened.fingerprint,
        "model_sha256": sha256(trained.file),
        **({"export": trained.model.name} if isinstance(trained.model, exported.ExportedModel) else {}),
    }


def finish(folder, result, trained, opened, left_out, command):
    """Adds what all evaluations tell to `result`, and writes it with the list of skipped videos."""
    result |= {
        "left_out": {"missing": len(opened.missing), "unreadable": len(left_out.reasons)},
        "model": trained.file,
        "command": command,
        **run_folder.environment(),
    }
    missing = missing_reasons(opened.missing)
    evaluation_folder.write_result(folder, result, [*missing.values(), *left_out.reasons.values()])


def output_folder(output, settings, trained):
    """Returns the absolute path of the folder to write; the default is within the run's folder."""
    if not output:
        name = name_evaluation(settings, trained)
        output = os.path.join(trained.folder, run_folder.EVALUATION, name)
    return os.path.abspath(os.path.expanduser(output))


def _score(trained, orders, class_names, batch_size, folder):
    """Returns `{order: Evaluation}` for each order of frames; writes the scores of each video to `folder`."""
    is_export = isinstance(trained.model, exported.ExportedModel)
    predict_fn = trained.model if is_export else inference.predict_fn(trained.model)
    results = {}
    for order, views_of in orders.items():
        if len(orders) > 1:
            tell(f"Frames {order}:")
        with evaluation_folder.write_scores(folder, order, class_names) as on_video:
            results[order] = evaluation.evaluate(predict_fn, views_of, class_names, batch_size, on_video)
    return results


def data_settings(run, **given):
    """Returns the `Config` of a data set; for packed clips, with the data set that was packed.

    Args:
        run: folder of a run. If the data set is the one that it was trained on, settings that are not given
            are those of the run. The folder may have no run.
        given: fields of `CLIPS_OF_DATA`; `None` is not given.

    Raises:
        ValueError: a setting is wrong, or the run's `config.json` is damaged.
    """
    given = {name: value for name, value in given.items() if value is not None}
    given |= {name: absolute(given[name]) for name in ("data_dir", "exclude") if name in given}
    file = os.path.join(run, run_folder.CONFIG)
    if os.path.isfile(file):
        try:
            with open_text(file) as opened:
                trained = dict(json.load(opened)["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArgumentError("model", run, f"must have a whole {run_folder.CONFIG} ({error!r})") from error
        places = ("data_dir", "dataset")
        if all(given.get(name, trained.get(name)) == trained.get(name) for name in places):
            given = {name: trained[name] for name in CLIPS_OF_DATA if name in trained} | given
    settings = dataclasses.replace(PRESETS["small"], **{**CLIPS_OF_DATA, **given})
    is_of_packed = settings.data_dir and is_packed(settings.data_dir)
    return packed_settings(settings) if is_of_packed else settings


def open_data(split, settings, max_unreadable, workers):
    """Opens a split of a data set, with the same clips as in training.

    Args:
        split: see `evaluate`.
        settings: result of `data_settings`.
        max_unreadable: see `evaluate`.
        workers: see `evaluate`.

    Returns:
        `Dataset`, and the `LeftOut` for unreadable clips. It has some already if validation clips are set
        apart.

    Raises:
        ValueError: there is no such data, or too many clips are unreadable.
    """
    excluded = read_exclude(settings.exclude) if settings.exclude else ()
    (opened,) = open_splits(settings, (split,), excluded)
    if opened.set_apart:
        # Training splits off validation clips from the readable clips. Do the same: otherwise some
        # training clips would be here.
        of_run = RunData(
            dataclasses.replace(settings, batch_size=1), max_unreadable, workers or os.cpu_count()
        )
        return getattr(of_run, split), of_run.left_out
    if opened.missing:
        tell(f"Skipped {counted(len(opened.missing), 'missing video')}, which the data set lists.")
    return opened, LeftOut(len(opened.records), max_unreadable, tell)


def for_model(opened, split, trained):
    """Returns a `Dataset` with the model's order of classes."""
    if any(label is None for _, label in opened.records):
        raise ValueError(
            f"`split`: the {split} videos have no labels to compare with; use `keras-stm predict` to predict "
            "their classes."
        )
    try:
        return opened.with_class_names(trained.class_names)
    except ValueError as error:
        raise ValueError(
            f"`model` was trained for other classes than the data set has: {error}. Pass the data set that "
            f"it was trained on, or train it for these classes: keras-stm fit --weights={trained.file}"
        ) from error


def describe(settings):
    """Returns a description of what is evaluated."""
    return f"{_data_name(settings)} {settings['split']}, {describe_views(settings)}"


def describe_views(settings):
    """Returns a description of the views of a video."""
    if "streams" in settings:
        views_of = counted(settings["streams"], "stream")
    else:
        views_of = f"{counted(settings['clips'], 'clip')} x {counted(settings['crops'], 'crop')}"
    described = f"{views_of} of {counted(settings['num_frames'], 'frame')}, {settings['image_size']} px"
    # Earlier evaluations, of which this is asked too, know only one precision.
    precision = settings.get("precision", "float32")
    return described if precision == "float32" else f"{described}, {precision}"


def sha256(path):
    """Returns the SHA-256 hash of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_evaluation(settings, trained):
    """Returns the name of the folder: what is evaluated, and each setting that is not the default."""
    protocol = settings["protocol"]
    if protocol in views.PROTOCOLS:
        views_of = (settings["clips"], settings["crops"])
        protocol = protocol if views_of == views.PROTOCOLS[protocol] else "{}x{}".format(*views_of)
    parts = [_data_name(settings), settings["split"], protocol]
    for name, usual, part in (
        ("num_frames", trained.num_frames, "{}frames"),
        ("image_size", trained.image_size, "{}px"),
        ("frames", "ordered", "{}"),
        ("streams", STREAMS, "{}streams"),
        ("fold", 1, "fold{}"),
        ("seed", 0, "seed{}"),
        ("export", None, "{}"),
        ("precision", "float32", "{}"),
    ):
        if settings.get(name, usual) != usual:
            parts.append(part.format(settings[name]))
    return "-".join(parts)


def _data_name(settings):
    if settings["data_dir"] is None:
        return "arrow_of_time"
    if settings["dataset"] in ("folder", "list", "spans", "label_studio"):
        return os.path.splitext(os.path.basename(settings["data_dir"].rstrip("/")))[0]
    return settings["dataset"]


def summarize(result):
    """Returns the numbers of an `Evaluation` for JSON; shares are from 0 to 1."""
    return {
        "videos": result.num_videos,
        "classes_with_videos": int((result.class_counts > 0).sum()),
        "top1": result.top1,
        "top5": result.top5,
        "mean_class_accuracy": result.mean_class_accuracy,
        "reversible_classes": int(result.reversible.sum()),
        "within_pair_accuracy": result.within_pair_accuracy,
        "called_reversal": result.called_reversal,
        "worst_confusions": [confusion._asdict() for confusion in result.worst_confusions()],
    }


def compare(results, frames):
    """Returns top-1 with ordered and with altered frames, and the difference: the effect of frame order."""
    ordered, altered = results["ordered"], results[frames]
    return {
        "frames": frames,
        "top1_ordered": ordered.top1,
        f"top1_{frames}": altered.top1,
        "difference": ordered.top1 - altered.top1,
    }


def print_report(results, result, output):
    """Prints the accuracies, the most frequent mistakes, and the number of skipped videos."""
    for order, found in results.items():
        tell(f"\nFrames {order}:" if len(results) > 1 else "")
        print_accuracy(found, with_mistakes=order == "ordered")
    order = result["order"]
    if order:
        altered = results[order["frames"]]
        tell(
            f"\nFrame order accounts for {100 * order['difference']:.1f} points of top-1: "
            f"{order['top1_ordered']:.1%} ordered, {altered.top1:.1%} {order['frames']}"
        )
        if order["frames"] == "reversed" and altered.called_reversal is not None:
            tell(
                f"{altered.called_reversal:.1%} of the reversed clips of these classes are predicted as the "
                "time reversal of their class"
            )
    print_end(result, output)


def print_accuracy(found, with_mistakes):
    """Prints the accuracies of an `Evaluation` and, if asked, its most frequent mistakes."""
    top5 = f", top-5 {found.top5:.1%}" if len(found.class_names) > 5 else ""
    tell(
        f"top-1 {found.top1:.1%}{top5}, mean class accuracy {found.mean_class_accuracy:.1%} of "
        f"{counted(found.num_videos, 'video')}"
    )
    if found.within_pair_accuracy is not None:
        tell(
            f"within-pair accuracy {found.within_pair_accuracy:.1%}: share of videos whose class scores "
            f"higher than its time reversal; by their names, {found.reversible.sum()} of "
            f"{len(found.class_names)} classes have one"
        )
    if with_mistakes and found.worst_confusions():
        tell("Most frequent mistakes:")
        for confusion in found.worst_confusions(_LISTED):
            tell(
                f"  {confusion.count:5,} ({confusion.share:4.0%} of the class)  "
                f"{confusion.true} -> {confusion.predicted}"
            )


def print_end(result, output):
    """Prints the number of skipped videos, and where the results are."""
    for what, count in result["left_out"].items():
        if count:
            tell(f"Skipped {counted(count, f'{what} video')}: {run_folder.LEFT_OUT}")
    tell(f"Tables, scores and confusion matrix: {output}")
