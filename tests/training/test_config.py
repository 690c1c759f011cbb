"""Presets, flags, and settings that are given back."""

import dataclasses
import json

import pytest
from absl import flags
from absl.testing import flagsaver

import config
import fit  # noqa: F401  defines the flags
import schedules

PAPERS = [name for name in config.PRESETS if name not in ("small", "finetune", "arrow_of_time")]


def from_flags(*arguments):
    """What fit.py makes of its arguments, as JSON."""
    with flagsaver.flagsaver():
        flags.FLAGS(["fit.py", *arguments])
        return as_json(config.from_flags())


def as_json(settings):
    return json.loads(json.dumps(dataclasses.asdict(settings)))


@pytest.mark.parametrize("name", PAPERS)
def test_presets_of_the_paper_have_its_recipe(name):
    preset = config.PRESETS[name]
    small = name in ("ucf101", "hmdb51")
    assert (preset.dataset, preset.model, preset.image_size) == (name, "stm_resnet50", 224)
    assert (preset.optimizer, preset.weight_decay, preset.dropout) == ("sgd", 5e-4, 0.5)
    assert (preset.epochs, preset.decay_epochs) == ((25, (15,)) if small else (50, (30, 40, 45)))
    assert preset.flip == ("none" if name in ("something_v1", "something_v2", "jester") else "plain")
    assert (preset.weights == "imagenet") != small
    assert preset.parameter_groups == "none" and preset.clip_norm == 0
    # The paper's rate is for 8 GPUs of 8 clips, or of 4 where they have 16 frames.
    assert preset.batch_size * preset.num_frames == 512
    rate = preset.learning_rate * preset.batch_size / schedules.REFERENCE_BATCH
    assert rate == pytest.approx(0.001 if small else 0.01)


@pytest.mark.parametrize("name", config.PRESETS)
def test_every_preset_tells_its_command_and_that_of_a_paper_its_result_and_deviations(name):
    text = " ".join(getattr(config, name).__doc__.split())
    assert text.startswith("python training/fit.py")
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
        config.PRESETS["jester"], decay_epochs=(3, 4), scales=(1.0, 0.5), flip="labels", exclude="x"
    )
    assert changed == as_json(expected)


def test_saved_settings_are_given_back_and_flags_override_them(tmp_path):
    settings = dataclasses.replace(config.PRESETS["ucf101"], fold=2, data_dir="/clips", scales=(1.0, 0.5))
    facts = {"classes": "0", "clips": [], "backend": "jax"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"settings": {**dataclasses.asdict(settings), **facts}}))
    assert from_flags(f"--config={file}") == as_json(settings)
    assert from_flags(f"--config={file}", "--fold=3")["fold"] == 3


@pytest.mark.parametrize(
    "content, message",
    [
        ("{}", "config.json of a run"),
        ("no json", "config.json of a run"),
        ('{"settings": {"model": "stm_small"}}', "lacks .*batch_size"),
        ("UNKNOWN", "knows no setting for: no_such_setting"),
        ("VALUE", "epochs"),
    ],
)
def test_a_file_without_settings_is_refused(content, message, tmp_path):
    settings = as_json(config.PRESETS["small"])
    content = {
        "UNKNOWN": json.dumps({"settings": {**settings, "no_such_setting": 1}}),
        "VALUE": json.dumps({"settings": {**settings, "epochs": "five"}}),
    }.get(content, content)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        from_flags(f"--config={tmp_path / 'config.json'}")
    assert "Received: config=" in str(error.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--preset=small", "--config=x.json"], "exclude each other"),
        (["--decay_epochs=a,b"], "decay_epochs=a,b: must be numbers"),
        (["--config=nowhere.json"], "nowhere.json"),
        (["--schedule=steps"], "`decay_epochs` must not be empty"),
        (["--decay_epochs=3,2"], "must ascend from 1. Received: decay_epochs="),
        (["--decay_epochs=0,2"], "must ascend from 1. Received: decay_epochs="),
        (["--parameter_groups=tsm"], "`parameter_groups` are for optimizer 'sgd' alone"),
    ],
)
def test_wrong_flags_are_named(arguments, message):
    with pytest.raises((ValueError, flags.IllegalFlagValueError), match=message):
        from_flags(*arguments)
