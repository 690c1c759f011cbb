"""The loss of a run."""

import keras


def make_loss(data):
    """Returns the loss of a run's settings; see `RunData` for `data`."""
    if not data.one_hot():
        return keras.losses.SparseCategoricalCrossentropy()
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=data.settings.label_smoothing)
    weights = data.class_weights()
    return loss if weights is None else ClassWeighted(loss, weights)


class ClassWeighted(keras.losses.Loss):
    """A loss in which each class has its own weight; the mean over a batch is not divided by the weights.

    A label of several classes, as MixUp and CutMix make it, is the sum of its parts: each part weighs as its
    own class does. Label smoothing of the inner loss does not change the weights.

    Args:
        loss: `keras.losses.Loss` of labels that are distributions over the classes.
        weights: weight of each class, array `(classes,)`; above 0.
    """

    def __init__(self, loss, weights):
        super().__init__(name=f"class_weighted_{loss.name}")
        self.loss = loss
        self.weights = weights

    def call(self, y_true, y_pred):
        """Returns the weighted loss of each clip, `(batch,)`."""
        y_true = keras.ops.convert_to_tensor(y_true, self.dtype)
        weighted = y_true * keras.ops.convert_to_tensor(self.weights, self.dtype)
        weight = keras.ops.sum(weighted, axis=-1)
        return weight * self.loss.call(weighted / weight[..., None], y_pred)
