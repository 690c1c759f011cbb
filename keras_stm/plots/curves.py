"""Curves of loss and accuracy over the epochs of a training."""

from keras_stm.plots.figures import new_figure, save_figure


def plot_curves(file, history):
    """Draws loss and accuracy of training and validation over the epochs, as PNG.

    Args:
        file: path, or file open for writing bytes.
        history: list of one dictionary per epoch, with the keys `"epoch"`, counted from 0, `"loss"`,
            `"accuracy"`, `"val_loss"` and `"val_accuracy"`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    epochs = [row["epoch"] + 1 for row in history]
    figure = new_figure(10, 4, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, label in (("", "training"), ("val_", "validation")):
            axes.plot(epochs, [row[prefix + name] for row in history], marker="o", label=label)
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, file)
