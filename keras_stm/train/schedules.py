"""Learning rate schedules over the steps of a training."""

import keras

# Learning rates are stated for a batch of this many clips, the paper's batch size.
REFERENCE_BATCH = 64


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
        schedule = warmed_up_cosine(learning_rate, updates * settings.epochs)
    return _PerUpdate(schedule, settings.gradient_accumulation_steps)


def learning_rate(data, step):
    """Returns the learning rate of a step, counted from 0 over the whole run."""
    return float(make_schedule(data)(step))


class _PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over updates, for an optimizer that counts every step of gradient accumulation."""

    def __init__(self, schedule, steps):
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        return self.schedule(step // self.steps)

    def get_config(self):
        return {"schedule": self.schedule, "steps": self.steps}
