"""Sizes and speeds of the networks in Tables 8 and 9, which need no training."""

import statistics
import time

import keras
import numpy as np

import keras_stm
from benchmarks.keras_steps import has_gpu
from keras_stm.inference import predict_fn
from reproduction.runs import NUM_FRAMES, VARIANTS

# Classes of Something-Something, the data set of the paper's counts.
_CLASSES = 174
_COUNTED = ("tsn", "tsm", "stm", "cstm", "ordinary")
_TIMED = ("tsn", "tsm", "stm")
_TIMED_FRAMES = (NUM_FRAMES, 2 * NUM_FRAMES)


def count(settings):
    """Returns `{variant: {"parameters": int, "macs": {frames: int}}}` of the published networks."""
    counts = {}
    for variant in _COUNTED:
        model = _published(settings, variant)
        channels = model.input_shape[-1]
        size = settings.published_size
        counts[variant] = {
            "parameters": int(sum(np.prod(weight.shape) for weight in model.trainable_weights)),
            "macs": {
                str(frames): keras_stm.count_macs(model, (frames, size, size, channels))
                for frames in _TIMED_FRAMES
            },
        }
    return counts


def measure_speed(settings, rounds=5):
    """Returns the videos a second of the published networks on this device, without loading.

    Each round times all networks in turn, so the ratios hold although the machine's speed drifts.

    Args:
        settings: `Settings`.
        rounds: how often each network is timed.

    Returns:
        `{"batch_size": int, "videos_per_second": {variant: {frames: float}}, "to_tsn": the same}`.
        `videos_per_second` holds medians of the rounds. `to_tsn` holds medians of the rounds' ratios to TSN
        with the same number of frames.
    """
    # On a GPU 16 like the paper. On a CPU, a single clip takes about a second.
    batch_size = 16 if has_gpu() else 1
    predict, clips = {}, {}
    rng = np.random.default_rng(0)
    for frames in _TIMED_FRAMES:
        shape = (batch_size, frames, settings.published_size, settings.published_size, 3)
        # The clips are on the device before they are timed, because the paper's speeds exclude loading.
        clips[frames] = keras.ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
        for variant in _TIMED:
            predict[variant, frames] = predict_fn(_published(settings, variant))
            predict[variant, frames](clips[frames])
    seconds = {key: [] for key in predict}
    for _ in range(rounds):
        for (variant, frames), function in predict.items():
            start = time.perf_counter()
            function(clips[frames])
            seconds[variant, frames].append(time.perf_counter() - start)
    speed, to_tsn = {variant: {} for variant in _TIMED}, {variant: {} for variant in _TIMED}
    for (variant, frames), times in seconds.items():
        speed[variant][str(frames)] = batch_size / statistics.median(times)
        ratios = [tsn / own for tsn, own in zip(seconds["tsn", frames], times, strict=True)]
        to_tsn[variant][str(frames)] = statistics.median(ratios)
    return {"batch_size": batch_size, "videos_per_second": speed, "to_tsn": to_tsn}


def _published(settings, variant):
    build, options = VARIANTS[variant]
    depths, width = settings.published
    return build(depths, width, classes=_CLASSES, **options)
