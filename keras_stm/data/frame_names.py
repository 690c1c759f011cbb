"""Finds the frames of a clip among the images of a folder, and their order, from their names alone."""

import collections
import os
import re
import typing

# Words in the names of RGB frames. Names without words, which are plain numbers, count as such too.
_RGB = {"img", "rgb", "frame"}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
_LISTED = 5


class SeveralKinds(ValueError):
    """Images of several kinds lie in one folder, such as optical flow in x and y."""


class _Name(typing.NamedTuple):
    """A file name `<text><number><text>...`; there is one more text than numbers."""

    name: str
    texts: tuple
    numbers: tuple
    ending: str


class _Kind(typing.NamedTuple):
    """Names with the same `pattern`, in which `#` stands for a number."""

    pattern: str
    words: set
    names: list


def sort(names):
    """Returns the names of the frames in the order of their numbers.

    The number that counts the frames is the first that differs between names with the same beginning. What
    follows it does not decide, unless the number occurs twice. A number may be decimal.

    Images are of several kinds if their names differ before that number. They are also of several kinds if
    the number occurs twice with different text after it, or if that text names RGB frames. Then the one
    kind that looks like RGB frames is taken: `img_`, `rgb_`, `frame_` or plain numbers.

    Args:
        names: file names of images, at least one.

    Raises:
        SeveralKinds: none or several of the kinds look like RGB frames.
    """
    if _is_padded(names):
        return sorted(names)
    kinds = [
        kind for group in _split_by_beginning(list(map(_parse, names))) for kind in _split_by_end(*group)
    ]
    if len(kinds) > 1:
        common = set.intersection(*(kind.words for kind in kinds))
        chosen = [kind for kind in kinds if _is_rgb(kind, common)]
    else:
        chosen = kinds
    if len(chosen) != 1:
        patterns = sorted(kind.pattern for kind in kinds)
        more = ", ..." if len(patterns) > _LISTED else ""
        raise SeveralKinds(
            f"holds several kinds of images ({', '.join(patterns[:_LISTED])}{more}); expected one kind, or "
            "one that is named img_, rgb_, frame_ or by plain numbers"
        )
    return [each.name for each in sorted(chosen[0].names, key=_natural)]


def _is_padded(names):
    """Returns whether names differ only in a number of fixed length; this shortcut is ten times as fast."""
    ending = os.path.splitext(names[0])[1]
    start = len(os.path.commonprefix(names).rstrip("0123456789"))
    length, stop = len(names[0]), -len(ending)
    return all(
        len(name) == length and name.endswith(ending) and name[start:stop].isdecimal() for name in names
    )


def _parse(name):
    stem, ending = os.path.splitext(name)
    stem = stem.casefold()
    # A fraction is compared as text without trailing zeros, so that 0.04 comes before 0.1.
    numbers = (number.partition(".") for number in _NUMBER.findall(stem))
    return _Name(
        name,
        tuple(_NUMBER.split(stem)),
        tuple((int(whole), fraction.rstrip("0")) for whole, _, fraction in numbers),
        ending.lower(),
    )


def _natural(name):
    return [*zip(name.texts, name.numbers, strict=False)], name.texts[-1], name.name


def _split_by_beginning(names, place=0):
    """Yields names whose number at some place counts the frames, and that place.

    The texts up to that place are the same. A number that is the same in all of them counts nothing.
    """
    groups = collections.defaultdict(list)
    for name in names:
        groups[name.texts[place], len(name.numbers) > place].append(name)
    for group in groups.values():
        is_same = len({name.numbers[place : place + 1] for name in group}) == 1
        if is_same and all(len(name.numbers) > place + 1 for name in group):
            yield from _split_by_beginning(group, place + 1)
        else:
            yield group, place


def _split_by_end(names, place):
    """Yields the `_Kind`s of names that `_split_by_beginning` yields."""
    ends_of, names_of = collections.defaultdict(set), collections.defaultdict(list)
    for name in names:
        end = "#".join(name.texts[place + 1 :]), name.ending
        ends_of[name.numbers[place : place + 1]].add(end)
        names_of[end].append(name)
    beginning = "#".join(names[0].texts[: place + 1]) + "#" * (len(names[0].numbers) > place)
    is_twice = any(len(ends) > 1 for ends in ends_of.values())
    if is_twice or len(names_of) == 1 or any(_words(text) & _RGB for text, _ in names_of):
        for (text, ending), found in names_of.items():
            yield _Kind(f"{beginning}{text}{ending}", _words(f"{beginning}{text}"), found)
    else:
        yield _Kind(f"{beginning}*", _words(beginning), names)


def _words(text):
    return set(_WORD.findall(text))


def _is_rgb(kind, common):
    """Returns whether the words of a kind, apart from those that all kinds have, are those of RGB frames."""
    numbers = kind.pattern.count("#")
    if not kind.words:
        # Names like `9 (1)` are copies.
        return numbers == 1
    return numbers > 0 and bool(kind.words & _RGB) and kind.words - common <= _RGB
