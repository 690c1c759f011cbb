"""Learning rates over the steps of a training; needs no TensorFlow."""

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
