"""Presets, flags, and settings that are read back."""

import dataclasses
import json
import math

import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.commands import fit as command
from keras_stm.commands import flags
from keras_stm.train import presets, schedules

PAPERS = [name for name in presets.PRESETS if name not in ("small", "finetune", "arrow_of_time")]


def from_flags(*arguments):
    """Returns the settings that `keras-stm fit` reads from its arguments, as JSON."""
    values, _ = flags.parse(command.define_flags, ["fit.py", *arguments], "")
    return as_json(flags.read_settings(values))


def as_json(settings):
    return json.loads(json.dumps(dataclasses.asdict(settings)))


@pytest.mark.parametrize("name", PAPERS)
def test_presets_of_the_paper_have_its_recipe(name):
    preset = presets.PRESETS[name]
    small = name in ("ucf101", "hmdb51")
    assert (preset.dataset, preset.model, preset.image_size) == (name, "stm_resnet50", 224)
    assert (preset.optimizer, preset.weight_decay, preset.dropout) == ("sgd", 5e-4, 0.5)
    assert (preset.epochs, preset.decay_epochs) == ((25, (15,)) if small else (50, (30, 40, 45)))
    assert preset.flip == ("none" if name in ("something_v1", "something_v2", "jester") else "plain")
    assert (preset.weights == "imagenet") != small
    assert preset.parameter_groups == "none" and preset.clip_norm == 0
    # The paper's rate is for 8 GPUs with 8 clips each, or 4 clips each with 16 frames.
    assert preset.batch_size * preset.num_frames == 512
    rate = preset.learning_rate * preset.batch_size / schedules.REFERENCE_BATCH
    assert rate == pytest.approx(0.001 if small else 0.01)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_tells_its_command_and_that_of_a_paper_its_result_and_deviations(name):
    text = " ".join(getattr(presets, name).__doc__.split())
    assert text.startswith("Returns the settings of `keras-stm fit")
    if name in PAPERS:
        assert f"--preset={name} --data_dir=" in text
        assert "paper: top-1" in text and "| yours |" in text and "| |" in text
        assert "Not measured by us" in text
        assert "eviat" in text


def test_a_flag_overrides_the_preset_and_nothing_else():
    changed = from_flags(
        "--preset=jester", "--decay_epochs=3,4", "--scales=1,0.5", "--flip=labels", "--exclude=x"
    )
    expected = dataclasses.replace(
        presets.PRESETS["jester"], decay_epochs=(3, 4), scales=(1.0, 0.5), flip="labels", exclude="x"
    )
    assert changed == as_json(expected)


def test_saved_settings_are_given_back_and_flags_override_them(tmp_path):
    settings = dataclasses.replace(presets.PRESETS["ucf101"], fold=2, data_dir="/clips", scales=(1.0, 0.5))
    facts = {"classes": "0", "clips": [], "backend": "jax"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"settings": {**dataclasses.asdict(settings), **facts}}))
    assert from_flags(f"--config={file}") == as_json(settings)
    assert from_flags(f"--config={file}", "--fold=3")["fold"] == 3


@pytest.mark.parametrize(
    "content, part",
    [
        ("{}", "settings"),
        ("no json", "JSON"),
        ('{"settings": {"model": "stm_small"}}', "batch_size"),
        ("UNKNOWN", "no_such_setting"),
        ("VALUE", "epochs='five'"),
    ],
)
def test_a_file_without_settings_is_refused(content, part, tmp_path):
    settings = as_json(presets.PRESETS["small"])
    content = {
        "UNKNOWN": json.dumps({"settings": {**settings, "no_such_setting": 1}}),
        "VALUE": json.dumps({"settings": {**settings, "epochs": "five"}}),
    }.get(content, content)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArgumentError) as error:
        from_flags(f"--config={tmp_path / 'config.json'}")
    assert (error.value.name, error.value.value) == ("config", str(tmp_path / "config.json"))
    assert part in str(error.value)


@pytest.mark.parametrize(
    "arguments, name, value",
    [
        (["--preset=small", "--config=x.json"], "preset", "small"),
        (["--config=nowhere.json"], "config", "nowhere.json"),
        (["--schedule=steps"], "decay_epochs", ()),
        (["--decay_epochs=3,2"], "decay_epochs", (3, 2)),
        (["--decay_epochs=0,2"], "decay_epochs", (0, 2)),
        (["--parameter_groups=tsm"], "parameter_groups", "tsm"),
        (["--scales=1,1.5"], "scales", (1.0, 1.5)),
        (["--learning_rate=inf"], "learning_rate", math.inf),
    ],
)
def test_wrong_settings_are_named(arguments, name, value):
    with pytest.raises(ArgumentError) as error:
        from_flags(*arguments)
    assert (error.value.name, error.value.value) == (name, value)


def test_a_flag_of_several_numbers_takes_nothing_else():
    with pytest.raises(SystemExit, match="^fit.py: .*decay_epochs=a,b"):
        from_flags("--decay_epochs=a,b")
