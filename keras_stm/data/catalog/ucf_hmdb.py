"""Opens UCF-101 and HMDB-51, which have three folds of training and test clips."""

import glob
import os
import re

from keras_stm.arguments import one_of
from keras_stm.data.catalog.annotations import by_name, by_number, find_file, integer, read_lines
from keras_stm.data.catalog.clips import find_clips, to_dataset

_FOLDS = (1, 2, 3)


def open_ucf101(root, split, exclude, *, fold):
    """Opens clips `<Class>/v_<Class>_g01_c01.avi`; classes are in the order of `classInd.txt`'s numbers."""
    one_of("fold", fold, _FOLDS)
    classes = read_lines(find_file(root, "classInd.txt"))

    def parse_class(line):
        number, *name = line.value.split(maxsplit=1)
        number = integer(number, range(1, len(classes) + 1))
        if number is None or not name:
            raise line.expected(f"`number Class`, with a number from 1 to {len(classes)}")
        return line.file_name(name[0]), number

    class_names = by_number(classes, parse_class)
    label_of = {name: label for label, name in enumerate(class_names)}
    number_of = {name: str(label + 1) if split == "train" else None for name, label in label_of.items()}

    def parse(line):
        match = re.fullmatch(r"(([^/]+)/[^/]+\.avi)(?: (\d+))?", line.value)
        if not match or match[2] not in label_of or match[3] != number_of[match[2]]:
            raise line.expected(
                "`Class/file.avi number` with a class of classInd.txt and its number"
                if split == "train"
                else "`Class/file.avi` with a class of classInd.txt"
            )
        return match[1], label_of[match[2]]

    split_file = f"{'train' if split == 'train' else 'test'}list{fold:02d}.txt"
    labels = by_name(read_lines(find_file(root, split_file)), parse)
    return to_dataset(root, labels, find_clips(root, labels, depth=2), class_names, exclude)


def open_hmdb51(root, split, exclude, *, fold):
    """Opens clips `<class>/<file>.avi`; classes are those of the split files, sorted."""
    one_of("fold", fold, _FOLDS)
    ending = f"_test_split{fold}.txt"
    folder = os.path.dirname(find_file(root, f"*{ending}"))
    # Files of all folds count: a class without a file of this fold would otherwise be skipped silently.
    files = glob.glob(os.path.join(glob.escape(folder), "*_test_split[123].txt"))
    class_names = tuple(sorted({os.path.basename(file)[: -len(ending)] for file in files}))

    def parse(line):
        match = re.fullmatch(r"(.+\.avi)\s+([012])", line.value)
        if not match:
            raise line.expected("`file.avi code`, with the code 1 for train, 2 for test or 0 for neither")
        return line.file_name(match[1]), match[2]

    labels = {}
    for label, class_name in enumerate(class_names):
        codes = by_name(read_lines(os.path.join(folder, class_name + ending)), parse)
        wanted = "1" if split == "train" else "2"
        labels |= {f"{class_name}/{file}": label for file, code in codes.items() if code == wanted}
    if not labels:
        raise ValueError(f"{folder}: expected a clip with code {wanted} in some *{ending}, but there is none")
    return to_dataset(root, labels, find_clips(root, labels, depth=2), class_names, exclude)
