"""Creates figures, and writes them to files."""

import functools
import io

from keras_stm.file_names import printable


def new_figure(width, height, **options):
    """Returns an empty figure that is not registered with pyplot.

    Args:
        width: width in inches.
        height: height in inches.
        **options: arguments of `matplotlib.figure.Figure`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Figures need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), **options)
    # Without pyplot, a notebook shows a figure only after %matplotlib inline.
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def save_figure(figure, file, **options):
    """Writes a figure as PNG, for any file name; `options` are arguments of `Figure.savefig`."""
    figure.savefig(file, dpi=120, format="png", **options)


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=72)
    return file.getvalue()


def literal(text):
    """Returns text that a figure shows as it is: `$` starts no formula, control characters are escapes."""
    return printable(text).replace("$", r"\$")
