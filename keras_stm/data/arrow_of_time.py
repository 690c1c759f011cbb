"""The embedded data set: eight actions in four pairs, each the time reversal of its partner.

Both of a pair are made of the same frames, and only their order tells them apart, which is what the
paper's Figure 4 argues. A clip shows a shape that moves, grows or turns before a background; it
comes from a seed, as an array (`make_clip`) or with all others as video files (`make_dataset`).

Lengths are in sides of the frame, angles in radians, y points down.
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

# The first of each pair is drawn; the second is the first backwards.
_PAIRS = (
    ("approach", "recede"),
    ("move_left", "move_right"),
    ("move_up", "move_down"),
    ("turn_clockwise", "turn_counterclockwise"),
)
CLASS_NAMES = tuple(sorted(name for pair in _PAIRS for name in pair))
REVERSED = {name: partner for pair in _PAIRS for name, partner in (pair, pair[::-1])}

# Corners as (degrees, radius) around a point that sees all of them.
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
# Pixels along a side of the square that a shape is painted on before it is put into frames.
_CANVAS = 128
# Directions in which an outline is known.
_RAYS = 720
_FRAME_RATE = 12
_DESCRIPTION = "arrow_of_time.json"
# To be raised with every change that gives other files, so that stale folders are told apart.
FORMAT = 1


class Clip(typing.NamedTuple):
    """Frames, uint8 `(T, H, W, 3)` RGB, and the name of the shape in them, of `SHAPES`."""

    frames: np.ndarray
    shape: str


def make_clip(class_name, seed, hard=False, num_frames=_NUM_FRAMES, image_size=_IMAGE_SIZE):
    """One clip as an array, without files.

    With the same seed the partner of a class (`REVERSED`) gives the same frames in opposite order.

    Args:
        class_name: one of `CLASS_NAMES`.
        seed: an integer of at least 0, or a tuple of them.
        hard: if true, smaller shapes do the opposite, the camera drifts and the motion pauses.
        num_frames: at least 2.
        image_size: height and width in pixels.

    Returns:
        `Clip` of `frames` and `shape`.

    Raises:
        ValueError: an argument is not as above.
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
    # The smaller shapes, which do the opposite, lie behind the one that the class is about.
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

    `root/{train,val,test}/<class>/<number>.mp4` are H.264 of key frames only at constant quality,
    so that no trace of the codec tells the direction of time. In `val` and `test` every file has
    the frames of the same number in its partner's class, backwards. `root/clips.csv` lists
    `split,file,class,shape,reversed_file`, files relative to `root`, the last empty in `train`. No
    two splits share a motion or a texture.

    The folder appears when it is complete. Where it is already there, made with the same arguments,
    it is left as it is. The clips depend on the arguments alone.

    Args:
        root: the folder to write.
        seed: integer of at least 0.
        num_train, num_validation, num_test: clips in each split, positive multiples of 8.
        hard: see `make_clip`.
        progress: if true, shows a bar where a person watches.

    Returns:
        `root`.

    Raises:
        ValueError: a number of clips is not as above, or `root` holds something else.
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
        # Another process may have been faster.
        if not _is_complete(root, description):
            raise
    return root


def _is_complete(root, description):
    """Whether `root` holds this very data set; where it holds anything else, `ValueError`."""
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
    # Threads do: drawing and encoding spend their time outside Python's lock.
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
    """Writes a clip, and its partner where two classes are given; returns the rows about them."""
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

    # Every frame by itself and at one quality: whatever a codec carries from frame to frame
    # would tell the direction of time.
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
    """Where a shape is in each frame: `center` `(T, 2)` as (x, y), `radius` and `angle` `(T,)`."""

    center: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def _draw_path(rng, class_name, num_frames, size, pauses):
    """The path of a shape that does what the first class of a pair says, from anywhere."""
    progress = _progress(rng, num_frames, pauses)
    center = 0.02 * np.stack([_wobble(rng, num_frames) for _ in "xy"], axis=1)
    radius = size * rng.uniform(0.18, 0.26) * np.exp(0.03 * _wobble(rng, num_frames))
    angle = rng.uniform(0, 2 * np.pi) + 0.06 * _wobble(rng, num_frames)
    if class_name == "approach":
        growth = rng.uniform(1.8, 2.4)
        radius *= rng.uniform(1.0, 1.3) * growth ** (progress - 0.5)
    elif class_name == "turn_clockwise":
        radius *= rng.uniform(1.1, 1.4)
        # Clockwise to the eye, as y points down.
        angle += np.radians(rng.uniform(80, 160)) * progress
    else:
        axis = {"move_left": 0, "move_up": 1}[class_name]
        center[:, axis] -= rng.uniform(0.35, 0.5) * progress
    return _Path(center, radius, angle)


def _progress(rng, num_frames, pauses=False):
    """From 0 in the first frame to 1 in the last, at an uneven speed that never turns back."""
    steps = 1 + rng.uniform(-0.6, 0.6) * np.linspace(-1, 1, num_frames - 1)
    steps *= rng.uniform(0.6, 1.4, num_frames - 1)
    if pauses:
        length = num_frames // 4
        start = rng.integers(num_frames - length)
        steps[start : start + length] = 0
    return np.append(0, np.cumsum(steps)) / steps.sum()


def _wobble(rng, num_frames):
    """A smooth curve about 0, within -1 and 1."""
    time = np.linspace(0, 2 * np.pi, num_frames)
    return np.sin(time * rng.uniform(0.5, 2) + rng.uniform(0, 2 * np.pi))


def _keep_inside(rng, path, drift):
    """Moves a path to a random place where its shape stays, but for the tips, in the frame."""
    center = path.center + drift
    margin = 0.8 * path.radius[:, None]
    low, high = (margin - center).max(axis=0), (1 - margin - center).min(axis=0)
    middle, free = (low + high) / 2, np.maximum(high - low, 0)
    return path._replace(center=center + middle + free * rng.uniform(-0.5, 0.5, 2))


def _draw_background(rng, color, shifts, image_size):
    """Smooth noise about a colour, `(len(shifts), H, W, 3)`, seen from a moving camera."""
    planes = np.reshape(color, (3, 1, 1))
    pixels = (np.arange(image_size) + 0.5) / image_size
    for cells, amplitude in ((2, 0.16), (5, 0.08), (12, 0.05)):
        # Wider than the frame by more than any shift, on every side.
        nodes = np.arange(-cells // 4 - 2, cells + cells // 4 + 3)
        grid = amplitude * rng.uniform(-1, 1, (3, len(nodes), len(nodes)))
        along_x, along_y = (
            _blend(cells * (pixels - shifts[:, axis, None])[..., None] - nodes) for axis in (0, 1)
        )
        planes = planes + along_y[:, None] @ grid @ along_x[:, None].swapaxes(2, 3)
    return np.moveaxis(planes, 1, -1).astype("float32")


def _blend(distance):
    """Weight of a grid's node at a distance in cells; smooth, and 1 in all at every point."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(distance, -1, 1))


def _draw_shape(rng, shape, background_color, radius):
    """The shape on a square canvas, a row of red, green, blue and opacity for each point.

    The edge is as soft as an antialiased one of that radius in pixels.
    """
    degrees, radii = np.transpose(_OUTLINES[shape])
    corners = np.radians(degrees + rng.uniform(-4, 4, len(radii)))
    radii = radii * rng.uniform(0.85, 0.95, len(radii))
    x, y, ray, distance = _canvas()
    opacity = np.clip((_outline(corners, radii)[ray] - distance) * radius + 0.5, 0, 1)
    # Also where the edge is softer than the margin: the border goes on for ever, see `overlay`.
    opacity[np.maximum(abs(x), abs(y)) > 1 - 2 / _CANVAS] = 0

    # Mostly near the ends of each channel, so that one of a few stands out from any background.
    candidates = rng.beta(0.5, 0.5, (6, 3))
    first = candidates[abs(candidates - background_color).sum(axis=1).argmax()]
    second = 0.5 * first + 0.5 * rng.uniform(0, 1, 3)
    stripes = rng.uniform(2, 5) * _direction(rng)
    mix = 0.5 + 0.5 * np.sin(stripes[0] * x + stripes[1] * y + rng.uniform(0, 2 * np.pi))
    colors = first + (second - first) * mix[:, None]
    return np.concatenate([colors, opacity[:, None]], axis=1).astype("float32")


@functools.cache
def _canvas():
    """Of each point of the canvas x and y, from -1 to 1, its ray and distance from the middle."""
    line = (np.arange(_CANVAS) + 0.5) / _CANVAS * 2 - 1
    y, x = (values.ravel() for values in np.meshgrid(line, line, indexing="ij"))
    ray = np.round(np.arctan2(y, x) / (2 * np.pi) * _RAYS).astype(int) % _RAYS
    return x, y, ray, np.hypot(x, y)


def _outline(corners, radii):
    """How far a polygon reaches along each ray, given its corners' angles and radii."""
    x, y = radii * np.cos(corners), radii * np.sin(corners)
    edge_x, edge_y = np.roll(x, -1) - x, np.roll(y, -1) - y
    rays = 2 * np.pi / _RAYS * np.arange(_RAYS)
    order = np.argsort(corners % (2 * np.pi))
    edge = order[np.searchsorted((corners % (2 * np.pi))[order], rays, side="right") - 1]
    across = np.cos(rays) * edge_y[edge] - np.sin(rays) * edge_x[edge]
    return (x * edge_y - y * edge_x)[edge] / across


def overlay(frames, canvas, path):
    """Puts a shape drawn on a canvas into the frames `(T or 1, H, W, 3)` along its path."""
    image_size = frames.shape[2]
    path = _Path(*(values.astype("float32") for values in path))
    pixels = (np.arange(image_size, dtype="float32") + 0.5) / image_size
    x, y = (pixels - path.center[:, axis, None] for axis in (0, 1))
    scale = _CANVAS / 2 / path.radius[:, None]
    cos, sin = scale * np.cos(path.angle)[:, None], scale * np.sin(path.angle)[:, None]
    # From the frame back to the canvas. What falls beside it takes its border, which is clear.
    column = _nearest((cos * x)[:, None, :] + (sin * y)[:, :, None])
    row = _nearest((-sin * x)[:, None, :] + (cos * y)[:, :, None])
    drawn = canvas.take(row * _CANVAS + column, axis=0)
    return frames + drawn[..., 3:] * (drawn[..., :3] - frames)


def _nearest(offset):
    return np.clip(offset + _CANVAS / 2, 0, _CANVAS - 1).astype("intp")


def _direction(rng):
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
