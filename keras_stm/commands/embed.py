"""Writes features of clips: what a trained model knows of a clip before its classifier.

  keras-stm embed clip.mp4 FOLDER --model=saved_models/RUN --output=features
  keras-stm embed --model=saved_models/RUN --data_dir=FOLDER --split=train
  keras-stm embed --model=saved_models/RUN --data_dir=spans.csv --dataset=spans

Clips are files, parts of files (long.mp4#t=1.5,4) and folders, as for `keras-stm predict`, or a split of a
data set, as for `keras-stm evaluate`. On the data that the model was trained on, the settings of the data are
those of the training unless they are given. The command writes into --output, and replaces earlier files with
the same names:
  features.npy    float32 (clips, features): the input of the classifier, averaged over time
  paths.csv       path and label of each row of features.npy; the label is empty if it is not known

Unreadable clips are reported in one line each and skipped. Exit status: 0 if all clips have features; 2 if
some could not be read; 1 if none could, and no file is written.
"""

import functools
import os
import sys

from absl import flags

from keras_stm.commands.flags import (
    define_class_order,
    define_data,
    define_distribution,
    define_exclude,
    define_model,
    define_workers,
    given,
    required_model,
)
from keras_stm.commands.main import run
from keras_stm.data.dataset import SPLITS
from keras_stm.data.views import PROTOCOLS
from keras_stm.progress import tell
from keras_stm.train import devices

# See `keras_stm.commands`.
LOADS = ("keras_stm.embedding", "keras_stm.predicting", "keras_stm.train.evaluate")


def define_flags(values):
    """Defines the flags of the command."""
    define_model(values)
    define_data(values)
    flags.DEFINE_enum("split", "validation", list(SPLITS), "Split of the data set.", flag_values=values)
    define_class_order(values)
    define_exclude(values)
    flags.DEFINE_enum(
        "protocol",
        "efficient",
        list(PROTOCOLS),
        "Views whose features are averaged: 'efficient' is one view of each clip; 'paper' is 10 random clips "
        "with 3 crops each.",
        flag_values=values,
    )
    flags.DEFINE_integer("batch_size", 8, "Views per batch.", lower_bound=1, flag_values=values)
    define_workers(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the written files. Default: saved_models/embed-<name of the first clip or of data_dir>.",
        flag_values=values,
    )
    define_distribution(values)


def main(argv):
    """Runs the command; returns its exit status."""
    command = functools.partial(_embed, os.path.basename(argv[0]))
    return run(argv, define_flags, command, __doc__, takes_paths=True)


def _embed(name, values, paths):
    """Embeds the clips in `paths`, or those of the data set; errors begin with `name`."""
    from keras_stm import inference, predicting
    from keras_stm.embedding import FEATURES, PATHS, embed

    required_model(values)
    if bool(paths) == bool(values.data_dir):
        raise ValueError("pass files or folders, or --data_dir, but not both")
    errors = []

    def report(path, reason):
        errors.append(path)
        tell(f"{name}: {path}: {reason}", file=sys.stderr)

    stem = os.path.basename(os.path.abspath(values.data_dir or paths[0]))
    output = os.path.expanduser(values.output or os.path.join("saved_models", f"embed-{stem}"))
    with devices.start(values.distribution).scope():
        trained = inference.load(values.model)
        if paths:
            found = predicting.find_clips(paths)
            for problem in found.problems:
                report(problem["file"], problem["error"])
            clips = [(path, None) for path in found.clips]
        else:
            clips, unreadable = _clips_of_data_set(values, trained.folder, report)
            errors += unreadable
        features = embed(
            clips,
            trained,
            output,
            protocol=values.protocol,
            batch_size=values.batch_size,
            workers=values.workers,
            on_error=lambda error: report(error.path, error.args[2]),
        )
    if not len(features):
        return 1
    tell(f"{FEATURES} {features.shape}, {PATHS}: {output}")
    return 2 if errors else 0


def _clips_of_data_set(values, run, report):
    """Opens a split as in training; reports clips that do not exist.

    Returns:
        List of `(path, class name)`, and the paths of clips that were found to be unreadable and skipped.
    """
    from keras_stm.train.data import CLIPS_OF_DATA
    from keras_stm.train.evaluate import data_settings, open_data

    settings = data_settings(run, **given(values, CLIPS_OF_DATA))
    opened, left_out = open_data(values.split, settings, 1.0, values.workers)
    for path in opened.missing:
        report(path, "listed by the data set, but does not exist")
    names = opened.class_names
    clips = [(path, None if label is None else names[label]) for path, label in opened.records]
    return clips, list(left_out.reasons)
