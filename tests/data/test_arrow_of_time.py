import csv
import functools
import os
import sys

import av
import numpy as np
import pytest

from keras_stm.data import arrow_of_time, open_dataset, segments
from keras_stm.data.arrow_of_time import CLASS_NAMES, REVERSED, SHAPES, make_clip, make_dataset
from tests.data import videos
from tests.data.errors import argument_error

# Arguments of the fixture `clips`.
SIZES = {"num_train": 16, "num_validation": 8, "num_test": 8, "progress": False}
SMALLEST = {**SIZES, "num_train": 8}

# The other classes are these backwards.
DRAWN = ("approach", "move_left", "move_up", "turn_clockwise")

decode_all = functools.cache(videos.decode_all)


@pytest.fixture
def root(clips):
    return clips


def rows(root):
    with open(os.path.join(root, "clips.csv"), newline="") as file:
        return list(csv.DictReader(file))


def pairs(root):
    """Yields the decoded frames of each val and test file, and those of its partner."""
    for row in rows(root):
        if row["split"] != "train":
            yield tuple(decode_all(os.path.join(root, row[n])) for n in ("file", "reversed_file"))


def test_eight_classes_are_four_pairs():
    assert len(CLASS_NAMES) == 8 and list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert set(REVERSED) == set(CLASS_NAMES)
    for name in CLASS_NAMES:
        assert REVERSED[name] != name and REVERSED[REVERSED[name]] == name


def test_clip_is_an_array_with_a_shape_name():
    frames, shape = make_clip("approach", 0)
    assert frames.shape == (24, 64, 64, 3) and frames.dtype == np.uint8
    assert shape in SHAPES
    frames, _ = make_clip("approach", 0, num_frames=5, image_size=20)
    assert frames.shape == (5, 20, 20, 3)


@pytest.mark.parametrize("hard", [False, True])
def test_clip_depends_on_class_seed_and_difficulty_alone(hard):
    for name in DRAWN:
        first, again, other = (make_clip(name, seed, hard=hard).frames for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).mean() > 0.9
        assert (first != make_clip(name, 1, hard=not hard).frames).any()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", CLASS_NAMES)
def test_same_seed_gives_the_partner_the_same_frames_backwards(name, hard):
    clip, partner = make_clip(name, 3, hard=hard), make_clip(REVERSED[name], 3, hard=hard)
    np.testing.assert_array_equal(clip.frames, partner.frames[::-1])
    assert clip.shape == partner.shape


def object_masks(name, seed):
    """Returns masks `(24, 64, 64)` of the shape: where the clip differs from a drawing without the shape."""
    clip = make_clip(name, seed).frames.astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_of_time, "overlay", lambda frames, canvas, path: frames.repeat(24, 0))
        background = make_clip(name, seed).frames
    return abs(clip - background).sum(axis=3) > 60


def centroid(mask):
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize(
    "name,axis,sign",
    [("move_left", 1, -1), ("move_right", 1, 1), ("move_up", 0, -1), ("move_down", 0, 1)],
)
def test_translation_goes_where_its_name_says(name, axis, sign):
    for seed in range(5):
        mask = object_masks(name, seed)
        shift = centroid(mask[-1]) - centroid(mask[0])
        assert 0.25 * 64 < sign * shift[axis] < 0.55 * 64
        assert abs(shift[1 - axis]) < 0.1 * 64


@pytest.mark.parametrize("name,sign", [("approach", 1), ("recede", -1)])
def test_scale_changes_as_its_name_says(name, sign):
    for seed in range(5):
        area = object_masks(name, seed).sum(axis=(1, 2))
        assert 1.6 < (area[-1] / area[0]) ** (sign / 2) < 2.7


@pytest.mark.parametrize("name,sign", [("turn_clockwise", 1), ("turn_counterclockwise", -1)])
def test_rotation_turns_as_its_name_says(name, sign):
    for seed in range(5):
        clip = object_masks(name, seed)
        first = np.argwhere(clip[0])[:, ::-1] - clip_center(clip[0])
        best = max(range(-180, 180, 5), key=lambda degrees: overlap(first, degrees, clip[-1]))
        assert 65 <= sign * best <= 175


def clip_center(mask):
    return centroid(mask)[::-1]


def overlap(points, degrees, mask):
    """Counts the points (x, y) that fall on a mask after a turn about the mask's centroid; y points down."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y = np.clip(np.round(points @ turn.T + clip_center(mask)), 0, 63).astype(int).T
    return mask[y, x].sum()


def paths_of(name, seed, hard):
    """Returns the paths of a clip's shapes. The last path is that of the shape that shows the class."""
    paths = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_of_time, "overlay", lambda frames, canvas, path: paths.append(path) or frames)
        make_clip(name, seed, hard=hard)
    return paths


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", DRAWN)
def test_shapes_stay_in_the_frame(name, hard):
    for seed in range(10):
        for path in paths_of(name, seed, hard):
            reach = 0.7 * path.radius[:, None]
            assert (path.center > reach).all() and (path.center < 1 - reach).all()


def test_easy_clips_hold_one_shape_that_moves_all_the_time():
    for seed in range(10):
        (path,) = paths_of("move_left", seed, hard=False)
        assert (path.center[6:, 0] < path.center[:-6, 0]).all()


def test_hard_clips_hold_smaller_shapes_that_do_the_opposite_while_all_drift_and_pause():
    for seed in range(10):
        *others, main = paths_of("move_left", seed, hard=True)
        assert len(others) == 2
        assert main.center[-1, 0] - main.center[0, 0] < -0.1
        for other in others:
            assert other.center[-1, 0] - other.center[0, 0] > 0.1
            assert other.radius.max() < main.radius.min()
        # In a pause only the wobble and the drift move it: the fastest step is many times the slowest.
        steps = abs(np.diff(main.center[:, 0]))
        assert steps.max() > 3 * np.sort(steps)[:3].max()


@pytest.mark.parametrize("name,value", [("class_name", "jump"), ("num_frames", 1), ("image_size", 0)])
def test_wrong_arguments_of_a_clip_are_named(name, value):
    with argument_error(name, value):
        make_clip(**{"class_name": "approach", "seed": 0, name: value})


def test_data_set_reads_as_class_folders(root):
    for split, size in {"train": 16, "validation": 8, "test": 8}.items():
        dataset = open_dataset("folder", root, split)
        assert dataset.class_names == CLASS_NAMES
        labels = [label for _, label in dataset.records]
        assert labels == sorted(list(range(8)) * (size // 8))


def test_csv_lists_every_file_with_its_class_shape_and_partner(root):
    listed = {row["file"]: row for row in rows(root)}
    files = {
        os.path.relpath(path, root).replace(os.sep, "/")
        for split in ("train", "validation", "test")
        for path, _ in open_dataset("folder", root, split).records
    }
    assert set(listed) == files and len(rows(root)) == 32
    for file, row in listed.items():
        assert file.split("/")[:2] == [row["split"], row["class"]]
        assert row["shape"] in SHAPES
        if row["split"] == "train":
            assert row["reversed_file"] == ""
        else:
            partner = listed[row["reversed_file"]]
            assert partner["reversed_file"] == file
            assert partner["class"] == REVERSED[row["class"]]
            assert (partner["split"], partner["shape"]) == (row["split"], row["shape"])


def test_reversed_file_is_its_partner_frame_by_frame(root):
    for frames, partner in pairs(root):
        assert len(frames) == 24
        np.testing.assert_array_equal(frames, partner[::-1])
        # The order itself must differ.
        assert (frames != partner).any()


def test_file_sizes_do_not_tell_the_direction(root):
    for row in rows(root):
        if row["split"] != "train":
            sizes = [os.path.getsize(os.path.join(root, row[n])) for n in ("file", "reversed_file")]
            assert abs(sizes[0] - sizes[1]) < 0.005 * sizes[0]


def test_what_ignores_order_is_right_for_exactly_one_of_each_pair(root):
    """A function of the unordered frames, here a random one, gives both clips of a pair the same answer."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 64 * 64 * 3, 2))
    hits = []
    for row, (frames, _) in zip([r for r in rows(root) if r["reversed_file"]], pairs(root), strict=True):
        bag = np.sort(frames.reshape(24, -1), axis=0).mean(axis=0)
        direction = np.einsum("p,npd->nd", bag, weights).argmax(axis=1)
        hits.append(direction == (row["class"] < REVERSED[row["class"]]))
    np.testing.assert_array_equal(np.mean(hits, axis=0), 0.5)


def test_files_show_what_make_clip_draws(root):
    path = os.path.join(root, "val", "move_left", "00000.mp4")
    frames = make_clip("move_left", (0, 1, 0)).frames
    assert abs(decode_all(path).astype(int) - frames).mean() < 6


def test_splits_and_clips_share_no_frame(root):
    firsts = {}
    for row in rows(root):
        if row["class"] in DRAWN or row["split"] == "train":
            firsts[decode_all(os.path.join(root, row["file"]))[0].tobytes()] = row["file"]
    assert len(firsts) == 16 + 4 + 4


def test_same_seed_gives_the_same_files_with_any_number_of_threads(root, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    again = make_dataset(tmp_path / "again", **SIZES)
    assert rows(again) == rows(root)
    for row in rows(root):
        first, second = (open(os.path.join(folder, row["file"]), "rb").read() for folder in (root, again))
        assert first == second


def test_another_seed_gives_other_files_and_an_empty_folder_is_filled(root, tmp_path):
    other = make_dataset(tmp_path, **SMALLEST, seed=1)
    assert len(rows(other)) == 24
    for row in rows(other):
        first, second = (open(os.path.join(folder, row["file"]), "rb").read() for folder in (root, other))
        assert first != second


def test_finished_folder_is_left_as_it_is(root):
    before = os.stat(os.path.join(root, "clips.csv")).st_mtime_ns
    assert make_dataset(root, **SIZES) == root
    assert os.stat(os.path.join(root, "clips.csv")).st_mtime_ns == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"hard": True}, {"num_train": 24}])
def test_folder_of_other_parameters_is_refused(root, change):
    with argument_error("root", root):
        make_dataset(root, **{**SIZES, **change})


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with argument_error("root", str(tmp_path)):
        make_dataset(tmp_path, **SIZES)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(path, mode):
        with open(path, "wb") as file:
            file.write(b"a part")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(av, "open", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(tmp_path / "data", **SMALLEST)
    assert os.listdir(tmp_path) == []
    assert len(rows(make_dataset(tmp_path / "data", **SMALLEST))) == 24


def test_wrong_numbers_of_clips_are_named(tmp_path):
    for name, value in [("num_train", 12), ("num_validation", 0), ("num_test", 7)]:
        with argument_error(name, value):
            make_dataset(tmp_path / "data", **{**SIZES, name: value})
    assert os.listdir(tmp_path) == []


def test_clips_and_their_frames_need_no_tensorflow(monkeypatch):
    # With this entry, importing TensorFlow raises an error.
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    clip = make_clip("approach", 0)
    assert len(clip.frames[segments.center_indices(24, 8)]) == 8
