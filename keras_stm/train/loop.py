"""The training itself: from the last completed epoch in a run's folder to the last epoch."""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_stm import evaluation, inference
from keras_stm.train import run_folder
from keras_stm.train.callbacks import DataWait, EpochEnd, FiniteLoss, TimeEstimate
from keras_stm.train.checkpoints import state


class Training:
    """Trains and validates a model; to be used within the scope of the devices.

    Args:
        model: compiled `keras.Model` with a built optimizer.
        folder: `RunFolder`.
        data: `RunData`.
        devices: `Devices`.
        interruption: `callbacks.Interruption`.

    Attributes:
        history: list of a dictionary for each epoch so far; the keys are the columns of `history.csv`.
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
        """Trains from the last completed epoch on.

        Afterwards the model has the final weights of the run: those of the last epoch or, with early
        stopping, of the best epoch. They are averaged if `ema_momentum` is set.

        Args:
            tensorboard: whether to log for TensorBoard.
            callbacks: additional `keras.callbacks.Callback` objects, called before the run's own.

        Raises:
            RuntimeError: the loss is not finite.
            ValueError: too many clips are unreadable, or the checkpoint is damaged.
        """
        settings = self.data.settings
        self.history = self.load_checkpoint()
        if self.history:
            print(f"Resuming after epoch {len(self.history)} of {settings.epochs}.")
        if len(self.history) < settings.epochs and not self.is_stopped():
            data_wait = DataWait(self.data.is_packed, self.data.workers, os.cpu_count())
            # The interruption comes last: the others must see the step after which it raises.
            callbacks = [
                *callbacks,
                data_wait,
                TimeEstimate(self.steps_left()),
                FiniteLoss(self.data, self.devices),
                EpochEnd(self),
                self.interruption,
            ]
            if tensorboard and self.devices.is_first:
                callbacks.append(keras.callbacks.TensorBoard(self.folder.file(run_folder.TENSORBOARD)))
            self._fit(data_wait, callbacks)
            if len(self.history) == settings.history_start < settings.epochs:
                # The clips are longer from here on, and need a step of their own.
                self._fit(data_wait, callbacks)
        if settings.early_stopping:
            self.load_best()
        else:
            self.take_average()

    def _fit(self, data_wait, callbacks):
        """Trains from the last completed epoch on while the clips have one length."""
        initial_epoch = len(self.history)
        batches = self.data.training_batches(initial_epoch)
        try:
            self.model.fit(
                data_wait.watch(batches),
                initial_epoch=initial_epoch,
                epochs=self.data.settings.epochs,
                steps_per_epoch=self.data.steps_per_epoch(),
                callbacks=callbacks,
                shuffle=False,
                # A progress bar on a terminal, one line per epoch in a file.
                verbose=1 if sys.stdout.isatty() else 2,
            )
        except tf.errors.OpError:
            # TensorFlow wraps the errors of pipeline workers: raise the plain error if that is the cause.
            self.data.left_out.check()
            raise

    def steps_left(self):
        """Returns how many steps the remaining epochs have, those of validation included.

        Steps with history count as more steps, in proportion to their frames, unless no others are left.
        """
        data, settings = self.data, self.data.settings
        validation_steps = -(-len(data.validation.records) // data.step_size)
        short = max(settings.history_start - len(self.history), 0)
        long = settings.epochs - len(self.history) - short
        length = (settings.num_frames + settings.history) / settings.num_frames if short else 1
        return (short + long) * validation_steps + (short + long * length) * data.steps_per_epoch()

    def is_stopped(self):
        """Returns whether early stopping has ended the training."""
        patience = self.data.settings.early_stopping
        return bool(patience and self.history and len(self.history) - self.best_epoch() >= patience)

    def better_epoch(self):
        """Returns the history of the epoch that is better than the model's, or `None`."""
        if self.data.settings.early_stopping:
            return None
        merits = self._merits()
        best = max(merits)
        return self.history[merits.index(best)] if best > merits[-1] else None

    def best_epoch(self):
        """Returns the first of the best epochs by `early_stopping_metric`, counted from 1."""
        merits = self._merits()
        return 1 + merits.index(max(merits))

    def _merits(self):
        """Returns a merit for each epoch so far, higher for a better one.

        Epochs with `history` are better than those before: validation clips do not show what streams need.
        """
        settings = self.data.settings
        name = settings.validation_metric
        sign = -1 if name == "val_loss" else 1
        return [(epoch >= settings.history_start, sign * row[name]) for epoch, row in enumerate(self.history)]

    def load_checkpoint(self, epoch=None):
        """Restores the last or a given epoch, counted from 1; returns the history up to it."""
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
        """Gives the model the weights of its best epoch, averaged if `ema_momentum` is set."""
        self.load_checkpoint(self.best_epoch())
        self.take_average()

    def take_average(self):
        """Gives the model its averaged weights, if its optimizer keeps them."""
        if self.data.settings.ema_momentum:
            variables = self.model.trainable_variables
            self.model.optimizer.finalize_variable_values(variables)
            for variable in variables:
                # Copy: under JAX the variable shares the average's array, and using the model would free it.
                variable.assign(keras.ops.convert_to_numpy(variable))

    def validate(self):
        """Evaluates the model on all validation clips, each of them once.

        Returns:
            `evaluation.Evaluation` and the mean loss, the same in every process.
        """
        data, num_processes = self.data, self.devices.num_processes
        num_clips = data.step_size // num_processes
        # All processes take equally many steps of equally many clips, even if some skipped clips.
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
            raise RuntimeError("The validation scores are not finite: the weights diverged.")
        losses = keras.ops.convert_to_numpy(self.model.loss.call(labels, scores))
        if data.one_hot():
            labels = labels.argmax(axis=1)
        return evaluation.from_scores(scores, labels, data.validation.class_names), float(losses.mean())

    def validate_average(self):
        """Does `validate` with averaged weights if `ema_momentum` is set; keeps the model's weights."""
        if not self.data.settings.ema_momentum:
            return self.validate()
        variables = self.model.trainable_variables
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        self.take_average()
        result = self.validate()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return result
