"""What is in the annotation files of data sets; what is wrong there is named with its place."""

import collections
import glob
import json
import os
import re
import typing

from keras_stm.arguments import ArgumentError
from keras_stm.class_names import is_line

_SHOWN = 80


class Entry(typing.NamedTuple):
    """A line of a text file, or an entry of a JSON list, that knows where it comes from."""

    path: str
    place: str
    value: object

    def expected(self, what):
        """The error that says what should be here."""
        return ValueError(f"{self.path}, {self.place}: expected {what}. Received: {_shortened(self.value)}")

    def file_name(self, text):
        """`text`, which must be a name that a file or folder can have, without the folders it is in."""
        if not is_line(text) or text in (".", "..") or not text == os.path.basename(text) == text.strip():
            raise self.expected(f"the name of one file or folder, not {_shortened(text)}")
        return text


def find_file(root, *names):
    """Path of the first of `names` in `root`, or else in a folder in it; names may be patterns, as `*.txt`.

    Raises:
        ValueError: there is none.
    """
    for name in names:
        for folder in ("", "*"):
            found = sorted(glob.glob(os.path.join(glob.escape(root), folder, name)))
            if found:
                return found[0]
    raise ArgumentError(
        "root", root, f"must be a folder that holds {' or '.join(names)}, directly or one folder deeper"
    )


def read_lines(path):
    """The lines of a UTF-8 file as `Entry`s of str, without the blank ones and without blanks around.

    Raises:
        ValueError: there is no line, or the file cannot be read.
    """
    lines = [
        Entry(path, f"line {number}", line.strip())
        for number, line in enumerate(read_text(path).split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f"{path}: expected at least one line, the file is empty")
    return lines


def read_json_list(path):
    """The entries of the list in a JSON file, as `Entry`s.

    Raises:
        ValueError: it is no list, it is empty, or the file cannot be read.
    """
    return _entries(path, _read_json(path, list))


def read_json_object(path):
    """The `(name, value)`s of the object in a JSON file, as `Entry`s.

    Raises:
        ValueError: it is no object, it is empty, or the file cannot be read.
    """
    return _entries(path, _read_json(path, dict).items())


def read_text(path):
    """What a text file holds, in UTF-8 with or without a byte order mark.

    Raises:
        ValueError: it is no such file, or cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: expected UTF-8 ({error.reason})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    # UTF-16 without a byte order mark is UTF-8 too, with one before or behind each letter.
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise ValueError(f"{path}, line {line}: expected UTF-8, without zero bytes")
    return text


def by_name(entries, parse):
    """What entries say about names, `{name: value}`.

    Args:
        entries: `Entry`s.
        parse: function from an entry to `(name, value)`.

    Raises:
        ValueError: a name comes twice.
    """
    values = {}
    for entry in entries:
        name, value = parse(entry)
        if name in values:
            raise entry.expected(f"each name once, and {_shortened(name)} was there before")
        values[name] = value
    return values


def by_number(entries, parse):
    """The names that entries give numbers to, in the order of these, as a tuple.

    Args:
        entries: `Entry`s.
        parse: function from an entry to `(name, number)`.

    Raises:
        ValueError: a name or a number comes twice.
    """
    names = by_name(entries, lambda entry: parse(entry)[::-1])
    by_name(entries, parse)
    return tuple(names[number] for number in sorted(names))


def read_names(path):
    """The lines of a file of class names, in their order.

    Raises:
        ValueError: a name comes twice, there is none, or the file cannot be read.
    """
    return tuple(by_name(read_lines(path), lambda line: (line.value, None)))


def integer(text, accepted=range(10**9)):
    """`text` as a number of the range `accepted`, or `None` where it is no such."""
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
    """The dictionary of a JSON object: Python's own would take the last of two values, without a word."""
    values = dict(pairs)
    if len(values) < len(pairs):
        name, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{_shortened(name)} comes twice in an object")
    return values


def _shortened(value):
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
