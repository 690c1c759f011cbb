"""Which files and folders are clips."""

import os

import pytest

from keras_stm.data.searching import search
from keras_stm.data.video import VIDEO_EXTENSIONS


def find(root, files, **options):
    """Makes empty files and searches for clips; returns relative paths of clips and of unused files."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = search(str(root), **options)
    relative = [[os.path.relpath(path, root) for path in paths] for paths in (found.clips, found.unused)]
    return relative[0], sorted(relative[1])


def test_videos_have_the_endings_of_ffmpeg_in_any_case(tmp_path):
    names = [f"{ending[1:]}{ending}" for ending in VIDEO_EXTENSIONS] + ["A.MTS", "B.Mp4"]
    assert len(VIDEO_EXTENSIONS) == 24
    assert find(tmp_path, [*names, "x.txt", "mp4"]) == (sorted(names), ["mp4", "x.txt"])


@pytest.mark.parametrize(
    "files,clips,unused",
    [
        # Clips lie at any depth.
        (["a.mp4", "s/b.mp4", "s/t/u/c.mp4"], ["a.mp4", "s/b.mp4", "s/t/u/c.mp4"], []),
        # A folder of frames is one clip, with all that is in it.
        (["s/1.png", "s/2.png", "s/notes.txt", "s/thumbs/1.jpg"], ["s"], ["s/thumbs"]),
        # One loose image does not hide the clips below it.
        (["s/cover.jpg", "s/t/1.jpg", "s/t/2.jpg", "s/u/1.jpg"], ["s/t", "s/u"], None),
        (["s/t/1.bmp", "s/u/1.webp"], ["s/t", "s/u"], []),
        # Pictures beside videos are no frames.
        (["s/cover.jpg", "s/1.mp4", "t/cover.jpg", "t/u/1.mp4"], ["s/1.mp4", "t/u/1.mp4"], None),
        # A video counts, and not its frames beside it.
        (["0.mp4", "0/1.jpg", "0/2.jpg", "1.MOV", "1/rgb/1.jpg", "2/1.jpg"], ["0.mp4", "1.MOV", "2"], []),
        # What other software adds, and hidden files.
        (["@eaDir/1.mp4", "s/__MACOSX/1.mp4", ".t/1.mp4", "._1.mp4", "1.mp4"], ["1.mp4"], []),
    ],
)
def test_what_is_a_clip(tmp_path, files, clips, unused):
    images = [file for file in files if "cover" in file]
    assert find(tmp_path, files) == (clips, images if unused is None else unused)


def test_a_class_folder_is_no_clip_itself(tmp_path):
    files = ["1.jpg", "2.jpg", "s/1.jpg"]
    assert find(tmp_path, files) == (["."], ["s"])
    assert find(tmp_path, files, may_be_clip=False) == (["s"], ["1.jpg", "2.jpg"])


def test_links_are_followed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert find(tmp_path, ["a/1.mp4"]) == (["a/1.mp4"], [])


def test_a_folder_that_cannot_be_read_is_an_error_or_is_reported(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "a":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    errors = []
    assert find(tmp_path, ["b/1.mp4"], on_error=errors.append) == (["b/1.mp4"], [])
    assert [error.filename for error in errors] == [str(tmp_path / "a")]
    with pytest.raises(PermissionError):
        search(str(tmp_path))
