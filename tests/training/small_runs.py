"""Runs of seconds."""

import dataclasses
import functools
import subprocess
import sys

import pytest

import config
import fit
import keras_stm

SMALL = dataclasses.replace(
    config.PRESETS["small"], num_frames=4, image_size=32, batch_size=8, epochs=2, dropout=0.5
)

NARROW = functools.partial(config.MODELS["stm_small"], width=16, depths=(1, 1, 1, 1))


def run(output, data_dir, exports=False, **settings):
    """Trains as `SMALL` with other `settings`; without the export, which takes longer, unless told."""
    with pytest.MonkeyPatch.context() as patch:
        if not exports:
            patch.setattr(keras_stm.export, "save", lambda *args, **kwargs: None)
        fit.fit(dataclasses.replace(SMALL, data_dir=str(data_dir), **settings), str(output))


def command(*arguments, cwd):
    """What fit.py does as a command."""
    return subprocess.run(
        [sys.executable, fit.__file__, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )
