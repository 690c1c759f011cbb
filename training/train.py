"""The training itself: from the last whole epoch of a run's folder to the last epoch."""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

import run_folder
import schedules
from data_wait import DataWait
from keras_stm import evaluation, inference

_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")


class Training:
    """A model and what it is trained with. All of it happens within the scope of the devices.

    Args:
        model: compiled `keras.Model`, its optimizer built.
        folder: `RunFolder`.
        data: `RunData`.
        devices: `distribution.Devices`.
        interruption: `interruption.Interruption`.

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


class FiniteLoss(keras.callbacks.Callback):
    """Stops the training at the first loss that is no number."""

    def __init__(self, data, devices):
        super().__init__()
        self.data = data
        self.devices = devices
        self._epoch = self._last = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # That of the step before: waiting for this one's would keep the device from the next.
        self._check()
        self._last = batch, logs["loss"]

    def on_epoch_end(self, epoch, logs=None):
        self._check()
        self._last = None

    def _check(self):
        if self._last is None:
            return
        step, loss = self._last
        if not np.isfinite(float(loss)):
            epoch = self._epoch
            rate = schedules.learning_rate(self.data, epoch * self.data.steps_per_epoch() + step)
            paths = "\n  ".join(sum(self.devices.gather(self.data.batch_paths(epoch, step)), []))
            kept = f"The checkpoint after epoch {epoch} is kept. " if epoch else ""
            raise RuntimeError(
                f"The loss became {float(loss)} at step {step + 1} of epoch {epoch + 1}, at a learning rate "
                f"of {rate:.3g}. Clips of that step:\n  {paths}\n{kept}The same command would come to the "
                "same step: try a lower --learning_rate, a --clip_norm or, if a clip is to blame, --exclude, "
                "with another --output."
            )


class EpochEnd(keras.callbacks.Callback):
    """Validates, adds the epoch to the history and to the run's folder, and decides whether to stop early."""

    def __init__(self, training):
        super().__init__()
        self.training = training

    def on_epoch_end(self, epoch, logs=None):
        training = self.training
        folder, history, data, devices = training.folder, training.history, training.data, training.devices
        result, logs["val_loss"] = training.validate_average()
        logs["val_accuracy"] = result.top1
        row = {"epoch": epoch, **{name: float(logs[name]) for name in _COLUMNS}}
        # That of the epoch's last step.
        row["learning_rate"] = schedules.learning_rate(data, (epoch + 1) * data.steps_per_epoch() - 1)
        history.append(row)
        # In every process, as JAX may ask them for their parts.
        arrays = [keras.ops.convert_to_numpy(variable) for variable in state(self.model)]
        for part in devices.gather(data.left_out.reasons):
            data.left_out.reasons.update(part)

        def write():
            folder.save_checkpoint(arrays, history, training.best_epoch())
            folder.add_left_out(data.left_out.reasons)

        devices.from_first(write)
        data.left_out.check()
        if training.is_stopped():
            self.model.stop_training = True


def state(model):
    """All variables of a compiled model that its next step depends on: weights, random states, optimizer."""
    # Of `model.variables`, which also has the random states of dropout, not the metrics: they start
    # anew in each epoch.
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [variable for variable in model.variables if id(variable) not in metrics]
    return variables + model.optimizer.variables
