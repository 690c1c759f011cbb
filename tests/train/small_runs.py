"""Runs that take seconds."""

import contextlib
import dataclasses
import functools

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import model_file
from keras_stm.data import arrow_of_time, load_clip, open_dataset
from keras_stm.train import fit, presets
from keras_stm.train.run import save_model
from tests.layers.check_layer import randomize
from tests.reference.backend import compute, numpy

SMALL = dataclasses.replace(
    presets.PRESETS["arrow_of_time"], num_frames=4, image_size=32, batch_size=8, epochs=2, dropout=0.5
)

NARROW = functools.partial(presets.MODELS["stm_small"], width=16, depths=(1, 1, 1, 1))


@contextlib.contextmanager
def untraced():
    """Runs steps without tracing under TensorFlow: tracing takes longer than it saves for a few steps."""
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
    """Trains with `settings`, changed by `changes`; skips the export, which takes longer, by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.MODELS, "stm_small", NARROW)
        if not exports:
            patch.setattr(keras_stm.export, "save", lambda *args, **kwargs: None)
        settings = dataclasses.replace(settings, data_dir=str(data_dir), **changes)
        fit(settings, str(output), callbacks=callbacks)


def train_sure(output, data_dir):
    """Makes a run, with its export, whose model has high scores and predicts several classes.

    Under JAX and PyTorch, the folder holds only the model and the export: other tests train there.
    """
    keras.utils.set_random_seed(0)
    model = NARROW(classes=8, weights=None)
    randomize(model)
    head = model.get_layer("predictions")
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.01, head.kernel.shape))
    if keras.backend.backend() == "tensorflow":
        start = output.with_suffix(".weights.h5")
        model.save_weights(start)
        run(output, data_dir, exports=True, weights=str(start), epochs=1, learning_rate=1e-5, dropout=0.0)
        return
    # Without this bias, untrained statistics would make one class the best for all clips.
    paths = [path for path, _ in open_dataset("folder", data_dir, split="validation").records]
    clips = np.concatenate([load_clip(path, SMALL.num_frames, SMALL.image_size) for path in paths])
    logits = keras.Model(model.input, model.get_layer("consensus").output)
    head.bias.assign(-numpy(compute(logits, clips)).mean(axis=0))
    output.mkdir()
    of_clips = {name: getattr(SMALL, name) for name in ("num_frames", "image_size", "sampling")}
    clip = model_file.ClipSettings(**of_clips)
    save_model(model, output / "model.keras", arrow_of_time.CLASS_NAMES, clip)
    keras_stm.export.save(model, output / "serving" / "1", arrow_of_time.CLASS_NAMES, **of_clips)
