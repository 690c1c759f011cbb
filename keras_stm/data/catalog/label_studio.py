"""Opens the JSON that Label Studio exports: spans on the timelines of videos, or choices for videos."""

import collections
import functools
import os
import re
import urllib.parse

import numpy as np

from keras_stm.data import fragment
from keras_stm.data.catalog.annotations import read_json_list
from keras_stm.data.catalog.parts import Span, find_annotations, open_spans_of
from keras_stm.data.video import VIDEO_EXTENSIONS, VideoError
from keras_stm.progress import tell

# Label Studio puts this in front of the name of an uploaded file.
_UPLOAD = re.compile(r"[0-9a-f]{8}-")
# Label Studio's own default, for videos that tell no frame rate: unreadable ones and those of one frame.
_DEFAULT_RATE = 24


def open_label_studio(root, split, exclude, *, validation_split, seed):
    """Opens the spans and choices of an export in the format JSON; its videos are in the file's folder."""
    file, spans = read_label_studio(root)
    return open_spans_of(file, spans, split, exclude, validation_split, seed)


def read_label_studio(root):
    """Returns the path of the JSON file, and its spans as a list of `Span` with unique paths.

    Frames of `timelinelabels` count from 1, and the last one is included. They become times with the mean
    frame rate of the video. `choices` without a place are the label of a whole video, if it has no spans.
    Of several annotations of a task, the one that is marked as ground truth counts, or else the last one.
    What is not used is counted and told in one line.

    Args:
        root: path of the file, or of a folder with one file that ends in `.json`.

    Raises:
        ValueError: the file is missing or is no such export, or a name fits several videos.
    """
    file = find_annotations(root, "label_studio.json", ".json", "a JSON export of Label Studio")
    videos = _Videos(os.path.dirname(file))
    unused = collections.Counter()
    labels = {}
    for task in read_json_list(file):
        video = videos.find(task, _video_name(task))
        for span in _spans(task, video, unused):
            labels.setdefault(span.path, {})[span.label] = span
    for path in [path for path, spans in labels.items() if len(spans) > 1]:
        unused["spans with several labels"] += len(labels.pop(path))
    counted = [f"{what} ({count})" for what, count in sorted(unused.items()) if count]
    if counted:
        _tell_once(f"{file}: not used: {', '.join(counted)}")
    if not labels:
        raise ValueError(f"{file}: expected timelinelabels or choices, but there are none")
    return file, [span for spans in labels.values() for span in spans.values()]


@functools.cache
def _tell_once(text):
    # Each split of a data set is opened by itself.
    tell(text)


def _spans(task, video, unused):
    """Yields the spans of a task; counts in `unused` what is none."""
    annotation = _annotation(task, unused)
    results = annotation["result"] if annotation else []
    choices, found = [], 0
    for result in results:
        kind, value = result.get("type"), result.get("value")
        ranges = value.get("ranges") if isinstance(value, dict) else None
        if isinstance(ranges, list) and isinstance(value.get("timelinelabels"), list):
            for span in _timeline(task, video, ranges, value["timelinelabels"], unused):
                found += 1
                yield span
        elif kind == "choices" and isinstance(value, dict) and set(value) == {"choices"}:
            choices.append(value["choices"])
        else:
            unused[f"results of type {kind}"] += 1
    if found:
        unused["choices of videos with spans"] += len(choices)
    elif len(choices) == 1 and len(choices[0]) == 1:
        yield Span(video, None, None, _label(task, choices[0][0]))
    elif choices:
        unused["videos with several choices"] += 1


def _annotation(task, unused):
    """Returns the annotation of a task that counts, or `None`."""
    annotations = task.value["annotations"]
    usable = []
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise task.expected("annotations with a list `result`")
        if not all(isinstance(result, dict) for result in annotation["result"]):
            raise task.expected("annotations with a list `result` of objects")
        if annotation.get("was_cancelled"):
            unused["cancelled annotations"] += 1
        elif not annotation["result"]:
            unused["empty annotations"] += 1
        else:
            usable.append(annotation)
    if not annotations:
        unused["tasks without annotation"] += 1
    unused["further annotations of a task"] += max(len(usable) - 1, 0)
    true = [annotation for annotation in usable if annotation.get("ground_truth")]
    return (true or usable or [None])[-1]


def _timeline(task, video, ranges, labels, unused):
    """Yields the spans of one result on the timeline."""
    if len(labels) != 1:
        unused["timelinelabels without one label"] += 1
        return
    label = _label(task, labels[0])
    for each in ranges:
        start, end = (each.get(name) for name in ("start", "end")) if isinstance(each, dict) else (None, None)
        if start is None or end is None:
            unused["spans without a start and an end"] += 1
            continue
        if not all(isinstance(number, int | float) for number in (start, end)):
            raise task.expected(f"numbers as start and end of {label!r}")
        times = _times(video, start, end)
        if times is None:
            unused["spans outside of their video"] += 1
        else:
            yield Span(video, *times, label)


def _times(video, start, end):
    """Returns the start and end, in microseconds, of the frames `start` to `end`, counted from 1.

    Label Studio multiplies times and the frame rate to count frames. The times of the frames that are shown
    then are exact even if the distances of frames vary. `None` means that the video has no such frames.
    """
    if not 1 <= start <= end:
        return None
    try:
        times = fragment.frame_times(video)
    except VideoError:
        # Reading the span will raise the same error, which names it.
        return tuple(round((frame / _DEFAULT_RATE) * 1e6) for frame in (start - 1, end))
    if start > len(times):
        return None
    distance = times[-1] / (len(times) - 1) if len(times) > 1 else 1e6 / _DEFAULT_RATE
    first, last = (int(np.abs(times - (frame - 1) * distance).argmin()) for frame in (start, end))
    return int(times[first]), int([*times, times[-1] + round(distance)][last + 1])


def _label(task, text):
    if not isinstance(text, str):
        raise task.expected("text as label")
    return text


def _video_name(task):
    """Returns the text of a task that names its video."""
    is_task = isinstance(task.value, dict) and isinstance(task.value.get("data"), dict)
    if not is_task or not isinstance(task.value.get("annotations"), list):
        raise task.expected(
            "a task with `data` and `annotations`, as in the export format JSON (not JSON-MIN)"
        )
    data = task.value["data"]
    texts = [value for value in (data.get("video"), *data.values()) if isinstance(value, str)]
    texts = [text for text in texts if _place(text).lower().endswith(VIDEO_EXTENSIONS)]
    if not texts:
        raise task.expected("the path of a video in `data`")
    return texts[0]


def _place(text):
    """Returns the path that a URL or path of Label Studio names, without its server."""
    url = urllib.parse.urlsplit(text)
    place = dict(urllib.parse.parse_qsl(url.query)).get("d")
    return place if place is not None else urllib.parse.unquote(url.path)


class _Videos:
    """The videos below a folder, found by the names that Label Studio gives them."""

    def __init__(self, folder):
        self._folder = folder
        self._paths = collections.defaultdict(list)
        for place, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.lower().endswith(VIDEO_EXTENSIONS):
                    self._paths[_cleaned(name)].append(os.path.join(place, name))

    def find(self, task, text):
        """Returns the path of a video, or where it is expected if it does not exist.

        The name may have Label Studio's prefix or not. If several videos have it, the folders in the text
        decide.
        """
        place = _place(text)
        name = os.path.basename(place)
        for wanted in (name, _UPLOAD.sub("", name, count=1)):
            found = self._paths.get(_cleaned(wanted), [])
            ends = place.split("/")
            while len(found) > 1 and ends:
                found = [path for path in found if path.endswith("/".join(["", *ends]))] or found
                ends = ends[1:]
            if len(found) > 1:
                raise task.expected(f"a video that is there once, not {' and '.join(found[:2])}")
            if found:
                return found[0]
        return os.path.join(self._folder, name)


def _cleaned(name):
    """Returns a name as Label Studio stores it: blanks are underscores, other signs are dropped."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
