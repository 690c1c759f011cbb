"""Predicts the classes of a stream, and writes the predictions as they are made."""

import contextlib
import json
import sys
import typing

from keras_stm.data.video import VideoError
from keras_stm.replacing import replacing
from keras_stm.video_classifier import VideoClassifier

# In place of a path: the standard output.
STANDARD_OUTPUT = "-"


class End(typing.NamedTuple):
    """How a stream ended.

    Attributes:
        stream: the `Stream`, which is closed.
        error: `VideoError` if it broke off; `None` if it ended, or was stopped by Ctrl-C.
    """

    stream: typing.Any
    error: VideoError | None


def stream(
    source,
    model,
    *,
    top_k=5,
    precision="float32",
    rate=None,
    smooth=None,
    realtime=False,
    reconnect=False,
    threshold=0.5,
    json_file=None,
    video_file=None,
    on_start=None,
    on_answer=None,
):
    """Predicts the classes of a stream until it ends, or until Ctrl-C.

    Args:
        source: see `VideoClassifier.stream`.
        model: see `VideoClassifier`.
        top_k: see `VideoClassifier`.
        precision: see `VideoClassifier`.
        rate: see `VideoClassifier.stream`.
        smooth: see `VideoClassifier.stream`.
        realtime: see `VideoClassifier.stream`.
        reconnect: see `VideoClassifier.stream`.
        threshold: score that the best class must exceed to be recognised.
        json_file: path of a file to write, `"-"` for the standard output, or `None`. Each answer becomes one
            line of JSON: `"time"` in seconds; `"label"`, the recognised class or `null`; and `"predictions"`.
            Lines are readable at once.
        video_file: path of a video to write, or `None`: the frames that the model takes, with the classes
            drawn on them. It is complete only after the end of the stream. An existing file is replaced.
        on_start: function that is called with the `Stream` when the source is open.
        on_answer: function that is called with each answer, which has the keys of a line of `json_file`, and
            with the `Stream`.

    Returns:
        `End`.

    Raises:
        ValueError: the model cannot be loaded, the source cannot be opened, or an argument is not as above.
        ImportError: `video_file` needs matplotlib and Pillow, which are not installed.
        OSError: a file cannot be written.
    """
    classifier = VideoClassifier(model, top_k=top_k, precision=precision)
    with contextlib.ExitStack() as stack:
        opened = classifier.stream(source, rate, smooth=smooth, realtime=realtime, reconnect=reconnect)
        stack.enter_context(opened)
        lines = stack.enter_context(_open_lines(json_file)) if json_file else None
        video = stack.enter_context(_open_video(video_file)) if video_file else None
        if on_start:
            on_start(opened)
        try:
            for answer in opened:
                label = recognised(answer["predictions"], threshold)
                answer = {"time": answer["time"], "label": label, "predictions": answer["predictions"]}
                if lines:
                    print(json.dumps(answer), file=lines, flush=True)
                if video:
                    video.write(answer["time"], opened.image, answer["predictions"])
                if on_answer:
                    on_answer(answer, opened)
        except VideoError as error:
            return End(opened, error)
        except KeyboardInterrupt:
            # The usual end of a camera's stream: what is written so far is kept.
            pass
        return End(opened, None)


def recognised(predictions, threshold):
    """Returns the label of the best class if its score is above a threshold, and `None` otherwise."""
    best = predictions[0]
    return best["label"] if best["score"] > threshold else None


@contextlib.contextmanager
def _open_lines(path):
    if path == STANDARD_OUTPUT:
        yield sys.stdout
        return
    with open(path, "w", encoding="utf-8") as file:
        yield file


@contextlib.contextmanager
def _open_video(path):
    # Imported here, because only this needs matplotlib and Pillow.
    from keras_stm import rendering

    with replacing(path) as partial, rendering.StreamVideo(partial) as video:
        yield video
