"""The tables of reproduce.py: the runs that each table needs, and its numbers from the runs' files."""

import typing

import numpy as np

from reproduction.runs import NUM_FRAMES, Run

# Bootstrap draws of an interval.
_DRAWS = 4000


class Row(typing.NamedTuple):
    """A row of a table: its label, the variant and frames of its runs, and the paper's top-1."""

    label: str
    variant: str
    paper: float | None = None
    num_frames: int = NUM_FRAMES


class Table(typing.NamedTuple):
    """A table: its title, its rows, and the label of the row that the others are compared with."""

    title: str
    rows: tuple
    reference: str


_TSN, _STM = Row("TSN", "tsn", 19.7), Row("STM", "stm", 49.2)
# The paper's accuracies are on Something-Something v1: 30 views in Tables 5 to 8, one view in Table 9.
TABLES = {
    "5": Table(
        "Table 5: impact of the two modules",
        (_TSN, Row("CSTM", "cstm", 47.7), Row("CMM", "cmm", 44.1), _STM),
        "STM",
    ),
    "6": Table(
        "Table 6: fusion of the two modules",
        (
            _TSN,
            Row("summation", "stm", 49.2),
            Row("concatenation", "concat", 41.8),
            Row("mean", "mean"),
        ),
        "summation",
    ),
    "7": Table(
        "Table 7: location and number of STM blocks",
        (
            *(
                Row(f"stage {stage}, first block", f"stage{stage}", paper)
                for stage, paper in ((2, 38.7), (3, 40.6), (4, 41.5), (5, 41.5))
            ),
            Row("stages 2-5, first blocks", "first", 47.9),
            Row("stages 2-5, all blocks", "stm", 49.2),
        ),
        "stages 2-5, all blocks",
    ),
    "8": Table(
        "Table 8: type of temporal convolution in CSTM",
        (Row("channel-wise", "cstm", 47.7), Row("ordinary", "ordinary", 46.9)),
        "channel-wise",
    ),
    "9": Table(
        "Table 9: accuracy, size and speed",
        (
            Row("TSN, 8 frames", "tsn"),
            Row("TSM, 8 frames", "tsm", 43.8),
            Row("TSM, 16 frames", "tsm", 44.8, 16),
            Row("STM, 8 frames", "stm", 47.5),
            Row("STM, 16 frames", "stm", 49.8, 16),
        ),
        "STM, 8 frames",
    ),
    "difference": Table(
        "Beyond the paper: TSN with the change of brightness as a fourth channel",
        (Row("TSN", "tsn"), Row("TSN and difference", "tsn_difference"), Row("STM", "stm")),
        "STM",
    ),
}
CLIPS = "clips"
CLIPS_TITLE = "Beyond the paper: one trained STM on clips of other lengths and sizes"
NAMES = (*TABLES, CLIPS)
# Tables whose runs use all seeds.
_MANY_SEEDS = ("5", "6")
FEW_SEEDS = 3


def clips_tried(settings):
    """Returns each `(num_frames, image_size)` that a trained STM is tested at: lengths, then sizes."""
    size = settings.image_size
    lengths = [(num_frames, size) for num_frames in (NUM_FRAMES // 2, NUM_FRAMES, 2 * NUM_FRAMES)]
    sizes = [(NUM_FRAMES, image_size) for image_size in (round(size * 2 / 3), size, round(size * 4 / 3))]
    return list(dict.fromkeys(lengths + sizes))


def plan(settings, tables, seeds, variants=None):
    """Returns the runs that the tables need, each once.

    All runs of the first seed come first, then those of the next seed. A campaign that is stopped early then
    has results for every table.

    Args:
        settings: `Settings`.
        tables: names of tables, of `NAMES`.
        seeds: number of seeds for Tables 5 and 6; the other tables have at most `FEW_SEEDS`.
        variants: names of the networks to train; `None` means all.

    Returns:
        List of `Run`.
    """
    runs = {}
    for seed in range(seeds):
        for name, table in TABLES.items():
            if name in tables and (seed < FEW_SEEDS or name in _MANY_SEEDS):
                for row in table.rows:
                    runs[Run(row.variant, seed, row.num_frames, settings.image_size)] = None
        if CLIPS in tables and seed < FEW_SEEDS:
            # Fine-tuning needs the weights that it starts from.
            runs[Run("stm", seed, NUM_FRAMES, settings.image_size)] = None
            for num_frames, image_size in clips_tried(settings):
                runs[Run("stm", seed, num_frames, image_size, tuned=True)] = None
    return [run for run in runs if variants is None or run.variant in variants]


class Measured(typing.NamedTuple):
    """A quantity over seeds and test clips.

    Attributes:
        values: array `(seeds, pairs)`, each value the mean over both clips of a pair.
        seeds: the seeds of the rows.
    """

    values: np.ndarray
    seeds: tuple

    @property
    def mean(self):
        """Mean over all seeds and pairs."""
        return float(self.values.mean())

    @property
    def std(self):
        """Standard deviation over the seeds, `None` for one seed."""
        return float(self.values.mean(axis=1).std(ddof=1)) if len(self.seeds) > 1 else None

    def interval(self):
        """Returns the 95% bootstrap interval of the mean over seeds and pairs, drawn with a fixed seed.

        With one seed, only pairs are drawn. A clip and its reversal are drawn together, because clips of the
        same frames are not independent. A pair is drawn for all seeds together, because trainings that are
        tested on the same clips are not independent.

        Returns:
            The lower and the upper bound.
        """
        rng = np.random.default_rng(0)
        seeds, pairs = self.values.shape
        values = self.values
        if seeds > 1:
            # The variance between n drawn seeds is too small by the factor (n - 1) / n, corrected here.
            center = values.mean(axis=0)
            values = center + (values - center) * np.sqrt(seeds / (seeds - 1))
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), _DRAWS) / seeds
        of_pairs = rng.multinomial(pairs, np.full(pairs, 1 / pairs), _DRAWS) / pairs
        means = ((of_seeds @ values) * of_pairs).sum(axis=1)
        return tuple(float(bound) for bound in np.percentile(means, (2.5, 97.5)))

    def minus(self, other):
        """Returns the difference by seed and pair, over the seeds that both have.

        Args:
            other: `Measured` of the same test clips.

        Returns:
            `Measured`, or `None` if the two have no seed in common.
        """
        seeds = tuple(seed for seed in self.seeds if seed in other.seeds)
        if not seeds:
            return None
        rows, theirs = ([m.seeds.index(seed) for seed in seeds] for m in (self, other))
        return Measured(self.values[rows] - other.values[theirs], seeds)


def accuracies(scores, labels):
    """Returns a run's accuracy on each pair of test clips.

    Args:
        scores: `{"motion": (2 N, 8), "appearance": (2 N, 7)}`, every clip before its reversal.
        labels: `{"motion": (2 N,), "appearance": (2 N,)}`.

    Returns:
        `{"motion", "within_pair", "appearance"}`, each `(N,)`.
    """
    hits = {task: scores[task].argmax(axis=1) == labels[task] for task in ("motion", "appearance")}
    rows, own = np.arange(len(labels["motion"])), labels["motion"]
    # The reversal's label is in the other row of the pair.
    reversal = own.reshape(-1, 2)[:, ::-1].ravel()
    hits["within_pair"] = scores["motion"][rows, own] > scores["motion"][rows, reversal]
    return {name: values.reshape(-1, 2).mean(axis=1) for name, values in hits.items()}


def measured(results, runs, before=False):
    """Returns the accuracies of the finished runs.

    Args:
        results: `Results`.
        runs: runs of one network with different seeds.
        before: whether to use the scores before fine-tuning.

    Returns:
        `{"motion", "within_pair", "appearance"}` -> `Measured`, or `None` without a finished run.
    """
    runs = [run for run in runs if results.is_finished(run)]
    if not runs:
        return None
    found = []
    for run in runs:
        arrays = results.read_scores(run.name)
        suffix = "_before" if before else ""
        tasks = ("motion", "appearance")
        found.append(
            accuracies(
                {task: arrays[f"{task}{suffix}"] for task in tasks},
                {task: arrays[f"{task}_labels"] for task in tasks},
            )
        )
    seeds = tuple(run.seed for run in runs)
    return {name: Measured(np.stack([one[name] for one in found]), seeds) for name in found[0]}
