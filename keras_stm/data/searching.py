"""Searches folders for clips: video files, and folders that hold the frames of one clip."""

import os
import typing

from keras_stm.data.frame_folder import FRAME_EXTENSIONS
from keras_stm.data.video import VIDEO_EXTENSIONS

# Folders that network disks and archives from a Mac add.
_ADDED = ("@eadir", "__macosx")


class Found(typing.NamedTuple):
    """What a folder holds.

    Attributes:
        videos: list of the paths of video files.
        frame_folders: dictionary of the path of a folder of frames -> its number of images.
        unused: list of the paths of files and folders that are no clips.
    """

    videos: list
    frame_folders: dict
    unused: list

    @property
    def clips(self):
        """The paths of all clips, sorted."""
        return sorted([*self.videos, *self.frame_folders])


def is_video(name):
    """Returns whether a file is a video by the ending of its name."""
    return name.lower().endswith(VIDEO_EXTENSIONS)


def visible(folder):
    """Returns the entries of a folder, without hidden ones and those that other software adds."""
    with os.scandir(folder) as entries:
        return [
            entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _ADDED
        ]


def search(folder, may_be_clip=True, on_error=None):
    """Finds the clips in a folder and its subfolders.

    A folder that holds images, and no video in it or below, is one clip. Folders of frames below it, such as
    one of thumbnails, are not used then. If one of them has more images, they are the clips, and the images
    above them are not used. Images beside videos are not used. A video next to a folder of the same name
    with its frames, like `0.mp4` and `0`, counts once. A folder that is named like a video counts as a
    video; reading it may raise an error later.

    Args:
        folder: the folder to search.
        may_be_clip: whether `folder` itself may be the one clip.
        on_error: function of the `OSError` of a folder that cannot be read. `None` raises the error.

    Returns:
        `Found`.
    """
    return _search(folder, os.path.realpath(folder), set(), may_be_clip, on_error)


def _search(folder, real, seen, may_be_clip, on_error):
    # Links may form a cycle.
    if real in seen:
        return Found([], {}, [])
    seen.add(real)
    try:
        entries = sorted(visible(folder), key=lambda entry: entry.name)
    except OSError as error:
        if on_error is None:
            raise
        on_error(error)
        return Found([], {}, [])
    videos = [entry.path for entry in entries if is_video(entry.name)]
    named = {os.path.splitext(os.path.basename(path))[0] for path in videos}
    frame_folders, images, others = {}, [], []
    for entry in entries:
        if is_video(entry.name):
            continue
        if entry.is_dir():
            # Only a link needs a look at the disk.
            below = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
            found = _search(entry.path, below, seen, True, on_error)
            videos += found.videos
            others += found.unused
            if entry.name not in named:
                frame_folders |= found.frame_folders
        elif entry.name.lower().endswith(FRAME_EXTENSIONS):
            images.append(entry.path)
        else:
            others.append(entry.path)
    if images and may_be_clip and not videos and max(frame_folders.values(), default=0) <= len(images):
        return Found([], {folder: len(images)}, list(frame_folders))
    return Found(videos, frame_folders, [*images, *others])
