"""Measures how good a trained model is, by the protocols of the paper.

  python training/evaluate.py --model=saved_models/small-stm_small       # on the embedded data set
  python training/evaluate.py --model=RUN --data_dir=FOLDER              # your clips, as for fit.py
  python training/evaluate.py --model=RUN --data_dir=FOLDER --dataset=something_v2 --protocol=paper
  python training/evaluate.py --model=RUN --frames=reversed              # what hangs on the order of frames?

--protocol=efficient takes one view of each video, the middle frames of its segments and the centre crop
(section 4.6, Table 9); paper averages the scores of 30, 10 random clips of 3 crops each (section 4.2).
--frames also evaluates clips whose frames are reversed, shuffled or all the middle one, which is what the
paper's Figure 4 is about.

Prints the result and writes into --output:
  result.json      all numbers, the settings, what they depend on
  per_class.csv    a row for each class
  scores.csv       a row for each video: path, label, predicted, the score of each class
  confusion.png    who is called what
  left_out.txt     the videos that are missing or could not be read, if any
and with --frames the three in the middle once more for those.
"""

import dataclasses
import hashlib
import os
import shlex
import sys

import before_tensorflow  # noqa: F401

# isort: split
import keras
import tensorflow as tf
from absl import flags

import command_line
import config
import distribution
import evaluation_folder
import run_data
import run_folder
from keras_stm import evaluation, inference
from keras_stm.data import LeftOut, make_views, views
from keras_stm.data.catalog import SPLITS
from keras_stm.data.packed import is_packed

_LISTED = 5


def define_flags(values):
    flags.DEFINE_string(
        "model", None, "Folder of a run of fit.py, or the .keras file in it.", flag_values=values
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of the data set, or one that pack.py wrote, as for fit.py. Default: the embedded data set.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dataset",
        "folder",
        config.UNPACKED,
        "What --data_dir holds, as for fit.py. A folder that pack.py wrote is known by itself.",
        flag_values=values,
    )
    flags.DEFINE_enum("split", "validation", list(SPLITS), "Which of its videos.", flag_values=values)
    flags.DEFINE_integer(
        "fold", 1, "Split of UCF-101 and HMDB-51.", lower_bound=1, upper_bound=3, flag_values=values
    )
    flags.DEFINE_enum(
        "class_order",
        "sorted",
        ["sorted", "raw"],
        "Something-Something v1, as for fit.py; the labels follow the model's order in any case.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "exclude", None, "Text file of clips to leave out, as check_data.py writes it.", flag_values=values
    )
    flags.DEFINE_enum(
        "protocol",
        "efficient",
        list(views.PROTOCOLS),
        "'efficient' is one view of each video, 'paper' 10 random clips of 3 crops each.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "clips", None, "Other clips over time than the protocol's.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "crops",
        None,
        list(map(str, views.CROPS)),
        "Other crops of each than the protocol's.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_frames", None, "Frames of a clip. Default: as in training.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "Height and width of a clip in pixels. Default: as in training.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "frames",
        "ordered",
        list(views.FRAMES),
        "Also evaluate with this order of a clip's frames.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed", 0, "Of random clips and of shuffled frames.", lower_bound=0, flag_values=values
    )
    flags.DEFINE_integer(
        "batch_size",
        32,
        "Clips at a time; those of one video even where they are more.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "workers",
        None,
        "Videos read at the same time. Twice as many are in memory, with --protocol=paper 145 MB each at 8 "
        "frames of 224 pixels. Default: the number of processors.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_unreadable",
        0.5,
        "Stop once more than this share of the videos turned out to be unreadable.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder for what is written. Default: one in <model>/evaluation that is named for what is evaluated.",
        flag_values=values,
    )
    distribution.define_flags(values)


def main(argv):
    values, _ = command_line.parse(define_flags, argv, __doc__)
    if not values.model:
        sys.exit("evaluate.py: --model is missing: the folder of a run of fit.py, or a .keras file")
    try:
        with distribution.start(values.distribution).scope():
            evaluate(
                values.model,
                values.output,
                data_dir=values.data_dir,
                dataset=values.dataset,
                split=values.split,
                fold=values.fold,
                class_order=values.class_order,
                exclude=values.exclude,
                protocol=values.protocol,
                clips=values.clips,
                crops=values.crops and int(values.crops),
                num_frames=values.num_frames,
                image_size=values.image_size,
                frames=values.frames,
                seed=values.seed,
                batch_size=values.batch_size,
                workers=values.workers,
                max_unreadable=values.max_unreadable,
                command=shlex.join(argv),
            )
    except KeyboardInterrupt:
        print("\nevaluate.py: stopped; nothing was written.", file=sys.stderr, flush=True)
        # Not sys.exit, which waits until the videos that are being read have been.
        os._exit(1)
    except tf.errors.OpError as error:
        sys.exit(f"evaluate.py: {error.message.splitlines()[0]}")
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        sys.exit(f"evaluate.py: {error}")


def evaluate(
    model,
    output=None,
    *,
    data_dir=None,
    dataset="folder",
    split="validation",
    fold=1,
    class_order="sorted",
    exclude=None,
    protocol="efficient",
    clips=None,
    crops=None,
    num_frames=None,
    image_size=None,
    frames="ordered",
    seed=0,
    batch_size=32,
    workers=None,
    max_unreadable=0.5,
    command=None,
):
    """Evaluates a model and fills the folder `output`.

    Args:
        model: what `keras_stm.inference.load` takes.
        output: folder that is written, or replaced where it holds an evaluation with the same settings;
            `None` is one in the run's.
        data_dir, dataset, fold, class_order, exclude: as for `fit.py`.
        split: `"train"`, `"validation"` or `"test"`.
        protocol, clips, crops, frames, seed: as for `keras_stm.data.make_views`. With other `frames` the
            ordered ones are evaluated too.
        num_frames, image_size: of a clip; `None` is as in training.
        batch_size: as for `keras_stm.evaluation.evaluate`.
        workers: videos read at the same time; `None` is the number of processors.
        max_unreadable: share of the videos that may turn out to be unreadable.
        command: what `result.json` says that it was made by.

    Returns:
        What is in `result.json`.

    Raises:
        ValueError: the model, the data, the settings and the folder do not go together, or too many videos
            cannot be read. Nothing is written then.
    """
    if keras.backend.backend() != "tensorflow":
        # It only reads data, and would take the GPU's memory from the backend.
        tf.config.set_visible_devices([], "GPU")
    trained = inference.load(model)
    given = {"dataset": dataset, "fold": fold, "class_order": class_order}
    data = data_settings(data_dir=data_dir, exclude=exclude, **given)
    opened, left_out = open_data(trained, split, data, max_unreadable, workers)
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
        **{name: getattr(data, name) for name in (*given, "data_dir", "exclude")},
        "split": split,
        "protocol": protocol,
        **orders["ordered"].options,
        "frames": frames,
        "seed": seed,
        "class_fingerprint": opened.fingerprint,
        "model_sha256": sha256(trained.file),
    }
    name = name_evaluation(settings, trained)
    output = os.path.abspath(
        os.path.expanduser(output or os.path.join(os.path.dirname(trained.file), run_folder.EVALUATION, name))
    )
    evaluation_folder.check(output, settings)
    print(f"{trained.model.name}: {describe(settings)}", flush=True)

    predict_fn = inference.predict_fn(trained.model)
    with evaluation_folder.replacing(output) as folder:
        results = {}
        for order, order_views in orders.items():
            if len(orders) > 1:
                print(f"Frames {order}:", flush=True)
            with evaluation_folder.write_scores(folder, order, opened.class_names) as on_video:
                results[order] = evaluation.evaluate(
                    predict_fn, order_views, opened.class_names, batch_size, on_video
                )
        result = {
            "settings": settings,
            "results": {order: summarize(result) for order, result in results.items()},
            "order": compare(results, frames) if frames != "ordered" else None,
            "left_out": {"missing": len(opened.missing), "unreadable": len(left_out.reasons)},
            "model": trained.file,
            "batch_size": batch_size,
            "command": command,
            **run_folder.environment(),
        }
        for order, found in results.items():
            title = f"{trained.model.name}: {describe(settings)}, frames {order}: top-1 {found.top1:.1%}"
            evaluation_folder.write_evaluation(folder, order, found, title)
        missing = [f"{path}: in the data set's lists, but not there" for path in opened.missing]
        evaluation_folder.write_result(folder, result, [*missing, *left_out.reasons.values()])
    print_report(results, result, output)
    return result


def data_settings(data_dir, exclude, **given):
    """The `config.Config` of some data, of packed clips that of what was packed."""
    settings = dataclasses.replace(
        config.PRESETS["small"],
        data_dir=run_data.absolute(data_dir),
        exclude=run_data.absolute(exclude),
        **given,
    )
    return run_data.packed_settings(settings) if data_dir and is_packed(settings.data_dir) else settings


def open_data(trained, split, settings, max_unreadable, workers):
    """The clips with their labels in the model's order, and the `LeftOut` of those that cannot be read."""
    excluded = run_data.read_exclude(settings.exclude) if settings.exclude else ()
    (opened,) = run_data.open_splits(settings, (split,), excluded)
    if opened.set_apart:
        # fit.py sets apart from the clips that it can read. Of others, some that it trained on would be here.
        of_run = run_data.RunData(
            dataclasses.replace(settings, batch_size=1), max_unreadable, workers or os.cpu_count()
        )
        opened, left_out = getattr(of_run, split), of_run.left_out
    else:
        left_out = LeftOut(len(opened.records), max_unreadable, print)
        if opened.missing:
            print(f"{len(opened.missing)} videos are in the data set's lists, but not there.")
    if any(label is None for _, label in opened.records):
        raise ValueError(
            f"--split: the {split} videos have no labels to compare with; predict.py names what is in them."
        )
    try:
        return opened.with_class_names(trained.class_names), left_out
    except ValueError as error:
        raise ValueError(
            f"--model was trained for other classes than the data set has: {error}. Give the data set that "
            f"it was trained on, or train it for these classes: fit.py --weights={trained.file}"
        ) from error


def describe(settings):
    """What is evaluated, in words."""
    plural = {name: "" if settings[name] == 1 else "s" for name in ("clips", "crops", "num_frames")}
    return (
        f"{_data_name(settings)} {settings['split']}, {settings['clips']} clip{plural['clips']} x "
        f"{settings['crops']} crop{plural['crops']} of {settings['num_frames']} frame{plural['num_frames']}, "
        f"{settings['image_size']} px"
    )


def sha256(path):
    """64 hex digits that stand for a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_evaluation(settings, trained):
    """The name of the folder: what is evaluated, and what of it is not as usual."""
    views_of = (settings["clips"], settings["crops"])
    is_protocol = views_of == views.PROTOCOLS[settings["protocol"]]
    parts = [
        _data_name(settings),
        settings["split"],
        settings["protocol"] if is_protocol else "{}x{}".format(*views_of),
    ]
    for name, usual, part in (
        ("num_frames", trained.num_frames, "{}frames"),
        ("image_size", trained.image_size, "{}px"),
        ("frames", "ordered", "{}"),
        ("fold", 1, "fold{}"),
        ("seed", 0, "seed{}"),
    ):
        if settings[name] != usual:
            parts.append(part.format(settings[name]))
    return "-".join(parts)


def _data_name(settings):
    if settings["data_dir"] is None:
        return "arrow_of_time"
    if settings["dataset"] in ("folder", "list"):
        return os.path.splitext(os.path.basename(settings["data_dir"].rstrip("/")))[0]
    return settings["dataset"]


def summarize(result):
    """The numbers of an `Evaluation`, as JSON holds them; shares from 0 to 1."""
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
    """What hangs on the order of frames: top-1 with and without, and the difference."""
    ordered, altered = results["ordered"], results[frames]
    return {
        "frames": frames,
        "top1_ordered": ordered.top1,
        f"top1_{frames}": altered.top1,
        "difference": ordered.top1 - altered.top1,
    }


def print_report(results, result, output):
    """Prints how good the model is, what it confuses, and what was left out."""
    for order, found in results.items():
        print(f"\nFrames {order}:" if len(results) > 1 else "")
        top5 = f", top-5 {found.top5:.1%}" if len(found.class_names) > 5 else ""
        print(
            f"top-1 {found.top1:.1%}{top5}, mean class accuracy {found.mean_class_accuracy:.1%} of "
            f"{found.num_videos:,} videos"
        )
        if found.within_pair_accuracy is not None:
            print(
                f"within-pair accuracy {found.within_pair_accuracy:.1%}: how often a class scores better "
                f"than its time reversal, which {found.reversible.sum()} of {len(found.class_names)} classes "
                "have by their names"
            )
        if order == "ordered" and found.worst_confusions():
            print("Most frequent mistakes:")
            for confusion in found.worst_confusions(_LISTED):
                print(
                    f"  {confusion.count:5,} ({confusion.share:4.0%} of the class)  "
                    f"{confusion.true} -> {confusion.predicted}"
                )
    order = result["order"]
    if order:
        altered = results[order["frames"]]
        print(
            f"\n{100 * order['difference']:.1f} points hang on the order of frames: top-1 "
            f"{order['top1_ordered']:.1%} ordered, {altered.top1:.1%} {order['frames']}"
        )
        if order["frames"] == "reversed" and altered.called_reversal is not None:
            print(
                f"{altered.called_reversal:.1%} of the reversed clips of these classes are called the time "
                "reversal of theirs"
            )
    for what, count in result["left_out"].items():
        if count:
            print(f"{count:,} videos are {what} and were left out: {run_folder.LEFT_OUT}")
    print(f"Tables, scores and confusion matrix: {output}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
