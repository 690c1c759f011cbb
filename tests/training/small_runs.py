"""Runs of seconds."""

import contextlib
import dataclasses
import functools

import keras
import numpy as np
import pytest

import config
import fit
import keras_stm
from tests.layers.check_layer import randomize

SMALL = dataclasses.replace(
    config.PRESETS["small"], num_frames=4, image_size=32, batch_size=8, epochs=2, dropout=0.5
)

NARROW = functools.partial(config.MODELS["stm_small"], width=16, depths=(1, 1, 1, 1))


@contextlib.contextmanager
def untraced():
    """Steps run without being traced under TensorFlow, which takes longer than a few of them save."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def run(output, data_dir, exports=False, settings=SMALL, callbacks=(), **changes):
    """Trains as `settings`, with `changes`; without the export, which takes longer, unless told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.MODELS, "stm_small", NARROW)
        if not exports:
            patch.setattr(keras_stm.export, "save", lambda *args, **kwargs: None)
        settings = dataclasses.replace(settings, data_dir=str(data_dir), **changes)
        fit.fit(settings, str(output), callbacks=callbacks)


def train_sure(output, data_dir):
    """A run, with its export, whose model is sure of its answers, and gives several of them."""
    keras.utils.set_random_seed(0)
    model = NARROW(classes=8, weights=None)
    randomize(model)
    head = model.get_layer("predictions").kernel
    head.assign(np.random.default_rng(1).normal(0, 0.01, head.shape))
    start = output.with_suffix(".weights.h5")
    model.save_weights(start)
    run(output, data_dir, exports=True, weights=str(start), epochs=1, learning_rate=1e-5, dropout=0.0)
