"""The runs that the tables need, and how the tables' numbers are computed."""

import numpy as np
import pytest

from reproduction.runs import VARIANTS, Run, Settings
from reproduction.tables import NAMES, Measured, accuracies, plan


def test_each_run_is_trained_once_and_seeds_come_one_after_the_other():
    runs = plan(Settings(), NAMES, 5)
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    seeds = [run.seed for run in runs]
    assert seeds == sorted(seeds)
    count = {
        variant: sum(run.variant == variant and not run.tuned for run in runs)
        for variant in ("tsn", "cstm", "cmm", "concat", "mean", "ordinary", "stage2", "tsn_difference")
    }
    assert count == {
        "tsn": 5,
        "cstm": 5,
        "cmm": 5,
        "concat": 5,
        "mean": 5,
        "ordinary": 3,
        "stage2": 3,
        "tsn_difference": 3,
    }
    for i, run in enumerate(runs):
        if run.tuned:
            assert any(other.keeps_weights and other.seed == run.seed for other in runs[:i])


def test_a_plan_has_the_runs_of_each_row_of_its_tables():
    def variants(tables, **options):
        return [run.variant for run in plan(Settings(), tables, 1, **options)]

    assert variants(["6"]) == ["tsn", "stm", "concat", "mean"]
    assert variants(["7"]) == ["stage2", "stage3", "stage4", "stage5", "first", "stm"]
    assert variants(["8"]) == ["cstm", "ordinary"]
    assert variants(["difference"]) == ["tsn", "tsn_difference", "stm"]
    assert variants(["5"], variants=("tsn", "stm")) == ["tsn", "stm"]
    runs = plan(Settings(), ["9"], 1)
    assert [(run.variant, run.num_frames) for run in runs] == [
        *[("tsn", 8), ("tsm", 8), ("tsm", 16)],
        *[("stm", 8), ("stm", 16)],
    ]
    assert {run.variant for run in plan(Settings(), NAMES, 1)} == set(VARIANTS)


def test_a_trained_network_is_tried_at_other_lengths_and_sizes_of_clips():
    trained, *tuned = plan(Settings(), ["clips"], 1)
    assert trained == Run("stm", 0, 8, 32) and trained.keeps_weights and trained.origin(Settings()) is None
    assert [(run.num_frames, run.image_size) for run in tuned] == [
        (4, 32),
        (8, 32),
        (16, 32),
        (8, 21),
        (8, 43),
    ]
    assert all(run.tuned and run.origin(Settings()) == trained for run in tuned)
    assert not any(run.keeps_weights for run in tuned)


def test_accuracies_of_scores_known_by_hand():
    # Two clips, of classes 0 and 2. Each is followed by its reversal, of classes 1 and 3.
    labels = {"motion": np.array([0, 1, 2, 3]), "appearance": np.array([0, 0, 1, 1])}
    motion = np.zeros((4, 8))
    motion[0, 0] = motion[1, 0] = 0.9  # the same scores for both
    motion[0, 1] = motion[1, 1] = 0.1
    motion[2, 5], motion[2, 2], motion[2, 3] = 0.6, 0.3, 0.1  # wrong class, but right within the pair
    motion[3, 3] = 1.0
    appearance = np.eye(7)[[0, 0, 1, 2]]
    found = accuracies({"motion": motion, "appearance": appearance}, labels)
    np.testing.assert_array_equal(found["motion"], [0.5, 0.5])
    np.testing.assert_array_equal(found["within_pair"], [0.5, 1.0])
    np.testing.assert_array_equal(found["appearance"], [1.0, 0.5])


def test_the_interval_is_that_of_the_mean_where_it_is_known():
    rng = np.random.default_rng(0)
    values = np.tile(rng.integers(0, 2, 400).astype(float), (5, 1))
    low, high = Measured(values, (0, 1, 2, 3, 4)).interval()
    mean, error = values.mean(), values[0].std() / 20
    np.testing.assert_allclose((low, high), (mean - 1.96 * error, mean + 1.96 * error), atol=0.01)
    assert Measured(values, (0, 1, 2, 3, 4)).interval() == (low, high)


def test_the_interval_over_seeds_alone_is_as_wide_as_their_spread_says():
    # If all clips of a seed are alike, the mean of n seeds has their standard deviation over sqrt(n).
    seeds = np.linspace(0, 1, 40)
    low, high = Measured(np.repeat(seeds[:, None], 8, axis=1), tuple(range(40))).interval()
    assert high - low == pytest.approx(2 * 1.96 * seeds.std(ddof=1) / np.sqrt(40), rel=0.05)
    two = Measured(np.array([[0.0], [1.0]]), (0, 1)).interval()
    assert two == pytest.approx((0.5 - np.sqrt(0.5), 0.5 + np.sqrt(0.5)))


def test_the_interval_holds_the_spread_between_seeds_and_the_difference_is_paired():
    seeds = np.repeat(np.linspace(0.2, 0.8, 5)[:, None], 50, axis=1)
    quantity = Measured(seeds, (0, 1, 2, 3, 4))
    low, high = quantity.interval()
    assert high - low > 0.2
    assert quantity.std == pytest.approx(np.std(np.linspace(0.2, 0.8, 5), ddof=1))
    gain = Measured(seeds[1:4] + 0.1, (1, 2, 3)).minus(quantity)
    assert gain.seeds == (1, 2, 3)
    assert gain.interval() == pytest.approx((0.1, 0.1))
    assert Measured(seeds[:1], (7,)).minus(quantity) is None
    assert Measured(seeds[:1], (0,)).std is None
