"""Writes features of clips: what a trained model knows of a clip before its classifier.

  keras-stm embed clip.mp4 FOLDER --model=saved_models/RUN --output=features
  keras-stm embed --model=saved_models/RUN --data_dir=FOLDER --split=train
  keras-stm embed --model=saved_models/RUN --data_dir=spans.csv --dataset=spans

Clips are files, parts of files (long.mp4#t=1.5,4) and folders, as for `keras-stm predict`, or a split of a
data set, as for `keras-stm evaluate`. Writes into --output, and replaces earlier files with the same names:
  features.npy    float32 (clips, features): the input of the classifier, averaged over time
  paths.csv       path and label of each row of features.npy; the label is empty if it is not known

Unreadable clips are reported in one line each and skipped. Exit status: 0 if all clips have features; 2 if
some could not be read; 1 if none could, and no file is written.
"""

import functools
import os
import sys

from absl import flags

from keras_stm import predicting
from keras_stm.commands.flags import (
    define_class_order,
    define_data,
    define_distribution,
    define_workers,
    given,
)
from keras_stm.commands.main import run
from keras_stm.data.dataset import SPLITS
from keras_stm.data.exclude import read_exclude
from keras_stm.data.views import PROTOCOLS
from keras_stm.embedding import FEATURES, PATHS, embed
from keras_stm.progress import tell
from keras_stm.train import devices
from keras_stm.train.data import CLIPS_OF_DATA, open_splits
from keras_stm.train.evaluate import data_settings


def define_flags(values):
    """Defines the flags of the command."""
    flags.DEFINE_string("model", None, "Folder of a run, or the .keras file in it.", flag_values=values)
    define_data(values)
    flags.DEFINE_enum("split", "validation", list(SPLITS), "Split of the data set.", flag_values=values)
    define_class_order(values)
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
    if not values.model:
        raise ValueError("--model is missing: pass the folder of a run, or a .keras file")
    if bool(paths) == bool(values.data_dir):
        raise ValueError("pass files or folders, or --data_dir, but not both")
    errors = []

    def report(path, reason):
        errors.append(path)
        tell(f"{name}: {path}: {reason}", file=sys.stderr)

    if paths:
        found = predicting.find_clips(paths)
        for problem in found.problems:
            report(problem["file"], problem["error"])
        clips = [(path, None) for path in found.clips]
    else:
        clips = _clips_of_data_set(values, report)
    stem = os.path.basename(os.path.abspath(values.data_dir or paths[0]))
    output = os.path.expanduser(values.output or os.path.join("saved_models", f"embed-{stem}"))
    with devices.start(values.distribution).scope():
        features = embed(
            clips,
            values.model,
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


def _clips_of_data_set(values, report):
    """Returns `(path, class name)` of the clips of a split; reports those that do not exist."""
    # A model without a folder of its own is a published one.
    run = values.model if os.path.isdir(values.model) else os.path.dirname(values.model)
    names = [name for name in CLIPS_OF_DATA if name in values]
    settings = data_settings(os.path.expanduser(run), **given(values, names))
    excluded = read_exclude(settings.exclude) if settings.exclude else ()
    (opened,) = open_splits(settings, (values.split,), excluded)
    for path in opened.missing:
        report(path, "listed by the data set, but does not exist")
    return [(path, None if label is None else opened.class_names[label]) for path, label in opened.records]
