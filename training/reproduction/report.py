"""The report of reproduce.py, made only from the files of its runs: tables.md, pictures, summary.json."""

import dataclasses
import json
import os

import matplotlib.figure

from keras_stm.replacing import replacing
from reproduction.runs import NUM_FRAMES, STILLS, Run
from reproduction.tables import CLIPS, CLIPS_TITLE, NAMES, TABLES, clips_tried, measured, plan

TABLES_FILE, SUMMARY = "tables.md", "summary.json"
# The highest motion accuracy of a model that ignores frame order and cannot tell a pair's actions apart.
BLIND = 0.5
# The paper's Tables 8 and 9: parameters in millions, GMACs, and videos a second on a GTX 1080 Ti.
_PAPER_COUNTS = {
    ("cstm", 8): (23.88, 32.93),
    ("ordinary", 8): (27.64, 40.59),
    ("tsm", 8): (23.9, 32.9),
    ("tsm", 16): (23.9, 65.8),
    ("stm", 8): (24.0, 33.3),
    ("stm", 16): (24.0, 66.5),
}
_PAPER_SPEED = {("tsm", 8): 80.4, ("tsm", 16): 40.6, ("stm", 8): 62.0, ("stm", 16): 32.0}


def write(settings, results, tables, output):
    """Writes the report of the chosen tables and of all other tables that have results.

    Numbers without a finished run are dashes in the tables and `None` in the summary.

    Args:
        settings: `Settings`.
        results: `Results`.
        tables: names of tables, of `tables.NAMES`.
        output: the folder to write into.

    Returns:
        The summary that was written.
    """
    seeds = results.seeds()

    def has_results(name):
        return any(map(results.is_finished, plan(settings, [name], seeds)))

    tables = [name for name in NAMES if name in tables or has_results(name)]
    made_by = _made_by(results, tables, settings, seeds)
    summary = {"settings": dataclasses.asdict(settings), "made_by": made_by, "tables": {}}
    sections = [_introduction(settings, made_by)]
    for name in tables:
        if name == CLIPS:
            rows, title = clips_rows(settings, results, seeds), CLIPS_TITLE
            section, figure = _clips_section(rows), _draw_clips(rows, title)
        else:
            rows, title = table_rows(name, settings, results, seeds), TABLES[name].title
            section, figure = _section(name, rows, settings), _draw(name, rows)
        summary["tables"][name] = {"title": title, "rows": rows}
        picture = f"table{name}.png" if name.isdigit() else f"{name}.png"
        sections.append(f"## {title}\n\n{section}\n\n![{title}]({picture})\n")
        with replacing(os.path.join(output, picture)) as path:
            figure.savefig(path, dpi=120, format="png")
    with replacing(os.path.join(output, TABLES_FILE)) as path, open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(sections))
    with replacing(os.path.join(output, SUMMARY)) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=2)
    return summary


def table_rows(name, settings, results, seeds):
    """Returns a dictionary for each row of a table; numbers without a finished run are `None`.

    Accuracies are `{"mean", "std", "interval"}`, fractions from 0 to 1. `difference` is the motion accuracy
    minus that of the table's reference row.
    """
    table = TABLES[name]

    def of(row):
        size = settings.image_size
        return measured(results, [Run(row.variant, seed, row.num_frames, size) for seed in range(seeds)])

    reference = of(next(row for row in table.rows if row.label == table.reference))
    counts = results.read("counts") if results.has("counts") else {}
    speed = results.read("speed") if results.has("speed") else None
    rows = []
    for row in table.rows:
        found = of(row)
        line = {"label": row.label, "variant": row.variant, "num_frames": row.num_frames}
        line |= {"paper": row.paper, "seeds": len(found["motion"].seeds) if found else 0}
        line |= {key: _described(found and found[key]) for key in ("motion", "within_pair", "appearance")}
        compared = found and reference and row.label != table.reference
        line["difference"] = _described(found["motion"].minus(reference["motion"]) if compared else None)
        if name in ("8", "9"):
            line |= _counts(row, counts)
        if name == "9" and speed:
            frames = str(row.num_frames)
            line["videos_per_second"] = speed["videos_per_second"][row.variant][frames]
            line["batch_size"] = speed["batch_size"]
            line["speed_to_tsn"] = speed["to_tsn"][row.variant][frames]
            line["paper_videos_per_second"] = _PAPER_SPEED.get((row.variant, row.num_frames))
        rows.append(line)
    return rows


def clips_rows(settings, results, seeds):
    """Returns a dictionary for each length and size of clips.

    It holds the motion accuracy `before` and `after` fine-tuning, and their difference as `gain`.
    """
    rows = []
    for num_frames, image_size in clips_tried(settings):
        runs = [Run("stm", seed, num_frames, image_size, tuned=True) for seed in range(seeds)]
        before, after = (measured(results, runs, before=early) for early in (True, False))
        rows.append(
            {
                "num_frames": num_frames,
                "image_size": image_size,
                "seeds": len(after["motion"].seeds) if after else 0,
                "before": _described(before and before["motion"]),
                "after": _described(after and after["motion"]),
                "gain": _described(after and after["motion"].minus(before["motion"])),
                "trained_at": (num_frames, image_size) == (NUM_FRAMES, settings.image_size),
            }
        )
    return rows


def _described(quantity):
    if quantity is None:
        return None
    return {"mean": quantity.mean, "std": quantity.std, "interval": quantity.interval()}


def _counts(row, counts):
    if row.variant not in counts:
        return {}
    paper = _PAPER_COUNTS.get((row.variant, row.num_frames), (None, None))
    return {
        "parameters": counts[row.variant]["parameters"],
        "macs": counts[row.variant]["macs"][str(row.num_frames)],
        "paper_parameters": paper[0],
        "paper_gmacs": paper[1],
    }


def _introduction(settings, made_by):
    plain = ""
    if settings.plain_epochs:
        plain = (
            f" The first {settings.plain_epochs} epochs use the same number of plain clips: the same actions "
            "without\ndistractors, drift and pauses."
        )
    return f"""# The ablations, on the embedded data set's harder variant

The networks have depths {settings.depths} and width {settings.width}. Clips have {NUM_FRAMES} frames of
{settings.image_size} pixels, unless a table says otherwise. Each network is trained on {settings.num_train}
clips for {settings.epochs} epochs.{plain}

The paper's networks start from ImageNet weights. These networks start from the weights of a TSN. It was
trained to name the shape in single frames of {settings.num_stills} clips. Layers that this TSN lacks start at
random. The convolution of a concatenation is such a layer, and at first it scrambles the learned features.

Accuracies are in percent of {2 * settings.num_test} test clips, after the epoch with the highest motion
accuracy in validation. Each accuracy is the mean over the seeds ± their standard deviation. Brackets hold
a 95% bootstrap interval over seeds and pairs; a pair is a clip and its reversal. With one seed, the interval
is over pairs alone and says nothing about the variation between trainings.

- Motion: accuracy of naming the action (8 classes). A model that ignores frame order reaches at most 50.
- Within pair: how often a clip's own action scores higher than its reversal's action. A model that ignores
  frame order reaches 50.
- Appearance: accuracy of naming the moving shape (7 classes).
- Paper: top-1 on Something-Something v1.

Source of the results: {"; ".join(made_by) or "no run yet"}.
"""


def _made_by(results, tables, settings, seeds):
    """Returns a line for each commit, set of versions and machine that the tables' results come from."""
    names = [run.name for run in plan(settings, tables, seeds) if results.is_finished(run)]
    lines = []
    for name in (*names, *(name for name in (STILLS, "counts", "speed") if results.has(name))):
        record = results.read(name)
        versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
        hardware = record["hardware"]
        devices = ", ".join(map(str, hardware["devices"]))
        lines.append(
            f"commit {record['commit'] or 'unknown'}, {record['backend']}, {versions}, on "
            f"{hardware['processor']}, {hardware['cores']} cores, {devices}"
        )
    return list(dict.fromkeys(lines))


def _section(name, rows, settings):
    header = ["", "paper", "motion", "interval", "difference", "within pair", "appearance", "seeds"]
    counted, timed = "parameters" in rows[0], "videos_per_second" in rows[0]
    if counted:
        header += ["parameters (paper)", "GMACs (paper)"]
    if timed:
        header += ["videos/s (paper)", "speed to TSN"]
    lines = []
    for row in rows:
        cells = [row["label"], _number(row["paper"], "{:.1f}"), _mean(row["motion"])]
        cells += [_interval(row["motion"]), _signed(row["difference"]), _mean(row["within_pair"])]
        cells += [_mean(row["appearance"]), str(row["seeds"])]
        if counted:
            cells += [
                f"{row['parameters'] / 1e6:.2f} M{_bracket(row['paper_parameters'], '{} M')}",
                f"{row['macs'] / 1e9:.2f}{_bracket(row['paper_gmacs'], '{}')}",
            ]
        if timed:
            cells += [
                f"{row['videos_per_second']:.2f}{_bracket(row['paper_videos_per_second'], '{}')}",
                f"{row['speed_to_tsn']:.2f}",
            ]
        lines.append(cells)
    note = (
        f"\n\nDifference: motion accuracy minus that of {TABLES[name].reference}, over the seeds and clips "
        "that both have."
    )
    if counted:
        depths, width = settings.published
        note += (
            " Parameters, GMACs and speed are those of the published networks, not of the trained ones: "
            f"depths {tuple(depths)}, width {width}, {settings.published_size} pixels."
        )
    if timed:
        note += (
            f" Videos/s: batch size {rows[0]['batch_size']}; the paper's numbers are from a GTX 1080 Ti. "
            "Speed to TSN: relative to TSN with the same number of frames."
        )
    return _markdown(header, lines) + note


def _clips_section(rows):
    header = ["frames", "pixels", "before", "interval", "after", "interval", "gain", "seeds"]
    lines = [
        [
            str(row["num_frames"]),
            f"{row['image_size']}{' (trained at)' if row['trained_at'] else ''}",
            *(_mean(row["before"]), _interval(row["before"])),
            *(_mean(row["after"]), _interval(row["after"])),
            *(_signed(row["gain"]), str(row["seeds"])),
        ]
        for row in rows
    ]
    return (
        _markdown(header, lines)
        + "\n\nMotion accuracy before and after a short fine-tuning on clips of this length and size."
    )


def _markdown(header, lines):
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


def _number(value, form):
    return "–" if value is None else form.format(value)


def _bracket(value, form):
    return "" if value is None else f" ({form.format(value)})"


def _mean(value):
    if value is None:
        return "–"
    spread = "" if value["std"] is None else f" ± {100 * value['std']:.1f}"
    return f"{100 * value['mean']:.1f}{spread}"


def _interval(value):
    return "–" if value is None else "[{:.1f}, {:.1f}]".format(*(100 * bound for bound in value["interval"]))


def _signed(value):
    if value is None:
        return "–"
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * v for v in (value["mean"], *value["interval"])))


_OURS, _PAPERS = "#1f6f8b", "#c98a2b"


def _draw(name, rows):
    """Returns a figure of a table's accuracies as bars: ours, and the paper's on a scale of their own."""
    height = 1.5 + 0.5 * len(rows)
    figure = matplotlib.figure.Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(TABLES[name].title)
    ours, papers = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        _draw_bar(ours, place, row["motion"])
        if row["paper"] is not None:
            papers.barh(place, row["paper"], height=0.6, color=_PAPERS)
            papers.annotate(f"{row['paper']:.1f}", (row["paper"], place), (4, 0), va="center", **_OFFSET)
    ours.axvline(100 * BLIND, color="black", linestyle=":", linewidth=1)
    ours.annotate("without order", (100 * BLIND, 1), (3, -10), xycoords=("data", "axes fraction"), **_SMALL)
    ours.set(xlabel="these runs: motion accuracy, % (bar: 95% interval)", xlim=(0, 100))
    papers.set(xlabel="paper: top-1, %", xlim=(0, 60))
    ours.set_yticks(range(len(rows)), [row["label"] for row in rows])
    ours.invert_yaxis()
    for axes in (ours, papers):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure


_OFFSET = {"textcoords": "offset points"}
_SMALL = {"fontsize": 8, **_OFFSET}


def _draw_bar(axes, place, value):
    if value is None:
        axes.annotate("no finished run", (2, place), va="center", fontsize=8)
        return
    mean, (low, high) = value["mean"], value["interval"]
    errors = [[100 * (mean - low)], [100 * (high - mean)]]
    axes.barh(place, 100 * mean, height=0.6, color=_OURS, xerr=errors, ecolor="black", capsize=3)
    axes.annotate(f"{100 * mean:.1f}", (100 * high, place), (5, 0), va="center", **_OFFSET)


def _draw_clips(rows, title):
    """Returns a figure of motion accuracy over the number of frames and over the size of clips.

    It shows the accuracy before and after fine-tuning.
    """
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    trained = next(row for row in rows if row["trained_at"])
    panels = (("num_frames", "frames", "image_size"), ("image_size", "pixels", "num_frames"))
    for axes, (key, label, other) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        line = sorted((row for row in rows if row[other] == trained[other]), key=lambda row: row[key])
        for stage, color, marker in (("before", _PAPERS, "o"), ("after", _OURS, "s")):
            shown = [row for row in line if row[stage] is not None]
            means = [100 * row[stage]["mean"] for row in shown]
            bounds = [[100 * bound for bound in row[stage]["interval"]] for row in shown]
            errors = [
                [mean - low for mean, (low, _) in zip(means, bounds, strict=True)],
                [high - mean for mean, (_, high) in zip(means, bounds, strict=True)],
            ]
            axes.errorbar(
                [row[key] for row in shown],
                means,
                errors if shown else None,
                marker=marker,
                capsize=3,
                color=color,
                label=f"{stage} fine-tuning",
            )
        axes.axhline(100 * BLIND, color="black", linestyle=":", linewidth=1, label="without frame order")
        axes.set(xlabel=f"{label} (trained at {trained[key]})", ylim=(0, 100))
        axes.set_xticks([row[key] for row in line])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("motion accuracy, % (bar: 95% interval)")
    figure.axes[0].legend(loc="lower right")
    return figure
