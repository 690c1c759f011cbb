"""Writes a video with the names of classes drawn on it."""

import bisect
import fractions
import math
import os

import av
import matplotlib
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, ImageDraw, ImageFont

from keras_stm.data.video import VideoError, iterate_frames, probe

# Containers that hold H.264.
EXTENSIONS = (".m4v", ".mkv", ".mov", ".mp4")
# A short side, in pixels, on which names can be read; smaller frames are enlarged.
_READABLE = 240
# Of text, in pixels and as a part of the frame's short side.
_MIN_FONT = 12
_FONT = 1 / 28
# Of the panel, in font sizes and as parts of the frame: what it takes at most.
_PANEL_FONTS = 26
_PANEL_WIDTH = 0.92
_PANEL_HEIGHT = 0.45
# RGBA.
_BACKGROUND = (0, 0, 0, 170)
_BAR = (31, 119, 180, 235)
_TEXT = (255, 255, 255, 255)


def render(source, target, moments, progress):
    """Writes the frames of a video with predictions drawn on them, as H.264 without sound.

    Frames are shown at the mean frame rate and, where their short side is below 240 pixels, enlarged by a
    whole number. As the format wants even sides, the last row or column of an odd one is repeated.

    Args:
        source: video file.
        target: path to write, its ending one of `EXTENSIONS`.
        moments: list of `(end, predictions)`: what is drawn until `end`, in seconds, the last one's being
            infinite; `predictions` as `VideoClassifier` gives them.
        progress: function that is called with the number of frames written so far.

    Raises:
        VideoError: `source` cannot be read or does not say its frame rate.
        OSError: `target` cannot be written.
    """
    rate = probe(source).frame_rate
    if rate is None:
        raise VideoError(source, "unreadable", "does not say how many frames a second it has")
    try:
        with av.open(target, "w") as container:
            stream = container.add_stream("libx264", rate=meant_rate(source, rate), options={"crf": "18"})
            stream.pix_fmt = "yuv420p"
            # Said in the file, as players guess by the size of the frames.
            stream.codec_context.colorspace = Colorspace.ITU601
            for number, frame in enumerate(label_frames(iterate_frames(source), moments, rate), 1):
                if number == 1:
                    stream.height, stream.width = frame.shape[:2]
                elif (stream.height, stream.width) != frame.shape[:2]:
                    raise VideoError(source, "unreadable", "its frames change their size")
                frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601)
                container.mux(stream.encode(frame))
                progress(number)
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise OSError(f"{target}: cannot be written ({error.strerror})") from error


def meant_rate(source, mean):
    """The frame rate that a video states, as a fraction; its `mean` where the two differ by more than 1%."""
    with av.open(os.path.abspath(source), metadata_errors="ignore") as container:
        stated = container.streams.video[0].average_rate
    # The mean is of time stamps that may have been rounded to milliseconds.
    if stated and abs(stated / mean - 1) < 0.01:
        return stated
    return fractions.Fraction(mean).limit_denominator(1001)


def label_frames(frames, moments, rate):
    """Gives each of `frames`, `rate` of them a second, with the predictions of its moment; see `render`."""
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
    """The predictions as bars with names on them, on a background that any frame shines through.

    Args:
        predictions: as `VideoClassifier` gives them; those that the frame has no room for are left out.
        width, height: of the frame in pixels.

    Returns:
        RGBA image, smaller than the frame.
    """
    size = max(_MIN_FONT, round(min(width, height) * _FONT))
    # matplotlib's, as it has more letters than Pillow's own.
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
        label = shorten(prediction["label"], font, right - left - font.getlength(score) - size)
        draw.text((left, middle), label, _TEXT, font, anchor="lm")
        draw.text((right, middle), score, _TEXT, font, anchor="rm")
    return panel


def shorten(text, font, width):
    """`text`, its end replaced by an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    end = bisect.bisect(range(1, len(text)), width, key=lambda end: font.getlength(f"{text[:end]}…"))
    return f"{text[:end].rstrip()}…"
