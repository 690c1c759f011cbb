"""Wrong requests to an exported model: each gets an error that says why, and the next one is served."""

import resource

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm.data import views
from tests.test_export import NAMES, SIZE, T, encode, random_frames, tiny

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow

# More than any request here needs.
ALLOWED = 2**29


@pytest.fixture
def fixed_seed():
    """None: with each seed TensorFlow makes its graphs ready anew, and what is random here has its own."""


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def signatures(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("serving") / "1"
    keras_stm.export.save(model, path, NAMES, num_frames=T, image_size=SIZE, top_k=2)
    loaded = tf.saved_model.load(str(path))
    # What is loaded must live as long as its functions.
    yield {**loaded.signatures, "keep": loaded}


def uint8(*shape):
    return np.zeros(shape, "uint8")


def float32(*shape, value=0):
    return np.full(shape, value, "float32")


def jpegs(count=T, height=16, width=16, seed=0):
    return encode(random_frames(count, height, width, seed))


def stating(height, width):
    """A JPEG file of few bytes that states another size."""
    (image,) = jpegs(1)
    start = image.index(b"\xff\xc0") + 5
    return image[:start] + height.to_bytes(2) + width.to_bytes(2) + image[start + 4 :]


def swapped():
    """A clip with NaN beside a good one."""
    return np.concatenate([float32(1, T, SIZE, SIZE, 3), float32(1, T, SIZE, SIZE, 3, value=np.nan)])


GOOD = {
    "serving_default": lambda: {"clip": random_frames(6, 40, 50)[np.newaxis]},
    "jpeg": lambda: {"images": [jpegs(6, 40, 50)]},
    "float": lambda: {"clip": np.random.default_rng(0).normal(size=(2, T, SIZE, SIZE, 3)).astype("float32")},
}
# Signature, inputs, and what is said.
BAD = {
    "float frames": ("serving_default", lambda: {"clip": float32(1, 2, 8, 8, 3)}, "to be a uint8 tensor"),
    "int frames": ("serving_default", lambda: {"clip": np.zeros((1, 2, 8, 8, 3), "int32")}, "a uint8 tensor"),
    "text for frames": ("serving_default", lambda: {"clip": np.array([b"clip"])}, "to be a uint8 tensor"),
    "one video alone": (
        "serving_default",
        lambda: {"clip": uint8(2, 8, 8, 3)},
        r"clip \[2,8,8,3\] is not compatible with expected shape \[\?,\?,\?,\?,3\]",
    ),
    "six dimensions": ("serving_default", lambda: {"clip": uint8(1, 1, 2, 8, 8, 3)}, "is not compatible"),
    "one number": ("serving_default", lambda: {"clip": np.uint8(1)}, "is not compatible"),
    "grey frames": ("serving_default", lambda: {"clip": uint8(1, 2, 8, 8, 1)}, "is not compatible"),
    "frames with alpha": ("serving_default", lambda: {"clip": uint8(1, 2, 8, 8, 4)}, "is not compatible"),
    "no channels": ("serving_default", lambda: {"clip": uint8(1, 2, 8, 8, 0)}, "is not compatible"),
    "channels first": ("serving_default", lambda: {"clip": uint8(1, 2, 3, 8, 8)}, "is not compatible"),
    "no videos": ("serving_default", lambda: {"clip": uint8(0, 2, 8, 8, 3)}, "must have clips .*0 4 32 32 3"),
    "no frames": ("serving_default", lambda: {"clip": uint8(1, 0, 8, 8, 3)}, "`clip` has no frames"),
    "no rows": ("serving_default", lambda: {"clip": uint8(1, 2, 0, 8, 3)}, "`clip` has no pixels"),
    "no columns": ("serving_default", lambda: {"clip": uint8(1, 2, 8, 0, 3)}, "`clip` has no pixels"),
    "no input": ("serving_default", dict, "missing a required argument: 'clip'"),
    "another name": ("serving_default", lambda: {"image": uint8(1, 2, 8, 8, 3)}, "required argument: 'clip'"),
    "one more input": (
        "serving_default",
        lambda: {"clip": uint8(1, 2, 8, 8, 3), "size": np.int32(8)},
        "unexpected keyword argument 'size'",
    ),
    "nothing": ("serving_default", lambda: {"clip": None}, "'clip': None"),
    "videos of two lengths": (
        "serving_default",
        lambda: {"clip": [uint8(1, 8, 8, 3).tolist(), uint8(2, 8, 8, 3).tolist()]},
        "non-rectangular",
    ),
    "numbers for files": ("jpeg", lambda: {"images": np.zeros((1, 2))}, "to be a string tensor"),
    "one video's files alone": ("jpeg", lambda: {"images": jpegs()}, r"images \[4\] is not compatible"),
    "files too deep": ("jpeg", lambda: {"images": [[jpegs()]]}, "is not compatible"),
    "no files": ("jpeg", lambda: {"images": np.zeros((1, 0), "S")}, "`images` has no frames"),
    "no videos of files": (
        "jpeg",
        lambda: {"images": np.zeros((0, 2), "S")},
        "must have clips .*0 4 32 32 3",
    ),
    "empty files": ("jpeg", lambda: {"images": [[b"", b""]]}, "`images` must be JPEG files"),
    "a PNG file": (
        "jpeg",
        lambda: {"images": [[tf.io.encode_png(uint8(8, 8, 3)).numpy()]]},
        "`images` must be JPEG files",
    ),
    "base64 that is not decoded": ("jpeg", lambda: {"images": [[b"/9j/4AAQSkZJRg"]]}, "must be JPEG files"),
    "one bad file in the second video": (
        "jpeg",
        lambda: {"images": [jpegs(), [*jpegs(T - 1), b"text"]]},
        "`images` must be JPEG files",
    ),
    "a file of three bytes": ("jpeg", lambda: {"images": [[b"\xff\xd8\xff"]]}, "Invalid JPEG data, size 3"),
    "a file without an image": ("jpeg", lambda: {"images": [[b"\xff\xd8\xff\xd9"]]}, "Invalid JPEG data"),
    "a header and text": ("jpeg", lambda: {"images": [[b"\xff\xd8\xff" + b"a" * 500]]}, "Invalid JPEG data"),
    "half a header": ("jpeg", lambda: {"images": [[jpegs(1)[0][:300]]]}, "Invalid JPEG data, size 300"),
    "half an image": (
        "jpeg",
        lambda: {"images": [[(image := jpegs(1, 64, 64)[0])[: len(image) * 3 // 4]]]},
        "Invalid JPEG data",
    ),
    "frames of two sizes": (
        "jpeg",
        lambda: {"images": [[*jpegs(1), *jpegs(1, 8, 16)]]},
        "`images` of one video must have one size",
    ),
    "a file that states gigabytes": (
        "jpeg",
        lambda: {"images": [[stating(65500, 65500)]]},
        "must have at most 67108864 pixels",
    ),
    "a file that states no pixels": ("jpeg", lambda: {"images": [[stating(0, 16)]]}, "JPEG"),
    "uint8 for floats": ("float", lambda: {"clip": uint8(1, T, SIZE, SIZE, 3)}, "to be a float tensor"),
    "doubles": ("float", lambda: {"clip": np.zeros((1, T, SIZE, SIZE, 3))}, "to be a float tensor"),
    "one clip alone": ("float", lambda: {"clip": float32(T, SIZE, SIZE, 3)}, "is not compatible"),
    "no clips": ("float", lambda: {"clip": float32(0, T, SIZE, SIZE, 3)}, "must have clips .*0 4 32 32 3"),
    "a clip of no frames": (
        "float",
        lambda: {"clip": float32(1, 0, SIZE, SIZE, 3)},
        "must have clips .*1 0 32",
    ),
    "a clip of no pixels": (
        "float",
        lambda: {"clip": float32(1, T, 0, SIZE, 3)},
        "must have clips .*1 4 0 32",
    ),
    "NaN": ("float", lambda: {"clip": float32(1, T, SIZE, SIZE, 3, value=np.nan)}, "`clip` must be finite"),
    "infinity": (
        "float",
        lambda: {"clip": float32(1, T, SIZE, SIZE, 3, value=np.inf)},
        "`clip` must be finite",
    ),
    "NaN in one of two": ("float", lambda: {"clip": swapped()}, "`clip` must be finite"),
}


def to_tensor(value):
    """A tensor where it can be one; else the function is asked with what it is."""
    try:
        return tf.constant(value)
    except ValueError:
        return value


def ask(signatures, name, inputs):
    outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: value.numpy() for key, value in outputs.items()}


@pytest.fixture(scope="module")
def answers(signatures):
    return {name: ask(signatures, name, inputs()) for name, inputs in GOOD.items()}


def test_there_are_as_many_requests_as_promised():
    assert len(BAD) >= 40


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_request_is_told_why_and_the_next_is_served(case, signatures, answers):
    name, inputs, message = BAD[case]
    inputs = inputs()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError), match=message):
        signatures[name](**{key: to_tensor(value) for key, value in inputs.items()})
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) < ALLOWED
    actual = ask(signatures, name, GOOD[name]())
    for key, expected in answers[name].items():
        np.testing.assert_array_equal(actual[key], expected)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 1, 1, 2000), (1, 1, 2000, 1), (1, 100, 2, 3), (7, 2, 33, 31)]
)
def test_what_is_odd_but_right_gets_the_scores_of_python(shape, model, signatures):
    """A pixel, a thread, many frames, many videos."""
    clips = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype("uint8")
    expected = [
        keras.ops.convert_to_numpy(model(views.read_views(clip, T, SIZE), training=False))[0]
        for clip in clips
    ]
    scores = ask(signatures, "serving_default", {"clip": clips})["scores"]
    np.testing.assert_allclose(scores, expected, atol=1e-3)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_a_damaged_byte_in_a_jpeg_is_an_error_or_an_answer_and_never_the_end(place, signatures, answers):
    image = bytearray(jpegs(1, 64, 64)[0])
    image[int(len(image) * place)] ^= 255
    try:
        scores = ask(signatures, "jpeg", {"images": [[bytes(image)]]})["scores"]
        assert np.isfinite(scores).all()
    except tf.errors.InvalidArgumentError as error:
        assert "JPEG" in str(error)
    again = ask(signatures, "jpeg", GOOD["jpeg"]())
    np.testing.assert_array_equal(again["scores"], answers["jpeg"]["scores"])


def test_clips_of_another_length_than_trained_on_are_taken_as_the_model_takes_them(model, signatures):
    clip = np.random.default_rng(0).normal(size=(1, 2 * T + 1, SIZE, SIZE, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(clip, training=False))
    np.testing.assert_allclose(ask(signatures, "float", {"clip": clip})["scores"], expected, atol=1e-5)
