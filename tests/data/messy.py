"""A data set with an example of each finding of `keras-stm check-data`."""

import os
import shutil

from tests.data.videos import write_audio, write_video


def good(path, num_frames=12):
    """Writes a video that differs from the others, as its brightness depends on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, num_frames, brightness=sum(path.name.encode()) % 200)


def cut(path):
    good(path)
    os.truncate(path, os.path.getsize(path) // 2)


def write_messy(root):
    """Writes four classes with 6, 3, 2 and 1 readable training clips, the last without validation clips."""
    train, val = root / "train", root / "val"
    for name in "abcd":
        good(train / "clap" / f"{name}.mp4")
    good(train / "clap" / "short.mp4", num_frames=7)
    shutil.copy(train / "clap" / "a.mp4", train / "clap" / "a again.mp4")
    for name in "efg":
        good(train / "jump" / f"{name}.mp4")
    good(train / "pull" / "h.mp4")
    shutil.copy(train / "pull" / "h.mp4", train / "pull" / "leaks.mp4")
    good(train / "push" / "i.mp4")
    for name in ("clap", "jump"):
        good(val / name / f"{name}.mp4")
    (val / "pull").mkdir()
    shutil.copy(train / "pull" / "h.mp4", val / "pull" / "leaked.mp4")

    cut(train / "clap" / "cut.mp4")
    (train / "jump" / "text.mp4").write_text("not a video")
    (val / "jump" / "empty.mp4").touch()
    write_audio(train / "jump" / "sound.mp4")
    (train / "jump" / "folder.mp4").mkdir()
