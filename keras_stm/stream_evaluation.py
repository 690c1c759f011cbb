"""Measures how well a model follows streams of unrelated videos, without knowledge of models or files."""

import dataclasses

import numpy as np

from keras_stm.arguments import ArgumentError, lines
from keras_stm.evaluation import Evaluation, from_scores
from keras_stm.progress import Progress


@dataclasses.dataclass(frozen=True, eq=False)
class StreamEvaluation:
    """Results for streams that consist of videos. The answer to a video is that at its last frame.

    Attributes:
        never_reset: `Evaluation` of streams that go on from one video to the next.
        reset: `Evaluation` of the same videos, with a reset before each of them.
        delays: int64 array, for each video that is right at its end in a stream that is never reset: the
            number of its frames up to and including that from which on its label leads to the end.
        frames_after_another: number of frames in streams that are never reset, of videos whose label
            differs from that of the video before.
        frames_named_before: number of those that are given the label of the video before.
    """

    never_reset: Evaluation
    reset: Evaluation
    delays: np.ndarray
    frames_after_another: int
    frames_named_before: int

    @property
    def median_delay(self):
        """Median of `delays`, or `None` if no video is right at its end."""
        return float(np.median(self.delays)) if len(self.delays) else None

    @property
    def never_right(self):
        """Number of videos whose label does not lead at the end."""
        return self.never_reset.num_videos - len(self.delays)

    @property
    def named_before(self):
        """Share of the frames that are given the label of the video before, or `None` without such frames."""
        frames = self.frames_after_another
        return self.frames_named_before / frames if frames else None


class _Player:
    """The frames of one stream, and the answers to them.

    Args:
        stream: iterable of `(path, label, frames)`.
        finish: function of the finished player, called after the last frame of each video.
    """

    def __init__(self, stream, finish):
        self._videos = iter(stream)
        self._finish = finish
        self.before = self.label = None
        self.next_video()

    def next_video(self):
        self.before = self.label
        self.path, self.label, self.frames = next(self._videos, (None, None, None))
        self.predicted = []

    @property
    def has_ended(self):
        return self.frames is None

    @property
    def frame(self):
        return self.frames[len(self.predicted)]

    @property
    def starts(self):
        return not self.has_ended and not self.predicted

    def answer(self, scores, scores_after_reset):
        self.predicted.append(scores.argmax())
        if len(self.predicted) == len(self.frames):
            self._finish(self, scores, scores_after_reset)
            self.next_video()


def evaluate_streams(step_fn, streams, class_names, on_video=None, num_videos=None):
    """Plays streams side by side, and compares the answers with the labels.

    Args:
        step_fn: function of frames `(2 * streams, H, W, C)`, and of which of them start anew, bool
            `(2 * streams,)`, that returns scores `(2 * streams, classes)`; for example the result of
            `keras_stm.inference.step_fn`. The first half of the rows is never reset. The second half has
            the same frames, and starts anew with each video.
        streams: list of iterables of `(path, label, frames)`, as `keras_stm.data.streams.make_streams`
            returns.
        class_names: one name per class, in the order of the scores.
        on_video: function of `(path, label, scores, scores_after_reset)` that is called at the end of each
            video; the scores are arrays `(classes,)`.
        num_videos: number of all videos, for the progress.

    Returns:
        `StreamEvaluation`.

    Raises:
        ValueError: there is no video, or scores or labels do not fit `class_names`.
    """
    class_names = lines("class_names", class_names)
    progress = Progress(num_videos, "video", lines=True)
    labels, scores, scores_after_reset, delays = [], [], [], []
    counts = {"frames_after_another": 0, "frames_named_before": 0}

    def finish(player, of_stream, after_reset):
        labels.append(player.label)
        scores.append(of_stream)
        scores_after_reset.append(after_reset)
        predicted = np.array(player.predicted)
        wrong = np.flatnonzero(predicted != player.label)
        if not len(wrong) or wrong[-1] < len(predicted) - 1:
            delays.append(wrong[-1] + 2 if len(wrong) else 1)
        if player.before not in (None, player.label):
            counts["frames_after_another"] += len(predicted)
            counts["frames_named_before"] += int((predicted == player.before).sum())
        if on_video:
            on_video(player.path, player.label, of_stream, after_reset)
        progress.update(len(labels))

    players = [_Player(stream, finish) for stream in streams]
    playing = [player for player in players if not player.has_ended]
    if not playing:
        raise ArgumentError(
            "streams", streams, "must have at least one video", "none, or only unreadable ones"
        )
    blank = np.zeros_like(playing[0].frame)
    while playing:
        frames = np.stack([blank if player.has_ended else player.frame for player in players])
        starts = np.array([player.starts for player in players])
        answers = step_fn(np.concatenate([frames, frames]), np.concatenate([np.zeros_like(starts), starts]))
        for player, *rows in zip(players, *np.split(answers, 2), strict=True):
            if not player.has_ended:
                player.answer(*rows)
        playing = [player for player in players if not player.has_ended]
    progress.close()
    return StreamEvaluation(
        from_scores(np.stack(scores), labels, class_names),
        from_scores(np.stack(scores_after_reset), labels, class_names),
        np.array(delays, "int64"),
        **counts,
    )
