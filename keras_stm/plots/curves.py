"""Curves of loss and accuracy over the epochs of a training."""

from keras_stm.plots.figures import new_figure, save_figure

# Accuracies that differ by less are drawn as one line.
_SAME = 0.005


def plot_curves(file, history):
    """Draws loss and accuracy of training and validation over the epochs, as PNG.

    Args:
        file: path, or file open for writing bytes.
        history: list of one dictionary per epoch, with the keys `"epoch"`, counted from 0, `"loss"`,
            `"accuracy"`, `"val_loss"` and `"val_accuracy"`, and perhaps `"val_mean_class_accuracy"`. It is
            drawn if it differs from the accuracy: with as many clips of each class, both are the same.

    Raises:
        ImportError: matplotlib is not installed.
    """
    epochs = [row["epoch"] + 1 for row in history]
    figure = new_figure(10, 4, layout="constrained")
    lines = {
        "loss": {"loss": "training", "val_loss": "validation"},
        "accuracy": {"accuracy": "training", "val_accuracy": "validation"},
    }
    mean = "val_mean_class_accuracy"
    if any(abs(row.get(mean, row["val_accuracy"]) - row["val_accuracy"]) > _SAME for row in history):
        lines["accuracy"][mean] = "validation, mean of the classes"
    for axes, (name, labels) in zip(figure.subplots(1, 2), lines.items(), strict=True):
        for key, label in labels.items():
            axes.plot(epochs, [row[key] for row in history], marker="o", label=label)
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, file)
