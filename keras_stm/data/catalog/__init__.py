"""What lies in a data set's folder -> records of (path, label)."""

import inspect
import os

from keras_stm.arguments import ArgumentError, one_of
from keras_stm.class_names import is_line
from keras_stm.data.catalog.class_folders import open_folder
from keras_stm.data.catalog.kinetics import open_kinetics400
from keras_stm.data.catalog.packed import open_packed
from keras_stm.data.catalog.something import open_jester, open_something_v1, open_something_v2
from keras_stm.data.catalog.text_list import open_list
from keras_stm.data.catalog.ucf_hmdb import open_hmdb51, open_ucf101
from keras_stm.data.dataset import SPLITS
from keras_stm.data.paths import absolute

__all__ = ["NAMES", "open_dataset"]

# Each takes (root, split, exclude) and, by name, those options of `open_dataset` that it uses.
_OPENERS = {
    "something_v1": open_something_v1,
    "something_v2": open_something_v2,
    "jester": open_jester,
    "kinetics400": open_kinetics400,
    "ucf101": open_ucf101,
    "hmdb51": open_hmdb51,
    "folder": open_folder,
    "list": open_list,
    "packed": open_packed,
}
NAMES = tuple(_OPENERS)


def open_dataset(
    name,
    root,
    split="train",
    *,
    fold=1,
    class_order="sorted",
    validation_split=0.2,
    seed=0,
    exclude=(),
):
    """Opens one split of a data set on disk, from the files that it ships.

    Annotation files and clips are looked for in `root` and one folder deeper, as archives unpack.

    | name | clips | order of the classes |
    | --- | --- | --- |
    | `"something_v1"` | folders of frames | sorted, or that of the csv, see `class_order` |
    | `"something_v2"` | `.webm` | the index in the labels' json |
    | `"jester"` | folders of frames | that of the labels' csv |
    | `"kinetics400"` | `.mp4`, also in folders of the split, of the class or both | sorted |
    | `"ucf101"` | `.avi` | the number in `classInd.txt` |
    | `"hmdb51"` | `.avi` | sorted |
    | `"folder"` | videos or folders of `.jpg` frames in a folder for each class | sorted |
    | `"list"` | what the lines of a text file name | that of `classes.txt`, or by number |
    | `"packed"` | shards that `keras-stm pack` wrote | that of what was packed |

    `"folder"` may have its class folders under `train`, `validation` (also `val` or `valid`) and
    `test`. `"list"` is a folder with `train.txt`, `validation.txt` (also `val.txt`), `test.txt` and
    `classes.txt`, one name a line, or a `.txt` file alone. A line is `path label` for a video and
    `path num_frames label` for a folder of frames, the path relative to the list's folder. In both,
    a part of each class is set apart from training where there is nothing for validation.

    Args:
        name: one of the above.
        root: the data set's folder.
        split: `"train"`, `"validation"` or `"test"`. UCF-101 and HMDB-51 have no validation: it is
            test there.
        fold: 1, 2 or 3, of UCF-101 and HMDB-51.
        class_order: `"sorted"` or `"raw"`, of Something-Something v1.
        validation_split: the part of each class, above 0 and below 1, that `"folder"` and `"list"`
            set apart: at least one clip of two or more, never all.
        seed: chooses which clips these are, from their paths within the data set: where a clip is
            added or excluded, at most one other changes sides.
        exclude: paths of clips to leave out before any is set apart, as in `records` or relative to
            `root`; those that are in no list do no harm.

    Returns:
        `Dataset` with records in the order of the lists or, of `"folder"`, of class and file name.
            `class_names` are the same for every split, whatever is excluded.

    Raises:
        ValueError: an argument is not as above or is of no use to this data set; a file is missing
            or has a line that is not as expected; no clip is there.
    """
    one_of("name", name, NAMES)
    one_of("split", split, SPLITS)
    if isinstance(exclude, str):
        raise ArgumentError("exclude", exclude, "must be a list of paths")
    if not 0 < validation_split < 1:
        raise ArgumentError("validation_split", validation_split, "must be above 0 and below 1")
    options = {
        "fold": fold,
        "class_order": class_order,
        "validation_split": validation_split,
        "seed": seed,
    }
    _check_options(name, options)
    root = absolute(os.fspath(root))
    folder = os.path.dirname(root) if os.path.isfile(root) else root
    excluded = {os.path.abspath(os.path.join(base, path)) for path in exclude for base in ("", folder)}
    used = {option: value for option, value in options.items() if _uses(name, option)}
    dataset = _OPENERS[name](root, split, excluded, **used)
    for class_name in dataset.class_names:
        # Every file of ours that holds them has one a line.
        if not is_line(class_name):
            raise ValueError(f"{root}: expected class names of one line of UTF-8. Received: {class_name!r}")
    return dataset


def _check_options(name, options):
    """Raises `ArgumentError` where an option is given that is of no use to a data set."""
    for option, value in options.items():
        users = [other for other in NAMES if _uses(other, option)]
        if name not in users and value != inspect.signature(open_dataset).parameters[option].default:
            raise ArgumentError(option, value, f"is for {', '.join(map(repr, users))}, not for {name!r}")


def _uses(name, option):
    return option in inspect.signature(_OPENERS[name]).parameters
