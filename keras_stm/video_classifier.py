"""Classification of video files by a model, from paths to names of classes."""

import collections
import collections.abc
import functools
import math
import os
import time
import weakref

import keras
import numpy as np
from absl import logging

from keras_stm import inference, live
from keras_stm.arguments import ArgumentError, lines, one_of, positive_int, positive_number
from keras_stm.data import segments
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError
from keras_stm.data.views import PROTOCOLS, read_views
from keras_stm.data.windows import iterate_windows
from keras_stm.models.precision import in_precision
from keras_stm.preprocessing import CLIP_SECONDS, decode_predictions

# Defaults for models without fixed sizes: those that the paper trains and tests with (section 4.2).
_NUM_FRAMES = 8
_IMAGE_SIZE = 224
# Maximum number of videos read at the same time: more would only wait for the model and use memory.
_WORKERS = 8


class VideoClassifier:
    """Predicts the best classes of videos.

    ```python
    classifier = keras_stm.VideoClassifier("saved_models/small-stm_small")
    classifier = keras_stm.VideoClassifier("tsm_resnet50/kinetics400")  # downloads the weights once
    classifier("clip.mp4")  # [{"label": "pan left", "score": 0.98}, ...], best first
    classifier(["a.mp4", "folder_of_frames", array])  # a list of such lists
    ```

    Args:
        model_or_folder: folder of a run, `.keras` file that `keras-stm fit` wrote, name of a published
            model, such as `"tsm_resnet50/kinetics400"` or `"hf://user/name"`, or `keras.Model` from clips
            `(batch, T, H, W, 3)` or `(batch, T, 3, H, W)` to scores `(batch, classes)` after softmax.
        class_names: one name per class, in the order of the scores. Required with a `keras.Model`.
        num_frames, image_size: number of frames of a clip, and its height and width in pixels. `None` is
            the value used in training. For a `keras.Model`, `None` is the value of its `input_shape`,
            or 8 and 224 if these dimensions are `None`.
        sampling: `"segments"` or `"dense"`, see `keras_stm.data.make_pipeline`. `None` is the value
            used in training, or `"segments"` for a `keras.Model`.
        protocol: views of a video, whose scores are averaged: `"efficient"` is one view (section 4.6),
            `"paper"` is 10 random clips with 3 crops each (section 4.2), drawn identically in every call.
        top_k: number of classes to return; all classes if there are fewer.
        batch_size: number of clips that the model processes at a time. Videos share batches.
        precision: `"float32"` or `"bfloat16"`, which is faster on processors with instructions for it, and
            slower on others. See `keras_stm.models.precision.in_precision`.

    Attributes:
        model: the `keras.Model`, in this precision.
        rate: number of frames that the model took from a second of video in training; `None` if unknown.

    Raises:
        ValueError: an argument is not as above, or the folder contains no model with class names.
    """

    def __init__(
        self,
        model_or_folder,
        class_names=None,
        num_frames=None,
        image_size=None,
        *,
        sampling=None,
        protocol="efficient",
        top_k=5,
        batch_size=8,
        precision="float32",
    ):
        known = None
        if isinstance(model_or_folder, keras.Model):
            self.model = in_precision(model_or_folder, precision)
            if class_names is None:
                raise ArgumentError("class_names", None, "must be given with a keras.Model")
        else:
            known = inference.load(model_or_folder, precision)
            self.model = known.model
            class_names = known.class_names if class_names is None else class_names
        fixed_frames, fixed_size = _fixed(self.model)
        self.class_names = lines("class_names", class_names)
        if len(self.class_names) != self.model.output_shape[-1]:
            raise ArgumentError(
                "class_names",
                class_names,
                f"must have one name per score of the model, {self.model.output_shape[-1]}",
            )
        self.num_frames = _size("num_frames", num_frames, known, fixed_frames, _NUM_FRAMES)
        self.image_size = _size("image_size", image_size, known, fixed_size, _IMAGE_SIZE)
        if sampling is None:
            sampling = known.sampling if known else "segments"
        self.rate = known.rate if known else None
        self.sampling = one_of("sampling", sampling, segments.SAMPLING)
        self.protocol = one_of("protocol", protocol, tuple(PROTOCOLS))
        self.top_k = positive_int("top_k", top_k)
        self.batch_size = positive_int("batch_size", batch_size)
        self.precision = precision
        self._predict = inference.predict_fn(self.model)

    def __call__(self, clips):
        """Predicts the best classes of one or several videos.

        Args:
            clips: path of a video file or of a folder of its frames, or its frames as a
                uint8 array `(F, H, W, 3)`, RGB; or a list of any of these.

        Returns:
            List of `top_k` dictionaries `{"label": str, "score": float}`, best first. For a list of
            videos, a list of such lists.

        Raises:
            VideoError: a file cannot be read. Use `iterate` to skip unreadable files.
            ValueError: `clips` are not as above.
        """
        several = isinstance(clips, list | tuple)
        answers = []
        for answer in self.iterate(clips if several else [clips]):
            if isinstance(answer, VideoError):
                raise answer
            answers.append(answer)
        return answers if several else answers[0]

    def iterate(self, clips):
        """Yields the predictions of each clip, in order, as soon as they are known.

        Args:
            clips: iterable of items that `__call__` accepts.

        Yields:
            For each clip, the result of `__call__`, or a `VideoError` if the clip cannot be read.

        Raises:
            ValueError: `clips` or one of its items is not as above; raised while iterating.
        """
        # Iterating over a single path would yield its characters.
        if isinstance(clips, str) or not isinstance(clips, collections.abc.Iterable):
            raise ArgumentError("clips", clips, "must be an iterable of clips")
        workers = min(_WORKERS, os.cpu_count())
        for _, scores in self._score((None, views) for views in in_order(self._read, clips, workers)):
            yield scores if isinstance(scores, VideoError) else self._decode(scores)

    def timeline(self, path, window, stride=None):
        """Predicts the best classes of each window that slides over a long video.

        The video is read in one pass, with few frames in memory. Each window is one clip, with as many
        crops as the protocol has.

        Args:
            path: video file.
            window: length of a window in seconds. A shorter video is one window.
            stride: seconds from one window to the next, at most `window`; `None` is half of `window`. The
                last window ends with the video.

        Returns:
            Iterator of dictionaries: `"start"` and `"end"` of the window in seconds, and
            `"predictions"` as `__call__` returns them.

        Raises:
            VideoError: the file cannot be read or does not state its frame rate. If the file is damaged
                further on, the error is raised while iterating.
            ValueError: another argument is not as above.
        """
        _, crops = PROTOCOLS[self.protocol]
        # Outside of the generator, so that wrong arguments raise immediately.
        windows = iterate_windows(
            path, window, stride, self.num_frames, self.image_size, crops, self.sampling
        )
        scored = self._score(((start, end), views) for start, end, views in windows)
        return (
            {"start": start, "end": end, "predictions": self._decode(scores)}
            for (start, end), scores in scored
        )

    def stream(self, source, rate=None, every=1, *, smooth=None, realtime=False, reconnect=False):
        """Predicts the best classes of what a source shows, frame by frame.

        ```python
        for answer in classifier.stream("rtsp://camera/live"):
            print(answer["time"], answer["predictions"][0])
        ```

        The scores are those of the last `num_frames` frames that the model takes, of fewer at the start. A
        causal model computes each frame once, see `keras_stm.stream_model`. For any other model, each answer
        computes these frames again; one line in the log says so. Frames are prepared as for the protocol
        `"efficient"`. The model runs on one device.

        Files and iterators are read without loss, so the answers do not depend on the speed of the machine.
        Devices and URLs, and files with `realtime`, are read by a thread that keeps only the newest frame, so
        the answers never lag behind.

        Args:
            source: video file, or a part of one; device, such as `"/dev/video0"` (Linux); URL, such as
                `"rtsp://..."` or `"http://..."`; or iterable of `(seconds, frame)` with ascending times and
                frames uint8 `(height, width, 3)`, RGB.
            rate: frames per second that the model takes, by the times of the source. A source with fewer
                gives all of its frames. `None` is the rate of the training; if that is unknown, `num_frames`
                in 3 seconds.
            every: number of taken frames from one answer to the next.
            smooth: seconds over which scores are averaged: the weight of an earlier answer decreases to 37%
                in this time. `None` does not average.
            realtime: whether a file is played in real time, like a camera.
            reconnect: whether a device or URL that breaks off or ends is opened again, after 1, 2, 4, ... and
                at most 30 seconds. The model then begins anew. The first connection must succeed.

        Returns:
            `Stream`, an iterator of dictionaries: `"time"` of the frame in seconds, from the first frame of
            the source, or as the iterable says; and `"predictions"` as `__call__` returns them.

        Raises:
            VideoError: the source cannot be opened; or, while iterating, it breaks off or is damaged.
            ValueError: another argument is not as above.
        """
        if rate is None:
            rate = self.rate or self.num_frames / CLIP_SECONDS
        rate, every = positive_number("rate", rate), positive_int("every", every)
        smooth = None if smooth is None else positive_number("smooth", smooth)
        scores = self._frame_scores
        frames = live.open_source(source, rate, realtime, reconnect)
        if scores.recomputes:
            logging.warning(
                "The model is not causal: each answer computes its last %d frames again.", self.num_frames
            )
        return Stream(frames, self._answer_frame(every, smooth), rate, scores.recomputes)

    @functools.cached_property
    def _frame_scores(self):
        return inference.frame_scores(self.model, self.image_size, self.num_frames, self._predict)

    def _answer_frame(self, every, smooth):
        """Returns a function from each `live.Frame` to its predictions, or to `None` between answers."""
        state, mean, before, count = None, None, None, 0

        def answer(frame):
            nonlocal state, mean, before, count
            if frame.is_first:
                state, mean = self._frame_scores.start(), None
            count += 1
            prepared = read_views(frame.image[np.newaxis], 1, self.image_size)[0]
            scores, state = self._frame_scores.add(prepared, state, count % every == 0)
            if scores is None:
                return None
            (scores,) = scores
            if smooth is not None and mean is not None:
                scores = mean + (scores - mean) * -math.expm1((before - frame.time) / smooth)
            mean, before = scores, frame.time
            return self._decode(scores)

        return answer

    def _read(self, clip):
        if not isinstance(clip, str | os.PathLike | np.ndarray):
            raise ArgumentError(
                "clips",
                clip,
                "must be a path, an array of frames, or a list of these",
                f"clips of {type(clip).__name__}",
            )
        clips, crops = PROTOCOLS[self.protocol]
        try:
            return read_views(clip, self.num_frames, self.image_size, clips, crops, self.sampling)
        except VideoError as error:
            return error

    def _score(self, items):
        """Scores the views of several clips in full batches.

        Args:
            items: iterable of `(key, views)` or `(key, VideoError)`.

        Yields:
            `(key, scores)` or `(key, VideoError)`, in the same order; `scores` `(classes,)` are the mean
            over the views.
        """
        # Unanswered clips as (key, number of views), their views without scores, and their scores so far.
        waiting, views, scores = collections.deque(), [], []

        def answered():
            while waiting:
                key, count = waiting[0]
                if isinstance(count, VideoError):
                    yield key, count
                elif count <= len(scores):
                    yield key, np.mean(scores[:count], axis=0)
                    del scores[:count]
                else:
                    return
                waiting.popleft()

        for key, found in items:
            if isinstance(found, VideoError):
                waiting.append((key, found))
            else:
                waiting.append((key, len(found)))
                views.extend(found)
            while len(views) >= self.batch_size:
                scores.extend(self._predict(np.stack(views[: self.batch_size])))
                del views[: self.batch_size]
            yield from answered()
        if views:
            scores.extend(self._predict(np.stack(views)))
        yield from answered()

    def _decode(self, scores):
        (best,) = decode_predictions(scores[np.newaxis], self.class_names, self.top_k)
        return [{"label": label, "score": score} for label, score in best]


class Stream:
    """Iterator of the answers of `VideoClassifier.stream`.

    The source is closed at its end, by `close`, at the end of a `with` block, and if nothing refers to the
    iterator any more.

    Attributes:
        rate: frames per second that the model takes.
        recomputes: whether each answer computes all of its frames again, because the model is not causal.
        taken: number of frames that the model has taken.
        image: last of these frames, a uint8 array `(height, width, 3)`; `None` at the start.
        delay: seconds from the arrival of this frame to the end of its computation.
    """

    def __init__(self, frames, answer, rate, recomputes):
        self.rate = rate
        self.recomputes = recomputes
        self.taken = 0
        self.image = None
        self.delay = 0.0
        self._frames = frames
        self._answer = answer
        self._close = weakref.finalize(self, frames.close)

    @property
    def dropped(self):
        """Number of frames that were replaced by newer ones, because the model was busy."""
        return self._frames.dropped

    @property
    def reconnections(self):
        """Number of connections after the first."""
        return self._frames.reconnections

    def __iter__(self):
        return self

    def __next__(self):
        try:
            for frame in self._frames:
                predictions = self._answer(frame)
                self.taken += 1
                self.image = frame.image
                self.delay = time.monotonic() - frame.arrived
                if predictions is not None:
                    return {"time": frame.time, "predictions": predictions}
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Closes the source."""
        self._close()


def _fixed(model):
    """Returns the number of frames and the image size that a model requires; `None` if they are free."""
    shape, output_shape = (getattr(model, name, None) for name in ("input_shape", "output_shape"))
    is_clip = isinstance(shape, tuple) and len(shape) == 5 and 3 in (shape[2], shape[4])
    height, width = None, None
    if is_clip:
        height, width = shape[3:] if inference.is_channels_first(model) else shape[2:4]
    if not is_clip or height != width or not isinstance(output_shape, tuple) or len(output_shape) != 2:
        raise ArgumentError(
            "model_or_folder",
            model,
            "must be a model from square RGB clips, (batch, T, H, W, 3) or (batch, T, 3, H, W), to scores "
            "(batch, classes)",
            f"a model from {shape} to {output_shape}",
        )
    return shape[1], height


def _size(name, given, known, fixed, default):
    """Returns a size of the clips: the argument, or that of the training, of the model or the default."""
    if given is None:
        given = getattr(known, name) if known else fixed or default
    positive_int(name, given)
    if fixed not in (None, given):
        raise ArgumentError(name, given, f"must be {fixed}, because the model accepts no other value")
    return given
