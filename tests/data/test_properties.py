"""Properties of every video, frame, set of class names and annotation file, tested on random examples."""

import fractions
import os

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from keras_stm import preprocessing
from keras_stm.arguments import ArgumentError
from keras_stm.data import Dataset, augment, open_dataset, segments
from keras_stm.data.views import read_views
from keras_stm.data.windows import place_windows
from keras_stm.export import graph
from keras_stm.twin_classes import time_reversal_labels
from tests.data.catalog import shipped

# Use the same examples in every run and on every machine.
settings.register_profile("reproducible", max_examples=50, derandomize=True, deadline=None, database=None)
settings.load_profile("reproducible")

frames = st.integers(1, 20) | st.integers(1, 100_000)
lengths = st.integers(1, 80)
seeds = st.integers(0, 2**32)
pixels = st.integers(1, 12) | st.integers(1, 4000)
scales = st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=5)


def rng(seed):
    return np.random.default_rng(seed)


# Frames


@given(total=frames, length=lengths, seed=st.none() | seeds, sampling=st.sampled_from(segments.SAMPLING))
def test_a_clip_has_its_length_and_frames_of_the_video_in_their_order(total, length, seed, sampling):
    generator = None if seed is None else rng(seed)
    indices = segments.clip_indices(total, length, sampling, generator)
    assert indices.dtype == np.int64 and indices.shape == (length,)
    assert (np.diff(indices) >= 0).all() and 0 <= indices[0] and indices[-1] < total


@given(total=frames, length=lengths)
def test_the_middle_of_each_segment_lies_in_its_frame(total, length):
    for segment, index in enumerate(segments.center_indices(total, length).tolist()):
        middle = fractions.Fraction((2 * segment + 1) * total, 2 * length)
        assert index <= middle < index + 1


@given(total=frames, length=lengths, seed=seeds)
def test_training_takes_one_frame_of_each_segment(total, length, seed):
    assume(total >= length)
    indices = segments.train_indices(total, length, rng(seed))
    assert (indices // (total // length) == np.arange(length)).all()


@given(total=st.integers(1, 80), length=lengths, seed=seeds, sampling=st.sampled_from(segments.SAMPLING))
def test_a_short_video_repeats_its_frames_evenly(total, length, seed, sampling):
    assume(total <= length)
    for generator in (None, rng(seed)):
        indices = segments.clip_indices(total, length, sampling, generator)
        times = np.bincount(indices, minlength=total)
        assert set(times.tolist()) <= {length // total, -(-length // total)}


@given(total=frames, length=lengths, clips=st.integers(1, 12))
def test_dense_clips_lie_at_equal_distances_from_the_first_frame_to_the_last(total, length, clips):
    indices = segments.dense_clips(total, length, clips)
    assert indices.shape == (clips, length) and indices.min() == 0 and indices.max() < total
    assume(total >= length)
    steps = np.diff(indices)
    window = min(total, max(preprocessing.DENSE_WINDOW, length))
    assert (steps == window // length).all()
    starts = indices[:, 0]
    if clips > 1:
        assert starts[-1] == total - window and np.ptp(np.diff(starts)) <= 1


@given(total=frames, length=lengths, clips=st.integers(1, 12), seed=seeds)
def test_random_clips_are_each_what_training_draws(total, length, clips, seed):
    indices, generator = segments.random_clips(total, length, clips, rng(seed)), rng(seed)
    assert (indices == [segments.train_indices(total, length, generator) for _ in range(clips)]).all()


@given(total=frames, length=lengths, sampling=st.sampled_from(segments.SAMPLING))
def test_an_exported_model_takes_the_same_frames(total, length, sampling):
    indices = graph.frame_indices(tf.constant(total), length, sampling)
    assert (indices.numpy() == segments.clip_indices(total, length, sampling)).all()


@given(
    total=frames,
    rate=st.sampled_from([1, 12, 24, 25, 29.97, 30, 60]) | st.floats(0.1, 240),
    window=st.floats(0.01, 100),
    overlap=st.floats(0, 0.9),
)
def test_windows_leave_no_frame_out(total, rate, window, overlap):
    stride = window * (1 - overlap)
    starts, length = place_windows(total, rate, window, stride)
    assert 1 <= length <= total and starts[0] == 0 and starts[-1] == total - length
    gaps = np.diff(starts)
    assert (gaps > 0).all() and (gaps <= length).all()


@settings(max_examples=25)
@given(
    total=st.integers(1, 200),
    length=st.integers(1, 6),
    clips=st.integers(1, 3),
    crops=st.sampled_from([1, 3]),
    sampling=st.sampled_from(segments.SAMPLING),
    seed=seeds,
)
def test_views_show_the_frames_of_their_clip_in_every_crop(total, length, clips, crops, sampling, seed):
    # All pixels of a frame have its number as their value.
    video = np.broadcast_to(np.arange(total, dtype="uint8")[:, None, None, None], (total, 3, 4, 3))
    views = read_views(video, length, 2, clips, crops, sampling, rng(seed))
    assert views.shape == (clips * crops, length, 2, 2, 3)
    colours = (views * preprocessing.STD + preprocessing.MEAN) * 255
    shown = np.rint(colours).astype(int)
    np.testing.assert_allclose(colours, shown, atol=0.01)
    assert (shown == shown[..., :1, :1, :1]).all()
    if clips == 1:
        expected = segments.clip_indices(total, length, sampling)[None]
    elif sampling == "dense":
        expected = segments.dense_clips(total, length, clips)
    else:
        expected = segments.random_clips(total, length, clips, rng(seed))
    assert (shown[..., 0, 0, 0] == np.repeat(expected, crops, axis=0)).all()


# Pixels


@given(height=pixels, width=pixels, size=pixels, factors=scales, seed=seeds)
def test_a_random_crop_lies_within_the_frame(height, width, size, factors, seed):
    top, left, box_height, box_width = augment.multi_scale_box(height, width, size, rng(seed), factors)
    assert 0 <= top < top + box_height <= height and 0 <= left < left + box_width <= width
    assert (box_height, box_width) in augment.box_sizes(height, width, size, factors)
    assert (top, left) in augment.box_places(height, width, box_height, box_width)


@given(height=pixels, width=pixels, size=pixels, factors=scales)
def test_sides_of_a_random_crop_are_of_one_scale_or_of_two_neighbours(height, width, size, factors):
    short = min(height, width)
    sides = [max(int(short * factor), 1) for factor in factors]
    sizes = augment.box_sizes(height, width, size, factors)
    neighbours = [(i, j) for i in range(len(sides)) for j in range(len(sides)) if abs(i - j) <= 1]
    for box, places in zip(sizes, neighbours, strict=True):
        for side, place in zip(box, places, strict=True):
            assert side == sides[place] or (side == size and abs(sides[place] - size) < 3)


@given(box_height=pixels, box_width=pixels, above=st.integers(0, 4000), beside=st.integers(0, 4000))
def test_a_random_crop_has_thirteen_places_up_to_all_borders(box_height, box_width, above, beside):
    places = augment.box_places(box_height + above, box_width + beside, box_height, box_width)
    assert len(places) == 13
    for axis, space in enumerate((above, beside)):
        offsets = [place[axis] for place in places]
        assert min(offsets) == 0 and 0 <= space - max(offsets) <= 3
        # The places are symmetric about the middle.
        assert sorted(max(offsets) - offset for offset in offsets) == sorted(offsets)


@given(height=pixels, width=pixels, size=pixels)
def test_a_frame_keeps_its_proportions(height, width, size):
    shape = augment.short_side_shape(height, width, size)
    assert min(shape) == size
    short = min(height, width)
    for side, scaled in zip((height, width), shape, strict=True):
        assert abs(scaled - fractions.Fraction(side * size, short)) <= fractions.Fraction(1, 2)


@given(height=pixels, width=pixels, size=pixels)
def test_three_crops_reach_both_ends_of_a_frame_and_its_middle(height, width, size):
    height, width = augment.short_side_shape(height, width, size)
    boxes = augment.three_boxes(height, width, size)
    ends = [(top + h, left + w) for top, left, h, w in boxes]
    assert boxes[0][:2] == (0, 0) and ends[2] == (height, width)
    assert all((h, w) == (size, size) for *_, h, w in boxes)
    before = sum(boxes[1][:2])
    assert height + width - sum(ends[1]) - before in (0, 1)


@given(height=st.integers(1, 40), width=st.integers(1, 40), data=st.data())
def test_a_centre_crop_is_the_middle_and_leaves_an_odd_pixel_at_the_end(height, width, data):
    size = data.draw(st.integers(1, min(height, width)))
    clip = np.arange(height * width).reshape(1, height, width, 1)
    crop = augment.center_crop(clip, size)
    assert crop.shape == (1, size, size, 1)
    top, left = divmod(crop[0, 0, 0, 0], width)
    assert height - size - 2 * top in (0, 1) and width - size - 2 * left in (0, 1)


@given(image_size=st.integers(1, 5000))
def test_a_centre_crop_fits_into_the_short_side_that_goes_with_it(image_size):
    assert augment.resize_size(image_size) >= image_size


@given(height=pixels, width=pixels, size=pixels)
def test_an_exported_model_takes_the_same_pixels(height, width, size):
    shape = preprocessing.short_side_shape(height, width, size)
    tensors = preprocessing.short_side_shape(tf.constant(height), tf.constant(width), size)
    assert tuple(side.numpy() for side in tensors) == shape
    box = preprocessing.center_box(*tensors, size)
    assert tuple(map(int, box)) == preprocessing.center_box(*shape, size)


# Labels

WORDS = (
    *("left", "right", "Left", "RIGHT", "clockwise", "counter", "anti", "counterclockwise", "up", "down"),
    *(
        "open",
        "close",
        "thumb",
        "turn",
        "é",
        "左",
        "2",
        "ß",
        "İ",
        "\N{THUMBS UP SIGN}",
        "\N{THUMBS DOWN SIGN}",
    ),
)
parts = st.lists(st.sampled_from(WORDS) | st.sampled_from((" ", "_", "-", "!", "(")), max_size=6)
names = st.lists(st.text(max_size=8) | parts.map("".join), min_size=1, max_size=12, unique=True)
twins = st.sampled_from([augment.mirror_labels, time_reversal_labels])


@settings(max_examples=100)
@given(class_names=names, find=twins)
@example(class_names=["wave!", "wave?"], find=augment.mirror_labels)
@example(class_names=["left!", "left?", "right"], find=augment.mirror_labels)
def test_each_twin_is_the_others(class_names, find):
    labels = find(class_names)
    assert labels.dtype == np.int64 and labels.shape == (len(class_names),)
    assert (labels[labels] == np.arange(len(class_names))).all()


@settings(max_examples=100)
@given(class_names=names, find=twins, data=st.data())
def test_the_order_of_the_classes_changes_no_twin(class_names, find, data):
    order = data.draw(st.permutations(class_names))
    expected = {class_names[label]: class_names[twin] for label, twin in enumerate(find(class_names))}
    assert {order[label]: order[twin] for label, twin in enumerate(find(order))} == expected


@given(class_names=st.lists(st.text("abc XYZ_19é!左", max_size=8), min_size=1, max_size=12), find=twins)
def test_names_without_a_word_that_has_a_twin_keep_their_labels(class_names, find):
    assert find(class_names).tolist() == list(range(len(class_names)))


datasets = st.dictionaries(st.text(max_size=5), st.integers(0, 8), min_size=1, max_size=6).map(
    lambda sizes: Dataset(
        [
            (f"/clips/{label}/{i}.mp4", label)
            for label, size in enumerate(sizes.values())
            for i in range(size)
        ],
        tuple(sizes),
        ("/clips/gone.mp4",),
    )
)


def class_of(dataset):
    return {path: dataset.class_names[label] for path, label in dataset.records}


@given(dataset=datasets, data=st.data())
def test_another_order_of_the_classes_changes_no_clips_class(dataset, data):
    order = data.draw(st.permutations(dataset.class_names))
    moved = dataset.with_class_names(order)
    assert moved.class_names == tuple(order) and moved.missing == dataset.missing
    assert [path for path, _ in moved.records] == [path for path, _ in dataset.records]
    assert class_of(moved) == class_of(dataset)
    assert moved.with_class_names(dataset.class_names) == dataset


parts_of_a_class = st.floats(0, 1, exclude_min=True, exclude_max=True)


def splits(dataset, part, seed, folder="/clips"):
    return [set(dataset.part(split, part, seed, folder).records) for split in ("train", "validation")]


def most_of_a_class(dataset):
    return max(np.bincount([label for _, label in dataset.records], minlength=1))


@given(dataset=datasets, part=parts_of_a_class, seed=seeds)
def test_what_is_set_apart_and_the_rest_are_all_and_have_none_in_common(dataset, part, seed):
    assume(most_of_a_class(dataset) >= 2)
    train, validation = splits(dataset, part, seed)
    assert train | validation == set(dataset.records) and not train & validation
    for label in {label for _, label in dataset.records}:
        count, apart = (sum(other == label for _, other in of) for of in (dataset.records, validation))
        # Neither side is empty if the class has two clips or more.
        assert apart == 0 if count == 1 else 1 <= apart < count and abs(apart - count * part) <= 1


@given(dataset=datasets, part=parts_of_a_class, seed=seeds, data=st.data())
def test_what_is_set_apart_hangs_on_the_clips_of_its_class_alone(dataset, part, seed, data):
    assume(most_of_a_class(dataset) >= 2)
    expected = splits(dataset, part, seed)
    others = [
        (f"/clips/other/{i}.mp4", len(dataset.class_names)) for i in range(data.draw(st.integers(0, 5)))
    ]
    records = data.draw(st.permutations([*dataset.records, *others]))
    found = splits(Dataset(records, (*dataset.class_names, "other classes")), part, seed)
    assert [split - set(others) for split in found] == expected
    moved = Dataset([(f"/elsewhere{path}", label) for path, label in records], dataset.class_names)
    moved = splits(moved, part, seed, "/elsewhere/clips")
    assert [{(path.removeprefix("/elsewhere"), label) for path, label in split} for split in moved] == found


@given(dataset=datasets, part=parts_of_a_class, seed=seeds, data=st.data())
def test_one_clip_less_moves_at_most_one_other(dataset, part, seed, data):
    assume(most_of_a_class(dataset) >= 3)
    gone = data.draw(st.sampled_from(dataset.records))
    _, before = splits(dataset, part, seed)
    _, after = splits(dataset.without({gone[0]}), part, seed)
    assert len((before - {gone}) ^ after) <= 1


# Annotation files

# Jester is absent, as its files have the format of Something-Something v1.
CLASSES = ["Bending", "Pulling"]
FILES = {
    "something_v1": ("something-something-v1-labels.csv", "something-something-v1-train.csv"),
    "something_v2": ("something-something-v2-labels.json", "something-something-v2-train.json"),
    "kinetics400": ("train.csv",),
    "ucf101": ("classInd.txt", "trainlist01.txt"),
    "hmdb51": ("Bending_test_split1.txt",),
}
pieces = st.binary(max_size=6) | st.sampled_from(
    (
        b"",
        b"\n",
        b" ",
        b"\t",
        b";",
        b",",
        b"/",
        b"..",
        b'"',
        b"{",
        b"[",
        b"1",
        b"-1",
        b"0",
        b"\0",
        b"\xef\xbb\xbf",
    )
)


@pytest.fixture(scope="module", params=[(name, file) for name in FILES for file in FILES[name]])
def shipped_file(request, tmp_path_factory):
    """The name of a data set, the path of one of its files, and the content of that file."""
    name, file = request.param
    root = shipped.write(tmp_path_factory.mktemp(name), shipped.WRITERS[name](CLASSES))
    path = os.path.join(root, file)
    with open(path, "rb") as opened:
        yield name, path, opened.read()


@given(data=st.data())
def test_a_file_with_a_few_wrong_bytes_is_refused_in_a_line_or_gives_clips_of_its_classes(shipped_file, data):
    name, path, content = shipped_file
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content = content[:start] + data.draw(pieces) + content[start + data.draw(st.integers(0, 4)) :]
    with open(path, "wb") as file:
        file.write(content)
    try:
        dataset = open_dataset(name, os.path.dirname(path))
    except ValueError as error:
        # Exclude UnicodeDecodeError and JSONDecodeError, which are ValueErrors too.
        assert type(error) in (ValueError, ArgumentError) and str(error).isprintable()
    else:
        assert {label for _, label in dataset.records} <= set(range(len(dataset.class_names)))
        assert len({path for path, _ in dataset.records}) == len(dataset.records) > 0
        assert all(os.path.exists(path) for path, _ in dataset.records)
