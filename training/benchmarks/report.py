"""The results of the benchmark as comparable numbers, as tables and as JSON."""

import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess

from benchmarks.networks import BFLOAT16_KINDS
from benchmarks.startup import LIBRARIES
from keras_stm.replacing import replacing

_PACKAGES = (
    *("keras_stm", "keras", "tensorflow", "jax", "jaxlib", "torch"),
    *("openvino", "onnxruntime", "tf2onnx", "numpy"),
)
# A training step costs about three inferences: the forward pass, and twice as much for the gradients.
_PASSES = {"inference": 1, "training": 3}


def ratio(base, seconds):
    """Returns how many times as fast as `base` a step is, from times in the same rounds.

    Args:
        base: list of the base's seconds, one for each round.
        seconds: list of the step's seconds, one for each round.

    Returns:
        Dictionary of the median of the rounds' ratios as `ratio`, and their range, `low` and `high`.
    """
    ratios = [other / own for other, own in zip(base, seconds, strict=True)]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def summarize(results, options):
    """Returns the results of `networks.measure` with derived numbers, ready for JSON.

    Each row also has the median `milliseconds`; `videos_per_second`; `peak_share`, its share of the FLOP/s of
    the fastest matrix product; `to_tsn`, its `ratio` to TSN of the same kind; and `memory_to_tsn`, its
    `memory_mib` divided by TSN's.

    Args:
        results: dictionary that `networks.measure` returns.
        options: namespace of the command's flags.
    """
    peak = max((speed for speeds in results["products"].values() for speed in speeds), default=None)
    by_place = {_place(row, "backend", "kind", "network"): row for row in results["rows"]}
    rows = []
    for row in results["rows"]:
        seconds = statistics.median(row["seconds"])
        tsn = by_place.get(_place({**row, "network": "TSN"}, "backend", "kind", "network"))
        share = None
        # The peak is that of float32, unless all kinds compute in bfloat16.
        if row["macs"] and peak and row["kind"] not in BFLOAT16_KINDS:
            operations = 2 * row["macs"] * row["batch"] * _PASSES[row["task"]]
            share = operations / seconds / peak
        rows.append(
            {
                **row,
                "milliseconds": seconds * 1000,
                "videos_per_second": row["batch"] / seconds,
                "to_tsn": tsn and ratio(tsn["seconds"], row["seconds"]),
                "memory_to_tsn": _quotient(row["memory_mib"], tsn and tsn["memory_mib"]),
                "peak_share": share,
            }
        )
    return {
        "machine": describe_machine(),
        "options": vars(options),
        **results,
        "peak_flops": peak,
        "rows": rows,
        "comparisons": compare(rows),
        "startup": [_summarize_startup(row) for row in results["startup"]],
    }


def compare(rows):
    """Returns the `ratio` of each row of keras_stm to each other library, for the same network and clips."""
    names = ("task", "frames", "batch", "network", "backend", "kind")
    return [
        {
            **{name: row[name] for name in names},
            "against": other["kind"],
            **ratio(other["seconds"], row["seconds"]),
        }
        for row in rows
        for other in rows
        if row["backend"] and not other["backend"] and _place(row, "network") == _place(other, "network")
    ]


def _quotient(value, base):
    return value / base if value and base else None


def _place(row, *names):
    return tuple(row[name] for name in ("task", "frames", "batch", *names))


def _summarize_startup(row):
    theirs, ours = (row["seconds"][library] for library in LIBRARIES)
    return {
        **row,
        "seconds_over": statistics.median(ours) - statistics.median(theirs),
        # Unlike elsewhere this ratio is of times: keras_stm takes so many times as long as Keras.
        **ratio(ours, theirs),
    }


def describe_machine():
    """Returns the processor, the number of cores that this process may use, GPUs and package versions."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = []
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu(), "cores": cores, "gpus": gpus, "versions": versions}


def _cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def format_report(report):
    """Returns the report as text of at most 110 columns."""
    image_size = report["options"]["image_size"]
    parts = []
    for setting, rows in _group(report["rows"]).items():
        head = ["backend", "kind", "network", "GMACs", "M params", "ms", "V/s", "to TSN", "", "peak"]
        if setting[0] == "training":
            head += ["MiB", "to TSN"]
        parts.append(_title(setting, image_size))
        parts.append(_align([head, *(_cells(row)[: len(head)] for row in rows)], left=3))
    for setting, comparisons in _group(report["comparisons"]).items():
        parts.append(f"{_title(setting, image_size)}: speed of keras_stm, the other library is 1.00")
        parts.append(_format_comparisons(comparisons))
    if report["startup"]:
        head = ["backend", "what", *LIBRARIES, "seconds over", "ratio", ""]
        parts.append(
            "start-up, seconds: import in a fresh process, build of a ResNet-50\n"
            "seconds over: keras_stm minus keras; ratio: time of keras_stm, keras is 1.00; lower is faster"
        )
        parts.append(_align([head, *map(_startup_cells, report["startup"])], left=2))
    parts.append(_format_machine(report))
    return "\n\n".join(parts)


def _group(rows):
    groups = {}
    for row in rows:
        groups.setdefault(_place(row), []).append(row)
    return groups


def _title(setting, image_size):
    task, frames, batch = setting
    return f"{task}, batch {batch}, clips of {frames} x {image_size} x {image_size}"


def _cells(row):
    return [
        row["backend"] or "-",
        row["kind"],
        row["network"],
        _number(row["macs"] and row["macs"] / 1e9, ".3g"),
        _number(row["parameters"] and row["parameters"] / 1e6, ".3g"),
        _number(row["milliseconds"], ".1f"),
        _number(row["videos_per_second"], ".2f"),
        *_ratio_cells(row["to_tsn"]),
        _number(row["peak_share"], ".0%"),
        _number(row["memory_mib"], ".0f"),
        _number(row["memory_to_tsn"], ".2f"),
    ]


def _format_comparisons(comparisons):
    others = list(dict.fromkeys(each["against"] for each in comparisons))
    lines = {}
    for each in comparisons:
        line = lines.setdefault((each["network"], each["backend"], each["kind"]), {})
        line[each["against"]] = " ".join(_ratio_cells(each))
    head = ["network", "backend", "kind", *others]
    return _align(
        [head, *([*names, *(line.get(other, "-") for other in others)] for names, line in lines.items())],
        left=3,
    )


def _startup_cells(row):
    medians = [_number(statistics.median(row["seconds"][library]), ".2f") for library in LIBRARIES]
    return [row["backend"], row["what"], *medians, _number(row["seconds_over"], "+.2f"), *_ratio_cells(row)]


def _ratio_cells(value):
    if value is None:
        return ["-", ""]
    is_itself = value["low"] == value["high"] == 1
    return [f"{value['ratio']:.2f}", "" if is_itself else f"({value['low']:.2f}-{value['high']:.2f})"]


def _number(value, spec):
    return "-" if value is None else format(value, spec)


def _align(rows, left):
    """Returns columns two spaces apart; the first `left` are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _format_machine(report):
    machine, size = report["machine"], report["options"]["matrix_size"]
    lines = [", ".join([machine["cpu"], f"{machine['cores']} cores", *machine["gpus"]])]
    for name, speeds in report["products"].items():
        lines.append(
            f"product of {size} x {size} matrices by {name}: {max(speeds) / 1e9:,.0f} GFLOP/s, "
            f"the fastest of {len(speeds)}"
        )
    lines.append("V/s: videos a second; to TSN: speed, TSN is 1.00, median and range of the rounds")
    lines.append(
        "MiB: peak memory of a step in a fresh process, minus the memory before its first step\n"
        "to TSN, after MiB: memory, TSN is 1.00"
    )
    lines.append("peak: share of the fastest matrix product's FLOP/s; training counts as three inferences")
    versions = [f"{name} {version}" for name, version in machine["versions"].items()]
    lines += [", ".join(versions[:6]), ", ".join(versions[6:])]
    lines += [f"skipped: {kind}, {reason}" for kind, reason in report["left_out"].items()]
    return "\n".join(lines)


def write_json(report, path):
    """Writes the report as JSON; an interrupted write leaves no partial file."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
