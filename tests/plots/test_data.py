"""The pictures of a data set."""

import numpy as np
import pytest

from keras_stm.plots.data import as_text, plot_data


@pytest.mark.parametrize(
    "num_classes, num_clips, known", [(2, 0, True), (2, 1, False), (30, 100, False), (400, 1000, True)]
)
def test_any_data_set_makes_a_picture(tmp_path, num_classes, num_clips, known):
    rng = np.random.default_rng(0)
    facts = {name: [] for name in ("width x height", "short side", "frames/s", "seconds", "frames")}
    for _ in range(num_clips):
        height, width, count = rng.integers(50, 1000, 3).tolist()
        facts["width x height"].append(f"{width} x {height}")
        facts["short side"].append(min(height, width))
        facts["frames"].append(count)
        if known:
            facts["frames/s"].append(round(rng.uniform(10, 60), 2))
            facts["seconds"].append(round(rng.exponential(10), 1))
    class_sizes = {"train": rng.integers(0, 9, num_classes).tolist()} if known and num_clips else {}
    plot_data(tmp_path / "picture.png", facts, class_sizes, ["a long name " * 9] * num_classes)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "value, text", [("48 x 32", "48 x 32"), (10.0, "10"), (29.97, "29.97"), (1200, "1,200")]
)
def test_values_as_text(value, text):
    assert as_text(value) == text
