"""Reads the annotation files of data sets; error messages say where in a file the error is."""

import collections
import csv
import glob
import json
import os
import re
import typing

from keras_stm.arguments import ArgumentError
from keras_stm.class_names import is_line

_SHOWN = 80
# The byte order marks of UTF-16, as "surrogateescape" reads them.
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")


class Entry(typing.NamedTuple):
    """A line of a text file, or an entry of a JSON list or object, with its path and place."""

    path: str
    place: str
    value: object

    def expected(self, what):
        """Returns an error that says what was expected at this place."""
        return ValueError(f"{self.path}, {self.place}: expected {what}. Received: {_shortened(self.value)}")

    def file_name(self, text):
        """Returns `text`, or raises `ValueError` if it is not a plain name of a file or folder."""
        if not is_line(text) or text in (".", "..") or not text == os.path.basename(text) == text.strip():
            raise self.expected(f"the name of one file or folder, not {_shortened(text)}")
        return text


def find_file(root, *names):
    """Returns the path of the first of `names` that exists, in `root` or else one folder deeper.

    Names may be patterns, like `*.txt`.

    Raises:
        ValueError: none exists.
    """
    for name in names:
        for folder in ("", "*"):
            found = sorted(glob.glob(os.path.join(glob.escape(root), folder, name)))
            if found:
                return found[0]
    raise ArgumentError(
        "root", root, f"must be a folder that holds {' or '.join(names)}, directly or one folder deeper"
    )


def read_lines(path, errors="strict"):
    """Returns the lines of a UTF-8 file as stripped `Entry`s of str, without blank lines.

    Args:
        path: path of the file.
        errors: see `read_text`.

    Raises:
        ValueError: there is no line, or the file is unreadable.
    """
    lines = [
        Entry(path, f"line {number}", line.strip())
        for number, line in enumerate(read_text(path, errors).split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f"{path}: expected at least one line, but the file is empty")
    return lines


def read_table(path, columns):
    """Returns the rows of a CSV file with a header as `Entry`s of `{column: text}`.

    Fields are separated by commas, semicolons or tabs. Names of columns are in lower case. Blanks around
    fields and blank lines do not count. Bytes that are not UTF-8 are read as in file names.

    Args:
        path: path of the file.
        columns: names of the columns that the header must have, in any order and among others.

    Raises:
        ValueError: the header lacks a column or repeats one, a row is not as long as the header, there is no
            row, or the file is unreadable.
    """
    text = read_text(path, "surrogateescape")
    header = next((line for line in text.split("\n") if line.strip()), "").lower()
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")
    reader = csv.reader(text.split("\n"), delimiter=delimiter, strict=True)
    entries = []
    try:
        for fields in reader:
            if any(map(str.strip, fields)):
                entries.append(Entry(path, f"line {reader.line_num}", [field.strip() for field in fields]))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: expected CSV ({error})") from error
    if not entries:
        raise ValueError(f"{path}: expected a header with {', '.join(columns)}, but the file is empty")
    header, *rows = entries
    names = [name.lower() for name in header.value]
    if not set(columns) <= set(names) or len(set(names)) < len(names):
        raise header.expected(f"a header with {', '.join(columns)}, each column once")
    if not rows:
        raise header.expected("lines after the header")
    for row in rows:
        if len(row.value) != len(names):
            raise row.expected(f"{len(names)} fields, like the header")
    return [row._replace(value=dict(zip(names, row.value, strict=True))) for row in rows]


def read_json_list(path):
    """Returns the entries of the list in a JSON file, as `Entry`s.

    Raises:
        ValueError: the file holds no list, the list is empty, or the file is unreadable.
    """
    return _entries(path, _read_json(path, list))


def read_json_object(path):
    """Returns the `(name, value)` pairs of the object in a JSON file, as `Entry`s.

    Raises:
        ValueError: the file holds no object, the object is empty, or the file is unreadable.
    """
    return _entries(path, _read_json(path, dict).items())


def read_text(path, errors="strict"):
    """Returns the contents of a text file, in UTF-8 with or without a byte order mark.

    Args:
        path: path of the file.
        errors: `"surrogateescape"` reads bytes that are not UTF-8 as in file names.

    Raises:
        ValueError: the file is not in UTF-8, or is unreadable.
    """
    try:
        with open(path, encoding="utf-8-sig", errors=errors) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: expected UTF-8 ({error.reason})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    # UTF-16 without a byte order mark is valid UTF-8, with a zero byte before or after each letter.
    before, nul, _ = text.partition("\0")
    if nul or text.startswith(_UTF_16):
        line = before.count("\n") + 1
        raise ValueError(f"{path}, line {line}: expected UTF-8, without zero bytes")
    return text


def by_name(entries, parse):
    """Returns the `{name: value}` that entries state.

    Args:
        entries: `Entry`s.
        parse: function that maps an entry to `(name, value)`.

    Raises:
        ValueError: a name occurs twice.
    """
    values = {}
    for entry in entries:
        name, value = parse(entry)
        if name in values:
            raise entry.expected(f"each name once, but {_shortened(name)} was there before")
        values[name] = value
    return values


def by_number(entries, parse):
    """Returns a tuple of the names in entries, sorted by the numbers that the entries state.

    Args:
        entries: `Entry`s.
        parse: function that maps an entry to `(name, number)`.

    Raises:
        ValueError: a name or a number occurs twice.
    """
    names = by_name(entries, lambda entry: parse(entry)[::-1])
    by_name(entries, parse)
    return tuple(names[number] for number in sorted(names))


def read_names(path):
    """Returns a tuple of the lines of a file of class names, in order.

    Raises:
        ValueError: a name occurs twice, there is no name, or the file is unreadable.
    """
    return tuple(by_name(read_lines(path), lambda line: (line.value, None)))


def integer(text, accepted=range(10**9)):
    """Returns `text` as an integer, or `None` if it is not an integer of the range `accepted`."""
    return int(text) if re.fullmatch(r"\d{1,9}", text) and int(text) in accepted else None


def _entries(path, values):
    return [Entry(path, f"entry {number}", value) for number, value in enumerate(values, start=1)]


def _read_json(path, kind):
    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: expected JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({error})") from error
    if not isinstance(content, kind) or not content:
        what = {list: "a list", dict: "an object"}[kind]
        raise ValueError(f"{path}: expected {what} with entries. Received: {_shortened(content)}")
    return content


def _once(pairs):
    """Returns the dictionary of a JSON object; raises `ValueError` if a name occurs twice.

    By default, Python keeps the last of two values without an error.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        name, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{_shortened(name)} occurs twice in an object")
    return values


def _shortened(value):
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
