"""How every figure is made, and written into a file."""

import functools
import io


def new_figure(width, height, **options):
    """An empty figure, which nobody but the caller knows.

    Args:
        width, height: in inches.
        **options: of `matplotlib.figure.Figure`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Figures need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), **options)
    # A figure that is not pyplot's has no picture in a notebook, unless there is %matplotlib inline.
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def save_figure(figure, file, **options):
    """Writes a figure as PNG, whatever the file is called; `options` are those of `Figure.savefig`."""
    figure.savefig(file, dpi=120, format="png", **options)


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=72)
    return file.getvalue()
