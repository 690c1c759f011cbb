"""`keras_stm.export.save`; that its scores are the model's is tested with the run of `fit.py`."""

import os

import keras
import pytest

import keras_stm


def tiny(**kwargs):
    return keras_stm.STMResNet((1, 1, 1, 1), 16, classes=3, **kwargs)


def test_an_existing_path_is_refused_and_kept(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "precious").write_text("")
    with pytest.raises(ValueError, match="`path` must not exist. Received: path="):
        keras_stm.export.save(tiny(), tmp_path / "1")
    assert os.listdir(tmp_path / "1") == ["precious"]


def test_class_names_are_written_beside_the_model_and_must_be_as_many_as_the_scores(tmp_path):
    keras_stm.export.save(tiny(), tmp_path / "1", ("a", "b", "c"))
    assert (tmp_path / "1" / "assets.extra" / "class_names.txt").read_text() == "a\nb\nc\n"
    with pytest.raises(ValueError, match=r"as many as the model's scores, 3. Received: class_names=\("):
        keras_stm.export.save(tiny(), tmp_path / "2", ("a", "b"))
    assert os.listdir(tmp_path) == ["1"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("disk full")

    monkeypatch.setattr(keras_stm.export, "_write", fail)
    monkeypatch.setattr(keras_stm.export, "_write_with_tensorflow", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        keras_stm.export.save(tiny(), tmp_path / "model" / "1")
    assert os.listdir(tmp_path / "model") == []


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="needs another backend")
def test_what_fails_in_the_process_with_tensorflow_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="export under TensorFlow failed"):
        keras_stm.export._write_with_tensorflow(str(tmp_path / "no.keras"), str(tmp_path / "1"))


def test_the_signature_takes_clips_of_any_size_and_returns_scores(tmp_path):
    import tensorflow as tf

    keras_stm.export.save(tiny(), tmp_path / "1")
    signature = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    assert signature.structured_input_signature[1]["clip"].shape.as_list() == [None] * 4 + [3]
    for shape in ((2, 4, 32, 32, 3), (1, 3, 45, 33, 3)):
        assert signature(clip=tf.zeros(shape))["scores"].shape == (shape[0], 3)
