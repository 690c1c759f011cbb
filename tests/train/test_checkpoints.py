"""Checkpoints of the last epochs and of the best one: which are kept, and what happens to damaged ones."""

import os
import resource

import numpy as np
import pytest

from keras_stm.train.checkpoints import Checkpoints


def save(checkpoints, epoch, best=1):
    arrays = [np.full(1000, epoch, "float32"), np.array([epoch, 0], "uint32")]
    checkpoints.save(arrays, [{"epoch": i} for i in range(epoch)], best)


def load_epoch(checkpoints, epoch=None):
    arrays, history = checkpoints.load(epoch)
    assert [row["epoch"] for row in history] == list(range(len(history)))
    assert (arrays[0] == len(history)).all() and arrays[1].tolist() == [len(history), 0]
    return len(history)


def damage(path, change):
    content = path.read_bytes()
    path.write_bytes(change(content))


DAMAGES = [
    lambda content: content[: len(content) // 2],
    lambda content: b"",
    lambda content: content[:1500] + bytes([content[1500] ^ 1]) + content[1501:],
    lambda content: b"no checkpoint",
    # The flags claim that the content is encrypted.
    lambda content: content.replace(b"PK\x01\x02", b"PK\x01\x02\xff\xff\xff\xff\xff"),
]


def test_there_is_nothing_to_load_before_the_first_epoch(tmp_path):
    assert Checkpoints(tmp_path / "none").load() == (None, [])
    assert not (tmp_path / "none").exists()


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "kept", max_to_keep=2)
    for epoch in range(1, 6):
        save(checkpoints, epoch, best=min(epoch, 2))
    assert sorted(os.listdir(tmp_path / "kept")) == ["00002.npz", "00004.npz", "00005.npz"]
    assert load_epoch(checkpoints) == 5
    assert load_epoch(checkpoints, 2) == 2


@pytest.mark.parametrize("change", DAMAGES)
def test_the_epoch_before_is_taken_where_the_newest_checkpoint_is_damaged(change, tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, max_to_keep=2)
    save(checkpoints, 1)
    save(checkpoints, 2)
    damage(tmp_path / "00002.npz", change)
    assert load_epoch(checkpoints) == 1
    assert "00002.npz is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("change", DAMAGES)
def test_a_run_never_starts_anew_by_itself_where_its_only_checkpoint_is_damaged(change, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    damage(tmp_path / "00001.npz", change)
    with pytest.raises(ValueError, match="00001.npz is damaged .*`overwrite` to restart the run"):
        checkpoints.load()


def test_going_on_from_an_older_epoch_keeps_it_and_drops_what_was_damaged(tmp_path):
    for epoch in range(1, 4):
        save(Checkpoints(tmp_path, max_to_keep=3), epoch)
    for name in ("00002.npz", "00003.npz"):
        damage(tmp_path / name, DAMAGES[0])
    checkpoints = Checkpoints(tmp_path, max_to_keep=1)
    assert load_epoch(checkpoints) == 1
    save(checkpoints, 2, best=2)
    assert os.listdir(tmp_path) == ["00002.npz"]
    assert load_epoch(checkpoints) == 2


def test_what_was_being_written_when_a_process_was_killed_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    (tmp_path / ".partial-00002.npz").write_bytes(b"half")
    assert load_epoch(checkpoints) == 1
    save(checkpoints, 2, best=2)
    assert os.listdir(tmp_path) == ["00002.npz"]


def test_a_disk_that_is_full_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    """A limit on the size of files makes writing fail halfway, like a full disk."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(OSError, match="00002.npz"):
            save(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["00001.npz"]
    assert load_epoch(checkpoints) == 1
