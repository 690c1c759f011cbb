"""Wrong requests to an exported model: each gets an error with the reason, and the next request is served."""

import resource

import numpy as np
import pytest

from tests.test_export import SIZE, T, ask, encode, random_frames

tf = pytest.importorskip("tensorflow")

# Bytes, more than any request here needs.
ALLOWED = 2**29


@pytest.fixture(scope="module")
def loaded(trained_run):
    return tf.saved_model.load(str(trained_run / "serving" / "1"))


def uint8(*shape):
    return np.zeros(shape, "uint8")


def float32(*shape, value=0):
    return np.full(shape, value, "float32")


def jpegs(count=T, height=16, width=16):
    return encode(random_frames(count, height, width))


def stating(height, width):
    """Returns a small JPEG file that states another size."""
    (image,) = jpegs(1)
    start = image.index(b"\xff\xc0") + 5
    return image[:start] + height.to_bytes(2) + width.to_bytes(2) + image[start + 4 :]


def half(image):
    return image[: len(image) // 2]


# Signatures and their inputs.
FRAMES, FILES, FLOATS = ("serving_default", "clip"), ("jpeg", "images"), ("float", "clip")
GOOD = {
    FRAMES: lambda: random_frames(6, 40, 50)[np.newaxis],
    FILES: lambda: [jpegs(6, 40, 50)],
    FLOATS: lambda: np.random.default_rng(0).normal(size=(2, T, SIZE, SIZE, 3)).astype("float32"),
}
WRONG_SHAPE = "is not compatible with expected shape"
NO_CLIPS = "must have clips "
# Signature and input, the wrong value, and a part of the error.
BAD = {
    "float frames": (FRAMES, lambda: float32(1, 2, 8, 8, 3), "to be a uint8 tensor"),
    "text for frames": (FRAMES, lambda: np.array([b"clip"]), "to be a uint8 tensor"),
    "one video alone": (FRAMES, lambda: uint8(2, 8, 8, 3), rf"clip \[2,8,8,3\] {WRONG_SHAPE}"),
    "grey frames": (FRAMES, lambda: uint8(1, 2, 8, 8, 1), WRONG_SHAPE),
    "channels first": (FRAMES, lambda: uint8(1, 2, 3, 8, 8), WRONG_SHAPE),
    "no videos": (FRAMES, lambda: uint8(0, 2, 8, 8, 3), f"{NO_CLIPS}.*0 4 32 32 3"),
    "no frames": (FRAMES, lambda: uint8(1, 0, 8, 8, 3), "`clip` has no frames"),
    "no rows": (FRAMES, lambda: uint8(1, 2, 0, 8, 3), "`clip` has no pixels"),
    "no columns": (FRAMES, lambda: uint8(1, 2, 8, 0, 3), "`clip` has no pixels"),
    "numbers for files": (FILES, lambda: np.zeros((1, 2)), "to be a string tensor"),
    "one video's files alone": (FILES, jpegs, rf"images \[4\] {WRONG_SHAPE}"),
    "no files": (FILES, lambda: np.zeros((1, 0), "S"), "`images` has no frames"),
    "no videos of files": (FILES, lambda: np.zeros((0, 2), "S"), f"{NO_CLIPS}.*0 4 32 32 3"),
    "empty files": (FILES, lambda: [[b"", b""]], "`images` must be JPEG files"),
    "a PNG file": (FILES, lambda: [[tf.io.encode_png(uint8(8, 8, 3)).numpy()]], "must be JPEG files"),
    "base64 that is not decoded": (FILES, lambda: [[b"/9j/4AAQSkZJRg"]], "must be JPEG files"),
    "one bad file in the second video": (FILES, lambda: [jpegs(), [*jpegs(T - 1), b"x"]], "must be JPEG"),
    "a file of three bytes": (FILES, lambda: [[b"\xff\xd8\xff"]], "Invalid JPEG data, size 3"),
    "half a header": (FILES, lambda: [[jpegs(1)[0][:300]]], "Invalid JPEG data, size 300"),
    "half an image": (FILES, lambda: [[half(jpegs(1, 64, 64)[0])]], "Invalid JPEG data"),
    "frames of two sizes": (FILES, lambda: [[*jpegs(1), *jpegs(1, 8, 16)]], "must have one size"),
    "a file that states gigabytes": (FILES, lambda: [[stating(65500, 65500)]], "at most 67108864 pixels"),
    "a file that states no pixels": (FILES, lambda: [[stating(0, 16)]], "JPEG"),
    "uint8 for floats": (FLOATS, lambda: uint8(1, T, SIZE, SIZE, 3), "to be a float tensor"),
    "one clip alone": (FLOATS, lambda: float32(T, SIZE, SIZE, 3), WRONG_SHAPE),
    "no clips": (FLOATS, lambda: float32(0, T, SIZE, SIZE, 3), f"{NO_CLIPS}.*0 4 32 32 3"),
    "a clip of no frames": (FLOATS, lambda: float32(1, 0, SIZE, SIZE, 3), f"{NO_CLIPS}.*1 0 32"),
    "infinity": (FLOATS, lambda: float32(1, T, SIZE, SIZE, 3, value=np.inf), "`clip` must be finite"),
    "NaN in one of two": (
        FLOATS,
        lambda: np.concatenate([float32(1, T, SIZE, SIZE, 3), float32(1, T, SIZE, SIZE, 3, value=np.nan)]),
        "`clip` must be finite",
    ),
}


@pytest.fixture(scope="module")
def answers(loaded):
    return {(name, key): ask(loaded, name, **{key: good()}) for (name, key), good in GOOD.items()}


def assert_served(loaded, asked, answers):
    name, key = asked
    again = ask(loaded, name, **{key: GOOD[asked]()})
    for output, expected in answers[asked].items():
        np.testing.assert_array_equal(again[output], expected)


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_request_is_told_why_and_the_next_is_served(case, loaded, answers):
    asked, request, message = BAD[case]
    name, key = asked
    request = request()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask(loaded, name, **{key: request})
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) < ALLOWED
    assert_served(loaded, asked, answers)


@pytest.mark.parametrize("inputs", [{}, {"image": uint8(1, 2, 8, 8, 3)}], ids=["none", "another name"])
def test_an_input_that_is_missing_is_named(inputs, loaded, answers):
    with pytest.raises(TypeError, match="'clip'"):
        ask(loaded, "serving_default", **inputs)
    assert_served(loaded, FRAMES, answers)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_a_damaged_byte_in_a_jpeg_is_an_error_or_an_answer_and_never_the_end(place, loaded, answers):
    image = bytearray(jpegs(1, 64, 64)[0])
    image[int(len(image) * place)] ^= 255
    try:
        scores = ask(loaded, "jpeg", images=[[bytes(image)]])["scores"]
        assert np.isfinite(scores).all()
    except tf.errors.InvalidArgumentError as error:
        assert "JPEG" in str(error)
    assert_served(loaded, FILES, answers)
