"""Uploads a run to the Hugging Face Hub, with a model card."""

import csv
import json
import os
import shutil
import tempfile

from keras_stm import hub, inference
from keras_stm.arguments import ArgumentError
from keras_stm.class_names import to_lines
from keras_stm.model_file import CLASS_NAMES, MODEL
from keras_stm.progress import counted
from keras_stm.train import evaluation_folder, run_folder
from keras_stm.train.evaluate import describe_views
from keras_stm.weights.load import is_file

_CARD = "README.md"
# Settings that are paths of this machine, which tell nothing elsewhere.
_PATHS = ("data_dir", "exclude")


def push(run, name, licence=None):
    """Uploads a finished run as a model on the Hub: `hf://<name>` then names it everywhere.

    The Hub gets the model, its class names, settings, history and curves, a model card, and the table and the
    confusion matrix of each evaluation in the run's folder. Paths of this machine are left out.

    Args:
        run: folder of a run.
        name: name of the model on the Hub, `"user/name"`.
        licence: licence of the model, by the Hub's identifier, such as `"apache-2.0"`; or `None`.

    Returns:
        Address of the model's page.

    Raises:
        ValueError: if there is no such run, or the Hub refuses the upload.
        ImportError: if `huggingface_hub` is not installed.
    """
    trained = inference.load(run)
    config = os.path.join(trained.folder, run_folder.CONFIG)
    if not os.path.isfile(config):
        raise ArgumentError("run", run, f"must be the folder of a run, which contains {run_folder.CONFIG}")
    with open(config, encoding="utf-8") as file:
        record = json.load(file)
    settings = {key: value for key, value in record["settings"].items() if key not in _PATHS}
    if is_file(settings["weights"]):
        settings["weights"] = os.path.basename(settings["weights"])
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(trained.file, os.path.join(folder, MODEL))
        with open(os.path.join(folder, CLASS_NAMES), "wb") as file:
            file.write(to_lines(trained.class_names))
        with open(os.path.join(folder, run_folder.CONFIG), "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "versions": record["versions"]}, file, indent=2)
        for kept in (run_folder.HISTORY, run_folder.CURVES):
            if os.path.isfile(os.path.join(trained.folder, kept)):
                shutil.copyfile(os.path.join(trained.folder, kept), os.path.join(folder, kept))
        evaluations = _copy_evaluations(os.path.join(trained.folder, run_folder.EVALUATION), folder)
        card = make_card(
            *(trained, _data_name(record["settings"]), settings, record["versions"], evaluations),
            *(hub.repository_of(name), licence),
        )
        with open(os.path.join(folder, _CARD), "w", encoding="utf-8") as file:
            file.write(card)
        return hub.upload(folder, name)


def _copy_evaluations(source, folder):
    """Copies tables and figures of the evaluations; returns `{name: (results of result.json, rows)}`."""
    found = {}
    for name in sorted(os.listdir(source)) if os.path.isdir(source) else ():
        result = os.path.join(source, name, evaluation_folder.RESULT)
        if not os.path.isfile(result):
            continue
        with open(result, encoding="utf-8") as file:
            content = json.load(file)
        target = os.path.join(folder, run_folder.EVALUATION, name)
        os.makedirs(target)
        for kept in (evaluation_folder.PER_CLASS, evaluation_folder.CONFUSION):
            shutil.copyfile(os.path.join(source, name, kept), os.path.join(target, kept))
        with open(os.path.join(target, evaluation_folder.PER_CLASS), encoding="utf-8", newline="") as file:
            found[name] = (content, list(csv.DictReader(file)))
    return found


def _data_name(settings):
    if settings["data_dir"] is None:
        return "arrow of time, the embedded data set of keras_stm"
    return "own clips" if settings["dataset"] in ("folder", "list") else settings["dataset"]


def make_card(trained, data, settings, versions, evaluations, name, licence=None):
    """Returns the text of a model card.

    Args:
        trained: `inference.Trained`.
        data: name of the data set.
        settings: settings of the run, without paths.
        versions: versions of the packages that trained it.
        evaluations: `{name: (content of result.json, rows of per_class.csv)}`.
        name: `"user/name"`.
        licence: see `push`.
    """
    lines = [
        "---",
        *([f"license: {licence}"] if licence else []),
        "library_name: keras",
        "pipeline_tag: video-classification",
        "tags: [video-classification, action-recognition, keras_stm]",
        "---",
        f"# {name.rpartition('/')[2]}",
        "",
        f"{trained.model.name}, trained by keras_stm on {data}: {len(trained.class_names)} classes, clips of "
        f"{trained.num_frames} frames of {trained.image_size} pixels.",
        "",
        f"Licence: {licence or 'not stated'}.",
        "",
        "## Use",
        "",
        "```python",
        "import keras_stm",
        "",
        f'classify = keras_stm.VideoClassifier("{hub.PREFIX}{name}")',
        'classify("clip.mp4")',
        "```",
        "",
        "Fine-tune it on a folder of class folders:",
        "",
        f"    keras-stm fit --model={settings['model']} --weights={hub.PREFIX}{name} --data_dir=FOLDER",
        "",
        "## Accuracy",
        "",
    ]
    if not evaluations:
        lines += ["It was not evaluated. `keras-stm evaluate` measures it.", ""]
    for title, (content, rows) in evaluations.items():
        lines += _describe_evaluation(title, content, rows)
    lines += [
        "## Training",
        "",
        f"![Loss and accuracy]({run_folder.CURVES})",
        "",
        "| setting | value |",
        "| --- | --- |",
    ]
    lines += [f"| {key} | {_cell(value)} |" for key, value in settings.items() if key != "clips"]
    lines += ["", "Versions: " + ", ".join(f"{key} {value}" for key, value in versions.items()) + ".", ""]
    return "\n".join(lines)


def _describe_evaluation(title, content, rows):
    of, result = content["settings"], content["results"]["ordered"]
    figure = f"{run_folder.EVALUATION}/{title}/{evaluation_folder.CONFUSION}"
    return [
        f"### {_cell(title)}",
        "",
        f"Protocol: {describe_views(of)}, split {of['split']}, {counted(result['videos'], 'video')}.",
        "",
        "| top-1 | top-5 | mean class accuracy |",
        "| --- | --- | --- |",
        f"| {result['top1']:.1%} | {result['top5']:.1%} | {result['mean_class_accuracy']:.1%} |",
        "",
        f"![Confusion matrix]({figure})",
        "",
        "| class | videos | top-1 |",
        "| --- | --- | --- |",
        *(f"| {_cell(row['name'])} | {row['num_videos']} | {_share(row['top1'])} |" for row in rows),
        "",
    ]


def _share(text):
    return f"{float(text):.1%}" if text else ""


def _cell(value):
    """Returns a value as text that ends no cell of a table, and is no HTML."""
    escaped = str(value).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return "".join(character if character.isprintable() else " " for character in escaped)
