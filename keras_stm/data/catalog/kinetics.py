"""Opens Kinetics-400."""

from keras_stm.data.catalog.annotations import by_name, find_file, integer, read_lines
from keras_stm.data.catalog.clips import find_clips, to_dataset

_COLUMNS = ("youtube_id", "time_start", "time_end")


def open_kinetics400(root, split, exclude):
    """Opens clips `<youtube_id>_<start>_<end>.mp4`; classes are the sorted labels of `train.csv`."""
    class_of = _read(find_file(root, "train.csv"))
    class_names = tuple(sorted(set(class_of.values())))
    label_of = {name: label for label, name in enumerate(class_names)}
    if split == "validation":
        class_of = _read(find_file(root, "validate.csv", "val.csv"), label_of)
    elif split == "test":
        label_of[""] = None
        class_of = _read(find_file(root, "test.csv"), label_of)
    labels = {name: label_of[class_name] for name, class_name in class_of.items()}
    # Copies of the data set have folders of the split, of the class with or without blanks, both or none.
    # Names of clips are unique, so names of folders do not matter.
    return to_dataset(root, labels, find_clips(root, labels, depth=3), class_names, exclude)


def _read(path, accepted=None):
    """Returns `{file name of the clip: class name}`; class names must be in `accepted`, if given."""
    header, *lines = read_lines(path)
    columns = _fields(header)
    if not set(_COLUMNS) <= set(columns) or len(set(columns)) < len(columns):
        raise header.expected(f"a header with {', '.join(_COLUMNS)}, each column once")

    if not lines:
        raise header.expected("lines after the header")

    def parse(line):
        fields = _fields(line)
        if len(fields) != len(columns):
            raise line.expected(f"{len(columns)} fields, like the header")
        row = dict(zip(columns, fields, strict=True))
        start, end = integer(row["time_start"]), integer(row["time_end"])
        if not row["youtube_id"] or start is None or end is None:
            raise line.expected("a youtube_id, and whole seconds as time_start and time_end")
        class_name = row.get("label", "")
        if (not class_name) if accepted is None else (class_name not in accepted):
            raise line.expected("a label" if accepted is None else "a label of train.csv")
        return f"{line.file_name(row['youtube_id'])}_{start:06d}_{end:06d}.mp4", class_name

    return by_name(lines, parse)


def _fields(line):
    # Some copies have quotes around each field; no label holds a comma.
    return [field.strip() for field in line.value.replace('"', "").split(",")]
