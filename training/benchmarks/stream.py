"""Cost of a frame of a stream: by the causal step, and by computing the whole clip again."""

import statistics
import sys

from benchmarks.networks import is_installed
from benchmarks.worker import OTHERS, Worker, WorkerError

# Kind -> description in the table. The first is what `VideoClassifier.stream` does with a causal model.
KINDS = {
    "step": "causal STM, one step",
    "window": "causal STM, the clip again",
    "torch_eager": "plain PyTorch STM, the clip again",
}


def measure(options):
    """Prints the milliseconds that a frame takes, and how many times the step is cheaper.

    Each round times all kinds in turn. The clip has the first of `options.num_frames` frames.

    Args:
        options: namespace that `benchmark.read_options` returns.

    Returns:
        The exit status: 1 if a measurement failed.
    """
    names = ("depths", "width", "image_size", "mixed_precision", "jit_compile", "least_seconds")
    of_steps = {name: getattr(options, name) for name in names}
    frames = options.num_frames[0]
    print(
        f"Milliseconds a frame: clips of {frames} x {options.image_size} x {options.image_size}, "
        f"one stream, medians of {options.rounds} rounds"
    )
    print(f"\n{'runtime':12}{'':36}{'ms':>10}{'to the step':>14}", flush=True)
    failed = False
    for backend in options.backends:
        own = Worker(backend, of_steps)
        workers = {"step": own, "window": own}
        if is_installed("torch"):
            workers["torch_eager"] = Worker(OTHERS, of_steps)
        try:
            seconds = _time(workers, frames, options.rounds)
        except WorkerError as error:
            print(f"benchmark.py: ERROR: {backend}: {error}", file=sys.stderr)
            failed = True
            continue
        finally:
            for worker in workers.values():
                worker.stop()
        for kind, values in seconds.items():
            ratio = statistics.median(each / step for each, step in zip(values, seconds["step"], strict=True))
            milliseconds = 1000 * statistics.median(values)
            print(f"{backend:12}{KINDS[kind]:36}{milliseconds:10.1f}{ratio:14.1f}", flush=True)
    return 1 if failed or not options.backends else 0


def _time(workers, frames, rounds):
    """Returns the seconds of each kind in each round."""
    for kind, worker in workers.items():
        worker.call(
            "prepare", key=kind, task="inference", kind=kind, network="STM", frames=frames, batch=1, path=None
        )
    seconds = {kind: [] for kind in workers}
    for _ in range(rounds):
        for kind, worker in workers.items():
            seconds[kind].append(worker.call("time", key=kind))
    return seconds
