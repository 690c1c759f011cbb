"""A model and a video file -> the names of the best classes: the one place where the two meet."""

import collections
import collections.abc
import os

import keras
import numpy as np

from keras_stm import inference
from keras_stm.arguments import ArgumentError, lines, one_of, positive_int
from keras_stm.data import segments
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError
from keras_stm.data.views import PROTOCOLS, read_views
from keras_stm.data.windows import iterate_windows
from keras_stm.preprocessing import decode_predictions

# Of a model that does not tell: what the paper trains and tests with (section 4.2).
_NUM_FRAMES = 8
_IMAGE_SIZE = 224
# Videos read at the same time: more would wait for the model, and take memory.
_WORKERS = 8


class VideoClassifier:
    """Names what happens in videos.

    ```python
    classifier = keras_stm.VideoClassifier("saved_models/small-stm_small")
    classifier("clip.mp4")  # [{"label": "pan left", "score": 0.98}, ...], best first
    classifier(["a.mp4", "folder_of_frames", array])  # a list of such lists
    ```

    Args:
        model_or_folder: folder of a run, `.keras` file that `keras-stm fit` wrote, or a
            `keras.Model` from clips `(batch, T, H, W, 3)` or `(batch, T, 3, H, W)` to scores
            `(batch, classes)` after softmax.
        class_names: names of the scores in their order; needed with a `keras.Model`.
        num_frames, image_size: frames of a clip, and its height and width in pixels. Those that the
            model was trained on where they are `None`; for a `keras.Model` those of its
            `input_shape`, or 8 and 224 where it leaves them open.
        sampling: `"segments"` or `"dense"`, see `keras_stm.data.make_pipeline`. That of the training
            where it is `None`; for a `keras.Model` `"segments"`.
        protocol: how many views of a video the scores are the mean of: `"efficient"` is one (section
            4.6), `"paper"` 10 random clips of 3 crops (section 4.2), the same in every call.
        top_k: number of classes in an answer; all where there are fewer.
        batch_size: clips that the model is given at a time. Videos share batches.

    Raises:
        ValueError: an argument is not as above, or the folder holds no model with its class names.
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
    ):
        known = None
        if isinstance(model_or_folder, keras.Model):
            self.model = model_or_folder
            if class_names is None:
                raise ArgumentError("class_names", None, "must be given with a keras.Model")
        else:
            known = inference.load(model_or_folder)
            self.model = known.model
            class_names = known.class_names if class_names is None else class_names
        fixed_frames, fixed_size = _fixed(self.model)
        self.class_names = lines("class_names", class_names)
        if len(self.class_names) != self.model.output_shape[-1]:
            raise ArgumentError(
                "class_names",
                class_names,
                f"must be as many as the model's scores, {self.model.output_shape[-1]}",
            )
        self.num_frames = _size("num_frames", num_frames, known, fixed_frames, _NUM_FRAMES)
        self.image_size = _size("image_size", image_size, known, fixed_size, _IMAGE_SIZE)
        if sampling is None:
            sampling = known.sampling if known else "segments"
        self.sampling = one_of("sampling", sampling, segments.SAMPLING)
        self.protocol = one_of("protocol", protocol, tuple(PROTOCOLS))
        self.top_k = positive_int("top_k", top_k)
        self.batch_size = positive_int("batch_size", batch_size)
        self._predict = inference.predict_fn(self.model)

    def __call__(self, clips):
        """Names the best classes.

        Args:
            clips: path of a video file or of a folder of its frames as `.jpg`, or its frames as a
                uint8 array `(F, H, W, 3)`, RGB; or a list of any of these.

        Returns:
            List of `top_k` dictionaries `{"label": str, "score": float}`, best first; of a list a list
            of such lists.

        Raises:
            VideoError: a file cannot be read. With `iterate` the others are answered all the same.
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
        """Answers one clip after another, in their order, as soon as it is known.

        Args:
            clips: iterable of what `__call__` takes.

        Returns:
            Iterator of what `__call__` returns for each, or of the `VideoError` of what cannot be read.

        Raises:
            ValueError: while iterating, `clips` or one of them is not as above.
        """
        # Of a single path it would be the characters.
        if isinstance(clips, str) or not isinstance(clips, collections.abc.Iterable):
            raise ArgumentError("clips", clips, "must be an iterable of clips")
        workers = min(_WORKERS, os.cpu_count())
        for _, scores in self._score((None, views) for views in in_order(self._read, clips, workers)):
            yield scores if isinstance(scores, VideoError) else self._decode(scores)

    def timeline(self, path, window, stride=None):
        """Slides over a long video, in one pass and with few frames in memory.

        Each window is one clip, of as many crops as the protocol has.

        Args:
            path: video file.
            window: length in seconds; a shorter video is one window.
            stride: seconds from one window to the next, at most `window`; half of it where it is
                `None`. The last window ends with the video.

        Returns:
            Iterator of dictionaries: `"start"` and `"end"` of the window in seconds, and
            `"predictions"` as `__call__` returns them.

        Raises:
            VideoError: the file cannot be read or does not say its frame rate; while iterating, once
                what is damaged is reached.
            ValueError: another argument is not as above.
        """
        _, crops = PROTOCOLS[self.protocol]
        # Not inside of the generator, so that what is wrong shows at once.
        windows = iterate_windows(
            path, window, stride, self.num_frames, self.image_size, crops, self.sampling
        )
        scored = self._score(((start, end), views) for start, end, views in windows)
        return (
            {"start": start, "end": end, "predictions": self._decode(scores)}
            for (start, end), scores in scored
        )

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
            items: iterable of `(key, views)`, in the place of the views also a `VideoError`.

        Returns:
            Iterator of `(key, scores)` in the same order, scores `(classes,)` being the mean of the
            views, or `(key, VideoError)`.
        """
        # Clips without an answer as (key, number of views), their views, and the scores of the first ones.
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


def _fixed(model):
    """The number of frames and the image size that a model takes, `None` where they are free."""
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
    """A size of the clips: what is given, what the training says, what the model fixes, or the default."""
    if given is None:
        given = getattr(known, name) if known else fixed or default
    positive_int(name, given)
    if fixed not in (None, given):
        raise ArgumentError(name, given, f"must be {fixed}, as the model takes no other")
    return given
