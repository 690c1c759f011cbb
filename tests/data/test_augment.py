import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_stm import preprocess_input
from keras_stm.data import augment
from keras_stm.data.arrow_of_time import CLASS_NAMES

LABELS = pathlib.Path(__file__).parents[3] / "shared" / "labels"


@pytest.mark.parametrize("image_size,expected", [(224, 256), (112, 128), (56, 64), (256, 293)])
def test_crops_come_from_a_short_side_in_the_paper_ratio(image_size, expected):
    assert augment.resize_size(image_size) == expected


@pytest.mark.parametrize(
    "height,width,size,expected",
    [
        (240, 320, 256, (256, 341)),
        (320, 240, 256, (341, 256)),
        (256, 340, 256, (256, 340)),
        (100, 100, 64, (64, 64)),
        (1, 1000, 2, (2, 2000)),
        (1080, 1920, 256, (256, 455)),
    ],
)
def test_long_side_is_rounded_to_the_nearest(height, width, size, expected):
    assert augment.short_side_shape(height, width, size) == expected
    tensors = augment.short_side_shape(tf.constant(height), tf.constant(width), size)
    assert tuple(side.numpy() for side in tensors) == expected


def test_resize_keeps_values_and_gives_the_short_side():
    clip = np.full((2, 30, 50, 3), 200, "uint8")
    resized = augment.resize_short_side(clip, 20)
    assert resized.shape == (2, 20, 33, 3) and resized.dtype == tf.float32
    np.testing.assert_allclose(resized, 200, rtol=1e-6)


def test_resize_is_antialiased():
    clip = np.zeros((1, 64, 64, 3), "uint8")
    clip[:, ::2] = 200
    for resized in (augment.resize_short_side(clip, 16), augment.resize(clip, 16)):
        np.testing.assert_allclose(resized[:, 1:-1], 100, atol=1)


@tf.function(input_signature=[tf.TensorSpec((3, None, None, 3), tf.uint8)])
def resize_of_any_shape(clip):
    return augment.resize(clip, 12)


@pytest.mark.parametrize("height,width", [(7, 9), (12, 12), (12, 5), (12, 20), (5, 20), (20, 5), (40, 30)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resize_is_bilinear_and_antialiased_whatever_the_shape(height, width, dtype):
    clip = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), "uint8")
    expected = tf.image.resize(clip, (12, 12), antialias=True)
    resized = augment.resize(clip.astype(dtype), 12)
    assert resized.dtype == tf.float32
    np.testing.assert_allclose(resized, expected, atol=1e-3)
    np.testing.assert_allclose(resize_of_any_shape(clip), expected, atol=1e-3)


def test_resize_leaves_a_clip_of_the_right_size():
    clip = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), "uint8")
    np.testing.assert_array_equal(augment.resize(clip, 12), clip)


@pytest.mark.parametrize("size,top,left", [(4, 0, 2), (3, 0, 2), (2, 1, 3)])
def test_center_crop_leaves_the_odd_pixel_at_the_end(size, top, left):
    clip = np.random.default_rng(0).normal(size=(2, 4, 8, 3))
    expected = clip[:, top : top + size, left : left + size]
    np.testing.assert_array_equal(augment.center_crop(clip, size), expected)
    assert augment.center_box(4, 8, size) == (top, left, size, size)

    @tf.function(input_signature=[tf.TensorSpec((2, None, None, 3), tf.float64)])
    def crop(clip):
        return augment.center_crop(clip, size)

    np.testing.assert_array_equal(crop(clip), expected)


@pytest.mark.parametrize(
    "height,width,places",
    [
        (256, 341, [(0, 0), (0, 42), (0, 85)]),
        (341, 256, [(0, 0), (42, 0), (85, 0)]),
        (256, 256, [(0, 0), (0, 0), (0, 0)]),
    ],
)
def test_three_boxes_lie_along_the_longer_side(height, width, places):
    assert augment.three_boxes(height, width, 256) == [(*place, 256, 256) for place in places]


@pytest.mark.parametrize(
    "height,width,size,sides",
    [
        (256, 340, 224, (256, 224, 192, 168)),
        (340, 256, 224, (256, 224, 192, 168)),
        (240, 320, 224, (240, 210, 180, 158)),
        (100, 176, 224, (100, 87, 75, 66)),
        # Sides less than 3 pixels from `size`, above and below it.
        (226, 300, 224, (224, 197, 169, 149)),
        (227, 300, 224, (227, 198, 170, 149)),
        (300, 341, 224, (300, 262, 224, 198)),
        (297, 341, 224, (297, 259, 224, 196)),
        (296, 341, 224, (296, 259, 224, 195)),
        (295, 341, 224, (295, 258, 221, 194)),
        # A side is never larger than the frame.
        (223, 300, 224, (223, 195, 167, 147)),
        (1, 8, 224, (1, 1, 1, 1)),
    ],
)
def test_multi_scale_sides_differ_by_one_scale_at_most(height, width, size, sides):
    a, b, c, d = sides
    pairs = [(a, a), (a, b), (b, a), (b, b), (b, c), (c, b), (c, c), (c, d), (d, c), (d, d)]
    assert augment.box_sizes(height, width, size, (1, 0.875, 0.75, 0.66)) == pairs


@pytest.mark.parametrize(
    "height,width,box_height,box_width,tops,lefts",
    [
        # The free space is 88 and 148 pixels.
        (256, 340, 168, 192, (0, 22, 44, 66, 88), (0, 37, 74, 111, 148)),
        # The free space is 35 and 87 pixels: the far corner stays 3 pixels from the border.
        (227, 314, 192, 227, (0, 8, 16, 24, 32), (0, 21, 42, 63, 84)),
        (100, 103, 100, 100, (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ],
)
def test_multi_scale_crops_lie_at_13_places(height, width, box_height, box_width, tops, lefts):
    (t0, t1, t2, t3, t4), (l0, l1, l2, l3, l4) = tops, lefts
    corners = [(t0, l0), (t0, l4), (t4, l0), (t4, l4)]
    edges = [(t0, l2), (t2, l0), (t2, l4), (t4, l2)]
    quarters = [(t1, l1), (t1, l3), (t3, l1), (t3, l3)]
    places = augment.box_places(height, width, box_height, box_width)
    assert sorted(places) == sorted([*corners, *edges, *quarters, (t2, l2)])


def test_multi_scale_box_takes_every_size_at_every_place_and_no_other():
    rng = np.random.default_rng(0)
    expected = {
        (*place, *box)
        for box in augment.box_sizes(256, 340, 224, (1, 0.875, 0.75, 0.66))
        for place in augment.box_places(256, 340, *box)
    }
    draws = [augment.multi_scale_box(256, 340, 224, rng) for _ in range(3000)]
    assert set(draws) == expected
    assert all(isinstance(value, int) for value in draws[0])


def test_multi_scale_box_takes_scales():
    box = augment.multi_scale_box(64, 64, 32, np.random.default_rng(0), scales=(1,))
    assert box == (0, 0, 64, 64)


def test_multi_scale_box_depends_on_the_generator_alone():
    first, again, other = (
        [augment.multi_scale_box(256, 340, 224, rng) for _ in range(5)]
        for rng in map(np.random.default_rng, (1, 1, 2))
    )
    assert first == again != other


def pairs(class_names):
    """Returns the pairs that `mirror_labels` finds, after a check that the twin of a twin is the class."""
    labels = augment.mirror_labels(class_names)
    assert (labels[labels] == np.arange(len(class_names))).all()
    return [(label, twin) for label, twin in enumerate(labels.tolist()) if label < twin]


@pytest.mark.parametrize(
    "name,in_order,expected",
    [
        ("something_v1", list, [(2, 4), (30, 41), (52, 66)]),
        ("something_v1", sorted, [(86, 87), (93, 94), (166, 167)]),
        ("something_v2", sorted, [(86, 87), (93, 94), (166, 167)]),
        ("jester", list, [(0, 1), (6, 7), (14, 15)]),
        ("kinetics400", list, []),
        ("ucf101", list, []),
        ("hmdb51", list, []),
    ],
)
def test_mirror_twins_of_the_published_class_names(name, in_order, expected):
    path = LABELS / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    assert pairs(in_order(path.read_text().splitlines())) == expected


def test_mirror_twins_of_the_embedded_data_set():
    names = [(CLASS_NAMES[label], CLASS_NAMES[twin]) for label, twin in pairs(CLASS_NAMES)]
    assert names == [("move_left", "move_right"), ("turn_clockwise", "turn_counterclockwise")]


@pytest.mark.parametrize(
    "name,twin",
    [
        ("pan_left", "pan_right"),
        ("SwipeLeft", "SwipeRight"),
        ("LEFT turn", "RIGHT turn"),
        ("Left", "right"),
        ("turn 2 left", "turn 2 right"),
        ("from left to right", "from right to left"),
        ("left hand, clockwise", "right hand, counterclockwise"),
        ("TurnClockwise", "TurnCounterClockwise"),
        ("rotate clockwise", "rotate counter-clockwise"),
        ("rotate clockwise", "rotate anticlockwise"),
    ],
)
def test_mirror_twins_have_the_other_side_in_their_names(name, twin):
    assert pairs([name, "something else", twin]) == [(0, 2)]


@pytest.mark.parametrize(
    "name,other",
    [
        ("upright", "upleft"),
        ("copyright", "copyleft"),
        ("leftover", "rightover"),
        ("éleft", "éright"),
        ("turn 2 left", "turn 3 right"),
        ("turn left", "turned right"),
        ("pulling it right out", "pulling it out"),
        ("clockwise", "counter"),
        # These names contain no words.
        ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"),
        ("wave!", "wave?"),
    ],
)
def test_other_names_have_no_mirror_twin(name, other):
    assert pairs([name, other]) == []


def test_names_that_differ_in_no_word_have_no_mirror_twin():
    assert pairs(["turn left!", "turn left?", "turn right", "pan left", "pan right"]) == [(3, 4)]


def test_normalize_is_what_models_expect():
    clip = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype("float32")
    expected = preprocess_input(clip, data_format="channels_last")
    np.testing.assert_array_equal(augment.normalize(clip), expected)
    np.testing.assert_allclose(augment.normalize(tf.constant(clip)), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, None, None, 3)])
def test_normalize_keeps_the_shape_in_a_graph(shape):
    function = tf.function(augment.normalize, input_signature=[tf.TensorSpec(shape)])
    assert function.get_concrete_function().output_shapes == tf.TensorShape(shape)
    assert function(np.zeros((2, 4, 5, 3), "float32")).shape == (2, 4, 5, 3)
