"""Files and folders that are either complete or missing."""

import errno
import os
import pathlib

import pytest
import tensorflow as tf

from keras_stm.replacing import replacing, replacing_folder


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_there_once_it_is_complete(shared, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(str(path), shared) as partial:
        assert os.path.dirname(partial) == str(tmp_path)
        pathlib.Path(partial).write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_leaves_the_file_as_it_was(shared, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(str(path), shared) as partial:
        pathlib.Path(partial).write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_what_a_kill_has_left_is_replaced(tmp_path):
    (tmp_path / ".partial-file.txt").write_text("half of it, and more")
    with replacing(str(tmp_path / "file.txt")) as partial:
        pathlib.Path(partial).write_text("new")
    assert os.listdir(tmp_path) == ["file.txt"]


def test_processes_that_share_a_file_write_to_paths_of_their_own(tmp_path):
    path = str(tmp_path / "file.txt")
    with replacing(path, shared=True) as first:
        with replacing(path, shared=True) as second:
            assert first != second
            pathlib.Path(first).write_text("first")
            pathlib.Path(second).write_text("second")
        assert pathlib.Path(path).read_text() == "second"
    assert pathlib.Path(path).read_text() == "first"


def test_a_full_disk_names_the_file(tmp_path):
    path = str(tmp_path / "file.txt")
    with pytest.raises(OSError, match=r"No space left on device: '.*/file.txt'"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_url_is_written_as_a_file_is():
    url = "ram://replacing/file.txt"
    for text in ("old", "new"):
        with replacing(url) as partial, tf.io.gfile.GFile(partial, "w") as file:
            file.write(text)
    with pytest.raises(KeyboardInterrupt), replacing(url) as partial:
        with tf.io.gfile.GFile(partial, "w") as file:
            file.write("half")
        raise KeyboardInterrupt
    assert tf.io.gfile.listdir("ram://replacing") == ["file.txt"]
    with tf.io.gfile.GFile(url) as file:
        assert file.read() == "new"


def test_a_folder_is_there_once_it_is_complete(tmp_path):
    path = tmp_path / "parent" / "folder"
    for name in ("old.txt", "new.txt"):
        with replacing_folder(str(path)) as folder:
            (pathlib.Path(folder) / name).touch()
            assert not (path / name).exists()
        assert os.listdir(path) == [name] and os.listdir(path.parent) == ["folder"]


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(str(path)) as folder:
        (pathlib.Path(folder) / "new.txt").touch()
        raise KeyboardInterrupt
    assert os.listdir(path) == ["old.txt"] and os.listdir(tmp_path) == ["folder"]


def test_a_folder_that_must_not_be_replaced_is_not_unless_it_is_empty(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with replacing_folder(str(path), overwrite=False) as folder:
        (pathlib.Path(folder) / "new.txt").touch()
    assert os.listdir(path) == ["new.txt"]
    with pytest.raises(OSError), replacing_folder(str(path), overwrite=False) as folder:
        (pathlib.Path(folder) / "newer.txt").touch()
    assert os.listdir(path) == ["new.txt"] and os.listdir(tmp_path) == ["folder"]
