"""`keras_stm.export`: what it writes gives the model's scores to those who have no Keras."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import inference
from keras_stm.data import arrow_of_time, frames, load_clip, segments, views
from tests.layers.check_layer import randomize
from tests.reference.backend import BACKEND, compute, numpy, oriented

REAL_CLIPS = pathlib.Path(__file__).parents[2] / "shared" / "real_clips"
T, SIZE = 4, 32
NAMES = ("left", "right", "größer")


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def tiny(**arguments):
    """A model whose scores differ between classes and between clips."""
    keras.utils.set_random_seed(0)
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=len(NAMES), **arguments)
    randomize(model)
    head = model.get_layer("predictions")
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.01, head.kernel.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def predict(model):
    return inference.predict_fn(model)


@pytest.fixture(scope="module")
def archive(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("serving") / "1"
    keras_stm.export.save(model, path, NAMES, num_frames=T, image_size=SIZE, top_k=2)
    return str(path)


@pytest.fixture(scope="module")
def loaded(archive):
    import tensorflow as tf

    return tf.saved_model.load(archive)


@pytest.fixture(scope="module")
def call(loaded):
    """Function of a signature's name and its inputs, that returns its outputs as arrays."""
    import tensorflow as tf

    def call(signature, **inputs):
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in loaded.signatures[signature](**inputs).items()}

    return call


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    for package in ("tf2onnx", "onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    keras_stm.export.save_onnx(model, path, NAMES, num_frames=T, image_size=SIZE)
    return str(path)


def random_frames(num_frames, height, width, seed=0):
    """Blots, as a resize of noise would show little but its mean."""
    noise = np.random.default_rng(seed).integers(0, 256, (num_frames, -(-height // 8), -(-width // 8), 3))
    return noise.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype("uint8")


def expected_scores(predict, source):
    """What Python's evaluation gives: `source` as of `views.read_views`."""
    return predict(views.read_views(source, T, SIZE))


def assert_scores(actual, expected):
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize(
    "shape",
    [(9, 50, 41), (24, 31, 77), (3, 37, 37), (1, 20, 9), (70, 97, 64), (4, 32, 32), (5, 1, 3)],
    ids=str,
)
def test_frames_of_any_number_and_size_give_the_scores_of_pythons_evaluation(shape, predict, call):
    source = random_frames(*shape)
    assert_scores(
        call("serving_default", clip=source[np.newaxis])["scores"], expected_scores(predict, source)
    )


def test_clips_of_arrow_of_time_are_answered_as_in_python(predict, call):
    expected = []
    for seed, name in enumerate(arrow_of_time.CLASS_NAMES):
        source = arrow_of_time.make_clip(name, seed).frames
        expected.append(expected_scores(predict, source))
        assert_scores(call("serving_default", clip=source[np.newaxis])["scores"], expected[-1])
    # Else an answer that is always the same would do.
    assert len(np.unique(np.argmax(expected, axis=-1))) > 1 and np.ptp(expected, axis=0).max() > 0.05


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="no real clips beside the checkout")
def test_real_clips_are_answered_as_in_python(predict, call):
    for path in sorted(REAL_CLIPS.iterdir()):
        source = frames.read_frames(path, range)
        expected = predict(load_clip(path, T, SIZE))
        assert_scores(call("serving_default", clip=source[np.newaxis])["scores"], expected)


@pytest.mark.parametrize("size", [(45, 60), (400, 231), (224, 300), (256, 256)], ids=str)
def test_pixels_of_the_papers_size_are_those_of_python(size):
    from keras_stm.export.graph import prepare_clips

    source = random_frames(3, *size)
    clip = prepare_clips(source[np.newaxis], 8, 224, 256, "segments")
    np.testing.assert_allclose(clip, views.read_views(source, 8, 224), atol=1e-4)


@pytest.mark.parametrize("sampling", segments.SAMPLING)
def test_the_graph_picks_the_frames_that_python_picks(sampling):
    import tensorflow as tf

    from keras_stm.export.graph import frame_indices

    for num_frames in (1, 3, 8, 70):
        for total in (1, 2, 7, 8, 9, 63, 64, 65, 150, 301):
            expected = segments.clip_indices(total, num_frames, sampling)
            np.testing.assert_array_equal(frame_indices(tf.constant(total), num_frames, sampling), expected)


def encode(source):
    import tensorflow as tf

    return [tf.io.encode_jpeg(frame, quality=95).numpy() for frame in source]


def frame_folder(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        (folder / f"{i + 1:05d}.jpg").write_bytes(image)
    return folder


@pytest.mark.parametrize("size", [(40, 31), (510, 600), (511, 600), (600, 1021), (1025, 1100)], ids=str)
def test_jpeg_files_are_decoded_to_the_pixels_of_python(size):
    """At sizes about those from which on images are decoded smaller."""
    import tensorflow as tf

    from keras_stm.data.jpeg import decode
    from keras_stm.export.graph import decode_clip

    images = encode(random_frames(3, *size))
    frames = decode_clip(tf.constant(images), 2, "segments").numpy()
    np.testing.assert_array_equal(frames, decode([images[0], images[2]]))


def test_jpeg_files_of_two_sizes_are_answered_as_folders_of_them(predict, call, tmp_path):
    videos = [encode(random_frames(6, 513, 560)), encode(random_frames(6, 40, 31, seed=1))]
    scores = call("jpeg", images=videos)["scores"]
    for i, images in enumerate(videos):
        expected = expected_scores(predict, frame_folder(tmp_path / str(i), images))
        assert_scores(scores[i : i + 1], expected)


def test_only_the_frames_that_are_picked_are_decoded(call):
    images = encode(random_frames(3 * T, 32, 32))
    picked = segments.center_indices(len(images), T)
    scores = call("jpeg", images=[images])["scores"]
    spoilt = [image if i in picked else b"no image" for i, image in enumerate(images)]
    np.testing.assert_array_equal(call("jpeg", images=[spoilt])["scores"], scores)


def test_prepared_clips_of_any_length_and_size_are_taken_as_the_model_takes_them(predict, call):
    for shape in ((2, 4, 32, 32, 3), (1, 3, 45, 33, 3)):
        clip = np.random.default_rng(0).normal(size=shape).astype("float32")
        np.testing.assert_allclose(call("float", clip=clip)["scores"], predict(clip), atol=1e-5)


def test_labels_are_the_names_of_the_best_scores_in_their_order(call):
    outputs = call("serving_default", clip=np.stack([random_frames(5, 40, 50, seed) for seed in range(8)]))
    order = np.argsort(-outputs["scores"], axis=1)[:, :2]
    labels = [[label.decode() for label in row] for row in outputs["labels"]]
    assert labels == [[NAMES[index] for index in row] for row in order]
    np.testing.assert_array_equal(outputs["top_scores"], np.take_along_axis(outputs["scores"], order, axis=1))


def test_the_signatures_state_what_they_take(loaded):
    stated = {
        name: {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in inputs.items()}
        for name, signature in loaded.signatures.items()
        for inputs in signature.structured_input_signature[1:]
    }
    assert stated == {
        "serving_default": {"clip": ([None, None, None, None, 3], "uint8")},
        "jpeg": {"images": ([None, None], "string")},
        "float": {"clip": ([None, None, None, None, 3], "float32")},
    }


def jpeg_then(image):
    return lambda: [[*encode(random_frames(1, 16, 16)), image() if callable(image) else image]]


@pytest.mark.parametrize(
    "signature, inputs, message",
    [
        ("serving_default", lambda: np.zeros((1, 0, 8, 8, 3), "uint8"), "`clip` has no frames"),
        ("serving_default", lambda: np.zeros((1, 2, 8, 0, 3), "uint8"), "`clip` has no pixels"),
        ("serving_default", lambda: np.zeros((4, 8, 8, 3), "uint8"), r"clip \[4,8,8,3\] is not compatible"),
        ("serving_default", lambda: np.zeros((1, 2, 8, 8, 1), "uint8"), r"expected shape \[\?,\?,\?,\?,3\]"),
        ("serving_default", lambda: np.zeros((1, 2, 8, 8, 3), "float32"), "expected to be a uint8 tensor"),
        ("float", lambda: np.zeros((4, 8, 8, 3), "float32"), "is not compatible with expected shape"),
        ("jpeg", lambda: np.zeros((1, 0), "S"), "`images` has no frames"),
        ("jpeg", lambda: encode(random_frames(2, 8, 8)), r"images \[2\] is not compatible"),
        ("jpeg", jpeg_then(b"\x89PNG"), "`images` must be JPEG files"),
        ("jpeg", jpeg_then(lambda: encode(random_frames(1, 8, 16))[0]), "must have one size"),
        ("jpeg", jpeg_then(lambda: encode(random_frames(1, 16, 16))[0][:500]), "Invalid JPEG data"),
    ],
)
def test_a_request_that_makes_no_sense_fails_with_a_line_that_says_why(signature, inputs, message, call):
    import tensorflow as tf

    name = "images" if signature == "jpeg" else "clip"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(signature, **{name: inputs()})


@pytest.fixture(scope="module")
def question(predict, tmp_path_factory):
    """A file of clips and the scores of the model."""
    path = tmp_path_factory.mktemp("question") / "clip.npy"
    clip = np.stack([random_frames(9, 50, 41, seed) for seed in range(2)])
    np.save(path, clip)
    return path, np.concatenate([expected_scores(predict, each) for each in clip])


def python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]


def test_a_process_with_tensorflow_alone_gets_the_models_scores(archive, question, tmp_path):
    path, expected = question
    code = """
import sys
sys.modules["keras"] = sys.modules["keras_stm"] = None  # makes their import fail
import numpy as np, tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
scores = model.signatures["serving_default"](clip=tf.constant(np.load(sys.argv[2])))["scores"]
np.save(sys.argv[3], scores)
"""
    python(code, archive, path, tmp_path / "scores.npy")
    assert_scores(np.load(tmp_path / "scores.npy"), expected)


@needs("openvino")
def test_openvino_without_tensorflow_gets_the_models_scores_and_labels(archive, question, tmp_path):
    path, expected = question
    code = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["keras_stm"] = None
import numpy as np, openvino

model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answer = model({"clip": np.load(sys.argv[2])})
np.savez(sys.argv[3], scores=answer["scores"], labels=answer["labels"])
"""
    python(code, archive, path, tmp_path / "answer.npz")
    with np.load(tmp_path / "answer.npz") as answer:
        assert_scores(answer["scores"], expected)
        assert answer["labels"][:, 0].tolist() == [NAMES[index] for index in expected.argmax(axis=1)]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the archive is the same under every backend")
def test_saved_model_cli_runs_the_archive(archive, question, tmp_path):
    path, expected = question
    command = [
        *(os.path.join(os.path.dirname(sys.executable), "saved_model_cli"), "run", "--dir", archive),
        *("--tag_set", "serve", "--signature_def", "serving_default", "--inputs", f"clip={path}"),
        *("--outdir", str(tmp_path)),
    ]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    assert_scores(np.load(tmp_path / "scores.npy"), expected)


@needs("onnxruntime")
def test_onnx_runtime_gets_the_models_scores_and_names(onnx_file, question, call):
    import onnxruntime

    path, expected = question
    session = onnxruntime.InferenceSession(onnx_file)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(NAMES)
    (scores,) = session.run(["scores"], {"clip": np.load(path)})
    assert_scores(scores, expected)
    np.testing.assert_allclose(scores, call("serving_default", clip=np.load(path))["scores"], atol=1e-4)


def backbone_and_head(policy):
    keras.config.set_dtype_policy(policy)
    try:
        backbone = keras_stm.STMResNet(
            (1, 1, 1, 1), 16, include_top=False, pooling="avg", data_format="channels_first"
        )
        head = keras.layers.Dense(12, "softmax", dtype="float32")
        model = keras.Sequential([keras.Input((None, 3, None, None)), backbone, head])
    finally:
        keras.config.set_dtype_policy("float32")
    randomize(model)
    head.kernel.assign(np.random.default_rng(0).normal(0, 0.002, head.kernel.shape))
    return model


def test_other_models_and_options_are_exported_as_well(tmp_path):
    """Channels first, mixed precision, layers around a backbone, no names, dense frames, another resize."""
    import tensorflow as tf

    model = backbone_and_head("mixed_bfloat16")
    keras_stm.export.save(
        model, tmp_path / "1", num_frames=T, image_size=SIZE, resize_size=40, top_k=20, sampling="dense"
    )

    loaded = tf.saved_model.load(str(tmp_path / "1"))
    source = random_frames(90, 40, 44)
    outputs = loaded.signatures["serving_default"](clip=source[np.newaxis])
    # The short side is 40 already.
    clip = source[segments.dense_indices(90, T), 4:36, 6:38]
    clip = keras_stm.preprocess_input(clip)[np.newaxis]
    scores = outputs["scores"].numpy()
    expected = numpy(compute(backbone_and_head("float32"), oriented(clip, "channels_first")))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(scores) > 0.1
    best = np.argsort(-scores[0], kind="stable")
    assert [label.decode() for label in outputs["labels"].numpy()[0]] == [str(index) for index in best]
    prepared = loaded.signatures["float"](clip=clip)["scores"]
    np.testing.assert_allclose(prepared, scores, atol=1e-4)
    assert "class_names.txt" not in os.listdir(tmp_path / "1" / "assets.extra")


def test_the_archive_holds_the_names_and_a_request_that_fits_its_signature(archive):
    extra = pathlib.Path(archive, "assets.extra")
    assert sorted(os.listdir(extra)) == ["class_names.txt", "request.json", "response.json"]
    assert (extra / "class_names.txt").read_bytes().decode() == "".join(f"{name}\n" for name in NAMES)
    request, response = (json.loads((extra / f"{name}.json").read_text()) for name in ("request", "response"))
    assert request["signature_name"] == "jpeg"
    assert [set(image) for image in request["instances"][0]] == [{"b64"}] * T
    (prediction,) = response["predictions"]
    assert sorted(prediction["scores"])[:0:-1] == prediction["top_scores"]
    assert prediction["labels"][0] == NAMES[np.argmax(prediction["scores"])]
    keras_stm.export.check_example(archive)


def other_signature(request, response):
    request["signature_name"] = "predict"


def other_rank(request, response):
    request["instances"] = request["instances"][0]


def other_type(request, response):
    request["signature_name"] = "serving_default"


def other_scores(request, response):
    response["predictions"][0]["scores"][0] += 0.1


@pytest.mark.parametrize(
    "spoil, message",
    [
        (other_signature, "a signature that is not there, 'predict'"),
        (other_rank, r"strings \(4,\) to 'jpeg', which takes `images` of string \(None, None\)"),
        (other_type, "strings .* to 'serving_default', which takes `clip` of uint8"),
        (other_scores, "a response that is not the model's"),
    ],
)
def test_an_example_that_does_not_fit_is_found(spoil, message, archive, tmp_path):
    copy = shutil.copytree(archive, tmp_path / "1")
    files = [copy / "assets.extra" / f"{name}.json" for name in ("request", "response")]
    contents = [json.loads(file.read_text()) for file in files]
    spoil(*contents)
    for file, content in zip(files, contents, strict=True):
        file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"`path` .*{message}.*Received: path="):
        keras_stm.export.check_example(copy)


def test_a_folder_without_an_example_is_no_archive(tmp_path):
    with pytest.raises(ValueError, match="must be a SavedModel of keras_stm.export.save.*Received: path="):
        keras_stm.export.check_example(tmp_path)


SAVES = (keras_stm.export.save, keras_stm.export.save_onnx)


@pytest.mark.parametrize("save", SAVES)
def test_an_existing_path_is_refused_and_kept(save, model, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "precious").write_text("")
    with pytest.raises(ValueError, match="`path` must not exist; .*Received: path="):
        save(model, tmp_path / "1", num_frames=T, image_size=SIZE)
    assert os.listdir(tmp_path / "1") == ["precious"]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    "arguments",
    [
        {"class_names": ("a", "b")},
        {"num_frames": 0},
        {"num_frames": 2.0},
        {"image_size": "32"},
        {"resize_size": 31},
        {"resize_size": True},
        {"sampling": "random"},
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_before_anything_is_written(arguments, save, model, tmp_path):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"`{name}` must.*Received: {name}=") as error:
        save(model, tmp_path / "1", **{"num_frames": T, "image_size": SIZE, **arguments})
    assert "\n" not in str(error.value) and repr(value).strip("()") in str(error.value)
    assert os.listdir(tmp_path) == []


def test_top_k_must_be_positive(model, tmp_path):
    with pytest.raises(ValueError, match="`top_k` must be a positive integer. Received: top_k=0"):
        keras_stm.export.save(model, tmp_path / "1", top_k=0)


@pytest.mark.parametrize("save", SAVES)
def test_a_model_that_gives_no_scores_or_takes_other_clips_is_refused(save, tmp_path):
    features = keras_stm.STMResNet((1, 1, 1, 1), 16, include_top=False)
    with pytest.raises(ValueError, match="`model` must return scores, .*include_top=False.*output_shape="):
        save(features, tmp_path / "1")
    images = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must take RGB clips.*input_shape="):
        save(images, tmp_path / "1")
    with pytest.raises(ValueError, match=r"must fit the model, which takes \(T, H, W\) = \(8, 32, 48\)"):
        save(tiny(input_shape=(8, 32, 48, 3)), tmp_path / "1", num_frames=8, image_size=32)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("save", SAVES)
def test_a_failure_leaves_nothing_behind(save, model, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(os, "rename", fail)
    monkeypatch.setattr(keras_stm.export, "_write_with_tensorflow", fail)
    monkeypatch.setattr("keras_stm.export.writers.WRITERS", {"saved_model": fail, "onnx": fail})
    with pytest.raises(RuntimeError, match="disk full"):
        save(model, tmp_path / "model" / "1", num_frames=T, image_size=SIZE)
    assert os.listdir(tmp_path / "model") == []


def test_a_missing_package_is_told_with_how_to_install_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match="pip install tf2onnx$"):
        keras_stm.export.save_onnx(model, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="needs tensorflow: pip install tensorflow$"):
        keras_stm.export.save(model, tmp_path / "1")


@pytest.mark.skipif(BACKEND == "tensorflow", reason="needs another backend")
def test_what_fails_in_the_process_with_tensorflow_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="export under TensorFlow failed"):
        keras_stm.export._write_with_tensorflow("onnx", str(tmp_path / "no.keras"), str(tmp_path / "1"), {})
