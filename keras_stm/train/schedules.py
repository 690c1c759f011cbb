"""Learning rate schedules over the steps of a training."""

import keras

from keras_stm.train.config import REFERENCE_BATCH

# Highest learning rate of the epochs with history, as a share of that of the epochs before.
HISTORY_RATE = 1 / 3


def warmed_up_cosine(peak, steps):
    """Returns a schedule that rises to `peak` in the first tenth of the steps, then falls to 0."""
    warmup_steps = steps // 10
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else peak,
        steps - warmup_steps,
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def make_schedule(data):
    """Returns the schedule of a run's settings; the learning rate is in proportion to the batch size.

    Args:
        data: `RunData`.

    Returns:
        `keras.optimizers.schedules.LearningRateSchedule` over the steps. Several steps are one update if
        gradients are accumulated.
    """
    settings = data.settings
    updates = data.updates_per_epoch()
    learning_rate = settings.learning_rate * data.batch_size / REFERENCE_BATCH
    if settings.schedule == "steps":
        # Keras uses a value up to and including the boundary step: here the last step of an epoch.
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [epoch * updates - 1 for epoch in settings.decay_epochs],
            [learning_rate / 10**i for i in range(len(settings.decay_epochs) + 1)],
        )
    else:
        schedule = _cosines(settings, learning_rate, updates)
    return _PerUpdate(schedule, settings.gradient_accumulation_steps)


def _cosines(settings, peak, updates):
    """Returns the cosine of a run; the epochs with history have one of their own.

    At the end of a common cosine, the rate would be too low to learn what streams need.
    """
    start, end = updates * settings.history_start, updates * settings.epochs
    if start == end:
        return warmed_up_cosine(peak, end)
    history = warmed_up_cosine(peak * HISTORY_RATE, end - start)
    return _Successive(warmed_up_cosine(peak, start), start, history) if start else history


def learning_rate(data, step):
    """Returns the learning rate of a step, counted from 0 over the whole run."""
    return float(make_schedule(data)(step))


class _Successive(keras.optimizers.schedules.LearningRateSchedule):
    """One schedule up to a step, and another one from there on, which counts from 0."""

    def __init__(self, first, start, second):
        self.first = first
        self.start = start
        self.second = second

    def __call__(self, step):
        # Neither schedule is asked for a step that it does not have.
        before, after = keras.ops.minimum(step, self.start), keras.ops.maximum(step - self.start, 0)
        return keras.ops.where(step < self.start, self.first(before), self.second(after))

    def get_config(self):
        return {"first": self.first, "start": self.start, "second": self.second}


class _PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over updates, for an optimizer that counts every step of gradient accumulation."""

    def __init__(self, schedule, steps):
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        return self.schedule(step // self.steps)

    def get_config(self):
        return {"schedule": self.schedule, "steps": self.steps}
