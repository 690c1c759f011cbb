"""Which processes may write into a run's folder, and what is rejected."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest

from keras_stm.train import run_folder
from keras_stm.train.run_folder import CONFIG, LOCK, RunFolder

SETTINGS = {"model": "stm_small", "epochs": 6}


def started(path, overwrite=False):
    folder = RunFolder(path, SETTINGS, overwrite)
    with folder.lock():
        folder.begin(["a", "b"])
    return folder


def test_a_new_an_empty_and_an_unfinished_folder_are_not_finished(tmp_path):
    assert not RunFolder(tmp_path / "new", SETTINGS).is_finished()
    assert not RunFolder(tmp_path, SETTINGS).is_finished()
    started(tmp_path)
    assert not RunFolder(tmp_path, SETTINGS).is_finished()


def test_looking_at_a_folder_creates_nothing(tmp_path):
    RunFolder(tmp_path / "new", SETTINGS).is_finished()
    assert os.listdir(tmp_path) == []


def test_a_run_is_finished_once_its_saved_model_is_there(tmp_path):
    started(tmp_path)
    os.makedirs(tmp_path / "serving" / "1")
    assert RunFolder(tmp_path, SETTINGS).is_finished()


def test_other_settings_are_refused_and_the_difference_is_named(tmp_path):
    started(tmp_path)
    with pytest.raises(ValueError, match="epochs 6 there, 7 here.*`overwrite`"):
        RunFolder(tmp_path, {**SETTINGS, "epochs": 7}).is_finished()


def test_overwrite_removes_the_run_and_nothing_else(tmp_path):
    started(tmp_path)
    os.makedirs(tmp_path / "serving" / "1")
    (tmp_path / "model.keras").write_text("old")
    (tmp_path / ".hidden").write_text("kept")
    folder = RunFolder(tmp_path, {**SETTINGS, "epochs": 7}, overwrite=True)
    assert not folder.is_finished()
    with folder.lock():
        folder.begin(["c"])
    assert sorted(os.listdir(tmp_path)) == [".hidden", LOCK, "class_names.txt", CONFIG]
    assert (tmp_path / "class_names.txt").read_text() == "c\n"


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_kill_at_any_step_of_overwriting_leaves_a_folder_that_the_command_still_takes(
    step, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    started(tmp_path)
    (tmp_path / "model.keras").write_text("old")
    left = iter(range(step))

    def after_some(function):
        def wrapper(*args):
            if next(left, None) is None:
                raise Killed
            return function(*args)

        return wrapper

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("os.remove", after_some(os.remove))
        patch.setattr("os.replace", after_some(os.replace))
        started(tmp_path, overwrite=True)
    RunFolder(tmp_path, SETTINGS, overwrite=True).is_finished()
    started(tmp_path, overwrite=True)
    assert (tmp_path / CONFIG).exists() and not (tmp_path / "model.keras").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("with_config", [False, True])
def test_a_folder_that_holds_anything_else_is_refused_even_to_overwrite(overwrite, with_config, tmp_path):
    if with_config:
        started(tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="thesis.tex"):
        RunFolder(tmp_path, SETTINGS, overwrite).is_finished()


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="run is a file"):
        RunFolder(tmp_path / "run", SETTINGS).is_finished()


def test_an_error_while_writing_keeps_what_was_there(tmp_path):
    folder = started(tmp_path)
    with pytest.raises(OSError), folder.replacing(CONFIG) as path:
        with open(path, "w") as file:
            file.write("half")
        raise OSError("disk full")
    assert not RunFolder(tmp_path, SETTINGS).is_finished()
    assert [name for name in os.listdir(tmp_path) if "partial" in name] == []


def test_a_lock_keeps_a_second_process_out_and_dies_with_its_own(tmp_path):
    code = (
        "import time, filelock\n"
        f"lock = filelock.FileLock({str(tmp_path / LOCK)!r})\n"
        "lock.acquire()\n"
        "print('locked', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "locked\n"
        folder = RunFolder(tmp_path, SETTINGS)
        with pytest.raises(ValueError, match="Another process"), folder.lock():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.1)
        with folder.lock():
            pass
    finally:
        process.kill()


def test_a_disk_without_the_room_for_a_run_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=9e6))
    folder = RunFolder(tmp_path, SETTINGS, max_to_keep=2)
    with folder.lock(), pytest.raises(ValueError, match=" 9 MB .* 10 MB\\."):
        folder.begin(["a", "b"], state_bytes=1e6, model_bytes=2e6)
    assert os.listdir(tmp_path) == [LOCK]


def test_a_folder_that_cannot_be_made_is_named():
    folder = RunFolder("/proc/run", SETTINGS)
    assert not folder.is_finished()
    with pytest.raises(OSError, match="/proc/run"), folder.lock():
        pass


def test_a_full_disk_does_not_let_an_old_run_be_overwritten(tmp_path, monkeypatch):
    started(tmp_path)
    (tmp_path / "model.keras").write_text("old")
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=0))
    folder = RunFolder(tmp_path, {**SETTINGS, "epochs": 7}, overwrite=True)
    with folder.lock(), pytest.raises(ValueError, match="Make room"):
        folder.begin(["c"], state_bytes=1, model_bytes=1)
    assert (tmp_path / "model.keras").read_text() == "old"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_code_and_not_of_a_repository_around_it(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    installed = tmp_path / "run_folder.py"
    installed.touch()
    monkeypatch.setattr(run_folder, "__file__", str(installed))
    assert run_folder.find_commit() is None
    git("init")
    git("commit", "--allow-empty", "-m", "of something else")
    assert run_folder.find_commit() is None
    git("add", "run_folder.py")
    git("commit", "-m", "of the code")
    assert re.fullmatch("[0-9a-f]{40}", run_folder.find_commit())
    installed.write_text("changed")
    assert re.fullmatch("[0-9a-f]{40}-dirty", run_folder.find_commit())
