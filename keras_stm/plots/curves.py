"""How a training went, epoch by epoch."""

from keras_stm.plots.figures import new_figure, save_figure


def plot_curves(file, history):
    """Draws loss and accuracy of both sets over the epochs, as PNG.

    Args:
        file: path, or file open for writing bytes.
        history: list of a dictionary for each epoch, of `"epoch"`, which counts from 0, `"loss"`,
            `"accuracy"`, `"val_loss"` and `"val_accuracy"`.

    Raises:
        ImportError: if matplotlib is not installed.
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
