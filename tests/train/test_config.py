"""Presets, flags, and settings that are read back."""

import dataclasses
import json
import math

import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.commands import fit as command
from keras_stm.commands import flags
from keras_stm.train import presets
from keras_stm.train.config import REFERENCE_BATCH

PAPERS = [name for name in presets.PRESETS if name not in ("small", "live", "finetune", "arrow_of_time")]


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
    rate = preset.learning_rate * preset.batch_size / REFERENCE_BATCH
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


def test_updates_replace_the_epochs_of_a_preset_and_do_not_go_with_others():
    assert from_flags("--preset=arrow_of_time", "--updates=90")["epochs"] == 0
    with pytest.raises(ArgumentError, match="`updates` must not be passed together with `epochs`, 3"):
        from_flags("--updates=90", "--epochs=3")


@pytest.mark.parametrize(
    "preset, updates_per_epoch, epochs, updates",
    [
        # The embedded data set.
        ("small", 75, 6, 450),
        ("small", 15, 30, 450),
        ("small", 20, 23, 460),
        ("small", 2, 60, 120),
        ("small", 1000, 6, 6000),
        ("finetune", 60, 25, 1500),
        ("finetune", 2, 50, 100),
        ("finetune", 300, 10, 3000),
    ],
)
def test_a_preset_for_own_clips_turns_its_updates_into_epochs(preset, updates_per_epoch, epochs, updates):
    settings = presets.PRESETS[preset].with_counted_epochs(updates_per_epoch)
    assert settings.epochs == epochs and epochs * updates_per_epoch == updates
    assert settings.early_stopping == 10


@pytest.mark.parametrize("updates_per_epoch, epochs, start", [(75, 6, 5), (20, 23, 19)])
def test_streams_train_as_long_as_clips_and_their_last_sixth_has_history(updates_per_epoch, epochs, start):
    settings = presets.PRESETS["live"].with_counted_epochs(updates_per_epoch)
    assert settings.causal and settings.history == 8
    assert (settings.epochs, settings.history_start) == (epochs, start)
    # Otherwise training might stop before, or keep an epoch without history.
    assert settings.early_stopping == 0
    assert dataclasses.replace(settings, history=0).history_start == epochs


def test_epochs_that_are_given_stay_and_decay_epochs_scale_only_with_counted_ones():
    steps = dataclasses.replace(presets.PRESETS["small"], schedule="steps", decay_epochs=(3, 5))
    given = dataclasses.replace(steps, epochs=7)
    assert given.with_counted_epochs(15) is given
    assert steps.with_counted_epochs(15).decay_epochs == (15, 25)


def test_the_embedded_data_set_trains_six_epochs_and_keeps_the_last_ones_weights():
    settings = from_flags()
    assert (settings["epochs"], settings["early_stopping"]) == (6, 0)
    assert settings == from_flags("--preset=arrow_of_time")
    assert from_flags("--data_dir=clips") == from_flags("--preset=small", "--data_dir=clips")


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
        (["--epochs=0"], "epochs", 0),
        (["--preset=small", "--min_epochs=9", "--max_epochs=8"], "max_epochs", 8),
        (["--preset=small", "--schedule=steps", "--decay_epochs=7"], "decay_epochs", (7,)),
        (["--learning_rate=inf"], "learning_rate", math.inf),
        (["--history=4"], "history", 4),
        (["--preset=live", "--early_stopping=3"], "early_stopping", 3),
    ],
)
def test_wrong_settings_are_named(arguments, name, value):
    with pytest.raises(ArgumentError) as error:
        from_flags(*arguments)
    assert (error.value.name, error.value.value) == (name, value)


def test_a_flag_of_several_numbers_takes_nothing_else():
    with pytest.raises(SystemExit, match="^fit.py: .*decay_epochs=a,b"):
        from_flags("--decay_epochs=a,b")
