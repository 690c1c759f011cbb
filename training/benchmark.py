"""Compares the speed of networks, of forms of the temporal convolution and of the pipeline, on this machine.

Everything is measured in turn in one process, so that a ratio holds although the machine's speed drifts.
TSN, which has no temporal layer, is 1.00; higher is faster.

  python training/benchmark.py                       # STM-ResNet-50, inference and training
  KERAS_BACKEND=jax python training/benchmark.py
  python training/benchmark.py --jit_compile         # TensorFlow with XLA
  python training/benchmark.py --what=pipeline       # reading clips, against bare decoding
  python training/benchmark.py --what=soak           # what reading 10,000 clips leaves in memory
"""

import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import app, flags
from keras import ops

import keras_stm
from keras_stm.layers import temporal_conv
from keras_stm.models import STMResNet, TSMResNet, TSNResNet

_WHAT = flags.DEFINE_enum("what", "networks", ["networks", "pipeline", "soak"], "What to measure.")
_VIDEO = flags.DEFINE_string("video", None, "pipeline: file to measure with. Default: one is made.")
_WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count(), "pipeline, soak: clips read at the same time.", lower_bound=1
)
_READS = flags.DEFINE_integer("reads", 10_000, "soak: clips to read.", lower_bound=100)
_DEPTHS = flags.DEFINE_list("depths", ["3", "4", "6", "3"], "Blocks of the four stages.")
flags.register_validator(
    "depths", lambda depths: all(map(str.isdecimal, depths)), "must be whole numbers with commas between them"
)
_WIDTH = flags.DEFINE_integer("width", 64, "Width of the networks.", lower_bound=1)
_NUM_FRAMES = flags.DEFINE_integer("num_frames", 8, "Frames of a clip.", lower_bound=1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 112, "Height and width of a clip in pixels.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Clips of a step.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Times that each is measured; the median counts.", lower_bound=1)
_JIT_COMPILE = flags.DEFINE_boolean("jit_compile", None, "Default: as fit.py does.")


def convolve_lines(clip, kernel, data_format):
    """Form (c) of the temporal convolution: a depthwise 1-D convolution for every pixel.

    Nowhere the fastest by more than the measurement varies, and so only here.
    """
    if data_format == "channels_first":
        clip = ops.moveaxis(clip, 2, -1)
    batch, time_steps, height, width, channels = ops.shape(clip)
    lines = ops.reshape(ops.moveaxis(clip, 1, 3), (-1, time_steps, channels))
    lines = ops.depthwise_conv(lines, kernel[..., None], padding="same", data_format="channels_last")
    lines = ops.reshape(lines, (batch, height, width, time_steps, channels))
    clip = ops.moveaxis(lines, 3, 1)
    return ops.moveaxis(clip, -1, 2) if data_format == "channels_first" else clip


FORMS = {
    "(a) shifted sum": temporal_conv.add_shifted,
    "(b) strip": temporal_conv.convolve_strip,
    "(c) lines": convolve_lines,
}


def main(argv):
    if len(argv) > 1:
        sys.exit(f"benchmark.py: unknown argument {argv[1]!r}: all arguments are flags, see --help")
    try:
        if _WHAT.value == "networks":
            measure_networks()
        else:
            # Networks are measured without TensorFlow and PyAV.
            import benchmark_pipeline

            if _WHAT.value == "soak":
                benchmark_pipeline.soak(_READS.value, _WORKERS.value)
            else:
                benchmark_pipeline.measure(_VIDEO.value, _WORKERS.value, _ROUNDS.value)
    except (ValueError, OSError) as error:
        sys.exit(f"benchmark.py: {error}")


def measure_networks():
    backend = keras.backend.backend()
    clip_shape = (_NUM_FRAMES.value, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3)
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(_BATCH_SIZE.value, *clip_shape)).astype("float32")
    labels = rng.integers(0, 10, _BATCH_SIZE.value)

    chosen = temporal_conv.FORMS[backend]
    steps = {}
    for name, build, form in [
        ("TSN", TSNResNet, chosen),
        ("TSM", TSMResNet, chosen),
        *((f"STM {name}", STMResNet, form) for name, form in FORMS.items()),
    ]:
        # A model is traced with the form of this moment and keeps it.
        temporal_conv.FORMS[backend] = form
        model = compile_model(build, clip_shape)
        predict, train = model.predict_on_batch, model.train_on_batch
        predict(clips), train(clips, labels)
        mark = " (used)" if build is STMResNet and form is chosen else ""
        steps[name + mark] = form, predict, train
    seconds = measure(steps, backend, clips, labels)
    temporal_conv.FORMS[backend] = chosen

    print(f"\n{backend}, {_BATCH_SIZE.value} x {clip_shape}, speed against TSN")
    print(f"{'':28}{'inference':>12}{'training':>12}")
    for name in steps:
        ratios = [seconds["TSN"][i] / seconds[name][i] for i in (0, 1)]
        print(f"{name:28}{ratios[0]:12.2f}{ratios[1]:12.2f}")


def compile_model(build, clip_shape):
    model = build(tuple(map(int, _DEPTHS.value)), _WIDTH.value, input_shape=clip_shape, classes=10)
    jit_compile = _JIT_COMPILE.value
    if jit_compile is None:
        jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(
        keras_stm.optimizers.SGD(0.0, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        jit_compile=jit_compile,
    )
    return model


def measure(steps, backend, clips, labels):
    """`{name: (seconds of an inference step, of a training step)}`, medians of rounds in turn."""
    times = {name: ([], []) for name in steps}
    for _ in range(_ROUNDS.value):
        for name, (form, predict, train) in steps.items():
            # PyTorch traces nothing: it looks the form up in every step.
            temporal_conv.FORMS[backend] = form
            for kind, (step, *inputs) in enumerate([(predict, clips), (train, clips, labels)]):
                start = time.perf_counter()
                step(*inputs)
                times[name][kind].append(time.perf_counter() - start)
    return {name: tuple(map(statistics.median, kinds)) for name, kinds in times.items()}


if __name__ == "__main__":
    app.run(main)
