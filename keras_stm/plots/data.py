"""Figure of a data set: resolution, frame rate, length and number of its clips."""

import collections

import numpy as np

from keras_stm.plots.figures import literal, new_figure, save_figure

# Precision to which the numbers are rounded.
_STEPS = {"short side": 1, "frames/s": 0.01, "seconds": 0.1, "frames": 1}
# Room in the picture: values with separate bars, bars of a histogram, class names and characters of a
# class name.
_VALUES = 8
_BINS = 40
_NAMES = 30
_NAME_LENGTH = 30


def plot_data(file, facts, class_sizes, class_names):
    """Draws resolution, frame rate, length and number of clips per class, as PNG.

    Args:
        file: path, or file open for writing bytes.
        facts: dictionary of lists with one value for each clip whose value is known: `"width x height"` as
            text, `"short side"` in pixels, `"frames/s"`, `"seconds"` and `"frames"`.
        class_sizes: dictionary from split to the number of clips of each class.
        class_names: names of the classes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    resolution = "width x height" if len(set(facts["width x height"])) <= _VALUES else "short side"
    length = "seconds" if facts["seconds"] else "frames"
    figure = new_figure(13, 9, layout="constrained")
    axes = figure.subplots(2, 2).flat
    for title, name in (("resolution", resolution), ("frame rate", "frames/s"), ("length", length)):
        _plot_values(next(axes), facts[name], title, name)
    _plot_classes(next(axes), class_sizes, class_names)
    save_figure(figure, file)


def _plot_values(axes, values, title, name):
    """Draws one bar for each value if there are few values, and a histogram otherwise."""
    counts = dict(collections.Counter(values).most_common())
    axes.set_title(f"{title}, {name}" if values else f"{title}: unknown", loc="left")
    if not values:
        axes.set_axis_off()
    elif len(counts) > _VALUES:
        # Otherwise, a few very long clips squeeze all others into a single bar.
        limit = np.percentile(values, 99)
        shown = [value for value in values if value <= limit]
        # A whole number of steps per bar: otherwise, some bars cover one value more than others.
        step = _STEPS[name]
        width = step * max(1, round((max(shown) - min(shown)) / step / _BINS))
        axes.hist(shown, bins=np.arange(min(shown) - step / 2, limit + width, width))
        axes.set(xlabel=name, ylabel="clips")
        if len(shown) < len(values):
            axes.set_xlabel(f"{name} (the largest 1%, up to {as_text(max(values))}, are not drawn)")
    else:
        bars = axes.barh(range(len(counts)), counts.values(), tick_label=[as_text(value) for value in counts])
        axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=3)
        axes.set(xlabel="clips", ylim=(max(len(counts), _VALUES) - 0.5, -0.5))
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(integer=True)


def _plot_classes(axes, class_sizes, class_names):
    """Draws stacked bars of the splits for each class, sorted by size, with class names if they fit."""
    below = np.zeros(len(class_names), int)
    class_sizes = {split: np.array(sizes) for split, sizes in class_sizes.items()}
    order = np.argsort(-sum(class_sizes.values(), below), kind="stable")
    places = np.arange(len(class_names))
    named = len(class_names) <= _NAMES
    for split, sizes in class_sizes.items():
        if named:
            axes.barh(places, sizes[order], left=below, label=split)
        else:
            axes.bar(places, sizes[order], bottom=below, width=1, label=split)
        below = below + sizes[order]
    if named:
        names = [class_names[label] for label in order]
        names = [f"{name[:_NAME_LENGTH]}..." if len(name) > _NAME_LENGTH else name for name in names]
        axes.set_yticks(places, list(map(literal, names)), fontsize="small")
        axes.set(xlabel="clips", ylim=(max(len(names), _VALUES) - 0.5, -0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        axes.set(xlabel="classes, from largest to smallest", ylabel="clips")
        axes.margins(x=0)
    axes.set_title("clips per class", loc="left")
    if class_sizes:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(class_sizes), frameon=False)


def as_text(value):
    """Returns a value as text; a number has at most two digits after the decimal point."""
    return value if isinstance(value, str) else f"{value:,.2f}".rstrip("0").rstrip(".")
