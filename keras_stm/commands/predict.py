"""Predicts the classes of videos.

  keras-stm predict clip.mp4                           # with the model of `keras-stm fit`
  keras-stm predict clip.mp4 FOLDER --model=saved_models/RUN --csv=scores.csv --json=scores.json
  keras-stm predict clip.mp4 --model=tsm_resnet50/kinetics400     # a published model, 400 actions
  keras-stm predict long.mp4 --window=2                # a timeline with windows of two seconds
  keras-stm predict long.mp4 --window=2 --spans=spans.csv    # when what happens, as CSV
  keras-stm predict "long.mp4#t=61.5,1:10"             # a part of a video, in seconds or hh:mm:ss
  keras-stm predict clip.mp4 --render=labelled.mp4     # the video with its labels drawn on it
  keras-stm predict --stream=/dev/video0               # a camera, until Ctrl-C
  keras-stm predict --stream=rtsp://USER:PASSWORD@CAMERA/live --reconnect --json=answers.jsonl
  keras-stm predict --stream=clip.mp4 --realtime       # a file, played like a camera

Prints the classes with the highest scores of each video. Folders and their subfolders are searched for
videos. A folder with images, and no video in it or below, is one video: its images are the frames. With
--window, a window slides over each video. Neighbouring windows with the same class become one line of the
timeline; --csv has a row for every window.
`keras-stm fit --dataset=spans` after corrections.

With --stream, the model answers on every frame that it takes: --rate frames a second, whatever the rate of
the source. A file is read without loss and as fast as possible. Of a device, a URL and a file with
--realtime, the newest frame is read, so that the answers never lag behind. In a terminal, one line shows the
time, the frames a second, the delay, the number of dropped frames, and the best class. Elsewhere, a line is
printed whenever the class changes. Causal models compute each frame once; others compute their last frames
again for each answer. HTTP is tested; RTSP and devices (v4l2) go through the same code and are not.

Unreadable videos are reported in one line each and skipped. Exit status: 0 if all videos have predictions; 2
if some could not be read; 1 if there are none, and then no file is written. With --stream: 0 after its end
and after Ctrl-C; 2 if it breaks off; 1 if it cannot be opened.
"""

import collections
import functools
import os
import sys
import time

from absl import flags

from keras_stm.commands.flags import define_distribution, define_model, define_precision
from keras_stm.commands.main import run
from keras_stm.data.frames import file_of
from keras_stm.data.video import VideoError
from keras_stm.data.views import PROTOCOLS
from keras_stm.live import without_password
from keras_stm.progress import counted, show, tell
from keras_stm.train import devices

# See `keras_stm.commands`.
LOADS = ("keras_stm.predicting", "keras_stm.streaming")
_MODEL = os.path.join("saved_models", "small-stm_small")
# Length of a bar in characters, and of the longest name after which bars still line up.
_BAR = 30
_NAME = 50
# Flags that only streams have, and those that they do not have.
_OF_STREAMS = ("rate", "smooth", "realtime", "reconnect")
_NOT_OF_STREAMS = ("window", "stride", "csv", "spans", "protocol", "batch_size", "distribution")
# Answers over which the speed is measured.
_LAST_ANSWERS = 20
_NOTHING_SHOWN = object()


def define_flags(values):
    """Defines the flags of the command."""
    define_model(values, _MODEL)
    flags.DEFINE_integer(
        "top_k", 5, "Number of classes to print for each video.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "protocol",
        "efficient",
        tuple(PROTOCOLS),
        "Views whose scores are averaged. 'efficient': the middle frame of each segment, centre crop. "
        "'paper': 10 clips with 3 crops each. With --window, each window is one clip.",
        flag_values=values,
    )
    flags.DEFINE_integer("batch_size", 8, "Clips per batch.", lower_bound=1, flag_values=values)
    define_precision(values)
    flags.DEFINE_float(
        "window", None, "Length in seconds of a window that slides over each video.", flag_values=values
    )
    flags.DEFINE_float(
        "stride", None, "Seconds from one window to the next. Default: half of --window.", flag_values=values
    )
    flags.DEFINE_string(
        "stream",
        None,
        "Source to watch: a device such as /dev/video0, a URL (http, https, rtsp, rtsps, rtmp, udp), or a "
        "video file.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "rate",
        None,
        "Frames per second that the model takes from --stream. Default: that of the training; if it is "
        "unknown, the frames of a clip in 3 seconds.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "smooth",
        None,
        "Seconds over which the scores of --stream are averaged: the weight of an earlier answer decreases "
        "to 37% in this time. Default: no average.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "realtime", False, "Play the file of --stream in real time, like a camera.", flag_values=values
    )
    flags.DEFINE_boolean(
        "reconnect",
        False,
        "Open a device or URL of --stream again when it breaks off or ends, after 1, 2, 4, ... and at most "
        "30 seconds. The first connection must succeed.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json",
        None,
        "File for the predictions as JSON. With --stream: a line of JSON for each answer, with its time, the "
        "recognised class or null, and the predictions; '-' is the standard output.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "csv",
        None,
        "File for the predictions as a table, with a row for each video or window.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "spans",
        None,
        "CSV file for the spans that --window finds: video, start, end, label, score. Paths of videos are "
        "relative to its folder.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "threshold",
        0.5,
        "Score that windows must exceed to be in --spans, and the best class of --stream to be recognised.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "render",
        None,
        "File (.mp4) for a copy of the video, without sound, with the classes drawn on it. With --stream, it "
        "has the frames that the model takes, and is complete after the end of the stream.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "overwrite",
        False,
        "Replace existing files of --json, --csv, --spans and --render.",
        flag_values=values,
    )
    define_distribution(values)


def main(argv):
    """Runs the command; returns its exit status."""
    command = functools.partial(_predict, os.path.basename(argv[0]))
    return run(argv, define_flags, command, __doc__, takes_paths=True, stopped="stopped.")


def _predict(name, values, paths):
    """Predicts the videos in `paths`; errors begin with `name`. Returns the exit status."""
    from keras_stm import predicting

    if values.stream is not None:
        return _stream(name, values, paths)
    for flag in _OF_STREAMS:
        if values[flag].present:
            raise ValueError(f"--{flag} needs --stream, which is not given")
    if not paths:
        raise ValueError("no video is given; pass files or folders")
    for flag in ("stride", "spans"):
        if values[flag].value is not None and values.window is None:
            raise ValueError(f"--{flag} needs --window, which is not given")
    found = predicting.find_clips(paths)
    outputs = {flag: values[flag].value for flag in ("json", "csv", "spans", "render") if values[flag].value}
    check_outputs(outputs, found.clips, values.overwrite)
    with devices.start(values.distribution).scope():
        answers = predicting.predict(
            found,
            values.model,
            top_k=values.top_k,
            protocol=values.protocol,
            batch_size=values.batch_size,
            precision=values.precision,
            window=values.window,
            stride=values.stride,
            json_file=values.json,
            csv_file=values.csv,
            spans_file=values.spans,
            threshold=values.threshold,
            on_answer=functools.partial(print_answer, name),
        )
    answered = [answer for answer in answers if predicting.is_answered(answer)]
    is_whole = not any("error" in answer for answer in answers)
    if values.spans and answered:
        spans = [predicting.find_spans(answer["windows"], values.threshold) for answer in answered]
        count = counted(sum(map(len, spans)), "span")
        tell(f"{values.spans}: {count} with scores above {values.threshold}")
    # Damage that is known has already been reported.
    if values.render and answered and "error" not in answered[0]:
        try:
            predicting.render(answered[0], values.render)
            tell(f"{values.render}: the video with these classes drawn on it")
        except VideoError as error:
            tell(f"{name}: {error}", file=sys.stderr)
            is_whole = False
    if not answered:
        return 1
    return 0 if is_whole else 2


def _stream(name, values, paths):
    """Predicts a stream; errors begin with `name`. Returns the exit status."""
    from keras_stm import streaming

    if paths:
        raise ValueError(f"--stream is one source; {paths[0]!r} must not be given with it")
    for flag in _NOT_OF_STREAMS:
        if values[flag].present:
            raise ValueError(f"--{flag} must not be given with --stream")
    outputs = {flag: values[flag].value for flag in ("json", "render") if values[flag].value}
    to_output = outputs.get("json") == streaming.STANDARD_OUTPUT
    if to_output:
        del outputs["json"]
    check_outputs(outputs, [values.stream], values.overwrite)
    # The standard output then has nothing but the lines of JSON.
    view = None if to_output else _View(without_password(values.stream))
    try:
        end = streaming.stream(
            values.stream,
            values.model,
            top_k=values.top_k,
            precision=values.precision,
            rate=values.rate,
            smooth=values.smooth,
            realtime=values.realtime,
            reconnect=values.reconnect,
            threshold=values.threshold,
            json_file=values.json,
            video_file=values.render,
            on_start=view and view.start,
            on_answer=view and view.update,
        )
    finally:
        if view:
            view.clear()
    if view:
        view.end(end.stream)
        if values.render:
            tell(f"{values.render}: the frames of the stream with these classes drawn on them")
    if end.error:
        tell(f"{name}: {end.error}", file=sys.stderr)
        return 2
    return 0


class _View:
    """Shows the answers to a stream: a line that changes in a terminal, elsewhere a line for each change."""

    def __init__(self, source):
        self._source = source
        self._is_terminal = sys.stdout.isatty()
        self._start = None
        # What the last line says is recognised; `_NOTHING_SHOWN` before the first line.
        self._shown = _NOTHING_SHOWN
        # When the last answers were shown, and how many frames the model had taken.
        self._last = collections.deque(maxlen=_LAST_ANSWERS)

    def start(self, stream):
        """Shows what is watched."""
        self._start = time.monotonic()
        tell(f"{self._source}: {stream.rate:.3g} frames a second; Ctrl-C ends")

    def update(self, answer, stream):
        """Shows an answer of `streaming.stream`."""
        text = "nothing recognised"
        if answer["label"] is not None:
            text = f"{answer['label']}  {answer['predictions'][0]['score']:.1%}"
        if self._is_terminal:
            self._last.append((time.monotonic(), stream.taken))
            (first, before), (last, now) = self._last[0], self._last[-1]
            speed = (now - before) / (last - first) if last > first else 0.0
            details = f"{speed:.1f} frames/s  delay {stream.delay:.2f} s  {stream.dropped} dropped"
            # The numbers come first, because long names are cut.
            show(f"{clock(answer['time'])}  {details}  {text}")
        elif answer["label"] != self._shown:
            tell(f"{clock(answer['time'])}  {text}")
            self._shown = answer["label"]

    def clear(self):
        """Removes the line that changes."""
        if self._is_terminal:
            show("")

    def end(self, stream):
        """Shows a summary."""
        seconds = time.monotonic() - self._start
        tell(
            f"{counted(stream.taken, 'frame')} in {seconds:.1f} s, {stream.taken / seconds:.1f} a second; "
            f"{stream.dropped} dropped, {counted(stream.reconnections, 'reconnection')}"
        )


def check_outputs(outputs, clips, overwrite):
    """Raises `ValueError` if a file cannot or must not be written; to be called before any work.

    Args:
        outputs: dictionary of flag name -> path of a file.
        clips: paths of the videos to read.
        overwrite: whether the files may be replaced.
    """
    for name, path in outputs.items():
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise ValueError(f"--{name}={path}: there is no folder {folder}")
        if os.path.isdir(path):
            raise ValueError(f"--{name}={path} is a folder; pass the path of a file")
        if os.path.exists(path):
            files = filter(os.path.exists, map(file_of, clips))
            if any(os.path.samefile(file, path) for file in files):
                raise ValueError(f"--{name}={path} is one of the videos to read")
            if not overwrite:
                raise ValueError(f"--{name}={path} exists; pass another path, or --overwrite to replace it")
    if len({os.path.abspath(path) for path in outputs.values()}) < len(outputs):
        raise ValueError(f"{', '.join(f'--{name}' for name in outputs)} must be different files")
    if "render" in outputs:
        # Imported here: only this needs matplotlib.
        from keras_stm.rendering import EXTENSIONS

        if not outputs["render"].lower().endswith(EXTENSIONS):
            raise ValueError(f"--render={outputs['render']} must end in one of {', '.join(EXTENSIONS)}")
        if len(clips) != 1 or os.path.isdir(clips[0]):
            raise ValueError("--render is for one video file")


def print_answer(name, answer):
    """Prints the predictions of a video, and its error, if any, to stderr after `name`."""
    from keras_stm import predicting

    if predicting.is_answered(answer):
        tell(answer["file"])
        rows = answer.get("spans") or answer["predictions"]
        width = min(max(len(row["label"]) for row in rows), _NAME)
        for row in rows:
            time = f"{clock(row['start'])} - {clock(row['end'])}  " if "start" in row else ""
            bar = "█" * round(row["score"] * _BAR)
            tell(f"  {time}{row['label']:{width}}  {row['score']:6.1%}  {bar}".rstrip())
        sys.stdout.flush()
    if "error" in answer:
        tell(f"{name}: {answer['file']}: {answer['error']}", file=sys.stderr)


def clock(seconds):
    """Formats seconds as `hh:mm:ss.s`."""
    tenths = round(seconds * 10)
    return f"{tenths // 36000:02}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
