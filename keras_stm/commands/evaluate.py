"""Evaluates a trained model by the protocols of the paper.

  keras-stm evaluate --model=RUN                                # on the data that it was trained on
  keras-stm evaluate --model=RUN --data_dir=FOLDER              # on other clips, see `keras-stm fit`
  keras-stm evaluate --model=RUN --data_dir=FOLDER --dataset=something_v2 --protocol=paper
  keras-stm evaluate --model=RUN --frames=reversed              # how much does frame order matter?
  keras-stm evaluate --model=RUN --protocol=stream              # a causal model on streams of videos
  keras-stm evaluate --spans=PREDICTED.csv --dataset=spans --data_dir=TRUE.csv    # when what happens

On the data that the model was trained on, settings of the data such as --group_by and --fold are those of the
training unless they are given. A split then has the same clips.

--protocol=efficient uses one view of each video: the middle frame of each segment and the centre crop
(section 4.6, Table 9). --protocol=paper averages the scores of 30 views: 10 random clips with 3 crops each
(section 4.2). --protocol=stream plays the videos one after the other, in a random order, as --streams streams
that are never reset. A video's answer is that at its last frame.

--frames additionally evaluates clips whose frames are reversed, shuffled or all replaced by the middle frame;
see the paper's Figure 4.

Prints the result and writes into --output:
  result.json      all numbers, the settings, versions, hardware and data
  per_class.csv    a row for each class
  scores.csv       a row for each video: path, label, predicted, the score of each class
  confusion.png    the confusion matrix
  left_out.txt     the missing and the unreadable videos, if any
With --frames, it also writes per_class, scores and confusion for the other order of frames; with
--protocol=stream, those of streams with a reset before each video.

--spans compares the spans that `keras-stm predict --window --spans` found with those of a data set of spans,
without a model: mean average precision at a temporal intersection over union of 0.3, 0.5 and 0.7, as
ActivityNet defines it. Spans of --split are used, or all of them if the data set has no splits. It writes
result.json.
"""

import functools
import os
import shlex

from absl import flags

from keras_stm.commands import main as commands
from keras_stm.commands.flags import (
    define_class_order,
    define_data,
    define_distribution,
    define_exclude,
    define_max_unreadable,
    define_model,
    define_precision,
    define_workers,
    given,
    required_model,
)
from keras_stm.data import views
from keras_stm.data.dataset import SPLITS
from keras_stm.data.streams import STREAMS
from keras_stm.train.devices import start

# See `keras_stm.commands`.
LOADS = ("keras_stm.train.evaluate_stream", "keras_stm.train.evaluate_spans")
# Flags of all protocols that need a model.
_SHARED = (
    *("model", "output", "split", "num_frames", "image_size", "seed", "precision"),
    *("workers", "max_unreadable"),
)


def define_flags(values):
    """Defines the flags of the command."""
    define_model(values)
    flags.DEFINE_string(
        "spans",
        None,
        "CSV file of predicted spans to compare with those in --data_dir; needs no --model.",
        flag_values=values,
    )
    define_data(values, default="the data that the model was trained on, with the same settings")
    flags.DEFINE_enum(
        "split", "validation", list(SPLITS), "Split of the data set to evaluate.", flag_values=values
    )
    define_class_order(values)
    define_exclude(values)
    _define_views(values)
    flags.DEFINE_integer(
        "batch_size",
        32,
        "Largest number of clips per batch. A video with more clips is a batch of its own.",
        lower_bound=1,
        flag_values=values,
    )
    define_precision(values)
    define_workers(values)
    define_max_unreadable(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the written files. Default: a folder in <model>/evaluation, named after the settings; "
        "with --spans, saved_models/evaluate-<name of the CSV file>.",
        flag_values=values,
    )
    define_distribution(values)


def _define_views(values):
    flags.DEFINE_enum(
        "protocol",
        "efficient",
        [*views.PROTOCOLS, "stream"],
        "'efficient' is one view of each video; 'paper' is 10 random clips with 3 crops each; 'stream' is "
        "for causal models, on one device.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "streams",
        STREAMS,
        "With --protocol=stream: number of streams, of at least two videos each.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "clips", None, "Clips per video. Default: see --protocol.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "crops",
        None,
        list(map(str, views.CROPS)),
        "Crops per clip. Default: see --protocol.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_frames", None, "Frames per clip. Default: as in training.", lower_bound=1, flag_values=values
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
        "Evaluate the clips a second time, with their frames in this order.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Seed of random clips, of shuffled frames and of the order in streams.",
        lower_bound=0,
        flag_values=values,
    )


def main(argv):
    """Runs the command; returns its exit status."""
    command = functools.partial(_evaluate, f"{argv[0]} {shlex.join(argv[1:])}")
    return commands.run(argv, define_flags, command, __doc__)


def _evaluate(command, values, paths):
    if values.spans:
        _evaluate_spans(command, values)
        return
    from keras_stm.train.data import CLIPS_OF_DATA
    from keras_stm.train.evaluate import evaluate
    from keras_stm.train.evaluate_stream import evaluate_stream

    required_model(values)
    options = {name: values[name].value for name in _SHARED} | given(values, CLIPS_OF_DATA)
    if values.protocol == "stream":
        _check_stream(values)
        evaluate_stream(streams=values.streams, command=command, **options)
        return
    with start(values.distribution).scope():
        evaluate(
            protocol=values.protocol,
            clips=values.clips,
            crops=values.crops and int(values.crops),
            frames=values.frames,
            batch_size=values.batch_size,
            command=command,
            **options,
        )


def _check_stream(values):
    for name in ("clips", "crops", "frames"):
        if values[name].value != values[name].default:
            raise ValueError(f"--{name} does not apply to --protocol=stream")


def _evaluate_spans(command, values):
    from keras_stm.train.evaluate_spans import evaluate_spans

    if values.model:
        raise ValueError("--spans compares predictions that are made already; pass no --model")
    if not values.data_dir:
        raise ValueError("--data_dir is missing: pass the true spans")
    name = os.path.splitext(os.path.basename(values.spans))[0]
    evaluate_spans(
        values.spans,
        values.data_dir,
        values.output or os.path.join("saved_models", f"evaluate-{name}"),
        dataset=values.dataset,
        split=values.split,
        command=command,
    )
