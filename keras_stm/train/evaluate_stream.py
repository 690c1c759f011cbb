"""Evaluates a causal model of a run on streams of videos, and writes a folder of results."""

from keras_stm import inference
from keras_stm.data.streams import STREAMS, make_streams
from keras_stm.export import exported
from keras_stm.progress import tell
from keras_stm.replacing import replacing_folder
from keras_stm.stream_evaluation import evaluate_streams
from keras_stm.train import evaluation_folder
from keras_stm.train.devices import leave_gpus_to_backend
from keras_stm.train.evaluate import (
    data_settings,
    describe,
    describe_data,
    finish,
    for_model,
    load_model,
    open_data,
    output_folder,
    print_accuracy,
    print_end,
    summarize,
)


def evaluate_stream(
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
    streams=STREAMS,
    num_frames=None,
    image_size=None,
    seed=0,
    precision="float32",
    workers=None,
    max_unreadable=0.5,
    command=None,
):
    """Evaluates a model on streams that are never reset, and writes the results into the folder `output`.

    The videos of the split are played one after the other in a random order, at the rate that the model was
    trained at. The same videos with a reset before each of them are measured too.

    Args:
        model: see `keras_stm.train.evaluate.evaluate`; it must be causal.
        output: see `keras_stm.train.evaluate.evaluate`; so are the following arguments up to `exclude`.
        data_dir: see `Config`.
        dataset: see `Config`.
        split: `"train"`, `"validation"` or `"test"`.
        fold: see `Config`.
        class_order: see `Config`.
        group_by: see `Config`.
        exclude: see `Config`.
        streams: see `keras_stm.data.streams.make_streams`.
        num_frames: number of frames whose logits are averaged; `None` is as in training.
        image_size: height and width of a frame; `None` is as in training.
        seed: seed of the order of the videos.
        precision: see `keras_stm.VideoClassifier`.
        workers: number of videos read at the same time; `None` is the number of processors.
        max_unreadable: share of the videos that may be unreadable.
        command: the command that `result.json` records, or `None`.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the model is not causal, or see `keras_stm.train.evaluate.evaluate`. Nothing is written
            then.
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
        "num_frames": num_frames or trained.num_frames,
        "image_size": image_size or trained.image_size,
        "rate": trained.rate,
        "seed": seed,
    }
    found_streams = make_streams(opened, streams, workers=workers, left_out=left_out, **options)
    sizes = {name: options[name] for name in ("image_size", "num_frames")} | {
        "streams": 2 * len(found_streams)
    }
    if isinstance(trained.model, exported.ExportedModel):
        step_fn = trained.model.step_fn(**sizes)
    else:
        step_fn = inference.step_fn(trained.model, **sizes)
    settings = {
        **describe_data(data, split, opened, trained),
        "protocol": "stream",
        "streams": streams,
        **options,
        "precision": precision,
    }
    output = output_folder(output, settings, trained)
    evaluation_folder.check(output, settings)
    rate = f"{trained.rate:.3g} frames a second" if trained.rate else "an unknown rate"
    tell(f"{trained.model.name}: {describe(settings)}, at {rate}")
    with replacing_folder(output) as folder:
        found = _score(step_fn, found_streams, opened, folder)
        results = {"ordered": found.never_reset, evaluation_folder.RESET: found.reset}
        result = {
            "settings": settings,
            "results": {name: summarize(each) for name, each in results.items()},
            "stream": {
                "median_delay": found.median_delay,
                "never_right": found.never_right,
                "named_before": found.named_before,
            },
        }
        for name, each in results.items():
            title = f"{trained.model.name}: {describe(settings)}, {_TITLES[name]}: top-1 {each.top1:.1%}"
            evaluation_folder.write_evaluation(folder, name, each, title)
        finish(folder, result, trained, opened, left_out, command)
    _print_report(found, result, output)
    return result


_TITLES = {"ordered": "never reset", evaluation_folder.RESET: "reset before each video"}


def _score(step_fn, streams, opened, folder):
    """Returns a `StreamEvaluation`; writes the scores at the end of each video to `folder`."""
    names = opened.class_names
    with (
        evaluation_folder.write_scores(folder, "ordered", names) as on_video,
        evaluation_folder.write_scores(folder, evaluation_folder.RESET, names) as on_reset_video,
    ):

        def write(path, label, scores, scores_after_reset):
            on_video(path, label, scores)
            on_reset_video(path, label, scores_after_reset)

        return evaluate_streams(step_fn, streams, names, write, len(opened.records))


def _print_report(found, result, output):
    for name, each in (("ordered", found.never_reset), (evaluation_folder.RESET, found.reset)):
        tell(f"\nStreams, {_TITLES[name]}:")
        print_accuracy(each, with_mistakes=name == "ordered")
    tell("\nStreams that are never reset:")
    if found.median_delay is not None:
        tell(f"the right label leads to the end after {found.median_delay:g} frames of a video (median)")
    tell(f"{found.never_right:,} videos do not end with the right label")
    if found.named_before is not None:
        tell(f"{found.named_before:.1%} of the frames after another class are given the class before")
    print_end(result, output)
