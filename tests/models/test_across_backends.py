"""Files from the backend of this process are read under the next backend, all in one other process."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_stm import STMResNet, TSMResNet, fold_batch_norm
from keras_stm.optimizers import SGD
from keras_stm.weights import save_safetensors
from tests.layers.check_layer import randomize
from tests.reference.backend import BACKEND, NEXT_BACKEND, compute, numpy

pytestmark = pytest.mark.every_backend

ROOT = pathlib.Path(__file__).parents[2]
TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}

# Prints the largest error of each file's scores. Before a file of weights is loaded, the model's are zeroed.
READ = """
import json, pathlib, sys
import keras
import numpy as np
import keras_stm
from tests.reference.backend import compute, numpy

if keras.backend.backend() == "torch":
    import torch
    torch.set_num_threads(1)
folder, others = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
clip = np.load(folder / "clip.npy")
errors = {}

def compare(name, model, expected):
    scores = numpy(compute(model, clip))
    errors[name] = float(np.abs(scores - np.load(folder / f"{expected}.npy")).max())

for name in ("stm", "compiled", "folded"):
    model = keras.saving.load_model(folder / f"{name}.keras", compile=name not in others)
    compare(f"{name}.keras", model, "stm" if name == "folded" else name)
    if name == "stm":
        for path in ("stm.weights.h5", "stm.safetensors"):
            model.set_weights([0 * weight for weight in model.get_weights()])
            keras_stm.weights.load_weights(model, folder / path)
            compare(path, model, name)
        model.set_weights([0 * weight for weight in model.get_weights()])
        model.load_weights(folder / "stm.weights.h5")
        compare("stm.weights.h5 by Keras", model, name)
    if name == "compiled":
        assert model.get_layer("conv3_block1").compute_dtype == "bfloat16"
        if name not in others:
            assert type(model.optimizer).__name__ == "SGD"
            assert model.optimizer.weight_decay == 5e-4
            assert int(model.optimizer.iterations) == 2
            velocity = keras.ops.convert_to_numpy(model.optimizer.variables[-1])
            np.testing.assert_array_equal(velocity, np.load(folder / "velocity.npy"))
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with files of every kind, and the scores of each model for one clip."""
    folder = tmp_path_factory.mktemp(BACKEND)
    clip = np.random.default_rng(0).normal(size=(2, 4, 32, 32, 3)).astype("float32")
    np.save(folder / "clip.npy", clip)

    def write(name, model):
        np.save(folder / f"{name}.npy", numpy(compute(model, clip)))
        model.save(folder / f"{name}.keras")

    # Random statistics, like after training.
    model = STMResNet(**TINY, fusion="concat")
    randomize(model)
    write("stm", model)
    model.save_weights(folder / "stm.weights.h5")
    save_safetensors(model, folder / "stm.safetensors")
    fold_batch_norm(model).save(folder / "folded.keras")

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = TSMResNet(**TINY)
    finally:
        keras.config.set_dtype_policy("float32")
    # The state of the optimizer after two steps.
    model.compile(SGD(1e-3, momentum=0.9, weight_decay=5e-4), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(2)
    velocity = model.optimizer.variables[-1]
    velocity.assign(np.random.default_rng(0).normal(size=velocity.shape))
    np.save(folder / "velocity.npy", keras.ops.convert_to_numpy(velocity))
    write("compiled", model)
    return folder


@pytest.mark.skipif(importlib.util.find_spec(NEXT_BACKEND) is None, reason=f"{NEXT_BACKEND} is not installed")
def test_files_give_the_same_scores_under_another_backend(written):
    # Under torch, Keras saves a compiled state that no backend can load.
    uncompiled = ["compiled"] if BACKEND == "torch" else []
    environment = {**os.environ, "KERAS_BACKEND": NEXT_BACKEND, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READ, str(written), json.dumps(uncompiled)]
    process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    errors = json.loads(process.stdout.splitlines()[-1])
    files = {path.name for path in written.glob("*") if path.suffix != ".npy"}
    assert errors.keys() == files | {"stm.weights.h5 by Keras"}
    mixed = errors.pop("compiled.keras")
    assert max(errors.values()) < 1e-5, errors
    assert mixed < 2e-2
