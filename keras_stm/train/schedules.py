"""Learning rates over the steps of a training."""

import keras

# Clips in the batch that a learning rate is stated for: the paper's.
REFERENCE_BATCH = 64


def warmed_up_cosine(peak, steps):
    """Rises to `peak` in a tenth of the steps, where that is at least one, and falls to 0 in the others."""
    warmup_steps = steps // 10
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else peak,
        steps - warmup_steps,
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def make_schedule(data):
    """The schedule of a run's settings, its rate in proportion to the batch.

    Args:
        data: `RunData`.

    Returns:
        `keras.optimizers.schedules.LearningRateSchedule` over the steps, of which several are one update
        where gradients are accumulated.
    """
    settings = data.settings
    updates = data.steps_per_epoch() // settings.gradient_accumulation_steps
    learning_rate = settings.learning_rate * data.batch_size / REFERENCE_BATCH
    if settings.schedule == "steps":
        # Keras keeps a value for the step of the boundary itself, which is here the last of an epoch.
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [epoch * updates - 1 for epoch in settings.decay_epochs],
            [learning_rate / 10**i for i in range(len(settings.decay_epochs) + 1)],
        )
    else:
        schedule = warmed_up_cosine(learning_rate, updates * settings.epochs)
    return _PerUpdate(schedule, settings.gradient_accumulation_steps)


def learning_rate(data, step):
    """That of a step, counted over the whole run."""
    return float(make_schedule(data)(step))


class _PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over updates for an optimizer that counts the steps between them as well."""

    def __init__(self, schedule, steps):
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        return self.schedule(step // self.steps)

    def get_config(self):
        return {"schedule": self.schedule, "steps": self.steps}
