"""Names what happens in videos, with the model in this folder. `runtime.py` says which runtime it needs.

pip install av numpy
python classify.py clip.mp4 FOLDER          the best classes of each video, also in subfolders
python classify.py --camera=/dev/video0     with a model exported with --stream: a device or a URL
"""

import argparse
import contextlib
import json
import os
import queue
import sys
import threading

import av
import numpy as np
import runtime

FOLDER = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(FOLDER, "settings.json"), encoding="utf-8") as file:
    SETTINGS = json.load(file)
SIZE, NUM_FRAMES = SETTINGS["image_size"], SETTINGS["num_frames"]
RUN, SHAPES = runtime.load(os.path.join(FOLDER, SETTINGS["model"]))


def read(source):
    """Yields each frame of a file, device or URL, and its time in seconds."""
    is_device = source.startswith("/dev/")
    with av.open(source, format="v4l2" if is_device else None, timeout=10) as container:
        for number, frame in enumerate(container.decode(video=0)):
            yield frame, frame.time if frame.time is not None else number / SETTINGS["rate"]


def prepare(frame):
    """Returns the upright middle of a frame, scaled to the size of the model: float32 RGB from 0 to 255."""
    image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)).astype("float32")
    height, width, _ = image.shape
    short, scaled = min(height, width), SETTINGS["resize_size"]
    new_height, new_width = ((2 * side * scaled + short) // (2 * short) for side in (height, width))
    rows = image.reshape(height, -1)
    rows = (weights(height, new_height) @ rows).reshape(SIZE, width, 3)
    return weights(width, new_width) @ rows


def weights(size, new_size):
    """Returns the middle rows of the matrix that scales a side, bilinear and antialiased."""
    scale = size / new_size
    centers = (np.arange(SIZE) + (new_size - SIZE) // 2 + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centers[:, np.newaxis]) / max(scale, 1)
    matrix = np.maximum(1 - distances, 0)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype("float32")


def choose(total):
    """Returns which frames of a video make its clip."""
    window = total
    if SETTINGS["sampling"] == "dense" and total >= NUM_FRAMES:
        window = min(total, max(64, NUM_FRAMES))
        return (total - window) // 2 + np.arange(NUM_FRAMES) * (window // NUM_FRAMES)
    return (2 * np.arange(NUM_FRAMES) + 1) * window // (2 * NUM_FRAMES)


def classify(path):
    """Returns the scores of a video file."""
    total = sum(1 for _ in read(path))
    if not total:
        raise ValueError("has no frames")
    chosen = choose(total).tolist()
    found = {i: prepare(frame) for i, (frame, _) in enumerate(read(path)) if i in chosen}
    clip = np.stack([found[i] for i in chosen])
    if not SETTINGS["stream"]:
        return RUN({"clip": clip[np.newaxis]})["scores"][0]
    state = start()
    for frame in clip:
        scores, state = step(frame, state)
    return scores


def start():
    """Returns the state of a model in front of the first frame."""
    return {name: np.zeros(shape, "float32") for name, shape in SHAPES.items() if name != "frame"}


def step(frame, state):
    """Returns the scores after one more frame, and the next state."""
    outputs = RUN({"frame": frame[np.newaxis], **state})
    return outputs["scores"][0], {name: outputs[f"next_{name}"] for name in state}


def newest(source):
    """Yields frames at the rate of the training. Of a camera, a slow model gets only the newest."""
    frames, period = queue.Queue(1), 1 / SETTINGS["rate"]

    def fill():
        due = None
        try:
            for frame, seconds in read(source):
                due = seconds if due is None else due
                if seconds < due - period / 4:
                    continue
                due = max(due, seconds - period) + period
                if not os.path.isfile(source):
                    with contextlib.suppress(queue.Empty):
                        frames.get_nowait()
                frames.put((frame, seconds))
            frames.put(None)
        except Exception as error:  # it belongs to the thread that uses the frames
            frames.put(error)

    threading.Thread(target=fill, daemon=True).start()
    while (item := frames.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item


def watch(source):
    """Prints a line whenever the best class changes."""
    state, shown = start(), None
    for frame, seconds in newest(source):
        scores, state = step(prepare(frame), state)
        if (best := scores.argmax()) != shown:
            print(f"{seconds:8.2f} s  {scores[best]:.3f}  {name_of(best)}", flush=True)
            shown = best


def name_of(index):
    """Returns the name of a class, without characters that would change the terminal."""
    return "".join(each if each.isprintable() else "?" for each in SETTINGS["class_names"][index])


def main():
    """Runs the command; returns its exit status, which is 1 if a video could not be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", help="video files and folders")
    parser.add_argument("--camera", help="device or URL to watch until Ctrl-C")
    options = parser.parse_args()
    if options.camera:
        if not SETTINGS["stream"]:
            parser.error("--camera needs a causal model that was exported with --stream")
        try:
            watch(options.camera)
        except KeyboardInterrupt:
            pass
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        return 0
    status = 0
    for path in options.paths or parser.error("pass videos, folders or --camera"):
        files = [path]
        if os.path.isdir(path):
            files = sorted(os.path.join(parent, name) for parent, _, names in os.walk(path) for name in names)
        for file in files:
            try:
                scores = classify(file)
            except (OSError, ValueError) as error:
                print(f"{file}: {error}", file=sys.stderr)
                status = 1
                continue
            print(file)
            for index in np.argsort(-scores, kind="stable")[:5]:
                print(f"  {scores[index]:.4f}  {name_of(index)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
