"""A small folder of one's own: clips of six camera motions over frames of real videos."""

import pathlib

import av
import numpy as np
import tensorflow as tf

from keras_stm.data import frames

REAL_CLIPS = pathlib.Path(__file__).parents[3] / "shared" / "real_clips"
CLASSES = ("pan_left", "pan_right", "tilt_down", "tilt_up", "zoom_in", "zoom_out")

_NUM_FRAMES = 24
_SIZE = 96
# How a view's centre moves in x and y, and how its logarithmic size changes.
_MOTIONS = {
    "pan_left": (-1, 0, 0),
    "pan_right": (1, 0, 0),
    "tilt_down": (0, 1, 0),
    "tilt_up": (0, -1, 0),
    "zoom_in": (0, 0, -1),
    "zoom_out": (0, 0, 1),
}


def make_folder(root, counts, num_validation, seed=0):
    """Writes `train` and `val` folders of class folders; the two show different frames of the real videos.

    Args:
        root: the folder; it need not exist.
        counts: `{class: number of training clips}`.
        num_validation: number of validation clips of each class.
        seed: integer.
    """
    videos = [frames.read_frames(str(path), range) for path in sorted(REAL_CLIPS.iterdir())]
    rng = np.random.default_rng(seed)
    for split, first, last in (("train", 0.0, 0.7), ("val", 0.8, 1.0)):
        pictures = [video[int(first * len(video)) : int(last * len(video))] for video in videos]
        for name, count in counts.items():
            folder = pathlib.Path(root, split, name)
            folder.mkdir(parents=True)
            for i in range(count if split == "train" else num_validation):
                video = pictures[rng.integers(len(pictures))]
                _write(folder / f"{i:03}.mp4", _film(video[rng.integers(len(video))], name, rng))


def _film(picture, name, rng):
    """Returns the frames of a camera that moves over a picture, with some drift in other directions."""
    height, width = picture.shape[:2]
    along = np.array(_MOTIONS[name])
    # The largest side of the view and the way of its centre, in shares of the picture's short side.
    side, way, zoom = rng.uniform(0.4, 0.6), rng.uniform(0.08, 0.35), rng.uniform(0.15, 0.5)
    drift = 0.15 * rng.uniform(-1, 1, 3) * (along == 0)
    start = np.array([way, way, zoom]) * (along + drift)
    steps = np.linspace(-0.5, 0.5, _NUM_FRAMES)[:, None] * start
    sides = side * min(height, width) * np.exp(steps[:, 2] - np.abs(start[2]) / 2)
    moves = steps[:, :2] * min(height, width)
    room = np.array([width, height]) - sides.max() - np.abs(start[:2]) * min(height, width)
    middle = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    if rng.random() < 0.5:
        # A scene and its mirror image have the same right to any motion.
        picture = picture[:, ::-1]
    corners = np.concatenate(
        [middle + moves - sides[:, None] / 2, middle + moves + sides[:, None] / 2], axis=1
    )
    boxes = corners[:, [1, 0, 3, 2]] / [height, width, height, width]
    shown = tf.image.crop_and_resize(picture[None], boxes, np.zeros(_NUM_FRAMES, int), (_SIZE, _SIZE))
    return np.clip(np.round(shown), 0, 255).astype("uint8")


def _write(path, clip):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "20", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = _SIZE, _SIZE, "yuv420p"
        for picture in clip:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
