"""A model from the folder or the file that a run left, and the function that scores clips."""

import shutil
import zipfile

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import inference, model_file

CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="dense")


def tiny():
    return keras_stm.STMResNet((1, 1, 1, 1), 16, classes=2, dropout=0.5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    tiny().save(path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    """As a run leaves it, but for what loading does not need."""
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
        assert (trained.num_frames, trained.image_size, trained.sampling) == CLIP
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


def test_a_model_without_class_names_is_refused_by_what_it_lacks(folder):
    with pytest.raises(ValueError, match=r"without class_names.txt, which fit.py writes.* Received: path="):
        inference.load(folder)


def test_a_model_that_does_not_tell_its_clips_is_refused_by_what_it_lacks(folder):
    (folder / "class_names.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="without clip.json"):
        inference.load(folder)


def test_class_names_must_be_as_many_as_the_scores(folder):
    model_file.annotate(folder / "model.keras", ("a", "b", "c"), CLIP)
    with pytest.raises(ValueError, match="3 class names for 2 scores"):
        inference.load(folder)


@pytest.mark.parametrize("name", ["nowhere", "empty", "nowhere.keras"])
def test_where_there_is_no_model_the_error_says_what_is_expected(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match="folder of a finished run, which holds model.keras.* Received: path="
    ):
        inference.load(tmp_path / name)


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
    with pytest.raises(ValueError, match="no model that can be loaded") as error:
        inference.load(folder)
    assert "\n" not in str(error.value) and "Received: path=" in str(error.value)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_predict_fn_gives_the_models_scores_and_leaves_it_as_it_was(rng):
    model = tiny()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    optimizer = model.optimizer
    predict = inference.predict_fn(model)
    for shape in ((3, 4, 32, 32, 3), (1, 2, 40, 48, 3)):
        clips = rng.normal(size=shape).astype("float32")
        scores = predict(clips)
        assert scores.dtype == np.float32
        expected = keras.ops.convert_to_numpy(model(clips, training=False))
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert model.optimizer is optimizer and model.jit_compile is False


def test_predict_fn_sees_the_weights_of_the_moment(rng):
    model = tiny()
    predict = inference.predict_fn(model)
    clips = rng.normal(size=(1, 2, 32, 32, 3)).astype("float32")
    predict(clips)
    model.get_layer("predictions").bias.assign([0.0, 9.0])
    assert predict(clips)[0].argmax() == 1


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow")
def test_xla_is_off_where_tensorflow_has_no_gpu(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [])
    assert inference.jit_compile() is False
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0"])
    assert inference.jit_compile() == "auto"
