"""Loading a model from the folder or file of a run, and the function that scores clips."""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import inference, model_file
from keras_stm.arguments import ArgumentError
from keras_stm.data import arrow_of_time
from tests.layers.check_layer import randomize

CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="dense", rate=12.5)


def make_model():
    """Returns a small model, which compiles fast and behaves differently in training."""
    clip = keras.Input((None, None, None, 3))
    x = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(clip)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization(name="bn")(x))
    return keras.Model(clip, keras.layers.Dense(2, "softmax", name="predictions")(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    make_model().save(path)
    return path


def assert_refused(path, message):
    with pytest.raises(ArgumentError, match=f"{message}.* Received: path=") as error:
        inference.load(path)
    assert (error.value.name, error.value.value) == ("path", str(path))
    assert "\n" not in str(error.value)


def test_a_run_is_loaded_with_all_that_is_needed_to_use_it(trained_run):
    trained = inference.load(trained_run)
    assert trained.model.name == "stm_small"
    assert trained.class_names == arrow_of_time.CLASS_NAMES
    assert (trained.num_frames, trained.image_size, trained.sampling) == (4, 32, "segments")
    assert trained.file == str(trained_run / "model.keras")


@pytest.fixture
def folder(saved, tmp_path):
    """A folder with only a model file, which has no class names and clip settings yet."""
    shutil.copy(saved, tmp_path)
    return tmp_path


@pytest.fixture
def complete(folder):
    model_file.annotate(folder / "model.keras", ("clap", "wave größer"), CLIP)
    return folder


def test_a_folder_and_the_file_in_it_load_as_the_same_model_with_names_and_clips(complete):
    by_folder, by_file = inference.load(complete), inference.load(str(complete / "model.keras"))
    for trained in (by_folder, by_file):
        assert trained.class_names == ("clap", "wave größer")
        assert (trained.num_frames, trained.image_size, trained.sampling, trained.rate) == CLIP
        assert trained.file == str(complete / "model.keras")
    for one, other in zip(by_folder.model.get_weights(), by_file.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_moved_alone_takes_its_names_and_clips_along(complete, tmp_path):
    moved = (complete / "model.keras").rename(tmp_path / "moved.keras")
    trained = inference.load(moved)
    assert trained.class_names == ("clap", "wave größer") and trained.num_frames == 4


def test_names_within_the_file_count_before_those_beside_it(complete):
    (complete / "class_names.txt").write_text("a\nb\n")
    assert inference.load(complete).class_names == ("clap", "wave größer")


def test_a_file_of_an_earlier_version_tells_no_rate(folder):
    old = {name: value for name, value in CLIP._asdict().items() if name != "rate"}
    with zipfile.ZipFile(folder / "model.keras", "a") as archive:
        archive.writestr("clip.json", json.dumps(old))
        archive.writestr("class_names.txt", "a\nb\n")
    assert inference.load(folder).rate is None


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), "8", True])
def test_a_wrong_rate_is_refused(folder, rate):
    with pytest.raises(ArgumentError) as error:
        model_file.annotate(folder / "model.keras", ("a", "b"), CLIP._replace(rate=rate))
    assert error.value.name == "rate"


def test_a_model_without_class_names_is_refused_by_what_it_lacks(folder):
    assert_refused(folder, "class_names.txt")


def test_the_rate_of_frames_may_be_unknown(folder):
    model_file.annotate(folder / "model.keras", ("a", "b"), CLIP._replace(rate=None))
    assert inference.load(folder).rate is None


@pytest.mark.parametrize("rate", [0, -1.0, float("inf"), float("nan"), "4", True])
def test_a_rate_that_is_no_positive_number_is_refused(rate, folder):
    with pytest.raises(ArgumentError) as error:
        model_file.annotate(folder / "model.keras", ("a", "b"), CLIP._replace(rate=rate))
    assert error.value.name == "rate"


def test_a_model_that_does_not_tell_its_clips_is_refused_by_what_it_lacks(folder):
    (folder / "class_names.txt").write_text("a\nb\n")
    assert_refused(folder, "clip.json")


def test_class_names_must_be_as_many_as_the_scores(folder):
    model_file.annotate(folder / "model.keras", ("a", "b", "c"), CLIP)
    assert_refused(folder, "3 .* 2 ")


@pytest.mark.parametrize("name", ["nowhere", "empty", "nowhere.keras"])
def test_where_there_is_no_model_the_error_says_what_is_expected(name, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / name, "model.keras")


def _cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def _no_zip(path):
    path.write_text("no model at all")


def _zip_of_something(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no model")


def _clip_of_something(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("clip.json", '{"frames": 8}')


@pytest.mark.parametrize("spoil", [_cut, _no_zip, _zip_of_something, _clip_of_something])
def test_a_file_that_is_no_model_is_refused_in_one_line(spoil, folder):
    spoil(folder / "model.keras")
    assert_refused(folder, "no model")


def test_a_model_that_there_is_no_memory_for_is_not_called_none(complete, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise MemoryError("no more")

    monkeypatch.setattr(keras.saving, "load_model", out_of_memory)
    with pytest.raises(MemoryError, match="no more"):
        inference.load(complete)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.every_backend
def test_predict_fn_gives_the_models_scores_and_leaves_it_as_it_was(rng):
    model = make_model()
    model.get_layer("bn").moving_variance.assign([2.0, 3.0, 4.0])
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    optimizer = model.optimizer
    predict = inference.predict_fn(model)
    for shape in ((3, 4, 32, 32, 3), (1, 2, 40, 48, 3)):
        clips = rng.normal(1, size=shape).astype("float32")
        scores = predict(clips)
        assert scores.dtype == np.float32
        expected = keras.ops.convert_to_numpy(model(clips, training=False))
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert model.optimizer is optimizer and model.jit_compile is False


@pytest.mark.every_backend
def test_predict_fn_sees_the_weights_of_the_moment(rng):
    model = make_model()
    predict = inference.predict_fn(model)
    clips = rng.normal(size=(1, 2, 32, 32, 3)).astype("float32")
    for best in (1, 0):
        model.get_layer("predictions").bias.assign(9.0 * np.eye(2)[best])
        assert predict(clips)[0].argmax() == best


def test_predict_fn_takes_a_sequential_model(rng):
    model = make_model()
    sequential = keras.Sequential([keras.Input((None, None, None, 3)), *model.layers[1:]])
    clips = rng.normal(size=(2, 2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(inference.predict_fn(sequential)(clips), inference.predict_fn(model)(clips))


def test_predict_fn_refuses_a_model_that_does_not_know_its_input():
    class Own(keras.Model):
        pass

    for model in (Own(name="own"), keras.Sequential([keras.layers.Dense(3)])):
        with pytest.raises(ArgumentError, match=f"Received: model='{model.name}' of ") as error:
            inference.predict_fn(model)
        assert (error.value.name, error.value.value) == ("model", model)


def test_xla_is_off_where_tensorflow_has_no_gpu(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [])
    assert inference.jit_compile() is False
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0"])
    assert inference.jit_compile() == "auto"


@pytest.mark.every_backend
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_steps_of_several_streams_are_those_of_their_clips_since_they_started_anew(data_format):
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3, causal=True, data_format=data_format)
    randomize(model)
    clips = np.random.default_rng(0).normal(size=(2, 3, 32, 32, 3)).astype("float32")
    step = inference.step_fn(model, 32, 4, streams=2)
    step(clips[:, 0], np.array([True, True]))
    # The second stream starts anew with its second frame, and the first one goes on.
    for time in (1, 2):
        scores = step(clips[:, time], np.array([False, time == 1]))
    expected = [inference.predict_fn(model)(clip)[0] for clip in (clips[:1], clips[1:, 1:])]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
