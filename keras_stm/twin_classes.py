"""Classes whose names differ in words of opposite meaning alone, as "move left" and "move right"."""

import collections
import re

import numpy as np

# What an action and its time reversal are called. Backwards, the hand that pulls from left to right pushes
# from right to left. "onto" is here because what is pulled onto something is then not pushed onto it.
_REVERSED_PAIRS = (
    *(("left", "right"), ("up", "down"), ("in", "out"), ("onto", "off")),
    *(("forward", "backward"), ("upward", "downward"), ("inward", "outward")),
    *(("forwards", "backwards"), ("upwards", "downwards"), ("inwards", "outwards")),
    *(("clockwise", "counterclockwise"), ("pushing", "pulling")),
    *(("approach", "recede"), ("open", "close"), ("fold", "unfold"), ("cover", "uncover"), ("enter", "exit")),
    *(("approaching", "receding"), ("opening", "closing"), ("folding", "unfolding")),
    *(("covering", "uncovering"), ("entering", "exiting")),
)
_REVERSED = {word: twin for pair in _REVERSED_PAIRS for word, twin in (pair, pair[::-1])}
# Words of names that tell no change: a thumb that is up, something that is not opened.
_UNCHANGED = {"thumb", "thumbs", "pretending"}

# Words end where the case changes, so that "SwipeLeft" is two. Numbers tell classes apart too.
_LOWER = r"[^\W\d_A-Z]"
_WORD = re.compile(rf"[A-Z]?{_LOWER}+|[A-Z]+(?!{_LOWER})|\d+")


def twin_labels(class_names, twins):
    """The label of each class's twin: the class that is named so once some words are replaced.

    Only whole words of the names count. Where no class is named so the label is the class's own, and where
    names differ in other characters alone, as "turn left!" and "turn left?": which is whose twin is unknown.

    Args:
        class_names: one name per class.
        twins: dictionary of words in lower case, each the other's twin.

    Returns:
        int64 array `(classes,)`.
    """
    names = [_words(name) for name in class_names]
    counts = collections.Counter(names)
    label_of = {words: label for label, words in enumerate(names) if counts[words] == 1}
    labels = np.arange(len(names), dtype="int64")
    for words, label in label_of.items():
        labels[label] = label_of.get(tuple(twins.get(word, word) for word in words), label)
    return labels


def time_reversal_labels(class_names):
    """The label of each class's time reversal: the class that its clips show when played backwards.

    Found by the names, as left for right, approach for recede, opening for closing, all such words of a name
    at once. Where no class is named so the label is the class's own: then nothing is known of its reversal.

    Args:
        class_names: one name per class.

    Returns:
        int64 array `(classes,)`.
    """
    labels = twin_labels(class_names, _REVERSED)
    for label, name in enumerate(class_names):
        if _UNCHANGED.intersection(_words(name)):
            labels[label] = label
    return labels


def _words(name):
    words = " ".join(_WORD.findall(name)).lower()
    return tuple(re.sub(r"\b(counter|anti) ?clockwise\b", "counterclockwise", words).split())
