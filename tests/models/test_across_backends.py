"""Files written under the backend of this process are read under the next one."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_stm import STMResNet
from keras_stm.models import TSMResNet
from keras_stm.optimizers import SGD
from tests.reference.backend import BACKEND, NEXT_BACKEND

ROOT = pathlib.Path(__file__).parents[2]
# Two blocks in a stage, so that one has no convolution on its shortcut.
TINY = {"depths": (2, 1, 1, 1), "width": 16, "classes": 5}

READ = """
import json, pathlib, sys
import keras
import numpy as np
import keras_stm

folder, others = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
clip = np.load(folder / "clip.npy")
errors = {}

def compare(name, model, expected):
    outputs = model.predict(clip, verbose=0)
    errors[name] = float(np.abs(outputs - np.load(folder / f"{expected}.npy")).max())

for path in sorted(folder.glob("*.keras")):
    model = keras.saving.load_model(path, compile=path.stem not in others)
    compare(path.name, model, path.stem)
    if path.stem == "stm":
        # The same model takes the weights alone, after they were spoilt.
        model.set_weights([0 * weight for weight in model.get_weights()])
        model.load_weights(folder / "stm.weights.h5")
        compare("stm.weights.h5", model, "stm")
    if path.stem == "trained" and "trained" not in others:
        assert type(model.optimizer).__name__ == "SGD"
        assert model.optimizer.weight_decay == 5e-4
        assert int(model.optimizer.iterations) == 2
    if path.stem == "mixed":
        assert model.get_layer("conv3_block1").compute_dtype == "bfloat16"
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of models of every kind, one of them trained, and their scores of one clip."""
    folder = tmp_path_factory.mktemp(BACKEND)
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(2, 4, 48, 40, 3)).astype("float32")
    np.save(folder / "clip.npy", clip)

    def write(name, model):
        np.save(folder / f"{name}.npy", model.predict(clip, verbose=0))
        model.save(folder / f"{name}.keras")

    # Every kind of weight that STM has, with statistics as after a training.
    model = STMResNet(**TINY, fusion="concat", temporal_conv="ordinary")
    for weight in model.weights:
        low = 0.5 if weight.path.endswith(("gamma", "variance")) else -0.2
        weight.assign(rng.uniform(low, low + 0.5, weight.shape))
    write("stm", model)
    model.save_weights(folder / "stm.weights.h5")

    model = TSMResNet(**TINY)
    model.compile(SGD(1e-3, momentum=0.9, weight_decay=5e-4), "sparse_categorical_crossentropy")
    for _ in range(2):
        model.train_on_batch(clip, np.array([0, 3]))
    write("trained", model)

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        write("mixed", STMResNet(**TINY))
    finally:
        keras.config.set_dtype_policy("float32")
    return folder


@pytest.mark.skipif(importlib.util.find_spec(NEXT_BACKEND) is None, reason=f"no {NEXT_BACKEND}")
def test_files_give_the_same_scores_under_another_backend(written):
    # Keras writes a compilation under torch that no backend reads back.
    uncompiled = ["trained"] if BACKEND == "torch" else []
    environment = {**os.environ, "KERAS_BACKEND": NEXT_BACKEND, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READ, str(written), json.dumps(uncompiled)]
    process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    errors = json.loads(process.stdout.splitlines()[-1])
    assert errors.keys() == {path.name for path in written.glob("*") if path.suffix != ".npy"}
    mixed = errors.pop("mixed.keras")
    assert max(errors.values()) < 1e-5, errors
    assert mixed < 2e-2
