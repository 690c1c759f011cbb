"""Pictures of training curves and confusion matrices, and the imports of the package."""

import pathlib

import numpy as np
import pytest

from keras_stm import evaluation, plots
from keras_stm.plots.figures import new_figure, save_figure


def size(file):
    """Width and height of a PNG file in pixels."""
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    return tuple(int.from_bytes(content[start : start + 4]) for start in (16, 20))


def test_curves_are_drawn_from_epoch_1_on_for_both_sets(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("keras_stm.plots.curves.save_figure", lambda figure, file: figures.append(figure))
    rows = np.random.default_rng(0).random((3, 4))
    names = ("loss", "val_loss", "accuracy", "val_accuracy")
    plots.plot_curves(
        tmp_path / "curves.png",
        [{"epoch": epoch, **dict(zip(names, row, strict=True))} for epoch, row in enumerate(rows)],
    )
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    for axes, columns in zip(figure.axes, (rows[:, :2], rows[:, 2:]), strict=True):
        assert [line.get_label() for line in axes.lines] == ["training", "validation"]
        for line, column in zip(axes.lines, columns.T, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), column)


@pytest.mark.parametrize("mean, lines", [(0.9, 2), (0.6, 3)])
def test_the_mean_of_the_classes_is_drawn_if_it_differs(mean, lines, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("keras_stm.plots.curves.save_figure", lambda figure, file: figures.append(figure))
    row = {"epoch": 0, "loss": 1, "val_loss": 1, "accuracy": 0.9, "val_accuracy": 0.9}
    plots.plot_curves(tmp_path / "curves.png", [{**row, "val_mean_class_accuracy": mean}])
    assert [len(axes.lines) for axes in figures[0].axes] == [2, lines]


@pytest.mark.parametrize("opened", [False, True])
def test_a_figure_is_written_as_png_under_any_name_and_into_open_files(opened, tmp_path):
    path = tmp_path / "curves.partial"
    if opened:
        with path.open("wb") as file:
            save_figure(new_figure(2, 1), file)
    else:
        save_figure(new_figure(2, 1), path)
    assert size(path) == (240, 120)


# With 60 classes, cells already have their smallest size.
@pytest.mark.parametrize("classes", [1, 60])
def test_any_number_of_classes_makes_a_picture_on_which_names_can_be_read(tmp_path, classes):
    names = [f"class {i} " + "of a long name " * 8 for i in range(classes)]
    labels = np.arange(classes)
    found = evaluation.from_scores(np.roll(np.eye(classes), 1, axis=1), labels, names)
    plots.plot_confusion(tmp_path / "picture.png", found, "title")
    width, height = size(tmp_path / "picture.png")
    # A line of text is 7 points high, at 120 dots per inch.
    assert min(width, height) > classes * 7 / 72 * 120 and max(width, height) < 2**13


def test_the_package_is_imported_without_what_only_its_functions_need():
    (folder,) = map(pathlib.Path, plots.__path__)
    sources = [path.read_text().splitlines() for path in folder.glob("*.py")]
    top = [line for lines in sources for line in lines if line.startswith(("import ", "from "))]
    assert len(sources) >= 5
    assert not [line for line in top if "matplotlib" in line or "skimage" in line]
