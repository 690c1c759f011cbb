"""How often training shows the clips of each class, and what they weigh in the loss."""

import numpy as np

# The share of a class in an epoch is in proportion to this power of its number of clips.
_POWERS = {"none": 1, "balanced": 0, "sqrt": 0.5}
SAMPLING_WEIGHTS = tuple(_POWERS)


def class_shares(labels, num_classes, sampling_weights):
    """Returns the share of each class in an epoch, float `(num_classes,)`; 0 for classes without clips."""
    counts = np.bincount(labels, minlength=num_classes)
    shares = np.where(counts, counts ** float(_POWERS[sampling_weights]), 0)
    return shares / shares.sum()


def class_weights(labels, num_classes, sampling_weights="none"):
    """Returns the balanced weight of each class, as scikit-learn defines it: n / (classes * n_c).

    Of n clips in an epoch, n_c are of class c; `sampling_weights` changes n_c. Only classes that have clips
    count. The mean weight over the clips of an epoch is 1.

    Args:
        labels: the class of each clip.
        num_classes: number of classes.
        sampling_weights: one of `SAMPLING_WEIGHTS`.

    Returns:
        Float array `(num_classes,)`. A class without clips has weight 1, because mirrored clips may get its
        label.
    """
    shares = class_shares(labels, num_classes, sampling_weights)
    present = shares > 0
    return np.divide(1, present.sum() * shares, out=np.ones(num_classes), where=present)


def epoch_order(labels, sampling_weights, seed, epoch):
    """Returns the clips of an epoch in their order, as many as there are labels.

    The order depends only on the arguments. Clips of one class come equally often, or differ by one.

    Args:
        labels: the class of each clip.
        sampling_weights: one of `SAMPLING_WEIGHTS`.
        seed: integer of at least 0.
        epoch: integer of at least 0.

    Returns:
        Int64 array of indices of `labels`.
    """
    labels = np.asarray(labels)
    # Four numbers, because the clips of the pipeline use generators of three.
    rng = np.random.default_rng((seed, epoch, 0, 1))
    shares = class_shares(labels, labels.max() + 1, sampling_weights)
    # One random offset rounds the number of clips of all classes, so that their sum is exact.
    ends = np.floor(len(labels) * np.cumsum(shares) + rng.random()).astype(int)
    ends[-1] = len(labels)
    order = []
    for label, count in enumerate(np.diff(ends, prepend=0)):
        clips = np.flatnonzero(labels == label)
        while count > 0:
            order.append(rng.permutation(clips)[:count])
            count -= len(clips)
    return rng.permutation(np.concatenate(order))
