"""Opens data sets on disk as records of (path, label)."""

import inspect
import os

from keras_stm.arguments import ArgumentError, one_of
from keras_stm.class_names import is_line
from keras_stm.data.catalog.class_folders import open_folder
from keras_stm.data.catalog.kinetics import open_kinetics400
from keras_stm.data.catalog.label_studio import open_label_studio
from keras_stm.data.catalog.packed import open_packed
from keras_stm.data.catalog.something import open_jester, open_something_v1, open_something_v2
from keras_stm.data.catalog.spans import open_spans
from keras_stm.data.catalog.text_list import open_list
from keras_stm.data.catalog.ucf_hmdb import open_hmdb51, open_ucf101
from keras_stm.data.dataset import SPLITS
from keras_stm.data.paths import absolute

__all__ = ["NAMES", "open_dataset"]

# Each function accepts (root, split, exclude) and, by name, the options of `open_dataset` that it uses.
_OPENERS = {
    "something_v1": open_something_v1,
    "something_v2": open_something_v2,
    "jester": open_jester,
    "kinetics400": open_kinetics400,
    "ucf101": open_ucf101,
    "hmdb51": open_hmdb51,
    "folder": open_folder,
    "list": open_list,
    "spans": open_spans,
    "label_studio": open_label_studio,
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
    group_by=None,
    exclude=(),
):
    """Opens one split of a data set on disk, from the files that it ships.

    Annotation files and clips may be in `root` or one folder deeper, like unpacked archives.

    | name | clips | order of the classes |
    | --- | --- | --- |
    | `"something_v1"` | folders of frames | sorted, or the order of the csv; see `class_order` |
    | `"something_v2"` | videos | the numbers in the labels' json |
    | `"jester"` | folders of frames | the order of the labels' csv |
    | `"kinetics400"` | videos, also in folders of the split, of the class or both | sorted |
    | `"ucf101"` | videos | the numbers in `classInd.txt` |
    | `"hmdb51"` | videos | sorted |
    | `"folder"` | videos or folders of frames, in one folder per class | sorted |
    | `"list"` | paths in the lines of a text file | the order of `classes.txt`, or by number |
    | `"spans"` | parts of videos, in the rows of a CSV file | sorted |
    | `"label_studio"` | parts of videos or whole ones, in Label Studio's JSON export | sorted |
    | `"packed"` | shards from `keras-stm pack` | the order of the packed data set |

    A video may have any ending of `video.VIDEO_EXTENSIONS`, whatever the lists of a data set say.

    `"folder"` may have its class folders under `train` (also `training`), `validation` (also `val`,
    `valid` or `dev`) and `test` (also `testing`), in any case. Clips may lie in folders below the class
    folder; see `searching.search`. `"list"` is a folder with lists of the same names, such as
    `train.txt`, and `classes.txt`, which has one name per line. It may also be a single `.txt` file. A
    line is `path label` for a video and `path num_frames label` for a folder of frames. The path is
    relative to the list's folder. A folder with another number of frames counts as unreadable. If a
    folder or list has no validation clips, a share of each class is set apart from training for validation.

    `"spans"` is a CSV file, or a folder with `spans.csv` or a single `.csv`. Its header has the columns
    `video`, `start`, `end`, `label` and perhaps `split`; others are ignored. A span has the frames from
    its start to before its end, in seconds, `mm:ss` or `hh:mm:ss`. The path of a record is
    `clip.mp4#t=1.5,4`; see `fragment`. `"label_studio"` is a JSON export, or a folder with one; see
    `catalog.label_studio`. Without a validation split, whole videos are set apart.

    Args:
        name: one of the names above.
        root: folder of the data set; also the file of `"list"`, `"spans"` or `"label_studio"`, or the URL
            of `"packed"`.
        split: `"train"`, `"validation"` or `"test"`. UCF-101 and HMDB-51 have no validation split,
            so `"validation"` opens their test split.
        fold: 1, 2 or 3, for UCF-101 and HMDB-51.
        class_order: `"sorted"` or `"raw"`, for Something-Something v1.
        validation_split: share of each class that is set apart, above 0 and below 1. Of two or more
            clips, it is at least one and never all.
        seed: chooses the clips that are set apart, from their paths within the data set. If a clip is
            added or excluded, at most one other clip moves between training and validation,
            unless clips are grouped.
        group_by: which clips of `"folder"` and `"list"` stay together if validation is set apart, such as
            those of one source video. `"parent"` groups by the folder of a clip below the class folder,
            or the folder of a clip in a list. Other text is a regular expression that is searched in the
            path relative to `root`: its first group is the key, or the whole match. A clip without a key
            is a group of its own. `None` does not group.
        exclude: paths of clips to exclude before any clip is set apart, as in `records` or
            relative to `root`. Unknown paths are ignored.

    Returns:
        `Dataset` with records in the order of the lists, or sorted by class and file name for `"folder"`.
            `class_names` are the same for every split and any `exclude`.

    Raises:
        ValueError: an argument is invalid or does not apply to this data set, a file is missing or
            has an unexpected line, or no clip exists.
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
        "group_by": group_by,
    }
    _check_options(name, options)
    root = absolute(os.fspath(root))
    folder = os.path.dirname(root) if os.path.isfile(root) else root
    excluded = {os.path.abspath(os.path.join(base, path)) for path in exclude for base in ("", folder)}
    used = {option: value for option, value in options.items() if _uses(name, option)}
    dataset = _OPENERS[name](root, split, excluded, **used)
    for class_name in dataset.class_names:
        # Files that this package writes have one class name per line.
        if not is_line(class_name):
            raise ValueError(f"{root}: expected class names of one line of UTF-8. Received: {class_name!r}")
    return dataset


def _check_options(name, options):
    """Raises `ArgumentError` if an option is given that does not apply to a data set."""
    for option, value in options.items():
        users = [other for other in NAMES if _uses(other, option)]
        if name not in users and value != inspect.signature(open_dataset).parameters[option].default:
            raise ArgumentError(option, value, f"is for {', '.join(map(repr, users))}, not for {name!r}")


def _uses(name, option):
    return option in inspect.signature(_OPENERS[name]).parameters
