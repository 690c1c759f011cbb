"""The time from the start of `keras-stm predict` to its first answer, by parts."""

import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# Part -> description in the table, in the order of the process.
PARTS = {
    "python": "start of Python",
    "keras": "import of Keras and the backend",
    "package": "import of the package",
    "load": "load of the model",
    "first": "first clip: tracing or compilation",
    "clip": "first clip: reading and scores",
}


def measure(options):
    """Prints the seconds and the share of each part, for each backend.

    Each measurement is a new process. Round 0 reads the files from the disk and is not counted.

    Args:
        options: namespace that `benchmark.read_options` returns.

    Returns:
        The exit status: 1 if a measurement failed.
    """
    print(
        f"Seconds to the first answer of a new process: STM, a clip of {options.num_frames[0]} x "
        f"{options.image_size} x {options.image_size}, {len(os.sched_getaffinity(0))} cores, medians of "
        f"{options.rounds} rounds"
    )
    failed = False
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        model, video = write(folder, options)
        for backend in options.backends:
            try:
                rounds = [time_parts(backend, model, video) for _ in range(options.rounds + 1)][1:]
            except RuntimeError as error:
                print(f"benchmark.py: ERROR: {backend}: {error}", file=sys.stderr)
                failed = True
                continue
            medians = {part: statistics.median(each[part] for each in rounds) for part in PARTS}
            total = sum(medians.values())
            print(f"\n{backend:36}{'seconds':>10}{'share':>8}")
            for part, seconds in medians.items():
                print(f"{PARTS[part]:36}{seconds:10.2f}{seconds / total:8.0%}")
            print(f"{'all':36}{total:10.2f}", flush=True)
    return 1 if failed or not options.backends else 0


def write(folder, options):
    """Writes a model and a video of ten seconds; returns their paths."""
    import keras_stm
    from benchmarks.pipeline import make_video
    from benchmarks.steps import CLASSES, reduction
    from keras_stm import model_file

    model = keras_stm.STMResNet(
        tuple(options.depths), options.width, classes=CLASSES, reduction=reduction(options.width)
    )
    path = os.path.join(folder, model_file.MODEL)
    model.save(path)
    clip = model_file.ClipSettings(options.num_frames[0], options.image_size, "segments")
    model_file.annotate(path, [str(number) for number in range(CLASSES)], clip)
    return path, make_video(os.path.join(folder, "clip.mp4"))


def time_parts(backend, model, video):
    """Returns the seconds of each part in a new process.

    Raises:
        RuntimeError: the process failed; with the last line of its output.
    """
    start = time.time()
    process = subprocess.run(
        [sys.executable, __file__, model, video],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError((process.stderr.strip().splitlines() or ["no message"])[-1])
    times = [start, *json.loads(process.stdout.splitlines()[-1])]
    seconds = dict(zip(PARTS, (end - begin for begin, end in itertools.pairwise(times)), strict=True))
    # The second clip of the process takes as long as the first one without tracing.
    seconds["first"] -= seconds["clip"]
    return seconds


def answer(model, video):
    """Does what the command does. Prints the time at the end of each part, the last after a second clip."""
    times = [time.time()]
    importlib.import_module("keras")
    times.append(time.time())
    for module in importlib.import_module("keras_stm.commands.predict").LOADS:
        importlib.import_module(module)
    from keras_stm import VideoClassifier

    times.append(time.time())
    classify = VideoClassifier(model)
    times.append(time.time())
    for _ in range(2):
        classify(video)
        times.append(time.time())
    print(json.dumps(times))


if __name__ == "__main__":
    answer(*sys.argv[1:])
