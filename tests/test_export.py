"""`keras_stm.export`: the exported files return the model's scores in programs without Keras."""

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
from keras_stm.arguments import ArgumentError
from keras_stm.data import arrow_of_time, frames, load_clip, segments, views
from keras_stm.layers import STMBlock
from keras_stm.layers.per_frame import PerFrame
from tests.layers.check_layer import randomize
from tests.reference.backend import BACKEND, compute, numpy, oriented, relative_error

REAL_CLIPS = pathlib.Path(__file__).parents[2] / "shared" / "real_clips"
T, SIZE = 4, 32
NAMES = ("left", "right", "größer")


@pytest.fixture(scope="module")
def trained(trained_run):
    return inference.load(trained_run)


@pytest.fixture(scope="module")
def model(trained):
    return trained.model


@pytest.fixture(scope="module")
def archive(trained_run):
    """SavedModel that a run exported, with the class names and clip settings of `trained`."""
    return str(trained_run / "serving" / "1")


@pytest.fixture(scope="module")
def loaded(archive):
    import tensorflow as tf

    return tf.saved_model.load(archive)


def ask(loaded, signature, **inputs):
    """Returns the outputs of a signature as arrays."""
    import tensorflow as tf

    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    return {name: value.numpy() for name, value in loaded.signatures[signature](**inputs).items()}


def random_frames(num_frames, height, width, seed=0):
    """Returns noise in blocks of 8 x 8 pixels. Resizing noise of single pixels leaves little but its mean."""
    noise = np.random.default_rng(seed).integers(0, 256, (num_frames, -(-height // 8), -(-width // 8), 3))
    return noise.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype("uint8")


def scores_in_python(model, sources):
    """Returns the scores of the evaluation in Python; see `views.read_views` for each source."""
    return numpy(compute(model, np.concatenate([views.read_views(source, T, SIZE) for source in sources])))


def assert_scores(actual, expected):
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.every_backend
def test_clips_of_arrow_of_time_are_answered_as_in_python(model, trained, loaded):
    sources = [
        arrow_of_time.make_clip(name, seed).frames for seed, name in enumerate(arrow_of_time.CLASS_NAMES)
    ]
    expected = scores_in_python(model, sources)
    answer = ask(loaded, "serving_default", clip=np.stack(sources))
    assert_scores(answer["scores"], expected)
    best = [trained.class_names[index].encode() for index in expected.argmax(axis=1)]
    assert answer["labels"][:, 0].tolist() == best
    # Without this check, a constant answer would pass.
    assert len(set(best)) > 1 and np.ptp(expected, axis=0).max() > 0.05


@pytest.mark.parametrize(
    "shape",
    [
        *((9, 50, 41), (24, 31, 77), (3, 37, 37), (70, 97, 64), (4, 32, 32)),
        # One pixel, one row and one column.
        *((1, 1, 1), (5, 1, 500), (1, 500, 1)),
    ],
    ids=str,
)
def test_frames_of_any_number_and_size_give_the_scores_of_pythons_evaluation(shape, model, loaded):
    source = random_frames(*shape)
    answer = ask(loaded, "serving_default", clip=source[np.newaxis])
    assert_scores(answer["scores"], scores_in_python(model, [source]))


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="no real clips next to the checkout")
def test_real_clips_are_answered_as_in_python(model, loaded):
    for path in sorted(REAL_CLIPS.iterdir()):
        source = frames.read_frames(path, range)
        expected = numpy(compute(model, load_clip(path, T, SIZE)))
        assert_scores(ask(loaded, "serving_default", clip=source[np.newaxis])["scores"], expected)


@pytest.mark.parametrize("size", [(45, 60), (400, 231), (300, 400), (256, 256)], ids=str)
def test_pixels_of_the_papers_size_are_those_of_python(size):
    from keras_stm.export.graph import prepare_clips

    source = random_frames(3, *size)
    clip = prepare_clips(source[np.newaxis], 8, 224, 256, "segments")
    np.testing.assert_allclose(clip, views.read_views(source, 8, 224), atol=1e-4)


def test_products_of_matrices_have_few_shapes(monkeypatch):
    """TensorFlow keeps a kernel for each shape of a product, so that memory would grow with each new size."""
    import tensorflow as tf

    from keras_stm.export.graph import prepare_clips

    shapes = []
    product = tf.matmul
    monkeypatch.setattr(
        tf, "matmul", lambda a, b, **kw: shapes.append((*a.shape, *b.shape)) or product(a, b, **kw)
    )
    for size in [(65, 129), (100, 150), (128, 192)]:
        prepare_clips(random_frames(3, *size)[np.newaxis], 2, 56, 64, "segments")
    assert len(shapes) == 6 and len(set(shapes)) == 2


@pytest.mark.parametrize("sampling", segments.SAMPLING)
def test_the_graph_picks_the_frames_that_python_picks(sampling):
    import tensorflow as tf

    from keras_stm.export.graph import frame_indices

    for num_frames in (1, 3, 8, 70):
        for total in (1, 2, 7, 8, 9, 63, 64, 65, 150, 301):
            expected = segments.clip_indices(total, num_frames, sampling)
            np.testing.assert_array_equal(frame_indices(tf.constant(total), num_frames, sampling), expected)


def num_bytes(folder):
    return sum(path.stat().st_size for path in (pathlib.Path(folder) / "variables").iterdir())


def test_weights_are_stored_once_and_in_half_the_space_in_float16(model, archive, tmp_path):
    exact = 4 * model.count_params()
    assert num_bytes(archive) < 1.1 * exact + 10_000
    causal = small_causal()
    path = str(tmp_path / "1")
    keras_stm.export.save(causal, path, NAMES, num_frames=T, image_size=SIZE, precision="float16")
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    dtypes = {tensor.dtype for tensor in loaded.signatures["float"].variables}
    assert dtypes == {tf.float16}
    clip = np.random.default_rng(0).normal(size=(1, T, SIZE, SIZE, 3)).astype("float32")
    expected = numpy(compute(causal, clip))
    found = ask(loaded, "float", clip=clip)["scores"]
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    assert np.abs(found - expected).max() > 1e-6


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
    """Uses sizes near the thresholds from which images are decoded at a smaller size."""
    import tensorflow as tf

    from keras_stm.data.images import decode
    from keras_stm.export.graph import decode_clip

    images = encode(random_frames(3, *size))
    frames = decode_clip(tf.constant(images), 2, "segments").numpy()
    np.testing.assert_array_equal(frames, decode([images[0], images[2]]))


def test_jpeg_files_of_two_sizes_are_answered_as_folders_of_them(model, loaded, tmp_path):
    videos = [encode(random_frames(6, 513, 560)), encode(random_frames(6, 40, 31, seed=1))]
    folders = [frame_folder(tmp_path / str(i), images) for i, images in enumerate(videos)]
    assert_scores(ask(loaded, "jpeg", images=videos)["scores"], scores_in_python(model, folders))


def test_only_the_frames_that_are_picked_are_decoded(loaded):
    images = encode(random_frames(3 * T, 32, 32))
    picked = segments.center_indices(len(images), T)
    scores = ask(loaded, "jpeg", images=[images])["scores"]
    spoilt = [image if i in picked else b"no image" for i, image in enumerate(images)]
    np.testing.assert_array_equal(ask(loaded, "jpeg", images=[spoilt])["scores"], scores)


def test_prepared_clips_of_any_length_and_size_are_taken_as_the_model_takes_them(model, loaded):
    for shape in ((2, 4, 32, 32, 3), (1, 3, 45, 33, 3), (1, 9, 32, 32, 3)):
        clip = np.random.default_rng(0).normal(size=shape).astype("float32")
        expected = numpy(compute(model, clip))
        np.testing.assert_allclose(ask(loaded, "float", clip=clip)["scores"], expected, atol=1e-5)


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


def small_causal(data_format="channels_last"):
    """Returns a fast causal model of STM's layers. Its scores are logits: a softmax would hide errors."""
    shape = (None, None, None, 3) if data_format == "channels_last" else (None, 3, None, None)
    clip = keras.Input(shape)
    x = STMBlock(16, causal=True, data_format=data_format)(clip)
    x = PerFrame(keras.layers.GlobalAveragePooling2D(data_format=data_format))(x)
    x = keras.layers.Dense(3)(x)
    model = keras.Model(clip, keras.layers.GlobalAveragePooling1D(data_format="channels_last")(x))
    randomize(model)
    return model


# Two videos, of more frames than their scores average.
FRAMES = np.stack([random_frames(T + 2, 50, 41, seed) for seed in range(2)])


def scores_of_frames(model):
    """Returns the scores after each frame of `FRAMES` in Python, `(batch, T, classes)`."""
    clips = np.concatenate([views.read_views(frames, T + 2, SIZE) for frames in FRAMES])
    if inference.is_channels_first(model):
        clips = oriented(clips, "channels_first")
    whole = keras.Model(model.input, model.layers[-2].output)
    logits = numpy(compute(whole, clips))
    return np.stack([logits[:, max(0, end - T) : end].mean(1) for end in range(1, T + 3)], 1)


@pytest.fixture(scope="module")
def causal():
    return small_causal("channels_first")


@pytest.fixture(scope="module")
def causal_archive(causal, tmp_path_factory):
    path = tmp_path_factory.mktemp("causal") / "1"
    keras_stm.export.save(causal, path, NAMES, num_frames=T, image_size=SIZE)
    np.save(path.parent / "frames.npy", FRAMES)
    return str(path)


# OpenVINO runs without TensorFlow, TensorFlow without Keras. saved_model_cli is last: it ends the process.
CONSUMERS = """
import importlib.util, sys

archive, path, causal, folder = sys.argv[1:]
sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["keras_stm"] = None  # makes their import fail
import numpy as np

clip = np.load(path)
if importlib.util.find_spec("openvino"):
    import openvino

    model = openvino.Core().compile_model(archive, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = model({"clip": clip})
    np.savez(f"{folder}/openvino.npz", scores=answer["scores"], labels=answer["labels"])

del sys.modules["tensorflow"]
import tensorflow as tf

model = tf.saved_model.load(archive)
np.save(f"{folder}/tensorflow.npy", model.signatures["serving_default"](clip=tf.constant(clip))["scores"])

model = tf.saved_model.load(causal)
frames = np.load(f"{causal}/../frames.npy")
state = model.signatures["stream_init"](batch_size=tf.constant(len(frames)))
scores, labels = [], []
for frame in frames.swapaxes(0, 1):
    answer = model.signatures["stream"](frame=tf.constant(frame), **state)
    state = {name: answer[name] for name in state}
    scores.append(answer["scores"])
    labels.append(np.char.decode(answer["labels"].numpy().astype("S"), "utf-8"))
np.savez(f"{folder}/stream.npz", scores=np.stack(scores, 1), labels=np.stack(labels, 1))

from tensorflow.python.tools import saved_model_cli

sys.argv = ["saved_model_cli", "run", f"--dir={archive}", "--tag_set=serve"]
sys.argv += ["--signature_def=serving_default", f"--inputs=clip={path}", f"--outdir={folder}"]
saved_model_cli.main()
"""


@pytest.fixture(scope="module")
def question(model, tmp_path_factory):
    """Path of a file of clips, and the model's scores of these clips."""
    path = tmp_path_factory.mktemp("question") / "clip.npy"
    clip = np.stack([random_frames(9, 50, 41, seed) for seed in range(2)])
    np.save(path, clip)
    return path, scores_in_python(model, clip)


@pytest.fixture(scope="module")
def answers(archive, question, causal_archive, tmp_path_factory):
    """Folder with the answers of the programs that have no Keras."""
    folder = tmp_path_factory.mktemp("answers")
    command = [sys.executable, "-c", CONSUMERS, archive, str(question[0]), causal_archive, str(folder)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    return folder


def test_tensorflow_alone_gets_the_models_scores(answers, question):
    assert_scores(np.load(answers / "tensorflow.npy"), question[1])


def test_tensorflow_alone_gets_the_scores_and_labels_of_a_causal_model_frame_by_frame(answers, causal):
    expected = scores_of_frames(causal)
    with np.load(answers / "stream.npz") as answer:
        assert relative_error(answer["scores"], expected) < 1e-4
        assert answer["labels"].tolist() == np.array(NAMES)[np.argsort(-expected)].tolist()


def test_only_whole_numbers_of_streams_begin(causal_archive):
    import tensorflow as tf

    loaded = tf.saved_model.load(causal_archive)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`batch_size` must be positive"):
        ask(loaded, "stream_init", batch_size=0)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_without_tensorflow_gets_the_models_scores_and_labels(answers, question, trained):
    with np.load(answers / "openvino.npz") as answer:
        assert_scores(answer["scores"], question[1])
        expected = [trained.class_names[index] for index in question[1].argmax(axis=1)]
        assert answer["labels"][:, 0].tolist() == expected


def test_saved_model_cli_runs_the_archive(answers, question):
    assert_scores(np.load(answers / "scores.npy"), question[1])


def test_onnx_runtime_gets_the_models_scores_and_names(model, question, tmp_path):
    """Uses the first half of a network because conversion is slow. This half has all of its operations."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    features = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(
        model.get_layer("conv3_block1").output
    )
    scores = keras.layers.Dense(3, "softmax")(features)
    model = keras.Model(model.input, scores)
    keras_stm.export.save_onnx(model, tmp_path / "model.onnx", NAMES, num_frames=T, image_size=SIZE)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(NAMES)
    clip = np.load(question[0])
    (scores,) = session.run(["scores"], {"clip": clip})
    expected = scores_in_python(model, clip)
    assert np.ptp(expected) > 0.1
    assert_scores(scores, expected)


def test_onnx_runtime_gets_the_scores_of_a_causal_model_frame_by_frame(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    model = small_causal()
    path = tmp_path / "step.onnx"
    keras_stm.export.save_onnx(model, path, NAMES, num_frames=T, image_size=SIZE, stream=True)
    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(NAMES)
    inputs = {each.name: each.shape[1:] for each in session.get_inputs()}
    assert inputs.pop("frame")[2:] == [3]
    state = {name: np.zeros((2, *shape), "float32") for name, shape in inputs.items()}
    names = ["scores", *(f"next_{name}" for name in state)]
    scores = []
    for frame in FRAMES.swapaxes(0, 1):
        score, *following = session.run(names, {"frame": frame, **state})
        state = dict(zip(state, following, strict=True))
        scores.append(score)
    assert relative_error(np.stack(scores, 1), scores_of_frames(model)) < 1e-4


def small_backbone_and_head(policy):
    keras.config.set_dtype_policy(policy)
    try:
        clip = keras.Input((None, 3, None, None))
        features = STMBlock(16, data_format="channels_first")(clip)
        features = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(
            keras.layers.Permute((1, 3, 4, 2))(features)
        )
        head = keras.layers.Dense(12, "softmax", dtype="float32")
        model = keras.Sequential([keras.Input((None, 3, None, None)), keras.Model(clip, features), head])
    finally:
        keras.config.set_dtype_policy("float32")
    randomize(model)
    return model


def test_other_models_and_options_are_exported_as_well(tmp_path):
    """Channels first, mixed precision, a nested backbone, no class names, dense sampling, `resize_size`."""
    import tensorflow as tf

    model = small_backbone_and_head("mixed_bfloat16")
    keras_stm.export.save(
        model, tmp_path / "1", num_frames=T, image_size=SIZE, resize_size=40, top_k=20, sampling="dense"
    )

    loaded = tf.saved_model.load(str(tmp_path / "1"))
    source = random_frames(90, 40, 44)
    outputs = ask(loaded, "serving_default", clip=source[np.newaxis])
    # The short side is already `resize_size`, so the frames are only cropped.
    clip = source[segments.dense_indices(90, T), 4:36, 6:38]
    clip = keras_stm.preprocess_input(clip)[np.newaxis]
    scores = outputs["scores"]
    expected = numpy(compute(small_backbone_and_head("float32"), oriented(clip, "channels_first")))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(scores) > 0.1
    best = np.argsort(-scores[0], kind="stable")
    assert [label.decode() for label in outputs["labels"][0]] == [str(index) for index in best]
    np.testing.assert_allclose(ask(loaded, "float", clip=clip)["scores"], scores, atol=1e-4)
    assert "class_names.txt" not in os.listdir(tmp_path / "1" / "assets.extra")


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory):
    """SavedModel of a fast model that classifies clips by their mean colour."""
    path = tmp_path_factory.mktemp("small") / "1"
    head = keras.layers.Dense(3, "softmax")
    pool = keras.layers.GlobalAveragePooling3D(data_format="channels_last")
    model = keras.Sequential([keras.Input((None, None, None, 3)), pool, head])
    head.kernel.assign(np.random.default_rng(0).normal(0, 5, (3, 3)))
    keras_stm.export.save(model, path, NAMES, num_frames=T, image_size=SIZE, top_k=2)
    return path


def test_labels_are_the_names_of_the_best_scores_in_their_order(small_archive):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(small_archive))
    colors = np.random.default_rng(0).integers(0, 256, (16, 1, 1, 1, 3)).astype("uint8")
    outputs = ask(loaded, "serving_default", clip=np.tile(colors, (1, 5, 40, 50, 1)))
    order = np.argsort(-outputs["scores"], axis=1)[:, :2]
    assert set(order[:, 0]) == {0, 1, 2}
    labels = [[label.decode() for label in row] for row in outputs["labels"]]
    assert labels == [[NAMES[index] for index in row] for row in order]
    np.testing.assert_array_equal(outputs["top_scores"], np.take_along_axis(outputs["scores"], order, axis=1))


def test_the_archive_holds_the_names_and_a_request_that_fits_its_signature(small_archive):
    extra = small_archive / "assets.extra"
    assert sorted(os.listdir(extra)) == ["class_names.txt", "request.json", "response.json"]
    assert (extra / "class_names.txt").read_bytes().decode() == "".join(f"{name}\n" for name in NAMES)
    request, response = (json.loads((extra / f"{name}.json").read_text()) for name in ("request", "response"))
    assert request["signature_name"] == "jpeg"
    assert [set(image) for image in request["instances"][0]] == [{"b64"}] * T
    (prediction,) = response["predictions"]
    assert sorted(prediction["scores"])[:0:-1] == prediction["top_scores"]
    assert prediction["labels"][0] == NAMES[np.argmax(prediction["scores"])]
    keras_stm.export.check_example(small_archive)


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
        (other_signature, "'predict'"),
        (other_rank, r"strings \(4,\) to 'jpeg', .*`images` of string \(None, None\)"),
        (other_type, "strings .* to 'serving_default', .*`clip` of uint8"),
        (other_scores, "response"),
    ],
)
def test_an_example_that_does_not_fit_is_found(spoil, message, small_archive, tmp_path):
    copy = shutil.copytree(small_archive, tmp_path / "1")
    files = [copy / "assets.extra" / f"{name}.json" for name in ("request", "response")]
    contents = [json.loads(file.read_text()) for file in files]
    spoil(*contents)
    for file, content in zip(files, contents, strict=True):
        file.write_text(json.dumps(content))
    with pytest.raises(ArgumentError, match=f"{message}.*Received: path=") as error:
        keras_stm.export.check_example(copy)
    assert (error.value.name, error.value.value) == ("path", str(copy))


def test_a_folder_without_an_example_is_no_archive(tmp_path):
    with pytest.raises(ArgumentError, match="Received: path=") as error:
        keras_stm.export.check_example(tmp_path)
    assert (error.value.name, error.value.value) == ("path", str(tmp_path))


SAVES = (keras_stm.export.save, keras_stm.export.save_onnx)


@pytest.mark.parametrize("save", SAVES)
def test_an_existing_path_is_refused_and_kept(save, model, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "precious").write_text("")
    with pytest.raises(ArgumentError, match="Received: path=") as error:
        save(model, tmp_path / "1", num_frames=T, image_size=SIZE)
    assert (error.value.name, error.value.value) == ("path", str(tmp_path / "1"))
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
    with pytest.raises(ArgumentError) as error:
        save(model, tmp_path / "1", **{"num_frames": T, "image_size": SIZE, **arguments})
    assert (error.value.name, error.value.value) == (name, value)
    assert "\n" not in str(error.value) and str(error.value).endswith(f"Received: {name}={value!r}")
    assert os.listdir(tmp_path) == []


def test_top_k_must_be_positive(model, tmp_path):
    with pytest.raises(ArgumentError) as error:
        keras_stm.export.save(model, tmp_path / "1", num_frames=T, image_size=SIZE, top_k=0)
    assert (error.value.name, error.value.value) == ("top_k", 0)
    assert os.listdir(tmp_path) == []


def save_step(*args, **arguments):
    keras_stm.export.save_onnx(*args, **arguments, stream=True)


def save_web(*args, **arguments):
    keras_stm.export.save_web(*args, **arguments, rate=4)


@pytest.mark.parametrize("save", [save_step, save_web])
def test_a_model_that_looks_ahead_has_no_step(save, model, tmp_path):
    with pytest.raises(ArgumentError, match="causal=True") as error:
        save(model, tmp_path / "1", num_frames=T, image_size=SIZE)
    assert error.value.name == "model"
    assert os.listdir(tmp_path) == []


def flat(*shape):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    "make, name, received",
    [
        # A backbone, like a model with include_top=False.
        (
            lambda: keras.Sequential([keras.Input((8, 224, 224, 3)), keras.layers.Dense(2)]),
            "model",
            r"output_shape=\(None, 8, 224, 224, 2\)",
        ),
        (lambda: flat(32, 32, 3), "model", r"input_shape=\(None, 32, 32, 3\)"),
        (lambda: flat(8, 32, 48, 3), "num_frames", "num_frames=8, image_size=224"),
    ],
    ids=["no scores", "stills", "no square"],
)
def test_a_model_that_gives_no_scores_or_takes_other_clips_is_refused(save, make, name, received, tmp_path):
    with pytest.raises(ArgumentError, match=f"Received: .*{received}") as error:
        save(make(), tmp_path / "1")
    assert error.value.name == name
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("save", SAVES)
def test_a_failure_leaves_nothing_behind(save, tmp_path, monkeypatch):
    def fail(model, path, **options):
        path = pathlib.Path(path)
        (path / "variables" if path.is_dir() else path).write_text("half")
        raise RuntimeError("disk full")

    monkeypatch.setattr("keras_stm.export.writers.WRITERS", {"saved_model": fail, "onnx": fail})
    with pytest.raises(RuntimeError, match="disk full"):
        save(flat(T, SIZE, SIZE, 3), tmp_path / "model" / "1", num_frames=T, image_size=SIZE)
    assert os.listdir(tmp_path / "model") == []


def test_a_missing_package_is_told_with_how_to_install_it(tmp_path, monkeypatch):
    model = flat(8, 224, 224, 3)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match="pip install tf2onnx$"):
        keras_stm.export.save_onnx(model, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="tensorflow: pip install tensorflow$"):
        keras_stm.export.save(model, tmp_path / "1")


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow exports without another process")
def test_what_fails_in_the_process_with_tensorflow_is_told(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    model = flat(T, SIZE, SIZE, 3)
    with pytest.raises(RuntimeError, match="under TensorFlow failed:\nNo space left on device"):
        keras_stm.export.save(model, tmp_path / "model" / "1", num_frames=T, image_size=SIZE)
    assert os.listdir(tmp_path / "model") == []
