"""Names what happens in videos.

  python training/predict.py clip.mp4                           # by the model of the main job
  python training/predict.py clip.mp4 FOLDER --model=saved_models/RUN --csv=scores.csv --json=scores.json
  python training/predict.py long.mp4 --window=2                # a timeline, two seconds at a time
  python training/predict.py clip.mp4 --render=labelled.mp4     # the video with its labels drawn on it

Prints the best classes of each video. Folders are searched for videos, also those further down; one that
holds .jpg frames and no video is one video. With --window it slides over each, and where neighbouring windows
agree they become one line of the timeline; --csv then has a row for every window.

What cannot be read is reported in a line, and the others are answered. Exit status: 0 where all videos were
answered; 2 where some could not be read; 1 where nothing was answered, and nothing written.
"""

import csv
import itertools
import json
import math
import os
import sys

import before_tensorflow  # noqa: F401

# isort: split
import keras
from absl import flags

import command_line
import distribution
from keras_stm.data import frames
from keras_stm.data.frame_folder import FRAME_EXTENSIONS
from keras_stm.data.video import VIDEO_EXTENSIONS, VideoError
from keras_stm.data.views import PROTOCOLS
from keras_stm.replacing import replacing
from keras_stm.video_classifier import VideoClassifier

_MODEL = os.path.join("saved_models", "small-stm_small")
# Characters of a bar, and of a name that the bars still line up behind.
_BAR = 30
_NAME = 50
# What a JSON file says of the classifier.
_SETTINGS = ("protocol", "num_frames", "image_size", "sampling")


def define_flags(values):
    flags.DEFINE_string(
        "model", _MODEL, "Folder of a run, or a .keras file that fit.py wrote.", flag_values=values
    )
    flags.DEFINE_integer("top_k", 5, "Classes to name of each video.", lower_bound=1, flag_values=values)
    flags.DEFINE_enum(
        "protocol",
        "efficient",
        tuple(PROTOCOLS),
        "Views that scores are the mean of: the centre crop of the middle frames, or the paper's 10 clips of "
        "3 crops. A window of --window is one clip.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size", 8, "Clips that the model is given at a time.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_float(
        "window", None, "Slide over each video, so many seconds at a time.", flag_values=values
    )
    flags.DEFINE_float(
        "stride", None, "Seconds from one window to the next. Default: half of --window.", flag_values=values
    )
    flags.DEFINE_string("json", None, "File for the answers as JSON.", flag_values=values)
    flags.DEFINE_string(
        "csv", None, "File for the answers as a table, a row a video or window.", flag_values=values
    )
    flags.DEFINE_string(
        "render",
        None,
        "File for a copy of the video, without sound, that the classes are drawn on (.mp4).",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "overwrite", False, "Replace files that --json, --csv and --render name.", flag_values=values
    )
    distribution.define_flags(values)


def main(argv):
    values, paths = command_line.parse(define_flags, argv, __doc__, takes_paths=True)
    for stream in (sys.stdout, sys.stderr):
        # Names may have characters that a terminal has not.
        stream.reconfigure(errors="replace")
    try:
        with distribution.start(values.distribution).scope():
            answers = predict(
                paths,
                values.model,
                top_k=values.top_k,
                protocol=values.protocol,
                batch_size=values.batch_size,
                window=values.window,
                stride=values.stride,
                outputs={name: values[name].value for name in ("json", "csv", "render")},
                overwrite=values.overwrite,
            )
    except KeyboardInterrupt:
        print("\npredict.py: stopped.", file=sys.stderr, flush=True)
        # Not sys.exit, which waits until the videos that are being read have been.
        os._exit(1)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"predict.py: {error}")
    if not any(is_answered(answer) for answer in answers):
        sys.exit(1)
    sys.exit(2 if any("error" in answer for answer in answers) else 0)


def predict(
    paths,
    model=_MODEL,
    *,
    top_k=5,
    protocol="efficient",
    batch_size=8,
    window=None,
    stride=None,
    outputs=None,
    overwrite=False,
):
    """Prints what happens in videos, and writes it into the files of `outputs` where any was answered.

    Args:
        paths: video files and folders.
        model, top_k, protocol, batch_size: as for `VideoClassifier`.
        window, stride: as for `VideoClassifier.timeline`; `window` is `None` where there is none.
        outputs: dictionary of `"json"`, `"csv"` and `"render"` to the path of a file, or to `None`.
        overwrite: whether these files may be replaced.

    Returns:
        A dictionary for each video, as the JSON file holds them: `"file"`; `"predictions"` or, with a
        window, `"windows"` and `"spans"`; `"error"` where it cannot be read, beside the windows until there
        where the damage was met on the way.

    Raises:
        ValueError: the arguments do not go together, or the model cannot be loaded.
        OSError: a file cannot be written.
    """
    if not paths:
        raise ValueError("no video is given: predict.py clip.mp4 [more files or folders]")
    if stride is not None and window is None:
        raise ValueError("--stride is for --window, which is not given")
    outputs = {name: path for name, path in (outputs or {}).items() if path}
    clips, answers = find_clips(paths)
    check_outputs(outputs, clips, overwrite)
    for answer in answers:
        print_answer(answer)
    if not clips:
        return answers

    classifier = VideoClassifier(model, top_k=top_k, protocol=protocol, batch_size=batch_size)
    if window is None:
        found = answer_clips(classifier, clips)
    else:
        found = (answer_windows(classifier, clip, window, stride) for clip in clips)
    for answer in found:
        print_answer(answer)
        answers.append(answer)

    answered = [answer for answer in answers if is_answered(answer)]
    if answered and "json" in outputs:
        settings = {name: getattr(classifier, name) for name in _SETTINGS}
        content = {"model": os.path.abspath(model), **settings, "videos": answers}
        with replacing(outputs["json"]) as path, open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
    if answered and "csv" in outputs:
        with replacing(outputs["csv"]) as path:
            write_table(path, answered)
    if answered and "render" in outputs:
        render_answer(answered[0], outputs["render"])
    return answers


def is_answered(answer):
    return "predictions" in answer or "windows" in answer


def find_clips(paths):
    """The videos among files and in folders, and what there is to say of the others.

    Returns:
        List of paths, each once, and list of dictionaries of `"file"` and `"error"`.
    """
    clips, problems = [], []
    for path in paths:
        # Whether a file is a video shows when it is read.
        found = _search(path, problems) if os.path.isdir(path) else [path]
        if not found:
            error = f"holds no {', '.join(VIDEO_EXTENSIONS)} file and no folder of .jpg frames"
            problems.append({"file": path, "error": error})
        clips += found
    return list(dict.fromkeys(clips)), problems


def _search(root, problems):
    """Videos in a folder and further down, in the order of their names; adds folders that cannot be read."""

    def cannot_list(error):
        problems.append({"file": error.filename, "error": f"cannot be read ({error.strerror})"})

    clips, seen = [], set()
    for folder, subfolders, names in os.walk(root, onerror=cannot_list, followlinks=True):
        # Links may lead round in a circle.
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith("."))
        videos = [os.path.join(folder, name) for name in names if name.lower().endswith(VIDEO_EXTENSIONS)]
        if not videos and any(name.lower().endswith(FRAME_EXTENSIONS) for name in names):
            videos = [folder]
        clips += videos
    return clips


def check_outputs(outputs, clips, overwrite):
    """Raises `ValueError` where a file cannot, or must not, be written; before any work is done."""
    for name, path in outputs.items():
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise ValueError(f"--{name}={path}: there is no folder {folder}")
        if os.path.isdir(path):
            raise ValueError(f"--{name}={path} is a folder; give the name of a file")
        if os.path.exists(path):
            if any(os.path.exists(clip) and os.path.samefile(clip, path) for clip in clips):
                raise ValueError(f"--{name}={path} is one of the videos to read")
            if not overwrite:
                raise ValueError(f"--{name}={path} exists; give another name, or --overwrite to replace it")
    if len({os.path.abspath(path) for path in outputs.values()}) < len(outputs):
        raise ValueError(f"{', '.join(f'--{name}' for name in outputs)} must be different files")
    if "render" in outputs:
        # Here, as only this needs matplotlib.
        import render

        if not outputs["render"].lower().endswith(render.EXTENSIONS):
            raise ValueError(
                f"--render={outputs['render']} must end in one of {', '.join(render.EXTENSIONS)}"
            )
        if len(clips) != 1 or os.path.isdir(clips[0]):
            raise ValueError("--render is for one video file")


def answer_clips(classifier, clips):
    """Gives the answer to each clip; a bar shows how far it is where a person watches."""
    progress = _Progress(len(clips) if len(clips) > 1 else None, "video")
    for number, (path, answer) in enumerate(zip(clips, classifier.iterate(clips), strict=True), 1):
        progress.clear()
        if isinstance(answer, VideoError):
            yield {"file": path, "error": answer.args[2]}
        else:
            yield {"file": path, "predictions": answer}
        progress.update(number)


def answer_windows(classifier, path, window, stride):
    """The answer to a clip as a timeline."""
    windows, error = [], {}
    try:
        timeline = classifier.timeline(path, window, stride)
        progress = _Progress(math.ceil(frames.probe(path).seconds), "second")
        for answer in timeline:
            windows.append(answer)
            progress.update(math.ceil(answer["end"]))
        progress.clear()
    except VideoError as damage:
        error = {"error": damage.args[2]}
    if not windows:
        return {"file": path, **error}
    return {"file": path, "spans": merge(windows), "windows": windows, **error}


def moments(windows):
    """Which window tells what happens when.

    Where windows overlap it is the one whose middle is nearer.

    Returns:
        `(start, end, predictions)` of each window, in seconds, end being the next one's start.
    """
    middles = [(window["start"] + window["end"]) / 2 for window in windows]
    changes = [(one + other) / 2 for one, other in itertools.pairwise(middles)]
    limits = [windows[0]["start"], *changes, windows[-1]["end"]]
    return [
        (start, end, window["predictions"])
        for (start, end), window in zip(itertools.pairwise(limits), windows, strict=True)
    ]


def merge(windows):
    """Spans of the same best class: dictionaries of start, end, label and the mean score of its windows."""
    spans = []
    for label, group in itertools.groupby(moments(windows), lambda moment: moment[2][0]["label"]):
        group = list(group)
        score = sum(predictions[0]["score"] for _, _, predictions in group) / len(group)
        spans.append({"start": group[0][0], "end": group[-1][1], "label": label, "score": score})
    return spans


def print_answer(answer):
    """Prints an answer for a person to read; what could not be read as an error."""
    if is_answered(answer):
        print(answer["file"])
        rows = answer.get("spans") or answer["predictions"]
        width = min(max(len(row["label"]) for row in rows), _NAME)
        for row in rows:
            time = f"{clock(row['start'])} - {clock(row['end'])}  " if "start" in row else ""
            bar = "█" * round(row["score"] * _BAR)
            print(f"  {time}{row['label']:{width}}  {row['score']:6.1%}  {bar}".rstrip())
        sys.stdout.flush()
    if "error" in answer:
        print(f"predict.py: {answer['file']}: {answer['error']}", file=sys.stderr, flush=True)


def clock(seconds):
    """Seconds as `hh:mm:ss.s`."""
    tenths = round(seconds * 10)
    return f"{tenths // 36000:02}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


def write_table(path, answers):
    """Writes answers as CSV: a row for each video or window, with its classes from best on."""
    times = ["start", "end"] if "windows" in answers[0] else []
    rows = [
        [answer["file"], *(f"{row[time]:.3f}" for time in times), row["predictions"]]
        for answer in answers
        for row in answer.get("windows", [answer])
    ]
    classes = range(1, len(rows[0][-1]) + 1)
    # File names need not be valid text.
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", *times, *(f"{what}_{i}" for i in classes for what in ("label", "score"))])
        for *row, predictions in rows:
            writer.writerow([*row, *(value for prediction in predictions for value in prediction.values())])


def render_answer(answer, target):
    """Writes the video with the answer drawn on it; adds to the answer the error of what cannot be read."""
    import render

    if "error" in answer:
        # Known to be damaged, which has been said.
        return
    if "windows" in answer:
        drawn = [(end, predictions) for _, end, predictions in moments(answer["windows"])]
        drawn[-1] = (math.inf, drawn[-1][1])
    else:
        drawn = [(math.inf, answer["predictions"])]
    try:
        progress = _Progress(frames.count_frames(answer["file"]), "frame")
        with replacing(target) as path:
            render.render(answer["file"], path, drawn, progress.update)
        progress.clear()
        print(f"{target}: the video with these classes drawn on it")
    except VideoError as error:
        answer["error"] = error.args[2]
        print(f"predict.py: {error}", file=sys.stderr, flush=True)


class _Progress:
    """A bar with the time left where a person watches, and nothing elsewhere or where `total` is `None`."""

    def __init__(self, total, unit):
        self._total = total
        shown = total is not None and sys.stdout.isatty()
        self._bar = keras.utils.Progbar(total, unit_name=unit) if shown else None

    def update(self, done):
        # Once it is full a bar stays on the screen.
        if self._bar and done < self._total:
            self._bar.update(done)

    def clear(self):
        if self._bar:
            print("\r\033[K", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
