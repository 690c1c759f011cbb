"""Who imports whom. Imports are looked at in fresh processes and in the source, never in this process."""

import ast
import functools
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_stm"
FRAMEWORKS = ("tensorflow", "jax", "torch")

# One process for each backend checks all of it.
IMPORT = """
import sys
import keras

frameworks = {"tensorflow", "jax", "torch"}
before = frameworks & set(sys.modules)
import keras_stm

assert keras.backend.backend() in before
assert frameworks & set(sys.modules) == before, frameworks & set(sys.modules)
assert "keras_stm.data" not in sys.modules
assert "data" in dir(keras_stm)
assert keras_stm.data.__name__ == "keras_stm.data"
assert keras_stm.optimizers.SGD
"""
CLASSIFY_FRAMES = """
import numpy as np

model = keras_stm.STMResNet((1, 1, 1, 1), width=16, classes=3)
classify = keras_stm.VideoClassifier(model, ("a", "b", "c"), num_frames=2, image_size=32)
assert len(classify(np.zeros((4, 40, 50, 3), "uint8"))) == 3
assert frameworks & set(sys.modules) == before, frameworks & set(sys.modules)
"""
# As if it were not installed.
BLOCK_TENSORFLOW = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] == "tensorflow" else found(name, path, target)

PathFinder.find_spec = find_spec
try:
    import tensorflow
except ImportError:
    pass
else:
    raise AssertionError("TensorFlow is not blocked")
"""


def run(code, backend):
    """Runs `code` in a fresh process under a backend."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]


@pytest.mark.parametrize(
    "backend, code",
    [
        ("tensorflow", IMPORT),
        ("torch", IMPORT + CLASSIFY_FRAMES),
        ("jax", IMPORT + BLOCK_TENSORFLOW + CLASSIFY_FRAMES),
    ],
    ids=["tensorflow", "torch", "jax"],
)
def test_the_package_runs_with_no_framework_but_that_of_keras(backend, code):
    """Importing it imports no other framework and no submodule; a classifier runs without TensorFlow."""
    run(code, backend)


def test_unknown_attribute_is_an_attribute_error():
    import keras_stm

    with pytest.raises(AttributeError, match="'keras_stm' has no attribute 'nothing'"):
        _ = keras_stm.nothing


@functools.cache
def imports(path, top_level):
    """Absolute names of all that a file imports; with `top_level`, not what is inside functions."""
    found = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module
            if node.level:  # relative
                package = path.relative_to(ROOT).parts[: -node.level]
                module = ".".join((*package, *filter(None, [node.module])))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        nodes += ast.iter_child_nodes(node)
    return found


def importers(module, folder, top_level=False):
    """Files of `folder`, or that file alone, that import `module` or something below it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in ([folder] if folder.is_file() else folder.rglob("*.py"))
        if any(f"{name}.".startswith(f"{module}.") for name in imports(path, top_level))
    }


_BEHIND_A_MODEL = ("inference", "evaluation", "video_classifier", "visualization")


def test_the_classifier_is_the_one_door_where_a_model_meets_a_file():
    doors = importers("keras_stm.inference", PACKAGE) & importers("keras_stm.data", PACKAGE)
    assert doors == {"keras_stm/video_classifier.py"}


@pytest.mark.parametrize(
    "folder, forbidden",
    [
        ("layers", ["models", "weights", "data", "export", *_BEHIND_A_MODEL]),
        ("models", ["data", "export", *_BEHIND_A_MODEL]),
        ("weights", ["models", "data", "export", *_BEHIND_A_MODEL]),
        ("data", ["layers", "models", "weights", "export", *_BEHIND_A_MODEL]),
        ("export", ["data"]),
        ("inference.py", ["data"]),
        ("evaluation.py", ["data", "models", "layers", "weights", "inference"]),
        ("visualization.py", ["data"]),
    ],
)
def test_arrows_go_one_way(folder, forbidden):
    path = PACKAGE / folder
    assert path.is_file() or list(path.rglob("*.py"))
    for module in forbidden:
        assert not importers(f"keras_stm.{module}", PACKAGE / folder), module


def test_nothing_in_the_package_imports_training():
    scripts = {path.stem for path in (ROOT / "training").glob("*.py")} | {"training"}
    assert not any(importers(script, PACKAGE) for script in scripts)


def test_tensorflow_is_imported_only_where_data_is_read_and_models_are_exported_and_for_its_batch_norm():
    allowed = ("keras_stm/data/", "keras_stm/export/", "keras_stm/layers/batch_norm.py")
    files = importers("tensorflow", PACKAGE)
    assert all(file.startswith(allowed) for file in files), files


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_framework_is_imported_at_the_top_of_a_file(framework):
    assert not importers(framework, PACKAGE, top_level=True)


def test_the_scan_sees_imports_of_every_form(tmp_path, monkeypatch):
    """Without this, a scan that finds nothing would pass."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text(
        "import one.two\nfrom three import four\nfrom .five import six\n"
        "if True:\n    import seven\ndef f():\n    from eight import nine\n"
    )
    names = imports(tmp_path / "a" / "b.py", top_level=False)
    assert {"one.two", "three", "three.four", "a.five", "a.five.six", "seven", "eight"} <= names
    assert "eight" not in imports(tmp_path / "a" / "b.py", top_level=True)
    assert importers("one", tmp_path / "a") == {"a/b.py"}
    assert not importers("on", tmp_path / "a")
