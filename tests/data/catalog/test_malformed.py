"""Annotation files that are not as shipped: the error says which, where, and what was expected."""

import json

import pytest

from keras_stm.data.catalog import open_dataset
from tests.data.catalog import shipped

CLASSES = ["Bending", "Pulling"]
KINETICS = "label,youtube_id,time_start,time_end,split\n"


def entries(*values):
    return json.dumps(values)


def entry(**changes):
    return {"id": "1", "template": "Bending", **changes}


# (data set, split, file) -> what is in the file, and what the error says.
MALFORMED = {
    ("something_v1", "train", "something-something-v1-train.csv"): [
        ("1000;Bending\n\n1001\n", "line 3: expected `id;label`"),
        (";Bending\n", "line 1: expected `id;label`"),
        ("1;Bending it\n", "line 1: .* a label of something-something-v1-labels.csv"),
        ("1;Bending\r\n1;Pulling\r\n", "line 2: expected each name once, and '1'"),
        ("", "expected at least one line, the file is empty"),
        ("1;Bending\n\xe9".encode("latin-1"), "line 2: expected UTF-8"),
        ("1;Bending".encode("utf-16"), "line 1: expected UTF-8"),
        ("1;Bending\n".encode("utf-16-le"), "line 1: expected UTF-8, without zero bytes"),
        ("../1;Bending\n", r"line 1: expected the name of one file or folder, not '\.\./1'"),
    ],
    ("something_v1", "train", "something-something-v1-labels.csv"): [
        ("\ufeff\n", "the file is empty"),
        ("a\nb\na\n", "line 3: expected each name once, and 'a'"),
        ("a\n\nb\0\n", "line 3: expected UTF-8, without zero bytes"),
    ],
    ("something_v1", "test", "something-something-v1-test.csv"): [
        ("3000\n3001;Bending\n", "line 2: expected `id` alone"),
        ("3000\n..\n", "line 2: expected the name of one file or folder"),
    ],
    ("jester", "validation", "jester-v1-validation.csv"): [
        ("1,Bending\n", "line 1: expected `id;label` with a label of jester-v1-labels.csv"),
    ],
    ("something_v2", "train", "something-something-v2-train.json"): [
        ("[\n{]", "line 2: expected JSON"),
        ("", "line 1: expected JSON"),
        ("[]", r"expected a list with entries. Received: \[\]"),
        ('{"id": "1"}', "expected a list with entries"),
        (entries(entry(), "1"), "entry 2: expected an object with text"),
        (entries(entry(id=1)), "entry 1: .* for 'id' and 'template'"),
        (entries({"id": "1"}), "entry 1: .* for 'id' and 'template'"),
        (entries(entry(template="Falling")), "entry 1: .* a class of the labels'"),
        (entries(entry(), entry()), "entry 2: expected each name once"),
        (entries(entry(id="")), "entry 1: expected the name of one file or folder, not ''"),
        ("[" * 10**5, r"expected JSON \(maximum recursion depth exceeded"),
        (f"[{'9' * 10**5}]", r"expected JSON \(Exceeds the limit"),
    ],
    ("something_v2", "test", "something-something-v2-test.json"): [
        (entries([]), "entry 1: expected an object with text for 'id'"),
    ],
    ("something_v2", "train", "something-something-v2-labels.json"): [
        ("[1]", "expected an object with entries"),
        ('{"a": "0", "b": "2"}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"a": "0", "b": null}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"a": "0", "b": "0"}', "entry 2: expected each name once, and 0"),
        ('{"a": "1", "b": "1", "a": "0"}', r"expected JSON \('a' comes twice in an object\)"),
    ],
    ("kinetics400", "train", "train.csv"): [
        (KINETICS, "line 1: expected lines after the header"),
        ("label,id\nBending,x\n", "line 1: expected a header with youtube_id"),
        (KINETICS + "Bending,x,1\n", "line 2: expected 5 fields as in the header"),
        (KINETICS + "Bending,x,1,1.5,train\n", "line 2: .* whole seconds"),
        (KINETICS + "Bending,x,-1,9,train\n", "line 2: .* whole seconds"),
        (KINETICS + f"Bending,x,{'9' * 5000},9,train\n", "line 2: .* whole seconds"),
        (KINETICS + "Bending,,1,9,train\n", "line 2: expected a youtube_id"),
        (KINETICS + "Bending,/x,1,9,train\n", "line 2: expected the name of one file or folder, not '/x'"),
        ("label,youtube_id,time_start,time_end,label\na,x,1,9,b\n", "line 1: .* each column once"),
        (KINETICS + ",x,1,9,train\n", "line 2: expected a label"),
        (KINETICS + "a,x,1,9,train\n" * 2, "line 3: expected each name once"),
    ],
    ("kinetics400", "validation", "validate.csv"): [
        (KINETICS + "Falling,x,1,9,validate\n", "line 2: expected a label of train.csv"),
        (KINETICS + ",x,1,9,validate\n", "line 2: expected a label of train.csv"),
    ],
    ("ucf101", "train", "classInd.txt"): [
        ("1 Bending\n2 Pulling\n2 Falling\n", "line 3: expected each name once, and 2"),
        ("1 Bending\n3 Pulling\n", "line 2: expected `number Class`, with a number from 1 to 2"),
        ("1 Bending\n2 Bending\n", "line 2: expected each name once, and 'Bending' was there before"),
        ("1 ../Bending\n", "line 1: expected the name of one file or folder"),
        ("0 Bending\n", "line 1: expected `number Class`"),
        ("Bending\n", "line 1: expected `number Class`"),
    ],
    ("ucf101", "train", "trainlist01.txt"): [
        ("Bending/v.avi\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/v.avi 2\n", "line 1: .* with a class of classInd.txt and its number"),
        ("Falling/v.avi 1\n", "line 1: .* with a class of classInd.txt and its number"),
        ("v.avi 1\n", "line 1: expected `Class/file.avi number`"),
        # It took minutes.
        ("/" * 10**6, "line 1: expected `Class/file.avi number`"),
    ],
    ("ucf101", "test", "testlist01.txt"): [
        ("Bending/v.avi\nBending/w.avi 1\n", "line 2: expected `Class/file.avi` with a class"),
        ("Bending/v.avi\nBending/v.avi\n", "line 2: expected each name once"),
    ],
    ("hmdb51", "train", "Bending_test_split1.txt"): [
        ("a.avi 1\nb.avi 3\n", "line 2: expected `file.avi code`"),
        ("a.avi\n", "line 1: expected `file.avi code`"),
        ("a.avi 1\na.avi 2\n", "line 2: expected each name once"),
        ("../Pulling/a.avi 1\n", "line 1: expected the name of one file or folder"),
        ("", "the file is empty"),
    ],
}


@pytest.mark.parametrize(
    "name,split,file,content,message",
    [(*where, *case) for where, cases in MALFORMED.items() for case in cases],
)
def test_a_malformed_file_is_named_with_the_place(tmp_path, name, split, file, content, message):
    root = shipped.write(tmp_path, {**shipped.WRITERS[name](CLASSES), file: content})
    with pytest.raises(ValueError, match=message) as error:
        open_dataset(name, root, split)
    assert str(error.value).startswith(str(tmp_path / file))
    assert "\n" not in str(error.value)


def test_what_was_found_is_shown_and_shortened(tmp_path):
    files = shipped.jester(CLASSES) | {"jester-v1-train.csv": f"1;{'long ' * 100}"}
    with pytest.raises(ValueError, match=r"Received: '1;long long .*\.\.\.$") as error:
        open_dataset("jester", shipped.write(tmp_path, files))
    assert len(str(error.value)) < 300


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    files = shipped.something_v1(CLASSES)
    for file in files:
        if file.endswith(".csv"):
            files[file] = "\ufeff" + files[file].replace("\n", "\r\n")
    dataset = open_dataset("something_v1", shipped.write(tmp_path, files))
    assert dataset.class_names == tuple(CLASSES)
    assert [label for _, label in dataset.records] == [0, 1]


def test_a_class_whose_file_of_a_fold_is_missing_is_named(tmp_path):
    files = shipped.hmdb51(CLASSES)
    del files["Pulling_test_split2.txt"]
    root = shipped.write(tmp_path, files)
    assert open_dataset("hmdb51", root).class_names == tuple(CLASSES)
    with pytest.raises(ValueError, match="/Pulling_test_split2.txt: cannot be read"):
        open_dataset("hmdb51", root, fold=2)


def test_a_fold_without_clips_is_named(tmp_path):
    files = shipped.hmdb51(CLASSES) | {f"{name}_test_split1.txt": "a.avi 2\n" for name in CLASSES}
    root = shipped.write(tmp_path, files)
    with pytest.raises(ValueError, match=f"^{tmp_path}: expected a clip with code 1 in some .*_split1.txt"):
        open_dataset("hmdb51", root)


@pytest.mark.parametrize("class_name", ["", "a\nb", "a\u2028b", "a\x85", "\ud83d"])
def test_a_class_name_that_is_no_line_of_text_is_refused(tmp_path, class_name):
    files = shipped.something_v2(CLASSES)
    files["something-something-v2-labels.json"] = json.dumps({"Bending": 0, "Pulling": 1, class_name: 2})
    root = shipped.write(tmp_path, files)
    with pytest.raises(ValueError, match="expected class names of one line of UTF-8. Received: '") as error:
        open_dataset("something_v2", root)
    assert type(error.value) is ValueError and repr(class_name) in str(error.value)


@pytest.mark.parametrize(
    "name,file,content",
    [
        ("kinetics400", "train.csv", KINETICS + "Bending , -a_1000,7,17,x\nPulling,-a_1001,7, 17,x\n"),
        ("ucf101", "classInd.txt", "1   Bending\n2\tPulling\n"),
    ],
)
def test_blanks_around_fields_belong_to_no_name(tmp_path, name, file, content):
    expected = open_dataset(name, shipped.write(tmp_path, shipped.WRITERS[name](CLASSES)))
    assert open_dataset(name, shipped.write(tmp_path, {file: content})) == expected


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    files = shipped.jester(CLASSES)
    files["jester-v1-train.csv/inside"] = files.pop("jester-v1-train.csv")
    with pytest.raises(ValueError, match="jester-v1-train.csv: cannot be read"):
        open_dataset("jester", shipped.write(tmp_path, files))
