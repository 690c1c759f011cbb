"""Checks a data set before a long training.

Opens every clip, counts its frames, and decodes the first, the middle and the last frame. This finds files
that are not videos and truncated files. --decode decodes all frames; this also finds damage in between, but
takes several times as long. The command also finds copies: files with the same bytes, and frame folders with
the same names, sizes and first frame.

  keras-stm check-data --data_dir=FOLDER                           # FOLDER/<class>/*.mp4
  keras-stm check-data --data_dir=FOLDER --dataset=something_v2    # in its original layout
  keras-stm check-data --data_dir=FOLDER --split=train,validation,test --decode

Prints a report and writes into --output:
  check_data.json    all findings
  exclude.txt        the unreadable clips, for `keras-stm fit --exclude`
  histograms.png     resolution, frame rate, length, clips per class

Exit status: 0 if all clips are readable, even if there are other findings; 2 if exclude.txt lists clips; 1 if
the check failed.
"""

import os
import shlex

from absl import flags

from keras_stm.commands import main as commands
from keras_stm.commands.flags import define_data, define_workers
from keras_stm.data.checking import EXCLUDE, FINDINGS, IMBALANCED, check
from keras_stm.data.dataset import describe_unused
from keras_stm.data.paths import absolute
from keras_stm.progress import tell
from keras_stm.replacing import replacing
from keras_stm.train.devices import hide_gpus

# See `keras_stm.commands`.
LOADS = ("keras_stm.plots.data", "keras_stm.train.data")
HISTOGRAMS = "histograms.png"
# Number of examples of a finding in the report; the JSON file has all.
_LISTED = 3
# Packing is worthwhile above this median short side, or this median length in seconds.
_LARGE = 340
_LONG = 5


def define_flags(values):
    """Defines the flags of the command."""
    define_data(values)
    flags.DEFINE_list(
        "split",
        ["train", "validation"],
        "Splits to check, out of train, validation and test.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_frames",
        8,
        "Clips with fewer frames are reported as too short.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "decode", False, "Decode all frames of each clip, not only three.", flag_values=values
    )
    define_workers(values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the written files. Default: saved_models/check_data-<name of data_dir>.",
        flag_values=values,
    )


def main(argv):
    """Runs the command; returns its exit status."""
    return commands.run(argv, define_flags, _run, __doc__)


def _run(values, paths):
    # Import it now: without matplotlib, drawing would fail after hours of reading.
    import matplotlib.figure  # noqa: F401

    from keras_stm.plots.data import plot_data

    if not values.data_dir:
        raise ValueError("--data_dir is missing: pass the folder of the data set to check")
    # A training may be using the GPUs' memory.
    hide_gpus()
    name = os.path.basename(absolute(values.data_dir))
    output = os.path.expanduser(values.output or os.path.join("saved_models", f"check_data-{name}"))
    found = check(
        values.data_dir,
        output,
        dataset=values.dataset,
        fold=values.fold,
        group_by=values.group_by,
        splits=values.split,
        num_frames=values.num_frames,
        decode=values.decode,
        workers=values.workers,
    )
    with replacing(os.path.join(output, HISTOGRAMS)) as path:
        plot_data(path, found.facts, found.class_sizes, found.class_names)
    print_report(found.findings)
    print_next(found.findings, output)
    return 2 if any(found.findings["unreadable"].values()) else 0


def print_report(findings):
    """Prints a summary of the findings that fits on a screen."""
    from keras_stm.plots.data import as_text

    tell(f"\n{findings['data_dir']}: {findings['classes']} classes")
    for split, found in findings["splits"].items():
        tell(f"{split:>12}{found['clips']:10,} clips, {found['readable']:,} of them can be read")
        if found["balance"]:
            (smallest, least), (largest, most) = found["balance"]["smallest"], found["balance"]["largest"]
            median, ratio = as_text(found["balance"]["median"]), as_text(found["balance"]["ratio"])
            tell(
                f"{least:22,} ({smallest}) to {most:,} ({largest}) per class, median {median}, ratio {ratio}"
            )
            if split == "train" and found["balance"]["ratio"] >= IMBALANCED:
                advice = "train with --sampling_weights=balanced or --class_weights=balanced"
                tell(f"{'':22} imbalanced: {advice}")
            if found["balance"]["empty"]:
                tell(f"{'':22} none of {_first(found['balance']['empty'])}")
        if found["missing"]:
            tell(f"{len(found['missing']):22,} more are listed but do not exist: {_first(found['missing'])}")

    unused = describe_unused(findings["unused"])
    if unused:
        tell(unused)

    leaks, copies = [], []
    for group in findings["copies"]:
        example = _first([f"{clip['path']} ({clip['class'] or 'no label'})" for clip in group], " = ")
        (copies if len({clip["split"] for clip in group}) == 1 else leaks).append(example)
    _print_examples("LEAKAGE", "the same clip in several splits; measured accuracy will be too high", leaks)
    for kind, clips in findings["unreadable"].items():
        _print_examples(kind, f"in {EXCLUDE}", [f"{clip['path']}: {clip['reason']}" for clip in clips])
    _print_examples(
        "too short",
        f"fewer than {findings['num_frames']} frames, which will be repeated; not in {EXCLUDE}",
        [f"{clip['path']}: {clip['frames']}" for clip in findings["too_short"]],
    )
    _print_examples("copies", f"the same clip several times in one split; not in {EXCLUDE}", copies)

    tell(f"\n{'':16}{'min':>9}{'median':>9}{'max':>9}   most frequent")
    for name, found in findings["facts"].items():
        numbers = "".join(f"{as_text(found.get(key, '')):>9}" for key in ("min", "median", "max"))
        frequent = ", ".join(f"{as_text(value)} ({count:,})" for value, count in found["most_frequent"])
        tell(f"{name:16}{numbers}   {frequent or 'unknown'}")


def _print_examples(title, meaning, examples):
    if examples:
        tell(f"\n{title} ({len(examples):,}): {meaning}")
        for example in examples[:_LISTED]:
            tell(f"  {example}")


def _first(names, separator=", "):
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return separator.join(names[:_LISTED]) + more


def print_next(findings, output):
    """Prints where the findings are and what to do about them."""
    from keras_stm.train.data import data_flags

    tell(f"\n{', '.join((FINDINGS, EXCLUDE, HISTOGRAMS))}: {output}")
    medians = {name: found.get("median", 0) for name, found in findings["facts"].items()}
    if findings["dataset"] != "packed" and (medians["short side"] > _LARGE or medians["seconds"] > _LONG):
        tell("The clips are large or long: after `keras-stm pack`, reading them is several times faster.")
    if findings["suggested_group_by"]:
        flag = shlex.join([f"--group_by={findings['suggested_group_by']}"])
        tell(f"Names suggest that several clips come from one source. Keep them in one split: {flag}")
    # Packed clips are chosen when they are packed.
    if any(findings["unreadable"].values()) and findings["dataset"] != "packed":
        flags = data_flags({**findings, "exclude": os.path.join(output, EXCLUDE)})
        tell(f"To train without the unreadable clips:\n  keras-stm fit {flags}")
