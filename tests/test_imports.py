"""Which modules import which. Imports are checked in fresh processes and in source code."""

import ast
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_stm"
FRAMEWORKS = ("tensorflow", "jax", "torch")

# One process per backend runs all of these checks.
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
# Hides TensorFlow as if it were not installed.
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
    """Importing the package loads no other framework or submodule; a classifier runs without TensorFlow."""
    run(code, backend)


def test_unknown_attribute_is_an_attribute_error():
    import keras_stm

    with pytest.raises(AttributeError, match="'keras_stm' has no attribute 'nothing'"):
        _ = keras_stm.nothing


def name_of(path):
    """Returns the name of the module in a file."""
    *parents, stem = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parents if stem == "__init__" else [*parents, stem])


@functools.cache
def imports(path, top_level=False):
    """Returns the absolute names of all imports of a file; `top_level` skips imports inside functions.

    A name that is built at run time, like `import_module(f"{__name__}.{name}")`, has `*` for unknown parts.
    """
    found = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join((*package, *filter(None, [node.module])))
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            parts = name.values if isinstance(name, ast.JoinedStr) else [name]
            found.add("".join(_known(part, name_of(path)) for part in parts))
        elif top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        nodes += ast.iter_child_nodes(node)
    return found


def _known(part, module):
    """Returns one part of a name that `module` builds at run time, `*` if it is unknown."""
    if isinstance(part, ast.Constant):
        return part.value
    return module if ast.unparse(getattr(part, "value", part)) == "__name__" else "*"


def importers(module, folder, top_level=False):
    """Returns the files that import `module` or a name below it. `folder` may also be a single file."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in ([folder] if folder.is_file() else folder.rglob("*.py"))
        if any(f"{name}.".startswith(f"{module}.") for name in imports(path, top_level))
    }


def is_in(module, package):
    return f"{module}.".startswith(f"{package}.")


def graph(package):
    """Returns `{module: modules of the package that it imports}`."""
    modules = {name_of(path): path for path in package.rglob("*.py")}
    return {
        module: {
            loaded
            for name in imports(path)
            for target in _targets(name, modules)
            for loaded in (target, *_parents(target))
            # A package that contains both modules is already loaded.
            if loaded == target or not is_in(module, loaded)
        }
        - {module}
        for module, path in modules.items()
    }


def _targets(name, modules):
    """Returns the modules that an imported name refers to."""
    if "*" in name:
        return filter(re.compile(re.escape(name).replace(r"\*", r"\w+")).fullmatch, modules)
    return [module for module in (name, *_parents(name)) if module in modules][:1]


def _parents(name):
    """Returns the packages that contain a module, innermost first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def find_circle(edges):
    """Returns modules of which each imports the next and the last imports the first, or `None`."""
    done = set()

    def search(module, way):
        if module in way:
            return way[way.index(module) :]
        if module not in done:
            for target in sorted(edges[module]):
                if circle := search(target, [*way, module]):
                    return circle
            done.add(module)
        return None

    return next(filter(None, (search(module, []) for module in sorted(edges))), None)


def test_no_modules_import_each_other_in_a_circle():
    circle = find_circle(graph(PACKAGE))
    assert circle is None, " -> ".join([*circle, circle[0]])


# Every part of the package may import these modules. They may also import each other.
HELPERS = {
    "arguments",
    "cache",
    "class_names",
    "differences",
    "file_names",
    "hub",
    "keras_compat",
    "model_file",
    "networks",
    "formats",
    "precisions",
    "preprocessing",
    "progress",
    "replacing",
    "twin_classes",
    "version",
}
_MODELS = {"layers", "weights", "models", "optimizers"}
_DATA = {"data", "video_classifier", "live", "rendering", "drawing", "predicting", "streaming"}
# Parts of the package, and the parts that each may import in addition to `HELPERS`. No two parts may import
# each other.
ARROWS = {
    **{helper: set() for helper in HELPERS},
    "layers": set(),
    "optimizers": set(),
    "weights": set(),
    "models": {"layers", "weights"},
    "data": set(),
    "evaluation": set(),
    "stream_evaluation": {"evaluation"},
    "temporal_map": set(),
    "embedding": {"data", "inference"},
    "inference": {"layers", "weights", "models"},
    "plots": {"layers"},
    "export": {"layers", "weights", "models", "inference"},
    "live": {"data"},
    "video_classifier": {"data", "inference", "live", "models"},
    "rendering": {"data"},
    "drawing": {"data", "inference", "plots"},
    "predicting": {"data", "inference", "video_classifier", "rendering"},
    "streaming": {"data", "video_classifier", "rendering"},
    "train": {
        *_MODELS,
        "data",
        "evaluation",
        "stream_evaluation",
        "temporal_map",
        "inference",
        "plots",
        "export",
    },
    "commands": {*_MODELS, *_DATA, "evaluation", "embedding", "inference", "plots", "export", "train"},
}


def part_of(module):
    return module.split(".")[1] if "." in module else None


def test_every_part_has_its_place():
    parts = {part_of(module) for module in graph(PACKAGE)} - {None}
    assert parts == ARROWS.keys()


@pytest.mark.parametrize("part", sorted(ARROWS))
def test_arrows_go_one_way(part):
    for module, targets in graph(PACKAGE).items():
        if part_of(module) == part:
            assert "keras_stm" not in targets, f"{module}: import from a part of keras_stm instead"
            wrong = {part_of(target) for target in targets} - ARROWS[part] - HELPERS - {part}
            assert not wrong, module


def test_nothing_in_the_package_imports_the_scripts():
    scripts = {path.stem for path in (ROOT / "training").iterdir()} | {"training", "keras_stm_command"}
    assert not {script for script in scripts if importers(script, PACKAGE)}


def test_only_commands_read_flags():
    files = importers("absl.flags", PACKAGE) | importers("absl.app", PACKAGE)
    assert files and all(file.startswith("keras_stm/commands/") for file in files), files


def test_no_text_names_a_script():
    """An installed package does not contain the scripts."""
    scripts = "|".join(sorted({path.stem for path in (ROOT / "training").rglob("[!_]*.py")}))
    pattern = re.compile(rf"\btraining/|(?<![\w/])({scripts})\.py\b")
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not lines, "\n".join(lines)


# Names from named tuples and the standard library, and the method that Jupyter calls.
_PUBLIC_IN_FACT = {"_asdict", "_replace", "_fields", "_make", "_exit", "_repr_png_"}


def test_what_is_private_to_keras_is_used_in_one_file_alone():
    used = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "keras_compat.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and re.fullmatch("_[^_].*", node.attr)
        and node.attr not in _PUBLIC_IN_FACT
        and ast.unparse(node.value) not in ("self", "cls", "super()")
    ]
    assert not used, "\n".join(used)
    assert not importers("keras.src", PACKAGE)


def test_tensorflow_is_imported_where_data_is_read_models_are_trained_or_exported_and_for_its_batch_norm():
    allowed = (
        "keras_stm/data/",
        "keras_stm/train/",
        "keras_stm/export/",
        "keras_stm/commands/",
        "keras_stm/layers/batch_norm.py",
        # For files at a URL.
        "keras_stm/replacing.py",
    )
    files = importers("tensorflow", PACKAGE)
    assert all(file.startswith(allowed) for file in files), files


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_framework_is_imported_at_the_top_of_a_file(framework):
    """The training loop is an exception: it needs TensorFlow under every backend."""
    files = importers(framework, PACKAGE, top_level=True)
    assert {
        file for file in files if framework != "tensorflow" or not file.startswith("keras_stm/train/")
    } == set()
    assert not files & {
        f"keras_stm/train/{name}.py" for name in ("__init__", "config", "presets", "run_folder")
    }


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Function that writes the files of a package `a` to scan, and returns its folder."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / "a" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "a"

    return write


def test_the_scan_sees_imports_of_every_form(elsewhere):
    """Without this test, a scan that finds nothing would pass."""
    package = elsewhere(
        b="import one.two\nfrom three import four\nfrom .five import six\nimport_module('ten.eleven')\n"
        "if True:\n    import seven\ndef f():\n    from eight import nine\n"
        "    importlib.import_module(f'{__name__}.{name}')\n"
    )
    names = {"one.two", "three.four", "a.five.six", "seven", "ten.eleven"}
    assert imports(package / "b.py", top_level=True) == names
    assert imports(package / "b.py") == names | {"eight.nine", "a.b.*"}
    assert importers("one", package) == {"a/b.py"}
    assert not importers("on", package)


@pytest.mark.parametrize(
    "files, circle",
    [
        ({"b": "from a import c", "c": "import json"}, None),
        ({"b": "from a import c", "c": "def f():\n    from a.b import g"}, ["a.b", "a.c"]),
        ({"b": "import a.c", "c": "from a import d", "d": "from . import b"}, ["a.b", "a.c", "a.d"]),
        # A package may import its modules, and these may import each other.
        ({"__init__": "from a.b import f", "b": "from a import c", "c": ""}, None),
        ({"__init__": "from a.b import f", "b": "from a import f"}, ["a", "a.b"]),
        ({"__init__": "import_module(f'{__name__}.{name}')", "b": "import a"}, ["a", "a.b"]),
        # An import of a module of another package loads that package first.
        ({"p/__init__": "from a import b", "p/c": "", "b": "from a.p import c"}, ["a.b", "a.p"]),
        ({"p/__init__": "from a.p import c", "p/c": "", "b": "from a.p import c"}, None),
    ],
)
def test_the_scan_finds_circles(files, circle, elsewhere):
    assert find_circle(graph(elsewhere(**files))) == circle
