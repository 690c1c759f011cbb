"""Plants one fault after the other into a copy of the code, and shows which test notices it.

python tests/planted_faults.py                  # all faults: ten minutes on two cores
python tests/planted_faults.py "CMM's sign"     # faults whose names contain one of these texts
python tests/planted_faults.py --list

First the tests run without a fault, and must pass. Exit status: 0 if every fault is noticed, 1 otherwise.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
COPIED = (
    *("keras_stm", "keras_stm_command.py", "training", "tests", "notebooks"),
    *("setup.cfg", "pyproject.toml", "README.md"),
)


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault in the code.

    Attributes:
        name: the fault in words.
        file: the file to change.
        before, after: a text in the file, and its replacement.
        tests: test files or folders, of which one must fail; the first failure ends the search.
        is_slow: whether the tests are marked `slow`.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    is_slow: bool = False


CMM = "keras_stm/layers/cmm.py"
BATCH_NORM = "keras_stm/layers/batch_norm.py"
TEMPORAL_CONV = "keras_stm/layers/temporal_conv.py"
PIPELINE = "keras_stm/data/pipeline.py"
VIEWS = "keras_stm/data/views.py"
FAULTS = [
    Fault(
        "CMM's sign",
        CMM,
        "convolved[:, 1:] - features[:, :-1]",
        "features[:, :-1] - convolved[:, 1:]",
        ("layers/test_cmm.py",),
    ),
    Fault("CMM's zero at the last frame", CMM, "< time - 1", "< time", ("layers/test_cmm.py",)),
    Fault(
        "the order of the temporal taps",
        TEMPORAL_CONV,
        "kernel = kernel[:, None]",
        "kernel = kernel[::-1, None]",
        ("layers/test_temporal_conv.py", "layers/test_cstm.py"),
    ),
    Fault(
        "the order of the initial taps",
        TEMPORAL_CONV,
        "taps[0, :quarter] = 1",
        "taps[2, :quarter] = 1",
        ("layers/test_temporal_conv.py", "layers/test_cstm.py"),
    ),
    Fault("BatchNorm's momentum", BATCH_NORM, "momentum=0.9", "momentum=0.99", ("models", "layers")),
    Fault("BatchNorm's epsilon", BATCH_NORM, "epsilon=1e-5", "epsilon=1e-3", ("models", "layers")),
    Fault(
        "folding without epsilon",
        "keras_stm/models/fold_batch_norm.py",
        " + batch_norm.epsilon",
        "",
        ("models/test_fold_batch_norm.py",),
    ),
    Fault(
        "strided padding like Keras's",
        "keras_stm/layers/per_frame.py",
        'if padding == "same" and max(strides) > 1:',
        "if False:",
        ("layers/test_per_frame.py", "models/test_parity.py"),
    ),
    Fault(
        "PyTorch's weight decay skipped",
        "keras_stm/optimizers.py",
        "if self.weight_decay is not None and",
        "if False and",
        ("test_optimizers.py", "models/test_training_parity.py"),
    ),
    Fault(
        "a loader that reads a pickle's code",
        "keras_stm/weights/torch_files.py",
        'map_location="cpu", weights_only=True)',
        'map_location="cpu", weights_only=False)',
        ("weights",),
    ),
    Fault(
        "centre indices off by one",
        "keras_stm/preprocessing.py",
        "* total_frames // (2 * segments)",
        "* total_frames // (2 * segments) - 1",
        ("data/test_segments.py",),
    ),
    Fault(
        "the same crop three times in the paper's protocol",
        "keras_stm/data/augment.py",
        "for offset in (0, left, width - size)",
        "for offset in (left, left, left)",
        ("data/test_augment.py", "data/test_views.py"),
    ),
    Fault(
        "a mirrored clip that keeps its label",
        PIPELINE,
        "clip, label = clip[:, :, ::-1], mirror_labels[label]",
        "clip = clip[:, :, ::-1]",
        ("data/test_pipeline.py",),
    ),
    *(
        Fault(
            f"frames and crops that ignore the {name}",
            PIPELINE,
            "default_rng((seed, epoch, position))",
            f"default_rng(({after}))",
            ("data/test_pipeline.py",),
        )
        for name, after in {
            "seed": "0, epoch, position",
            "epoch": "seed, 0, position",
            "position": "seed, epoch, 0",
        }.items()
    ),
    *(
        Fault(
            f"colours that ignore the {name}",
            PIPELINE,
            "fold_in([seed, epoch], position)",
            f"fold_in({after})",
            ("data/test_pipeline.py", "data/test_keras_augment.py"),
        )
        for name, after in {
            "seed": "[0, epoch], position",
            "epoch": "[seed, 0], position",
            "position": "[seed, epoch], 0",
        }.items()
    ),
    *(
        Fault(
            f"an order of clips that ignores the {name}",
            PIPELINE,
            "index_shuffle(turn, [seed, epoch],",
            f"index_shuffle(turn, [{after}],",
            ("data/test_pipeline.py",),
        )
        for name, after in {"seed": "0, epoch", "epoch": "seed, 0"}.items()
    ),
    *(
        Fault(
            f"views that ignore the {name}",
            VIEWS,
            "default_rng((self._seed, index))",
            f"default_rng(({after}))",
            ("data/test_views.py",),
        )
        for name, after in {"seed": "0, index", "position": "self._seed, 0"}.items()
    ),
    Fault(
        "a group of pictures chosen one key frame too late",
        "keras_stm/data/video.py",
        "start = next(k for k in reversed(keyframes) if entries[k].pts <= entry.pts)",
        "start = next((k for k in range(i, len(entries)) if entries[k].is_keyframe), i)",
        ("data/test_video.py",),
    ),
    Fault(
        "an unreadable training clip that is silently replaced",
        PIPELINE,
        "            left_out.add(path, error)\n",
        "            return read((record + 1) % total, epoch, position)\n",
        ("data/test_pipeline.py",),
    ),
    Fault(
        "an unreadable test video that is silently replaced",
        VIEWS,
        "            self.left_out.add(path, error)\n            return None\n",
        "            return self._read(index - 1)\n",
        ("data/test_views.py",),
    ),
    Fault(
        "class names sorted on export",
        "keras_stm/export/__init__.py",
        'class_names = lines("class_names", class_names)',
        'class_names = tuple(sorted(lines("class_names", class_names)))',
        ("test_export.py",),
    ),
    Fault(
        "a signature that resizes without antialiasing",
        "keras_stm/export/graph.py",
        " / tf.maximum(scale, 1.0)",
        "",
        ("test_export.py",),
    ),
    Fault(
        "an export for devices that does not normalise",
        "keras_stm/export/device_writers.py",
        "return (pixels - mean) / std",
        "return pixels",
        ("test_export_device.py",),
    ),
    Fault(
        "a program for devices that crops the corner",
        "keras_stm/export/device/classify.py",
        "+ (new_size - SIZE) // 2 + 0.5",
        "+ 0.5",
        ("test_export_device.py",),
    ),
    Fault(
        "a stream whose reset reaches the other streams",
        "keras_stm/inference.py",
        "np.reshape(starts, (-1, *[1] * (len(value.shape) - 1)))",
        "np.any(starts)",
        ("test_inference.py",),
    ),
    Fault(
        "a checkpoint without the optimizer's state",
        "keras_stm/train/checkpoints.py",
        "return variables + model.optimizer.variables",
        "return variables",
        ("train/test_fit.py", "train/test_checkpoints.py"),
    ),
    Fault(
        "a checkpoint without dropout's state",
        "keras_stm/train/checkpoints.py",
        "if id(variable) not in metrics]",
        'if id(variable) not in metrics and "seed" not in variable.path]',
        ("train/test_fit.py", "train/test_checkpoints.py"),
    ),
    Fault(
        "a rate that is not scaled with the batch",
        "keras_stm/train/schedules.py",
        " * data.batch_size / REFERENCE_BATCH",
        "",
        ("train",),
    ),
    Fault(
        "a lock that is not acquired",
        "keras_stm/train/run_folder.py",
        "lock.acquire(timeout=0)",
        "pass",
        ("train/test_run_folder.py", "train/test_fit.py"),
    ),
    Fault(
        "no synchronised statistics on two devices",
        "keras_stm/train/devices.py",
        "layer.synchronized = True",
        "layer.synchronized = False",
        ("system/test_equal_devices.py",),
        is_slow=True,
    ),
]


def run_tests(folder, tests, is_slow):
    """Runs tests in a copy of the repository until one fails; returns the exit status and the output."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n0"]
    command += ["-m", "slow" if is_slow else "not slow and not acceptance"]
    command += [str(folder / "tests" / test) for test in tests]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(folder)}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return process.returncode, process.stdout


def copy_to(folder):
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)


def noticed_by(fault):
    """Returns the test that fails with the fault, or `None`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        copy_to(folder)
        file = folder / fault.file
        text = file.read_text()
        if text.count(fault.before) != 1:
            sys.exit(f"{fault.file} must contain {fault.before!r} once, to plant: {fault.name}")
        file.write_text(text.replace(fault.before, fault.after))
        status, output = run_tests(folder, fault.tests, fault.is_slow)
    failed = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - |$)", output, re.MULTILINE)
    return failed[1] if status == 1 and failed else None


def tests_pass(faults):
    """Returns whether the tests of the faults pass without a fault."""
    passed = True
    for is_slow in {fault.is_slow for fault in faults}:
        tests = sorted({test for fault in faults if fault.is_slow == is_slow for test in fault.tests})
        status, output = run_tests(ROOT, tests, is_slow)
        if status:
            passed = False
            print(output)
    return passed


def main(arguments):
    chosen = [fault for fault in FAULTS if not arguments or any(text in fault.name for text in arguments)]
    if arguments == ["--list"]:
        print("\n".join(fault.name for fault in FAULTS))
        return 0
    if not chosen:
        print(f"No fault name contains {' or '.join(arguments)}; see --list.", file=sys.stderr)
        return 1
    if not tests_pass(chosen):
        print("The tests fail without a fault.", file=sys.stderr)
        return 1
    missed = 0
    print("| fault | noticed by |\n| --- | --- |", flush=True)
    for fault in chosen:
        test = noticed_by(fault)
        missed += test is None
        print(f"| {fault.name} | {f'`{test}`' if test else 'NO TEST'} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
