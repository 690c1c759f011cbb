"""Opens Something-Something v1 and v2, and Jester, which their makers ship in similar files."""

from keras_stm.arguments import one_of
from keras_stm.data.catalog.annotations import (
    by_name,
    by_number,
    find_file,
    integer,
    read_json_list,
    read_json_object,
    read_lines,
    read_names,
)
from keras_stm.data.catalog.clips import find_clips, to_dataset


def open_something_v1(root, split, exclude, *, class_order):
    """Opens clips `<id>/00001.jpg`; classes are sorted, like in TSM, or in csv order, like in mmaction2."""
    one_of("class_order", class_order, ("sorted", "raw"))
    class_names = read_names(find_file(root, "something-something-v1-labels.csv"))
    if class_order == "sorted":
        class_names = tuple(sorted(class_names))
    return _open_csv(root, split, exclude, "something-something-v1", class_names)


def open_jester(root, split, exclude):
    """Opens clips `<id>/00001.jpg`; classes are in the order of the csv."""
    class_names = read_names(find_file(root, "jester-v1-labels.csv"))
    return _open_csv(root, split, exclude, "jester-v1", class_names)


def _open_csv(root, split, exclude, prefix, class_names):
    label_of = {name: label for label, name in enumerate(class_names)}

    def parse(line):
        name, separator, class_name = line.value.partition(";")
        if split == "test":
            if separator:
                raise line.expected("`id` alone")
            return line.file_name(name), None
        if not name or class_name not in label_of:
            raise line.expected(f"`id;label` with a label of {prefix}-labels.csv")
        return line.file_name(name), label_of[class_name]

    labels = by_name(read_lines(find_file(root, f"{prefix}-{split}.csv")), parse)
    return to_dataset(root, labels, find_clips(root, labels, depth=1), class_names, exclude)


def open_something_v2(root, split, exclude):
    """Opens clips `<id>.webm`; classes are in the order of their numbers in the json, which is sorted."""

    def find_json(name):
        # A later release has no prefix.
        return find_file(root, f"something-something-v2-{name}.json", f"{name}.json")

    classes = read_json_object(find_json("labels"))

    def parse_class(entry):
        name, number = entry.value
        label = integer(str(number), range(len(classes)))
        if label is None:
            raise entry.expected(f"a class and its number, from 0 to {len(classes) - 1}")
        return name, label

    def parse(entry):
        keys = ["id"] if split == "test" else ["id", "template"]
        if not isinstance(entry.value, dict) or not all(isinstance(entry.value.get(k), str) for k in keys):
            raise entry.expected(f"an object with text for {' and '.join(map(repr, keys))}")
        label = None
        if split != "test":
            class_name = entry.value["template"].replace("[", "").replace("]", "")
            if class_name not in label_of:
                raise entry.expected("a template that is a class of the labels' file")
            label = label_of[class_name]
        return f"{entry.file_name(entry.value['id'])}.webm", label

    class_names = by_number(classes, parse_class)
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = by_name(read_json_list(find_json(split)), parse)
    return to_dataset(root, labels, find_clips(root, labels, depth=1), class_names, exclude)
