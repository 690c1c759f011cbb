"""Speed of the training pipeline compared with bare loops over the same files, and its memory growth.

One loop only decodes the frames. The other loop also crops, resizes and normalises them like training does.
"""

import concurrent.futures
import contextlib
import functools
import io
import os
import shutil
import statistics
import tempfile
import time

import av
import numpy as np
import tensorflow as tf

from keras_stm.data import (
    Dataset,
    arrow_of_time,
    augment,
    make_pipeline,
    open_dataset,
    packing,
    segments,
    steps_per_epoch,
)
from keras_stm.data.frames import count_frames

_NUM_CLIPS = 16
_NUM_FRAMES = 8
_IMAGE_SIZE = 224
_BATCH_SIZE = 8
# Passes over the clips in one measurement.
_EPOCHS = 4


def measure(video, workers, rounds):
    """Prints the pipeline's speed on videos, folders of frames and packed clips, as ratios to the loops.

    Args:
        video: file to measure with; `None` generates one of ten seconds.
        workers: clips read at the same time, also by the loops.
        rounds: how often each speed is measured, all in turn; the median counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        print("Writing the same clips as videos, as folders of frames and as packed shards.", flush=True)
        video = video or make_video(os.path.join(folder, "video.mp4"))
        videos, frame_folders, packed = make_datasets(folder, video)
        # A packed clip holds the same JPEGs as a folder of frames, so the loops over JPEGs are for both.
        runs = {
            ("decode", "videos"): lambda: run_loop(decode_video, videos, workers),
            ("decode", "JPEGs"): lambda: run_loop(decode_jpegs, frame_folders, workers),
            ("prepare", "videos"): lambda: run_loop(prepare(decode_video), videos, workers),
            ("prepare", "JPEGs"): lambda: run_loop(prepare(decode_jpegs), frame_folders, workers),
            ("pipeline", "videos"): lambda: run_pipeline(videos, workers),
            ("pipeline", "frame folders"): lambda: run_pipeline(frame_folders, workers),
            ("pipeline", "packed"): lambda: run_pipeline(packed, workers),
        }
        speeds = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                speeds[name].append(run())
    speeds = {name: statistics.median(values) for name, values in speeds.items()}

    shape = f"{_BATCH_SIZE} x {_NUM_FRAMES} x {_IMAGE_SIZE} x {_IMAGE_SIZE}"
    print(
        "\nspeed of the pipeline as a ratio to the speed that the column names, which is 1.00\n"
        f"training batches of {shape} from {os.path.basename(video)}, {workers} workers"
    )
    print(f"{'':16}{'to decoding':>14}{'to decoding, resizing':>24}{'to videos':>12}")
    for source in ("videos", "frame folders", "packed"):
        speed = speeds["pipeline", source]
        files = source if source == "videos" else "JPEGs"
        ratios = [speed / speeds[loop, files] for loop in ("decode", "prepare")]
        print(f"{source:16}{ratios[0]:14.2f}{ratios[1]:24.2f}{speed / speeds['pipeline', 'videos']:12.1f}")


def make_video(path, num_frames=250):
    """Writes a video at 25 frames a second, H.264 with ordinary settings, and returns its path."""
    clip = arrow_of_time.make_clip("move_left", 0, num_frames=num_frames, image_size=256)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *clip.frames.shape[1:3], "yuv420p"
        for frame in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def soak(reads, workers):
    """Prints the memory, open files and threads of a training pipeline, after a tenth and after all clips.

    One clip in five is damaged, so that resources lost after an error count, too. The number of open files
    varies by up to `workers`, because clips are being read.

    Args:
        reads: clips to read.
        workers: clips read at the same time.

    Raises:
        ValueError: if psutil is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise ValueError("--what=soak needs psutil: pip install psutil") from error

    process = psutil.Process()

    def look():
        return process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()

    with tempfile.TemporaryDirectory() as folder:
        dataset = make_soaked(folder)
        epoch = steps_per_epoch(dataset, _BATCH_SIZE)
        steps = -(-reads // _BATCH_SIZE)
        batches = make_pipeline(
            dataset,
            batch_size=_BATCH_SIZE,
            num_frames=_NUM_FRAMES,
            image_size=_IMAGE_SIZE,
            training=True,
            epochs=-(-steps // epoch),
            workers=workers,
        )
        looks = {}
        for step, _ in enumerate(batches.take(steps), 1):
            if step in (steps // 10, steps):
                looks[step * _BATCH_SIZE] = look()

    print(f"\n{'':24}{'MiB':>8}{'open files':>12}{'threads':>10}")
    for clips, (memory, files, threads) in looks.items():
        print(f"{f'after {clips:,} clips':24}{memory:8.0f}{files:12}{threads:10}")
    first, last = looks.values()
    memory, files, threads = (end - start for start, end in zip(first, last, strict=True))
    print(f"{'growth':24}{memory:+8.0f}{files:+12}{threads:+10}")


def make_soaked(folder):
    """Returns a `Dataset` of MP4 files of two seconds: 12 intact, a truncated, a damaged, and a text file."""
    whole = make_video(os.path.join(folder, "whole.mp4"), num_frames=50)
    with open(whole, "rb") as file:
        data = file.read()
    middle = len(data) // 2
    contents = [data] * 12 + [
        data[:middle],
        data[: middle - 500] + bytes(1000) + data[middle + 500 :],
        b"text",
    ]
    records = []
    for i, content in enumerate(contents):
        path = os.path.join(folder, f"{i}.mp4")
        with open(path, "wb") as file:
            file.write(content)
        records.append((path, i % 2))
    return Dataset(records, ("0", "1"))


def make_datasets(folder, video):
    """Returns the same clips as three `Dataset`s: video files, folders of frames and packed shards."""
    root = os.path.join(folder, "videos")
    for i in range(_NUM_CLIPS):
        # A data set must have at least two classes, each of them in every split.
        for split in ("train", "val"):
            path = os.path.join(root, split, str(i % 2), f"{i}{os.path.splitext(video)[1]}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copy(video, path)
    packed = os.path.join(folder, "packed")
    with contextlib.redirect_stdout(io.StringIO()):
        packing.pack(root, packed, splits=["train"])
    videos = open_dataset("folder", root)

    frames = packing.read_clip(video, short_side=256, quality=95).frames
    records = []
    for i, (_, label) in enumerate(videos.records):
        path = os.path.join(folder, "frames", str(i))
        os.makedirs(path)
        for number, image in enumerate(frames):
            with open(os.path.join(path, f"{number + 1:05d}.jpg"), "wb") as file:
                file.write(image)
        records.append((path, label))
    return videos, Dataset(records, videos.class_names), open_dataset("packed", packed)


def run_pipeline(dataset, workers):
    """Returns the clips a second of `make_pipeline` in training, after the first epoch."""
    epochs = make_pipeline(
        dataset,
        batch_size=_BATCH_SIZE,
        num_frames=_NUM_FRAMES,
        image_size=_IMAGE_SIZE,
        training=True,
        # The first epoch includes the start-up and is not timed.
        epochs=1 + _EPOCHS,
        workers=workers,
    )
    steps = steps_per_epoch(dataset, _BATCH_SIZE)
    for step, _ in enumerate(epochs):
        if step == steps - 1:
            start = time.perf_counter()
    return _EPOCHS * steps * _BATCH_SIZE / (time.perf_counter() - start)


def run_loop(decode, dataset, workers):
    """Returns the clips a second of threads that only call `decode`."""
    paths = [path for path, _ in dataset.records]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(decode, paths))
        start = time.perf_counter()
        list(pool.map(decode, paths * _EPOCHS))
        return _EPOCHS * len(paths) / (time.perf_counter() - start)


def prepare(decode):
    """Returns a function that calls `decode`, then crops, resizes and normalises the frames like training."""

    @tf.function(input_signature=[tf.TensorSpec((_NUM_FRAMES, None, None, 3), tf.uint8)])
    def finish(clip):
        return augment.normalize(augment.resize(clip, _IMAGE_SIZE))

    def decode_and_prepare(path):
        clip = np.stack(decode(path))
        rng = np.random.default_rng()
        top, left, height, width = augment.multi_scale_box(*clip.shape[1:3], _IMAGE_SIZE, rng)
        return finish(np.ascontiguousarray(clip[:, top : top + height, left : left + width])).numpy()

    return decode_and_prepare


# The cache is filled before the loop is timed.
_count = functools.cache(count_frames)


def decode_video(path):
    """Decodes a video up to the last frame of a training clip, and returns the clip's frames in RGB."""
    wanted = set(segments.train_indices(_count(path), _NUM_FRAMES, np.random.default_rng()).tolist())
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for i, frame in enumerate(container.decode(stream)):
            if i in wanted:
                frames.append(frame.to_ndarray(format="rgb24", threads=1))
            if len(frames) == len(wanted):
                return frames


def decode_jpegs(folder):
    """Reads and decodes the frames of a training clip from a folder of JPEGs."""
    files = sorted(os.listdir(folder))
    frames = []
    for index in segments.train_indices(len(files), _NUM_FRAMES, np.random.default_rng()):
        with open(os.path.join(folder, files[index]), "rb") as file:
            frames.append(tf.io.decode_jpeg(file.read(), channels=3, dct_method="INTEGER_ACCURATE").numpy())
    return frames
