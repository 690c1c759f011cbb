import itertools

import pytest

from keras_stm.data import Dataset
from tests.data.videos import KINDS, write_video


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Ten videos of several containers and lengths, in portrait, square and landscape format."""
    folder = tmp_path_factory.mktemp("videos")
    kinds = itertools.cycle(KINDS.values())
    records = []
    for i, (codec, options, extension) in zip(range(10), kinds, strict=False):
        shape = {"num_frames": 5 + 4 * i, "height": 32 + 16 * (i % 3), "width": 48}
        path = write_video(folder / f"{i}{extension}", codec=codec, options=options, **shape)
        records.append((path, i % 3))
    return Dataset(records, ("a", "b", "c"))
