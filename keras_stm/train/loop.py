"""The training itself: from the last whole epoch of a run's folder to the last epoch."""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_stm import evaluation, inference
from keras_stm.train import run_folder
from keras_stm.train.callbacks import DataWait, EpochEnd, FiniteLoss
from keras_stm.train.checkpoints import state


class Training:
    """A model and what it is trained with. All of it happens within the scope of the devices.

    Args:
        model: compiled `keras.Model`, its optimizer built.
        folder: `RunFolder`.
        data: `RunData`.
        devices: `Devices`.
        interruption: `callbacks.Interruption`.

    Attributes:
        history: a dictionary for each epoch so far, the columns of `history.csv`.
    """

    def __init__(self, model, folder, data, devices, interruption):
        self.model = model
        self.folder = folder
        self.data = data
        self.devices = devices
        self.interruption = interruption
        self.history = []
        self._predict = inference.predict_fn(model)

    def run(self, tensorboard=False, callbacks=()):
        """Trains from the last whole epoch on.

        In the end the model has the weights that the run is for: those of the last epoch, or of the best
        one with early stopping, averaged ones if asked for.

        Args:
            tensorboard: whether to log for TensorBoard.
            callbacks: further `keras.callbacks.Callback`, which are called before the run's own.

        Raises:
            RuntimeError: the loss is no longer a number.
            ValueError: too many clips turned out to be unreadable, or the checkpoint is damaged.
        """
        settings = self.data.settings
        self.history = self.load_checkpoint()
        if self.history:
            print(f"Resuming after epoch {len(self.history)} of {settings.epochs}.")
        if len(self.history) < settings.epochs and not self.is_stopped():
            batches = self.data.training_batches(initial_epoch=len(self.history))
            data_wait = DataWait(self.data.is_packed, self.data.workers, os.cpu_count())
            # The interruption last: a step that it ends was looked at before.
            callbacks = [
                *callbacks,
                data_wait,
                FiniteLoss(self.data, self.devices),
                EpochEnd(self),
                self.interruption,
            ]
            if tensorboard and self.devices.is_first:
                callbacks.append(keras.callbacks.TensorBoard(self.folder.file(run_folder.TENSORBOARD)))
            try:
                self.model.fit(
                    data_wait.watch(batches),
                    initial_epoch=len(self.history),
                    epochs=settings.epochs,
                    steps_per_epoch=self.data.steps_per_epoch(),
                    callbacks=callbacks,
                    shuffle=False,
                    # A bar where a person watches it, a line an epoch where a file does.
                    verbose=1 if sys.stdout.isatty() else 2,
                )
            except tf.errors.OpError:
                # What the pipeline meets in a worker comes back inside TensorFlow's own error.
                self.data.left_out.check()
                raise
        if settings.early_stopping:
            self.load_best()
        else:
            self.take_average()

    def is_stopped(self):
        """Whether early stopping has ended the training."""
        patience = self.data.settings.early_stopping
        return bool(patience and self.history and len(self.history) - self.best_epoch() >= patience)

    def better_epoch(self):
        """The row of the epoch with a higher `val_accuracy` than that of the model, or `None`."""
        if self.data.settings.early_stopping:
            return None
        best = self.history[self.best_epoch() - 1]
        return best if best["val_accuracy"] > self.history[-1]["val_accuracy"] else None

    def best_epoch(self):
        """The epoch with the highest, and of equals the first, `val_accuracy`, counted from 1."""
        return 1 + int(np.argmax([row["val_accuracy"] for row in self.history]))

    def load_checkpoint(self, epoch=None):
        """Restores the last epoch, or another, counted from 1; returns the history until then."""
        variables = state(self.model)
        arrays = [None] * len(variables)

        def load():
            found, history = self.folder.load_checkpoint(epoch)
            if found:
                arrays[:] = found
            return history

        history = self.devices.from_first(load)
        if history:
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(self.devices.array_from_first(array, variable.shape, variable.dtype))
        return history

    def load_best(self):
        """Gives the model the weights of its best epoch, averaged ones if asked for."""
        self.load_checkpoint(self.best_epoch())
        self.take_average()

    def take_average(self):
        """Gives the model averaged weights, where its optimizer keeps some."""
        if self.data.settings.ema_momentum:
            variables = self.model.trainable_variables
            self.model.optimizer.finalize_variable_values(variables)
            for variable in variables:
                # A copy: under JAX it is the average's own array, which using the model would free.
                variable.assign(keras.ops.convert_to_numpy(variable))

    def validate(self):
        """How good the model is on the validation clips, each of them once, in every process.

        Returns:
            `evaluation.Evaluation` and the mean loss.
        """
        data, num_processes = self.data, self.devices.num_processes
        num_clips = data.step_size // num_processes
        # All processes take as many steps of as many clips, although they may have left out some.
        most = -(-len(data.validation.records) // num_processes)
        batches = data.validation_batches().as_numpy_iterator()
        parts = []
        for _ in range(-(-most // num_clips)):
            self.interruption.check()
            clips, labels = next(batches, (np.zeros((0, *data.clip_shape), "float32"), None))
            lacking = np.zeros((num_clips - len(clips), *data.clip_shape), "float32")
            scores = self._predict(np.concatenate([clips, lacking]) if len(lacking) else clips)
            if len(clips):
                parts.append((scores[: len(clips)], labels))
        scores, labels = map(np.concatenate, zip(*sum(self.devices.gather(parts), []), strict=True))
        if not np.isfinite(scores).all():
            raise RuntimeError("The validation scores are no longer numbers: the weights diverged.")
        losses = keras.ops.convert_to_numpy(self.model.loss.call(labels, scores))
        if data.one_hot():
            labels = labels.argmax(axis=1)
        return evaluation.from_scores(scores, labels, data.validation.class_names), float(losses.mean())

    def validate_average(self):
        """`validate` with the weights that the run would end with, if averaged ones are asked for."""
        if not self.data.settings.ema_momentum:
            return self.validate()
        variables = self.model.trainable_variables
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        self.take_average()
        result = self.validate()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return result
