"""Malformed annotation files: the error names the file, the place, and the text found there.

Accepted variations are read correctly: no clip gets the label of another class or is lost without a report.
"""

import json
import os
import re
import time

import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.commands import fit
from keras_stm.data.catalog import open_dataset
from tests.data.catalog import shipped

CLASSES = ["Bending", "Pulling"]
SPANS = "video,start,end,label,split\n"
KINETICS = "label,youtube_id,time_start,time_end,split\n"


def text_list(class_names):
    files = {"classes.txt": shipped.lines(class_names)}
    for split, first in shipped.FIRST.items():
        clips = [f"clips/{first + label}.mp4" for label in range(len(class_names))]
        files[f"{split}.txt"] = shipped.lines(f"{clip} {label}" for label, clip in enumerate(clips))
        files |= dict.fromkeys(clips, b"")
    return files


def spans(class_names):
    videos = [f"{split}{label}.mp4" for split in shipped.FIRST for label in range(len(class_names))]
    rows = [
        f"{split}{label}.mp4,{start},{start + 2.5},{name},{split}"
        for split in shipped.FIRST
        for label, name in enumerate(class_names)
        for start in (0, 61)
    ]
    return {"spans.csv": shipped.lines([SPANS.strip(), *rows])} | dict.fromkeys(videos, b"")


WRITERS = {**shipped.WRITERS, "list": text_list, "spans": spans}


def contents(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def check_refused(tmp_path, file, split, name, *parts):
    """Checks that opening raises one short line, which begins with the file and contains the parts."""
    before = contents(tmp_path)
    with pytest.raises(ValueError) as error:
        open_dataset(name, tmp_path, split)
    # Exclude UnicodeDecodeError and JSONDecodeError, which are ValueErrors too.
    assert type(error.value) in (ValueError, ArgumentError)
    text = str(error.value)
    assert text.startswith(str(tmp_path / file))
    assert text.isprintable() and len(text) < 600
    for part in parts:
        assert part in text
    assert contents(tmp_path) == before


# Data set, split, and a text file that is read for it.
TEXT = [
    ("something_v1", "train", "something-something-v1-labels.csv"),
    ("something_v1", "train", "something-something-v1-train.csv"),
    ("something_v1", "test", "something-something-v1-test.csv"),
    ("jester", "train", "jester-v1-labels.csv"),
    ("jester", "validation", "jester-v1-validation.csv"),
    ("something_v2", "train", "something-something-v2-labels.json"),
    ("something_v2", "train", "something-something-v2-train.json"),
    ("something_v2", "test", "something-something-v2-test.json"),
    ("kinetics400", "train", "train.csv"),
    ("kinetics400", "validation", "validate.csv"),
    ("ucf101", "train", "classInd.txt"),
    ("ucf101", "train", "trainlist01.txt"),
    ("ucf101", "test", "testlist01.txt"),
    ("hmdb51", "train", "Bending_test_split1.txt"),
    ("list", "train", "classes.txt"),
    ("list", "train", "train.txt"),
    ("list", "train", "validation.txt"),
    ("list", "test", "test.txt"),
    ("spans", "train", "spans.csv"),
]


@pytest.mark.parametrize("name,split,file", TEXT)
def test_a_file_that_is_no_utf_8_or_cannot_be_read_is_refused(tmp_path, name, split, file):
    files = WRITERS[name](CLASSES)
    number = files[file].count("\n") + 2
    root = shipped.write(tmp_path, files | {file: f"{files[file]}\né".encode("latin-1")})
    # Names of files may be in another encoding: such a line is refused for what it lacks.
    encoding = [] if file in ("spans.csv", "train.txt", "validation.txt", "test.txt") else ["UTF-8"]
    check_refused(tmp_path, file, split, name, f"line {number}:", *encoding)
    (tmp_path / file).unlink()
    shipped.write(tmp_path, {f"{file}/inside": ""})
    check_refused(tmp_path, file, split, name, "directory")
    os.rename(os.path.join(root, file), tmp_path / "moved")
    (tmp_path / file).symlink_to("nowhere")
    check_refused(tmp_path, file, split, name, "No such file")


@pytest.mark.parametrize(
    "content,parts",
    [
        ("1;Bending".encode("utf-16"), ["line 1:", "UTF-8"]),
        ("1;Bending\n".encode("utf-16-le"), ["line 1:", "zero bytes"]),
        ("1;Bending\n\n\0", ["line 3:", "zero bytes"]),
        ("", ["empty"]),
        ("\ufeff", ["empty"]),
        (" \n\t\r\n\n", ["empty"]),
    ],
)
def test_another_encoding_and_an_empty_file_are_told(tmp_path, content, parts):
    shipped.write(tmp_path, shipped.jester(CLASSES) | {"jester-v1-train.csv": content})
    check_refused(tmp_path, "jester-v1-train.csv", "train", "jester", *parts)


def v2(*entries):
    return json.dumps([{"id": "1000", "template": "Bending"}, *entries])


# (data set, split, file) -> content of the file, place of the error, and text found there.
MALFORMED = {
    ("spans", "train", "spans.csv"): [
        ("train0.mp4,0,1,Bending,train\n", "line 1", "video, start, end, label"),
        ("video,start,end\na.mp4,0,1\n", "line 1", "video, start, end, label"),
        ("video,start,end,label,end\na.mp4,0,1,Bending,2\n", "line 1", "each column once"),
        (SPANS, "line 1", "lines after the header"),
        (SPANS + "a.mp4,0,1,Bending,train\n\nb.mp4,0,1,Bending\n", "line 4", "5 fields"),
        (SPANS + "a.mp4,0,1,Bending,holdout\n", "line 2", "'holdout'"),
        (SPANS + "a.mp4,0,1,,train\n", "line 2", "a video and a label"),
        (SPANS + ",0,1,Bending,train\n", "line 2", "a video and a label"),
        (SPANS + "a.mp4,2,2,Bending,train\n", "line 2", "a later end"),
        (SPANS + "a.mp4,0,1:60,Bending,train\n", "line 2", "'1:60'"),
        (SPANS + "a.mp4,-1,2,Bending,train\n", "line 2", "'-1'"),
        (SPANS + "a.mp4,nan,2,Bending,train\n", "line 2", "'nan'"),
        (SPANS + "a.mp4,0,1,Bending,train\n./a.mp4,0.0,00:01,Pulling,train\n", "line 3", "a.mp4#t=0,1"),
        (SPANS + 'a.mp4,0,1,"Bending,train\n', "line 3", "CSV"),
        (SPANS + "a.mp4,0,1,Bending,train\n", "at least two labels", "Bending"),
    ],
    ("spans", "test", "spans.csv"): [
        (
            SPANS + "a.mp4,0,1,Bending,train\nb.mp4,0,1,Pulling,train\nc.mp4,0,1,Waving,Test\n",
            "only labels of training spans",
            "Waving",
        ),
    ],
    ("something_v1", "train", "something-something-v1-labels.csv"): [
        ("Bending\n\nPulling\n Bending \n", "line 4", "'Bending'"),
    ],
    ("something_v1", "train", "something-something-v1-train.csv"): [
        ("id;label\n1000;Bending\n", "line 1", "'id;label'"),
        ("1000;Bending\n\n1001\n", "line 3", "'1001'"),
        (";Bending\n", "line 1", "';Bending'"),
        ("1000,Bending\n", "line 1", "'1000,Bending'"),
        ("1000;Bending;Pulling\n", "line 1", "'1000;Bending;Pulling'"),
        ("1000;bending\n", "line 1", "'1000;bending'"),
        ("1000;Bending\r\n1000;Pulling\r\n", "line 2", "'1000'"),
        ("../1;Bending\n", "line 1", "'../1'"),
        ("/etc/passwd;Bending\n", "line 1", "'/etc/passwd'"),
        ("..;Bending\n", "line 1", "'..'"),
        ("1000 ;Bending\n", "line 1", "'1000 '"),
        (";" * 10**6, "line 1", "';;;;"),
    ],
    ("something_v1", "test", "something-something-v1-test.csv"): [
        ("3000\n3001;Bending\n", "line 2", "'3001;Bending'"),
        ("3000\n..\n", "line 2", "'..'"),
        ("3000\n3000\n", "line 2", "'3000'"),
    ],
    ("jester", "validation", "jester-v1-validation.csv"): [
        ("2000,Bending\n", "line 1", "jester-v1-labels.csv"),
    ],
    ("something_v2", "train", "something-something-v2-labels.json"): [
        ("[1]", "an object", "[1]"),
        ('{"a": "0", "b": "2"}', "entry 2", "('b', '2')"),
        ('{"a": 0, "b": 1.0}', "entry 2", "('b', 1.0)"),
        ('{"a": "0", "b": null}', "entry 2", "('b', None)"),
        ('{"a": "0", "b": "00"}', "entry 2", "0"),
        ('{"a": "1", "b": "1", "a": "0"}', "JSON", "'a'"),
    ],
    ("something_v2", "train", "something-something-v2-train.json"): [
        ("[\n{]", "line 2", "JSON"),
        ("", "line 1", "JSON"),
        ("[] []", "line 1", "JSON"),
        ("[]", "a list", "[]"),
        ("NaN", "a list", "nan"),
        ('{"id": "1"}', "a list", "{'id': '1'}"),
        ('[{"id": "1000", "template": "Bending", "id": "1001"}]', "JSON", "'id'"),
        (v2("1"), "entry 2", "'1'"),
        (v2({"id": 1, "template": "Bending"}), "entry 2", "'id': 1"),
        (v2({"id": "1"}), "entry 2", "'template'"),
        (v2({"id": "1", "template": "Falling"}), "entry 2", "'Falling'"),
        (v2({"id": "1000", "template": "Pulling"}), "entry 2", "'1000.webm'"),
        (v2({"id": "", "template": "Bending"}), "entry 2", "''"),
        (v2({"id": "1\n2", "template": "Bending"}), "entry 2", r"'1\n2'"),
        (v2({"id": "\ud800", "template": "Bending"}), "entry 2", r"'\ud800'"),
        ("[" * 10**5, "JSON", "recursion"),
        (f"[{'9' * 10**5}]", "JSON", "limit"),
    ],
    ("something_v2", "test", "something-something-v2-test.json"): [
        ("[[]]", "entry 1", "[]"),
    ],
    ("kinetics400", "train", "train.csv"): [
        (KINETICS, "line 1", "'label,youtube_id"),
        ("label,id\nBending,x\n", "line 1", "'label,id'"),
        ("label,youtube_id,time_start,time_end,label\na,x,1,9,b\n", "line 1", "time_end,label'"),
        (KINETICS.replace(",", ";"), "line 1", "'label;youtube_id"),
        (KINETICS + "Bending, you,x,1,9,train\n", "line 2", "'Bending, you,x"),
        (KINETICS + "Bending,x,1\n", "line 2", "'Bending,x,1'"),
        (KINETICS + "Bending,x,1,1.5,train\n", "line 2", "1.5"),
        (KINETICS + "Bending,x,-1,9,train\n", "line 2", "-1"),
        (KINETICS + f"Bending,x,{'9' * 5000},9,train\n", "line 2", "999"),
        (KINETICS + "Bending,,1,9,train\n", "line 2", "'Bending,,1"),
        (KINETICS + "Bending,/x,1,9,train\n", "line 2", "'/x'"),
        (KINETICS + " ,x,1,9,train\n", "line 2", "',x,1"),
        (KINETICS + "Bending,x,1,9,train\nPulling,x,01,9,train\n", "line 3", "'x_000001_000009"),
        (KINETICS + "," * 10**6, "line 2", "',,,,"),
    ],
    ("kinetics400", "validation", "validate.csv"): [
        (KINETICS + "Falling,x,1,9,validate\n", "line 2", "'Falling,x"),
        (KINETICS + ",x,1,9,validate\n", "line 2", "',x,1"),
    ],
    ("kinetics400", "test", "test.csv"): [
        (KINETICS + "Falling,x,1,9,test\n", "line 2", "'Falling,x"),
    ],
    ("ucf101", "train", "classInd.txt"): [
        ("1 Bending\n2 Pulling\n2 Falling\n", "line 3", "2 was"),
        ("1 Bending\n3 Pulling\n", "line 2", "'3 Pulling'"),
        ("0 Bending\n1 Pulling\n", "line 1", "'0 Bending'"),
        ("1 Bending\n2 Bending\n", "line 2", "'Bending' was"),
        ("1 ../Bending\n", "line 1", "'../Bending'"),
        ("Bending\n", "line 1", "'Bending'"),
    ],
    ("ucf101", "train", "trainlist01.txt"): [
        ("Bending/v.avi\n", "line 1", "'Bending/v.avi'"),
        ("Bending/v.avi 2\n", "line 1", "'Bending/v.avi 2'"),
        ("Falling/v.avi 1\n", "line 1", "'Falling/v.avi 1'"),
        ("Bending/../Pulling/v.avi 1\n", "line 1", "'Bending/../Pulling/v.avi 1'"),
        ("Bending/v.avi 1\nBending/v.avi 1\n", "line 2", "'Bending/v.avi'"),
        # Parsing this line once took minutes.
        ("/" * 10**6, "line 1", "'////"),
    ],
    ("ucf101", "test", "testlist01.txt"): [
        ("Bending/v.avi\nBending/w.avi 1\n", "line 2", "'Bending/w.avi 1'"),
        ("Bending/v.avi\nBending/v.avi\n", "line 2", "'Bending/v.avi'"),
    ],
    ("hmdb51", "train", "Bending_test_split1.txt"): [
        ("a.avi 1\nb.avi 3\n", "line 2", "'b.avi 3'"),
        ("a.avi\n", "line 1", "'a.avi'"),
        ("a.mp4 1\n", "line 1", "'a.mp4 1'"),
        ("a.avi 1\na.avi 2\n", "line 2", "'a.avi'"),
        ("../Pulling/a.avi 1\n", "line 1", "'../Pulling/a.avi'"),
        ("a.avi " * 10**5, "line 1", "'a.avi a.avi"),
    ],
}


@pytest.mark.parametrize(
    "name,split,file,content,place,found",
    [(*where, *case) for where, cases in MALFORMED.items() for case in cases],
)
def test_a_malformed_file_is_named_with_the_place(tmp_path, name, split, file, content, place, found):
    shipped.write(tmp_path, {**WRITERS[name](CLASSES), file: content})
    check_refused(tmp_path, file, split, name, place, found)


def test_what_was_found_is_shown_and_shortened(tmp_path):
    files = shipped.jester(CLASSES) | {"jester-v1-train.csv": f"1;{'long ' * 100}"}
    with pytest.raises(ValueError, match=r"Received: '1;long long .*\.\.\.$") as error:
        open_dataset("jester", shipped.write(tmp_path, files))
    assert len(str(error.value)) < 300


def changed_lines(change):
    def apply(files):
        return {
            file: change(content) if file.endswith((".csv", ".txt", ".json")) else content
            for file, content in files.items()
        }

    return apply


READ = {
    "a byte order mark and Windows line ends": changed_lines(
        lambda text: "\ufeff" + re.sub("\r?\n", "\r\n", text)
    ),
    "old Mac line ends, none at the end": changed_lines(
        lambda text: re.sub("\r?\n", "\r", text).removesuffix("\r")
    ),
    "blank lines": changed_lines(lambda text: re.sub("\r?\n", " \n\n\t\n", f"\n{text}\n\n")),
}


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("name", WRITERS)
def test_what_editors_do_to_text_changes_no_clip_and_no_label(tmp_path, name, form):
    root = shipped.write(tmp_path, WRITERS[name](CLASSES))
    expected = [open_dataset(name, root, split) for split in shipped.FIRST]
    shipped.write(tmp_path, READ[form](WRITERS[name](CLASSES)))
    assert [open_dataset(name, root, split) for split in shipped.FIRST] == expected
    assert all(dataset.records and not dataset.missing for dataset in expected)


# Data set -> file, line of an existing clip, and template for lines of missing clips.
LONG = {
    "something_v1": ("something-something-v1-train.csv", "1000;Bending\n", "x{};Bending\n"),
    "kinetics400": ("train.csv", KINETICS + "Bending,-a_1000,7,17,train\n", "Bending,x{},7,17,train\n"),
    "ucf101": ("trainlist01.txt", "Bending/v_Bending_g02_c01.avi 1\n", "Bending/x{}.avi 1\n"),
    "hmdb51": ("Bending_test_split1.txt", "A_(film)_Bending_2.avi 1\n", "x{}.avi 1\n"),
    "list": ("train.txt", "clips/1000.mp4 0\n", "clips/x{}.mp4 0\n"),
    "spans": (
        "spans.csv",
        SPANS + "train0.mp4,0,1,Bending,train\ntrain1.mp4,0,1,Pulling,train\nx.mp4,0,1,Pulling,val\n",
        "train0x{}.mp4,0,1,Bending,train\n",
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_a_file_of_many_lines_is_read_in_a_time_that_does_not_grow_with_their_square(tmp_path, name):
    file, first, line = LONG[name]
    count = 20_000
    files = {file: first + "".join(map(line.format, range(count)))}
    root = shipped.write(tmp_path, WRITERS[name](CLASSES) | files)
    started = time.process_time()
    dataset = open_dataset(name, root)
    assert time.process_time() - started < 4
    assert len(dataset.missing) == count and dataset.records[0][1] == 0


def test_a_class_whose_file_of_a_fold_is_missing_is_named(tmp_path):
    files = shipped.hmdb51(CLASSES)
    del files["Pulling_test_split2.txt"]
    root = shipped.write(tmp_path, files)
    assert open_dataset("hmdb51", root).class_names == tuple(CLASSES)
    with pytest.raises(ValueError, match="/Pulling_test_split2.txt: "):
        open_dataset("hmdb51", root, fold=2)


def test_a_fold_without_clips_is_named(tmp_path):
    files = shipped.hmdb51(CLASSES) | {f"{name}_test_split1.txt": "a.avi 2\n" for name in CLASSES}
    root = shipped.write(tmp_path, files)
    with pytest.raises(ValueError, match=f"^{tmp_path}: .* code 1 in some .*_split1.txt"):
        open_dataset("hmdb51", root)


@pytest.mark.parametrize("class_name", ["", "a\nb", "a\u2028b", "a\x85", "\ud83d"])
def test_a_class_name_that_is_no_line_of_text_is_refused(tmp_path, class_name):
    files = shipped.something_v2(CLASSES)
    files["something-something-v2-labels.json"] = json.dumps({"Bending": 0, "Pulling": 1, class_name: 2})
    shipped.write(tmp_path, files)
    check_refused(tmp_path, "", "train", "something_v2", repr(class_name))


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


def test_fit_says_so_in_one_line_and_writes_nothing(tmp_path):
    root = tmp_path / "data"
    shipped.write(root, shipped.jester(CLASSES) | {"jester-v1-train.csv": "1000;Bending\n1000;Pulling\n"})
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as error:
        fit.main(["fit.py", f"--data_dir={root}", "--dataset=jester", f"--output={tmp_path}/run"])
    assert str(error.value).startswith("fit.py: ") and str(error.value).isprintable()
    assert f"{root}/jester-v1-train.csv, line 2: " in str(error.value)
    assert contents(tmp_path) == before
