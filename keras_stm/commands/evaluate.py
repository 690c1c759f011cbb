"""Measures how good a trained model is, by the protocols of the paper.

  keras-stm evaluate --model=saved_models/small-stm_small       # on the embedded data set
  keras-stm evaluate --model=RUN --data_dir=FOLDER              # your clips, as for `keras-stm fit`
  keras-stm evaluate --model=RUN --data_dir=FOLDER --dataset=something_v2 --protocol=paper
  keras-stm evaluate --model=RUN --frames=reversed              # how much does frame order matter?

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

import functools
import shlex

from absl import flags

from keras_stm.commands import main as commands
from keras_stm.commands.flags import (
    define_class_order,
    define_data,
    define_distribution,
    define_max_unreadable,
    define_workers,
)
from keras_stm.data import views
from keras_stm.data.dataset import SPLITS
from keras_stm.train.devices import start
from keras_stm.train.evaluate import evaluate


def define_flags(values):
    flags.DEFINE_string("model", None, "Folder of a run, or the .keras file in it.", flag_values=values)
    define_data(values, optional=True)
    flags.DEFINE_enum("split", "validation", list(SPLITS), "Which of its videos.", flag_values=values)
    define_class_order(values)
    flags.DEFINE_string(
        "exclude",
        None,
        "Text file of clips to leave out, as `keras-stm check-data` writes it.",
        flag_values=values,
    )
    _define_views(values)
    flags.DEFINE_integer(
        "batch_size",
        32,
        "Clips at a time; those of one video even where they are more.",
        lower_bound=1,
        flag_values=values,
    )
    define_workers(values)
    define_max_unreadable(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for what is written. Default: one in <model>/evaluation that is named for what is evaluated.",
        flag_values=values,
    )
    define_distribution(values)


def _define_views(values):
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


def main(argv):
    command = functools.partial(_evaluate, f"{argv[0]} {shlex.join(argv[1:])}")
    return commands.run(argv, define_flags, command, __doc__)


def _evaluate(command, values, paths):
    if not values.model:
        raise ValueError("--model is missing: the folder of a run, or a .keras file")
    with start(values.distribution).scope():
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
            command=command,
        )
