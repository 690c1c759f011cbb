"""Confusion matrix as a picture that is readable with two classes and with hundreds."""

import numpy as np

from keras_stm.plots.figures import literal, new_figure, save_figure

# With more classes, counts do not fit into the cells.
_COUNTED = 30
_NAME_LENGTH = 60
# Cells above this value on the colour scale are dark, so their text is white.
_DARK = 0.5


def plot_confusion(file, evaluation, title):
    """Draws the confusion matrix as PNG: shares of each class's videos as colours, and counts if they fit.

    Args:
        file: path, or file open for writing bytes.
        evaluation: `keras_stm.evaluation.Evaluation`.
        title: line above the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    counts = evaluation.confusion_matrix
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [literal(_shortened(name)) for name in evaluation.class_names]
    # In inches and points: a cell is at least as high as a line of text, and larger if there is room.
    cell = float(np.clip(8 / classes, 0.14, 0.7))
    font = float(np.clip(cell * 72 * 0.72, 7, 10))
    heading = max(font + 2, 0.7 * cell * classes)
    label = max(map(len, names)) * font * 0.5 / 72 + 0.5
    side = max(cell * classes, 2.5)
    figure = new_figure(side + label + 1.2, side + label + 0.8, layout="constrained")
    # Imported after `new_figure`, which raises a helpful error if matplotlib is not installed.
    from matplotlib.colors import PowerNorm

    axes = figure.subplots()
    # With a linear scale, rare confusions, which matter most, would be invisible.
    norm = PowerNorm(0.5, 0, 1)
    image = axes.imshow(np.ma.masked_equal(shares, 0), cmap="viridis_r", norm=norm)
    places = np.arange(classes)
    axes.set_xticks(places, names, rotation=90, fontsize=font)
    axes.set_yticks(places, names, fontsize=font)
    axes.set_xlabel("predicted class", fontsize=heading)
    axes.set_ylabel("true class", fontsize=heading)
    axes.set_xticks(places[1:] - 0.5, minor=True)
    axes.set_yticks(places[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    axes.set_axisbelow(True)
    if classes <= _COUNTED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if norm(shares[row, column]) > _DARK else "black"
            axes.text(
                *(column, row, f"{counts[row, column]:,}"),
                **{"ha": "center", "va": "center", "color": color, "fontsize": font},
            )
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=heading)
    bar = figure.colorbar(image, ax=axes, shrink=min(0.8, 8 / side), ticks=(0, 0.01, 0.05, 0.2, 0.5, 1))
    bar.set_label("share of the true class's videos", fontsize=heading)
    bar.ax.set_yticklabels(["0", "1%", "5%", "20%", "50%", "100%"], fontsize=heading - 1)
    save_figure(figure, file, bbox_inches="tight")


def _shortened(name):
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."
