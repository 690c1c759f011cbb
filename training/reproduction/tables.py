"""The tables of reproduce.py: which runs each needs, and what the runs' files say about them."""

import typing

import numpy as np

from reproduction.runs import NUM_FRAMES, Run

# Random draws behind an interval.
_DRAWS = 4000


class Row(typing.NamedTuple):
    """A line of a table: its label, the variant and frames of its runs, and the paper's top-1."""

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
# Accuracies of the paper: Something-Something v1, 30 views in 5 to 8, one view in 9.
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
# One trained STM at other clips.
CLIPS = "clips"
CLIPS_TITLE = "Beyond the paper: one trained STM on clips of other lengths and sizes"
NAMES = (*TABLES, CLIPS)
# Those whose runs get all seeds.
_MANY_SEEDS = ("5", "6")
FEW_SEEDS = 3


def clips_tried(settings):
    """`(num_frames, image_size)` at which a trained STM is tried: lengths, then sizes."""
    size = settings.image_size
    lengths = [(num_frames, size) for num_frames in (NUM_FRAMES // 2, NUM_FRAMES, 2 * NUM_FRAMES)]
    sizes = [(NUM_FRAMES, image_size) for image_size in (round(size * 2 / 3), size, round(size * 4 / 3))]
    return list(dict.fromkeys(lengths + sizes))


def plan(settings, tables, seeds, variants=None):
    """The runs that the tables need, each once.

    All of the first seed come first, then those of the next, so that a campaign that is stopped has
    something for every table.

    Args:
        settings: `Settings`.
        tables: some of `NAMES`.
        seeds: how many for tables 5 and 6; the others have at most `FEW_SEEDS`.
        variants: networks to leave it at; `None` is all.

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

    `values` `(seeds, pairs)`, a mean over both clips of a pair; `seeds`, which ones.
    """

    values: np.ndarray
    seeds: tuple

    @property
    def mean(self):
        return float(self.values.mean())

    @property
    def std(self):
        """Standard deviation over the seeds, of at least two."""
        return float(self.values.mean(axis=1).std(ddof=1)) if len(self.seeds) > 1 else None

    def interval(self):
        """The middle 95% of the means of clips and seeds drawn anew, with a fixed seed.

        Of one seed it is over clips alone. A clip and its reversal are drawn together, and a clip is drawn
        for all seeds alike: neither two clips of the same frames nor two trainings on them are independent.
        """
        rng = np.random.default_rng(0)
        seeds, pairs = self.values.shape
        values = self.values
        if seeds > 1:
            # Draws from so few vary by (n - 1) / n of what seeds do.
            center = values.mean(axis=0)
            values = center + (values - center) * np.sqrt(seeds / (seeds - 1))
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), _DRAWS) / seeds
        of_pairs = rng.multinomial(pairs, np.full(pairs, 1 / pairs), _DRAWS) / pairs
        means = ((of_seeds @ values) * of_pairs).sum(axis=1)
        return tuple(float(bound) for bound in np.percentile(means, (2.5, 97.5)))

    def minus(self, other):
        """The difference, seed by seed and clip by clip, over the seeds that both have."""
        seeds = tuple(seed for seed in self.seeds if seed in other.seeds)
        if not seeds:
            return None
        rows, theirs = ([m.seeds.index(seed) for seed in seeds] for m in (self, other))
        return Measured(self.values[rows] - other.values[theirs], seeds)


def accuracies(scores, labels):
    """`{"motion", "within_pair", "appearance"}`, each `(pairs,)`, of one run's scores of the test clips.

    Args:
        scores: `{"motion": (2 N, 8), "appearance": (2 N, 7)}`, every clip before its reversal.
        labels: `{"motion": (2 N,), "appearance": (2 N,)}`.
    """
    hits = {task: scores[task].argmax(axis=1) == labels[task] for task in ("motion", "appearance")}
    rows, own = np.arange(len(labels["motion"])), labels["motion"]
    # The label of the reversal stands in the other row of the pair.
    reversal = own.reshape(-1, 2)[:, ::-1].ravel()
    hits["within_pair"] = scores["motion"][rows, own] > scores["motion"][rows, reversal]
    return {name: values.reshape(-1, 2).mean(axis=1) for name, values in hits.items()}


def measured(results, runs, before=False):
    """`{"motion", "within_pair", "appearance"}` -> `Measured` of the runs that are finished, or `None`.

    Args:
        results: `Results`.
        runs: of one network, differing in their seeds.
        before: whether to take what a run to be fine-tuned scored before it was.
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
