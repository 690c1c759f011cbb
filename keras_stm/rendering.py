"""Writes a copy of a video, or the frames of a stream, with predictions drawn on them."""

import bisect
import contextlib
import fractions
import math
import os

import av
import matplotlib
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, ImageDraw, ImageFont

from keras_stm.data.frames import file_of, iterate_frames, probe
from keras_stm.data.video import VideoError, stated_rate
from keras_stm.file_names import printable

# Containers that can hold H.264.
EXTENSIONS = (".m4v", ".mkv", ".mov", ".mp4")
# Frames with a smaller short side, in pixels, are enlarged to make the names readable.
_READABLE = 240
# Font size: minimum in pixels, and fraction of the frame's short side.
_MIN_FONT = 12
_FONT = 1 / 28
# Maximum size of the panel: width in font sizes, width and height as fractions of the frame.
_PANEL_FONTS = 26
_PANEL_WIDTH = 0.92
_PANEL_HEIGHT = 0.45
# Units of time in a second of a stream's video.
_UNITS = 1000
# RGBA.
_BACKGROUND = (0, 0, 0, 170)
_BAR = (31, 119, 180, 235)
_TEXT = (255, 255, 255, 255)


def render(source, target, moments, progress):
    """Writes the frames of a video with predictions drawn on them, as H.264 without sound.

    Frames are shown at a constant rate, see `meant_rate`. If their short side is below 240 pixels, they are
    enlarged by a whole factor. The format requires even sides. Therefore, the last row or column of an odd
    side is repeated.

    Args:
        source: video file, or a part of one.
        target: path of the file to write, with one of `EXTENSIONS`.
        moments: list of `(end, predictions)`: the predictions, as `VideoClassifier` returns them, are drawn
            until `end`, in seconds. The last `end` is infinite.
        progress: function that is called with the number of frames written so far.

    Raises:
        VideoError: `source` cannot be read or does not state its frame rate.
        OSError: `target` cannot be written.
    """
    rate = probe(source).frame_rate
    if rate is None:
        raise VideoError(source, "unreadable", "does not state its frame rate")
    with _writing(target), av.open(target, "w") as container:
        stream = _add_stream(container, meant_rate(source, rate))
        for number, frame in enumerate(label_frames(iterate_frames(source), moments, rate), 1):
            if number == 1:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(_to_yuv(frame)))
            progress(number)
        container.mux(stream.encode())


class StreamVideo:
    """Writes frames of a stream with predictions drawn on them, as H.264. Use it in a `with` block.

    Each frame is shown until the time of the next. Frames of another size are scaled to that of the first.

    Args:
        target: path of the file to write, with one of `EXTENSIONS`.

    Raises:
        OSError: `target` cannot be written; raised while writing, or at the end of the block.
    """

    def __init__(self, target):
        self._target = target
        self._container = av.open(target, "w")
        # The rate is only a hint for the encoder: frames have their own times.
        self._stream = _add_stream(self._container, _UNITS)
        self._stream.codec_context.time_base = fractions.Fraction(1, _UNITS)
        self._start = None
        self._last = -1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with _writing(self._target), self._container:
            if self._start is not None:
                self._container.mux(self._stream.encode())

    def write(self, seconds, image, predictions):
        """Writes a frame.

        Args:
            seconds: time of the frame; times ascend.
            image: uint8 array `(height, width, 3)`, RGB.
            predictions: see `draw_panel`.

        Raises:
            OSError: the file cannot be written.
        """
        (frame,) = label_frames([image], [(math.inf, predictions)], 1)
        if self._start is None:
            self._start = seconds
            self._stream.height, self._stream.width = frame.shape[:2]
        frame = _to_yuv(frame, self._stream.height, self._stream.width)
        frame.time_base = fractions.Fraction(1, _UNITS)
        # Containers require times that ascend.
        self._last = frame.pts = max(round((seconds - self._start) * _UNITS), self._last + 1)
        with _writing(self._target):
            self._container.mux(self._stream.encode(frame))


def _add_stream(container, rate):
    stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
    stream.pix_fmt = "yuv420p"
    # Stated in the file, because players otherwise guess from the size of the frames.
    stream.codec_context.colorspace = Colorspace.ITU601
    return stream


def _to_yuv(image, height=None, width=None):
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return frame.reformat(width, height, "yuv420p", dst_colorspace=Colorspace.ITU601)


@contextlib.contextmanager
def _writing(target):
    """Turns FFmpeg's errors into `OSError`."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(f"{target}: cannot be written ({error.strerror})") from error


def meant_rate(source, mean):
    """Returns the frame rate that a video states, or `mean` if they differ by more than 1%, as a fraction."""
    stated = stated_rate(file_of(source))
    # The mean is less exact: its time stamps may have been rounded to milliseconds.
    if stated and abs(stated / mean - 1) < 0.01:
        return stated
    return fractions.Fraction(mean).limit_denominator(1001)


def label_frames(frames, moments, rate):
    """Yields each frame with the predictions of its moment drawn on it; `rate` is in frames per second."""
    moments = iter(moments)
    end = -math.inf
    for number, frame in enumerate(frames):
        image = Image.fromarray(np.ascontiguousarray(frame))
        factor = math.ceil(_READABLE / min(image.size))
        if factor > 1:
            image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
        while number / rate >= end:
            end, predictions = next(moments)
            panel = draw_panel(predictions, *image.size)
        margin = min(image.size) // 40
        image.paste(panel, (margin, margin), panel)
        even = ((0, image.height % 2), (0, image.width % 2), (0, 0))
        yield np.pad(np.asarray(image), even, "edge")


def draw_panel(predictions, width, height):
    """Draws predictions as bars with names and scores, on a half-transparent background.

    Args:
        predictions: list of predictions, as `VideoClassifier` returns it. Those that do not fit into the
            frame are not drawn.
        width: width of the frame in pixels.
        height: height of the frame in pixels.

    Returns:
        RGBA image, smaller than the frame.
    """
    size = max(_MIN_FONT, round(min(width, height) * _FONT))
    # The font of matplotlib has more letters than the font of Pillow.
    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(path, size)
    row, gap = round(1.5 * size), max(size // 6, 1)
    predictions = predictions[: max(1, int(_PANEL_HEIGHT * height) // (row + gap))]
    panel_width = min(_PANEL_FONTS * size, int(_PANEL_WIDTH * width))
    panel = Image.new("RGBA", (panel_width, len(predictions) * (row + gap) + gap), _BACKGROUND)
    draw = ImageDraw.Draw(panel)
    room = panel_width - 2 * gap
    for i, prediction in enumerate(predictions):
        top = gap + i * (row + gap)
        bar = round(prediction["score"] * room)
        if bar:
            draw.rectangle((gap, top, gap + bar - 1, top + row - 1), _BAR)
        score = f"{prediction['score']:.1%}"
        left, right, middle = 3 * gap, panel_width - 3 * gap, top + row / 2
        label = shorten(printable(prediction["label"]), font, right - left - font.getlength(score) - size)
        draw.text((left, middle), label, _TEXT, font, anchor="lm")
        draw.text((right, middle), score, _TEXT, font, anchor="rm")
    return panel


def shorten(text, font, width):
    """Returns `text`, with its end replaced by an ellipsis if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    end = bisect.bisect(range(1, len(text)), width, key=lambda end: font.getlength(f"{text[:end]}…"))
    return f"{text[:end].rstrip()}…"
