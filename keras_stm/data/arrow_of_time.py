"""The embedded data set: eight actions in four pairs, each the time reversal of its partner.

The two classes of a pair consist of the same frames. Only the order of the frames tells them apart, which
is the argument of the paper's Figure 4. A clip shows a shape that moves, grows or turns in front of a
background. A seed determines each clip. `make_clip` makes one clip as an array, and `make_dataset` writes
all clips as video files.

The unit of length is the side of the frame, angles are in radians, and y points down.
"""

import concurrent.futures
import csv
import functools
import json
import os
import typing

import numpy as np

from keras_stm.arguments import ArgumentError, one_of, positive_int
from keras_stm.progress import Progress
from keras_stm.replacing import replacing_folder

# The first class of each pair is drawn; the second is the first in reverse.
_PAIRS = (
    ("approach", "recede"),
    ("move_left", "move_right"),
    ("move_up", "move_down"),
    ("turn_clockwise", "turn_counterclockwise"),
)
CLASS_NAMES = tuple(sorted(name for pair in _PAIRS for name in pair))
REVERSED = {name: partner for pair in _PAIRS for name, partner in (pair, pair[::-1])}

# Corners as (degrees, radius) around a point from which all of them are visible.
_OUTLINES = {
    "arrow": ((0, 1), (140, 1), (180, 0.35), (220, 1)),
    "corner": ((-17, 1), (17, 1), (45, 0.42), (68, 0.8), (112, 0.8), (225, 0.42)),
    "cross": (
        *((-14, 1), (14, 1), (45, 0.35), (70, 0.7), (110, 0.7), (135, 0.35)),
        *((160, 0.7), (200, 0.7), (225, 0.35), (250, 0.7), (290, 0.7), (315, 0.35)),
    ),
    "drop": ((0, 1), *((angle, 0.55) for angle in range(60, 301, 20))),
    "half": tuple((angle, 0.9) for angle in range(-100, 101, 20)),
    "star": (
        *((0, 1), (36, 0.35), (72, 0.8), (108, 0.35), (144, 0.8)),
        *((180, 0.35), (216, 0.8), (252, 0.35), (288, 0.8), (324, 0.35)),
    ),
    "wedge": ((0, 1), (130, 0.85), (215, 0.5)),
}
SHAPES = tuple(_OUTLINES)

_NUM_FRAMES = 24
_IMAGE_SIZE = 64
# Side in pixels of the square on which a shape is drawn before it is put into frames.
_CANVAS = 128
# Number of directions in which an outline is computed.
_RAYS = 720
_FRAME_RATE = 12
_DESCRIPTION = "arrow_of_time.json"
# Increase this with every change that produces other files, so that old folders are recognised.
FORMAT = 1


class Clip(typing.NamedTuple):
    """Frames, uint8 `(T, H, W, 3)` RGB, and the name of the shape in them, one of `SHAPES`."""

    frames: np.ndarray
    shape: str


def make_clip(class_name, seed, hard=False, num_frames=_NUM_FRAMES, image_size=_IMAGE_SIZE):
    """Makes one clip as an array, without files.

    With the same seed, the partner of a class (`REVERSED`) has the same frames in reverse order.

    Args:
        class_name: one of `CLASS_NAMES`.
        seed: integer of at least 0, or a tuple of such integers.
        hard: if true, smaller shapes do the opposite, the camera drifts, and the motion pauses.
        num_frames: frames in the clip, at least 2.
        image_size: height and width in pixels.

    Returns:
        `Clip` of `frames` and `shape`.

    Raises:
        ValueError: an argument is invalid.
    """
    one_of("class_name", class_name, CLASS_NAMES)
    positive_int("image_size", image_size)
    if positive_int("num_frames", num_frames) < 2:
        raise ArgumentError("num_frames", num_frames, "must be at least 2")
    pair = next(pair for pair in _PAIRS if class_name in pair)
    rng = np.random.default_rng((*np.atleast_1d(seed).tolist(), _PAIRS.index(pair)))

    drift = np.zeros((num_frames, 2))
    if hard:
        drift += rng.uniform(0.05, 0.15) * _progress(rng, num_frames)[:, None] * _direction(rng)
    color = rng.uniform(0.15, 0.85, 3)
    frames = _draw_background(rng, color, drift if hard else drift[:1], image_size)
    # Smaller shapes, which do the opposite, are drawn first, so that the main shape covers them.
    for size in (0.5, 0.5, 1) if hard else (1,):
        path = _draw_path(rng, pair[0], num_frames, size, pauses=hard)
        if size < 1:
            path = _Path(*(values[::-1] for values in path))
        shape = SHAPES[rng.integers(len(SHAPES))]
        canvas = _draw_shape(rng, shape, color, path.radius.mean() * image_size)
        frames = overlay(frames, canvas, _keep_inside(rng, path, drift))

    frames = (np.clip(frames, 0, 1) * 255 + 0.5).astype("uint8")
    return Clip(frames if class_name == pair[0] else frames[::-1].copy(), shape)


def make_dataset(root, seed=0, num_train=2400, num_validation=400, num_test=400, hard=False, progress=True):
    """Writes the data set as a folder of class folders that `open_dataset("folder", root)` reads.

    The files `root/{train,val,test}/<class>/<number>.mp4` are H.264 at constant quality, with key
    frames only. Traces of the codec therefore do not reveal the direction of time. In `val` and
    `test`, every file has the frames of the file with the same number in its partner's class, in
    reverse. `root/clips.csv` lists `split,file,class,shape,reversed_file`. Its files are relative to
    `root`, and `reversed_file` is empty in `train`. No two splits share a motion or a texture.

    The folder appears when it is complete. If it already exists with the same arguments, it stays
    unchanged. The clips depend on the arguments alone.

    Args:
        root: folder to write.
        seed: integer of at least 0.
        num_train: clips for training, a positive multiple of 8.
        num_validation: clips for validation, a positive multiple of 8.
        num_test: clips for testing, a positive multiple of 8.
        hard: see `make_clip`.
        progress: if true, shows a progress bar in a terminal.

    Returns:
        `root`.

    Raises:
        ValueError: a number of clips is invalid, or `root` holds something else.
    """
    for name, size in (
        ("num_train", num_train),
        ("num_validation", num_validation),
        ("num_test", num_test),
    ):
        if positive_int(name, size) % len(CLASS_NAMES):
            raise ArgumentError(
                name, size, f"must be a multiple of {len(CLASS_NAMES)}, the number of classes"
            )
    sizes = {"train": num_train, "val": num_validation, "test": num_test}
    description = {"format": FORMAT, "seed": seed, "hard": bool(hard), **sizes}
    root = os.path.abspath(root)
    if _is_complete(root, description):
        return root

    try:
        with replacing_folder(root, overwrite=False) as folder:
            _write_dataset(folder, seed, sizes, hard, progress)
            with open(os.path.join(folder, _DESCRIPTION), "w") as file:
                json.dump(description, file, indent=2)
    except OSError:
        # Another process may have written the folder first.
        if not _is_complete(root, description):
            raise
    return root


def _is_complete(root, description):
    """Returns whether `root` holds this data set; raises `ValueError` if it holds anything else."""
    if not os.path.exists(root) or (os.path.isdir(root) and not os.listdir(root)):
        return False
    try:
        with open(os.path.join(root, _DESCRIPTION)) as file:
            found = json.load(file)
    except (OSError, ValueError):
        found = "something else"
    if found != description:
        raise ArgumentError(
            "root",
            root,
            f"must be a new or empty folder, or hold the data set {description}; it holds {found}",
        )
    return True


def _write_dataset(folder, seed, sizes, hard, progress):
    jobs = []
    for split_number, (split, size) in enumerate(sizes.items()):
        for class_name in CLASS_NAMES:
            os.makedirs(os.path.join(folder, split, class_name))
        for pair in _PAIRS:
            for number in range(size // len(CLASS_NAMES)):
                if split == "train":
                    for i, class_name in enumerate(pair):
                        clip_seed = (seed, split_number, 2 * number + i)
                        jobs.append((folder, split, number, (class_name,), clip_seed, hard))
                else:
                    clip_seed = (seed, split_number, number)
                    jobs.append((folder, split, number, pair, clip_seed, hard))

    bar = Progress(sum(sizes.values()), "clip") if progress else None
    rows = []
    # Threads suffice: drawing and encoding spend their time outside Python's global interpreter lock.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for written in pool.map(_write_clip, *zip(*jobs, strict=True)):
            rows += written
            if bar:
                bar.update(len(rows))
    if bar:
        bar.close()
    with open(os.path.join(folder, "clips.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("split", "file", "class", "shape", "reversed_file"))
        writer.writerows(rows)


def _write_clip(folder, split, number, class_names, seed, hard):
    """Writes a clip, and its partner if two classes are given; returns their rows of `clips.csv`."""
    files = {name: f"{split}/{name}/{number:05d}.mp4" for name in class_names}
    clip = make_clip(class_names[0], seed, hard)
    rows = []
    for name, file in files.items():
        frames = clip.frames if name == class_names[0] else clip.frames[::-1]
        _encode(os.path.join(folder, file), frames)
        rows.append((split, file, name, clip.shape, files.get(REVERSED[name], "")))
    return rows


def _encode(path, frames):
    import av

    # Every frame is encoded on its own and at one quality. Information that a codec carries from frame
    # to frame would reveal the direction of time.
    options = {"preset": "ultrafast", "qp": "18", "g": "1", "bf": "0"}
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=_FRAME_RATE, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", threads=1)))
        container.mux(stream.encode())


class _Path(typing.NamedTuple):
    """Place of a shape in each frame: `center` `(T, 2)` as (x, y), `radius` and `angle` `(T,)`."""

    center: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def _draw_path(rng, class_name, num_frames, size, pauses):
    """Returns a random path of a shape that acts like `class_name`; `_keep_inside` places it in the frame."""
    progress = _progress(rng, num_frames, pauses)
    center = 0.02 * np.stack([_wobble(rng, num_frames) for _ in "xy"], axis=1)
    radius = size * rng.uniform(0.18, 0.26) * np.exp(0.03 * _wobble(rng, num_frames))
    angle = rng.uniform(0, 2 * np.pi) + 0.06 * _wobble(rng, num_frames)
    if class_name == "approach":
        growth = rng.uniform(1.8, 2.4)
        radius *= rng.uniform(1.0, 1.3) * growth ** (progress - 0.5)
    elif class_name == "turn_clockwise":
        radius *= rng.uniform(1.1, 1.4)
        # A growing angle looks clockwise, because y points down.
        angle += np.radians(rng.uniform(80, 160)) * progress
    else:
        axis = {"move_left": 0, "move_up": 1}[class_name]
        center[:, axis] -= rng.uniform(0.35, 0.5) * progress
    return _Path(center, radius, angle)


def _progress(rng, num_frames, pauses=False):
    """Returns values from 0 in the first frame to 1 in the last, at an uneven, never negative speed."""
    steps = 1 + rng.uniform(-0.6, 0.6) * np.linspace(-1, 1, num_frames - 1)
    steps *= rng.uniform(0.6, 1.4, num_frames - 1)
    if pauses:
        length = num_frames // 4
        start = rng.integers(num_frames - length)
        steps[start : start + length] = 0
    return np.append(0, np.cumsum(steps)) / steps.sum()


def _wobble(rng, num_frames):
    """Returns a smooth curve around 0, within -1 and 1."""
    time = np.linspace(0, 2 * np.pi, num_frames)
    return np.sin(time * rng.uniform(0.5, 2) + rng.uniform(0, 2 * np.pi))


def _keep_inside(rng, path, drift):
    """Moves a path to a random place where its shape, except for the tips, stays in the frame."""
    center = path.center + drift
    margin = 0.8 * path.radius[:, None]
    low, high = (margin - center).max(axis=0), (1 - margin - center).min(axis=0)
    middle, free = (low + high) / 2, np.maximum(high - low, 0)
    return path._replace(center=center + middle + free * rng.uniform(-0.5, 0.5, 2))


def _draw_background(rng, color, shifts, image_size):
    """Draws smooth noise around a colour, `(len(shifts), H, W, 3)`, seen from a moving camera."""
    planes = np.reshape(color, (3, 1, 1))
    pixels = (np.arange(image_size) + 0.5) / image_size
    for cells, amplitude in ((2, 0.16), (5, 0.08), (12, 0.05)):
        # The grid extends beyond the frame by more than any shift, on every side.
        nodes = np.arange(-cells // 4 - 2, cells + cells // 4 + 3)
        grid = amplitude * rng.uniform(-1, 1, (3, len(nodes), len(nodes)))
        along_x, along_y = (
            _blend(cells * (pixels - shifts[:, axis, None])[..., None] - nodes) for axis in (0, 1)
        )
        planes = planes + along_y[:, None] @ grid @ along_x[:, None].swapaxes(2, 3)
    return np.moveaxis(planes, 1, -1).astype("float32")


def _blend(distance):
    """Returns the smooth weight of a grid node at a distance in cells; weights sum to 1 at every point."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(distance, -1, 1))


def _draw_shape(rng, shape, background_color, radius):
    """Draws the shape on a square canvas; returns a row of red, green, blue and opacity for each point.

    The edge is as soft as that of an antialiased shape with this radius in pixels.
    """
    degrees, radii = np.transpose(_OUTLINES[shape])
    corners = np.radians(degrees + rng.uniform(-4, 4, len(radii)))
    radii = radii * rng.uniform(0.85, 0.95, len(radii))
    x, y, ray, distance = _canvas()
    opacity = np.clip((_outline(corners, radii)[ray] - distance) * radius + 0.5, 0, 1)
    # The border must be transparent even if the edge is softer than the margin: `overlay` repeats it.
    opacity[np.maximum(abs(x), abs(y)) > 1 - 2 / _CANVAS] = 0

    # Most values are near the ends of each channel, so that a candidate stands out from any background.
    candidates = rng.beta(0.5, 0.5, (6, 3))
    first = candidates[abs(candidates - background_color).sum(axis=1).argmax()]
    second = 0.5 * first + 0.5 * rng.uniform(0, 1, 3)
    stripes = rng.uniform(2, 5) * _direction(rng)
    mix = 0.5 + 0.5 * np.sin(stripes[0] * x + stripes[1] * y + rng.uniform(0, 2 * np.pi))
    colors = first + (second - first) * mix[:, None]
    return np.concatenate([colors, opacity[:, None]], axis=1).astype("float32")


@functools.cache
def _canvas():
    """Returns x and y from -1 to 1, ray, and distance from the middle, for each point of the canvas."""
    line = (np.arange(_CANVAS) + 0.5) / _CANVAS * 2 - 1
    y, x = (values.ravel() for values in np.meshgrid(line, line, indexing="ij"))
    ray = np.round(np.arctan2(y, x) / (2 * np.pi) * _RAYS).astype(int) % _RAYS
    return x, y, ray, np.hypot(x, y)


def _outline(corners, radii):
    """Returns how far a polygon reaches along each ray, given the angles and radii of its corners."""
    x, y = radii * np.cos(corners), radii * np.sin(corners)
    edge_x, edge_y = np.roll(x, -1) - x, np.roll(y, -1) - y
    rays = 2 * np.pi / _RAYS * np.arange(_RAYS)
    order = np.argsort(corners % (2 * np.pi))
    edge = order[np.searchsorted((corners % (2 * np.pi))[order], rays, side="right") - 1]
    across = np.cos(rays) * edge_y[edge] - np.sin(rays) * edge_x[edge]
    return (x * edge_y - y * edge_x)[edge] / across


def overlay(frames, canvas, path):
    """Puts a shape from its canvas into the frames `(T or 1, H, W, 3)` along its path."""
    image_size = frames.shape[2]
    path = _Path(*(values.astype("float32") for values in path))
    pixels = (np.arange(image_size, dtype="float32") + 0.5) / image_size
    x, y = (pixels - path.center[:, axis, None] for axis in (0, 1))
    scale = _CANVAS / 2 / path.radius[:, None]
    cos, sin = scale * np.cos(path.angle)[:, None], scale * np.sin(path.angle)[:, None]
    # Maps pixels of the frame to the canvas. Pixels outside the canvas use its border, which is transparent.
    column = _nearest((cos * x)[:, None, :] + (sin * y)[:, :, None])
    row = _nearest((-sin * x)[:, None, :] + (cos * y)[:, :, None])
    drawn = canvas.take(row * _CANVAS + column, axis=0)
    return frames + drawn[..., 3:] * (drawn[..., :3] - frames)


def _nearest(offset):
    return np.clip(offset + _CANVAS / 2, 0, _CANVAS - 1).astype("intp")


def _direction(rng):
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
