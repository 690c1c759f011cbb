"""Classes whose names differ only in words of opposite meaning, such as "move left" and "move right"."""

import collections
import re

import numpy as np

# Words for an action and its time reversal. Played backwards, a hand that pulls from left to right pushes
# from right to left. "onto" is paired with "off": "pulling onto" does not become "pushing onto".
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
# A name with one of these words describes no change: a raised thumb, or something that is not really opened.
_UNCHANGED = {"thumb", "thumbs", "pretending"}

# A change of case ends a word: "SwipeLeft" is two words. Numbers are words, because they distinguish classes.
_LOWER = r"[^\W\d_A-Z]"
_WORD = re.compile(rf"[A-Z]?{_LOWER}+|[A-Z]+(?!{_LOWER})|\d+")


def twin_labels(class_names, twins):
    """Returns the label of each class's twin: the class whose name has all words of `twins` exchanged.

    Only whole words are compared. A class without a twin gets its own label. So does a class whose twin is
    ambiguous, because names differ only in other characters, like "turn left!" and "turn left?".

    Args:
        class_names: one name per class.
        twins: dictionary from each word to its twin, in lower case.

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
    """Returns the label of each class's time reversal: the class that its clips show when played backwards.

    The reversal is found by name: right replaces left, recede replaces approach, closing replaces opening.
    All such words of a name are replaced. If no class has this name, the label is the class's own. Then
    nothing is known about its reversal.

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
