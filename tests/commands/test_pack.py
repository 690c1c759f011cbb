"""`keras-stm pack`: what it prints, and what it rejects."""

import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.commands import pack
from keras_stm.data import frames, open_dataset
from tests.commands.process import keras_stm


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_packs_and_then_refuses_other_settings_in_a_line(clips, tmp_path, monkeypatch):
    arguments = [f"--data_dir={clips}", "--output=packed", "--split=validation"]
    process = keras_stm("pack", *arguments, "--short_side=16", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    packed = tmp_path / "packed"
    assert "validation: 8 clips" in process.stdout
    assert process.stdout.endswith(f"Try next:\n  keras-stm fit --data_dir={packed}\n")
    path, _ = open_dataset("packed", packed, "validation").records[0]
    assert frames.probe(path)[1:3] == (16, 16)

    monkeypatch.chdir(tmp_path)
    before = contents(packed)
    with pytest.raises(SystemExit, match="^pack.py: .*packed .*short_side 16 there, 256 here.*") as stop:
        pack.main(["pack.py", *arguments, "--worker=1/2"])
    assert "\n" not in stop.value.code
    assert contents(packed) == before


def test_every_flag_reaches_what_packs(monkeypatch, capsys):
    given = {}

    def take(data_dir, output, **options):
        given.update(options, data_dir=data_dir, output=output)
        return False

    monkeypatch.setattr(pack, "pack", take)
    flags = {
        **{"data_dir": "clips", "output": "packed", "dataset": "hmdb51", "fold": 2, "class_order": "raw"},
        **{"exclude": "exclude.txt", "short_side": 128, "quality": 90, "num_shards": 7, "workers": 3},
        **{"max_unreadable": 0.25, "group_by": "parent"},
    }
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    pack.main(["pack.py", *arguments, "--split=train,test", "--worker=3/16"])
    assert given == {**flags, "splits": ["train", "test"], "worker": (3, 16)}
    # There is no advice: other workers are not finished.
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_a_worker_that_is_none_is_refused(text):
    with pytest.raises(ArgumentError) as error:
        pack.parse_worker(text)
    assert (error.value.name, error.value.value) == ("worker", text)
