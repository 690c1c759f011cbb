"""What the clips of a data set are like: how large, how fast, how long, how many of each class."""

import collections

import numpy as np

from keras_stm.plots.figures import new_figure, save_figure

# What the numbers are rounded to.
_STEPS = {"short side": 1, "frames/s": 0.01, "seconds": 0.1, "frames": 1}
# What a picture has room for: values with a bar of their own, bars of a histogram, class names and their
# characters.
_VALUES = 8
_BINS = 40
_NAMES = 30
_NAME_LENGTH = 30


def plot_data(file, facts, class_sizes, class_names):
    """Draws resolution, frame rate, length and clips per class, as PNG.

    Args:
        file: path, or file open for writing bytes.
        facts: dictionary of lists, a value for each clip where it is known: `"width x height"` as text,
            `"short side"` in pixels, `"frames/s"`, `"seconds"` and `"frames"`.
        class_sizes: dictionary of split -> number of clips of each class.
        class_names: names of the classes.

    Raises:
        ImportError: if matplotlib is not installed.
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
    """A bar for each value where there are few, a histogram otherwise."""
    counts = dict(collections.Counter(values).most_common())
    axes.set_title(f"{title}, {name}" if values else f"{title}: not known", loc="left")
    if not values:
        axes.set_axis_off()
    elif len(counts) > _VALUES:
        # A few very long clips would leave a single bar for all others.
        limit = np.percentile(values, 99)
        shown = [value for value in values if value <= limit]
        # Bars of a whole number of steps: others would hold one value more or less in turn.
        step = _STEPS[name]
        width = step * max(1, round((max(shown) - min(shown)) / step / _BINS))
        axes.hist(shown, bins=np.arange(min(shown) - step / 2, limit + width, width))
        axes.set(xlabel=name, ylabel="clips")
        if len(shown) < len(values):
            axes.set_xlabel(f"{name}; the largest 1%, up to {as_text(max(values))}, are not drawn")
    else:
        bars = axes.barh(range(len(counts)), counts.values(), tick_label=[as_text(value) for value in counts])
        axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=3)
        axes.set(xlabel="clips", ylim=(max(len(counts), _VALUES) - 0.5, -0.5))
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(integer=True)


def _plot_classes(axes, class_sizes, class_names):
    """Bars of the classes by size, the splits stacked; with names where these can be read."""
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
        axes.set_yticks(places, names, fontsize="small")
        axes.set(xlabel="clips", ylim=(max(len(names), _VALUES) - 0.5, -0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        axes.set(xlabel="classes, from the largest to the smallest", ylabel="clips")
        axes.margins(x=0)
    axes.set_title("clips per class", loc="left")
    if class_sizes:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(class_sizes), frameon=False)


def as_text(value):
    """A value for a person to read: a number with two digits at most behind the point."""
    return value if isinstance(value, str) else f"{value:,.2f}".rstrip("0").rstrip(".")
