"""Groups of clips that a split does not divide, and names that suggest groups."""

import collections
import os

import pytest

from keras_stm.data import grouping
from keras_stm.data.catalog import open_dataset
from tests.data.errors import argument_error

PERSONS = [f"person{p:02}_clip{c:02}.mp4" for p in range(10) for c in range(2 + p % 3)]


def write(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def open_both(root, group_by, name="folder", **options):
    return [
        [
            (os.path.relpath(path, root), label)
            for path, label in open_dataset(name, root, split, group_by=group_by, **options).records
        ]
        for split in ("train", "validation")
    ]


@pytest.mark.parametrize("prefix", ["", "train/"])
@pytest.mark.parametrize(
    "group_by,form",
    [
        (r"(person\d+)_", "{}"),
        (r"person\d+", "{}"),
        (r"/(?:(p\w+\d+)_|other(\d+))", "{}"),
        ("parent", "{person}/{clip}"),
    ],
)
def test_no_person_is_on_both_sides_and_each_class_gives_about_a_fifth(tmp_path, prefix, group_by, form):
    def place(name):
        person, _, clip = name.partition("_")
        return form.format(name, person=person, clip=clip)

    root = write(tmp_path, [f"{prefix}{c}/{place(name)}" for c in ("wave", "clap") for name in PERSONS])
    train, validation = open_both(root, group_by)
    persons = [{path.split("person")[1][:2] for path, _ in part} for part in (train, validation)]
    assert len(persons[0]) + len(persons[1]) == 10 and not persons[0] & persons[1]
    for label in (0, 1):
        counts = [sum(found == label for _, found in part) for part in (train, validation)]
        assert sum(counts) == len(PERSONS) and 4 <= counts[1] <= 8
    # The choice is that of the seed.
    assert open_both(root, group_by) == [train, validation]
    assert open_both(root, group_by, seed=1) != [train, validation]


def test_moving_the_clips_does_not_change_the_choice(tmp_path):
    names = [f"{c}/{name}" for c in ("wave", "clap") for name in PERSONS]
    here, there = write(tmp_path / "here", names), write(tmp_path / "there" / "else", names)
    assert open_both(here, r"person\d+") == open_both(there, r"person\d+")


def test_a_clip_without_a_key_is_a_group_of_its_own(tmp_path):
    names = [f"{c}/{i}.mp4" for c in ("wave", "clap") for i in range(9)]
    names += [f"{c}/person/9.mp4" for c in ("wave", "clap")]
    for group_by in ("parent", "(person)"):
        train, validation = open_both(write(tmp_path, names), group_by)
        assert collections.Counter(label for _, label in validation) == {0: 2, 1: 2}
        assert len(train) == 16


@pytest.mark.parametrize(
    "group_by, name", [("parent", "folder"), ("(person)", "folder"), ("(person)", "list")]
)
def test_a_rule_without_effect_is_refused(tmp_path, group_by, name):
    names = [f"{c}/{i}.mp4" for c in ("wave", "clap") for i in range(2)]
    root = write(tmp_path, names)
    (tmp_path / "train.txt").write_text("".join(f"{each} 0\n" for each in names))
    with argument_error("group_by", group_by):
        open_dataset(name, root, group_by=group_by)
    # A validation split that exists stays as it is.
    write(tmp_path, [f"{split}/{each}" for split in ("train", "val") for each in names])
    (tmp_path / "val.txt").write_text(f"{names[0]} 0\n")
    with argument_error("group_by", "."):
        open_dataset(name, root, group_by=".")


def test_lists_are_grouped_by_folder_or_by_name(tmp_path):
    names = [f"tape{t}/{i}.mp4" for t in range(5) for i in range(4)]
    root = write(tmp_path, names)
    (tmp_path / "train.txt").write_text("".join(f"{name} {i % 2}\n" for i, name in enumerate(names)))
    for group_by in ("parent", r"^tape\d"):
        train, validation = open_both(root, group_by, "list")
        assert {path[:5] for path, _ in train}.isdisjoint(path[:5] for path, _ in validation)
        assert len(validation) == 4


@pytest.mark.parametrize(
    "sizes",
    [
        {"a": [8, 1], "b": [3, 3, 3]},
        {"a": [5, 5], "b": [1] * 20},
        {"a": [1, 1], "b": [30, 1]},
        {"a": [2] * 50, "b": [7] * 3},
    ],
)
def test_a_class_is_never_set_apart_as_a_whole_and_keeps_some_for_validation(sizes):
    groups = {
        (label, i): collections.Counter({label: size})
        for label, of_class in sizes.items()
        for i, size in enumerate(of_class)
    }
    chosen = grouping.choose(groups, 0.2, str)
    for label, of_class in sizes.items():
        apart = sum(groups[group][label] for group in chosen if group[0] == label)
        assert 0 < apart < sum(of_class)
        possible = [size for size in of_class if size < sum(of_class)]
        assert apart <= max(0.3 * sum(of_class), min(possible))


def test_a_class_of_one_group_is_for_training():
    groups = {"x": collections.Counter(a=9), "y": collections.Counter(b=1), "z": collections.Counter(b=1)}
    assert grouping.choose(groups, 0.2, str) in ({"y"}, {"z"})


@pytest.mark.parametrize("value", ["(", "*a"])
def test_what_is_no_regular_expression_is_named(tmp_path, value):
    root = write(tmp_path, ["a/1.mp4", "a/2.mp4", "b/1.mp4"])
    with argument_error("group_by", value):
        open_dataset("folder", root, group_by=value)


def test_one_group_in_all_is_named(tmp_path):
    root = write(tmp_path, ["a/1.mp4", "a/2.mp4", "b/1.mp4"])
    with pytest.raises(ValueError, match="two groups by `group_by` of some class"):
        open_dataset("folder", root, "validation", group_by="mp4")


@pytest.mark.parametrize(
    "names,suggestion",
    [
        ([f"wave/{name}" for name in PERSONS], r"([^/]*person\d+)_clip\d+"),
        (
            [f"Archery/v_Archery_g{g:02}_c{c:02}.avi" for g in range(3) for c in range(3)],
            r"([^/]*g\d+)_c\d+",
        ),
        ([f"a/Subject {s} - take {t}.mp4" for s in range(3) for t in range(3)], None),
        ([f"a/s{s}/{t}.mp4" for s in range(3) for t in range(3)], "parent"),
        # Numbers alone, dates, one group in all, and groups of one clip suggest nothing.
        ([f"a/{i}.mp4" for i in range(9)], None),
        ([f"a/VID_2026050{i}_12000{i}.mp4" for i in range(9)], None),
        ([f"a/person1_clip{i}.mp4" for i in range(9)], None),
        ([f"a/person{i}_clip1.mp4" for i in range(9)], None),
        ([], None),
    ],
)
def test_names_suggest_groups(names, suggestion):
    found = grouping.suggest(names, has_class_folders=True)
    if suggestion is None and "Subject" in str(names):
        suggestion = r"([^/]*Subject\ \d+)\ \-\ take\ \d+"
    assert found == suggestion
    if found and found != "parent":
        paths = [f"/r/{name}" for name in names]
        keys = set(map(grouping.key_function(found, "/r", "/r", True, paths), paths))
        assert 1 < len(keys) < len(names)
