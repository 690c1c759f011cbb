"""Annotation files with every fault that we could think of: each is refused in one line that says where.

What is not refused is read as it was meant: no clip gets another class's label, and none is lost unsaid.
"""

import json
import os
import re
import time

import pytest

from keras_stm.data import packed
from keras_stm.data.catalog import Dataset, open_dataset
from run_data import read_exclude
from tests.data.catalog import shipped
from tests.training.small_runs import command

pytestmark = pytest.mark.slow

CLASSES = ["Bending", "Pulling"]
KINETICS = "label,youtube_id,time_start,time_end,split\n"
FOLDER, BROKEN_LINK, NO_FILE = "a folder", "a link to nowhere", "no file"


def text_list(class_names):
    files = {"classes.txt": shipped.lines(class_names)}
    for split, first in shipped.FIRST.items():
        clips = [f"clips/{first + label}.mp4" for label in range(len(class_names))]
        files[f"{split}.txt"] = shipped.lines(f"{clip} {label}" for label, clip in enumerate(clips))
        files |= dict.fromkeys(clips, b"")
    return files


def class_folders(class_names):
    splits = ("train", "val", "test")
    return {f"{split}/{name}/{i}.mp4": b"" for split in splits for name in class_names for i in (1, 2)}


WRITERS = {**shipped.WRITERS, "list": text_list, "folder": class_folders}

# Every text file that is read, and for which split it is.
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
    ("kinetics400", "test", "test.csv"),
    ("ucf101", "train", "classInd.txt"),
    ("ucf101", "train", "trainlist01.txt"),
    ("ucf101", "test", "testlist01.txt"),
    ("hmdb51", "train", "Bending_test_split1.txt"),
    ("list", "train", "classes.txt"),
    ("list", "train", "train.txt"),
    ("list", "train", "validation.txt"),
    ("list", "test", "test.txt"),
]
TEXT_FAULTS = {
    "latin-1": (lambda text: text.encode() + "\né".encode("latin-1"), r"line \d+: expected UTF-8 \("),
    "UTF-16": (lambda text: text.encode("utf-16"), r"line 1: expected UTF-8 \("),
    "UTF-16 unmarked": (lambda text: text.encode("utf-16-le"), "line 1: expected UTF-8, without zero bytes"),
    "a zero byte": (lambda text: f"{text}\n\0", r"line \d+: expected UTF-8, without zero bytes"),
    "a picture": (lambda text: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1: expected UTF-8"),
    "empty": (lambda text: "", r"the file is empty|line 1: expected JSON \(Expecting value\)"),
    "blank": (lambda text: " \n\t\r\n\n", r"the file is empty|line \d: expected JSON \(Expecting value\)"),
    "a mark alone": (lambda text: "\ufeff", r"the file is empty|line 1: expected JSON \(Expecting value\)"),
    FOLDER: (lambda text: FOLDER, r"cannot be read \(Is a directory\)"),
    BROKEN_LINK: (lambda text: BROKEN_LINK, r"cannot be read \(No such file or directory\)"),
}
JSON = [case for case in TEXT if case[0] == "something_v2"]
JSON_FAULTS = {
    "cut off": (lambda text: text[:-5], r"line 1: expected JSON \("),
    "two documents": (lambda text: f"{text}\n{text}", r"line 2: expected JSON \(Extra data\)"),
    "a comma too many": (lambda text: f"{text[:-1]},{text[-1]}", r"line 1: expected JSON \("),
    "no comma": (lambda text: text.replace(",", ""), r"line 1: expected JSON \(Expecting ',' delimiter\)"),
    "single quotes": (lambda text: text.replace('"', "'"), r"line 1: expected JSON \("),
    "null": (lambda text: "null", "expected (a list|an object) with entries. Received: None"),
    "a number": (lambda text: "17", "expected (a list|an object) with entries. Received: 17"),
    "not a number": (lambda text: "NaN", "expected (a list|an object) with entries. Received: nan"),
    "text": (lambda text: '"train"', "expected (a list|an object) with entries. Received: 'train'"),
    "the other kind": (
        lambda text: '{"1": "Bending"}' if text[0] == "[" else '["Bending"]',
        "expected (a list|an object) with entries. Received: ",
    ),
    "no entries": (lambda text: text[0] + text[-1], "expected (a list|an object) with entries. Received: "),
    "one inside another": (lambda text: "[" * 10**6, r"expected JSON \(maximum recursion depth exceeded"),
    "both inside another": (lambda text: '{"a":[' * 10**5, r"expected JSON \(maximum recursion depth"),
    "a number without end": (lambda text: f"[{'9' * 10**5}]", r"expected JSON \(Exceeds the limit"),
}


def v2(*entries):
    return json.dumps([{"id": "1000", "template": "Bending"}, *entries])


# As in test_malformed.py, which has the plainest: (data set, split, file) -> content, message.
MALFORMED = {
    ("something_v1", "train", "something-something-v1-labels.csv"): [
        ("Bending\nPulling\nBending\n", "line 3: expected each name once, and 'Bending' was there before"),
        ("Bending\n\n\n Bending \n", "line 4: expected each name once, and 'Bending'"),
    ],
    ("something_v1", "train", "something-something-v1-train.csv"): [
        ("id;label\n1000;Bending\n", "line 1: expected `id;label` with a label of .* Received: 'id;label'"),
        ("1000,Bending\n", "line 1: expected `id;label`"),
        ("1000\tBending\n", "line 1: expected `id;label`"),
        ("1000;Bending;Pulling\n", "line 1: .* Received: '1000;Bending;Pulling'"),
        ("1000;\n", "line 1: expected `id;label`"),
        ("1000;bending\n", "line 1: .* a label of something-something-v1-labels.csv"),
        ("1000; Bending\n", "line 1: .* a label of something-something-v1-labels.csv"),
        ("Bending;1000\n", "line 1: .* a label of something-something-v1-labels.csv"),
        ("1000;0\n", "line 1: .* a label of something-something-v1-labels.csv"),
        (
            "../../etc/passwd;Bending\n",
            r"line 1: expected the name of one file or folder, not '\.\./\.\./etc",
        ),
        ("/etc/passwd;Bending\n", "line 1: expected the name of one file or folder, not '/etc/passwd'"),
        ("train/1000;Bending\n", "line 1: expected the name of one file or folder, not 'train/1000'"),
        ("1000/;Bending\n", "line 1: expected the name of one file or folder, not '1000/'"),
        ("..;Bending\n", r"line 1: expected the name of one file or folder, not '\.\.'"),
        (".;Bending\n", r"line 1: expected the name of one file or folder, not '\.'"),
        ("1000 ;Bending\n", "line 1: expected the name of one file or folder, not '1000 '"),
        ("1000;Bending\n1000;Bending\n", "line 2: expected each name once, and '1000' was there before"),
        ("1000;Bending\n1000;Pulling\n", "line 2: expected each name once, and '1000' was there before"),
        (f"1000;{'Bending' * 10**6}\n", r"line 1: expected `id;label` .* Received: '1000;Bending.*\.\.\.$"),
        (";" * 10**6, "line 1: expected `id;label`"),
    ],
    ("something_v1", "test", "something-something-v1-test.csv"): [
        ("3000;\n", "line 1: expected `id` alone"),
        ("../3000\n", r"line 1: expected the name of one file or folder, not '\.\./3000'"),
        ("3000\n3000\n", "line 2: expected each name once, and '3000' was there before"),
    ],
    ("something_v2", "train", "something-something-v2-labels.json"): [
        ('{"Bending": "0", "Bending": "1"}', r"expected JSON \('Bending' comes twice in an object\)"),
        ('{"Bending": "1", "Pulling": "2"}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": "0", "Pulling": "00"}', "entry 2: expected each name once, and 0 was there before"),
        ('{"Bending": 0, "Pulling": -1}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": 1.0}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": 1e9}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": true}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": NaN}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": Infinity}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": ["1"]}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"Bending": 0, "Pulling": {"1": 1}}', "entry 2: expected a class and its number, from 0 to 1"),
        ('{"0": "Bending", "1": "Pulling"}', "entry 1: expected a class and its number, from 0 to 1"),
    ],
    ("something_v2", "train", "something-something-v2-train.json"): [
        ('[{"id": "1000", "template": "Bending", "id": "1001"}]', "'id' comes twice in an object"),
        (v2({"id": "../../etc/passwd", "template": "Bending"}), "entry 2: expected the name of one file"),
        (
            v2({"id": "/etc/passwd", "template": "Bending"}),
            "entry 2: expected the name of one file or folder",
        ),
        (v2({"id": "", "template": "Bending"}), "entry 2: expected the name of one file or folder, not ''"),
        (
            v2({"id": "1\n2", "template": "Bending"}),
            "entry 2: expected the name of one file or folder, not '1",
        ),
        (
            v2({"id": "\ud800", "template": "Bending"}),
            "entry 2: expected the name of one file or folder, not",
        ),
        (v2({"id": "1000", "template": "Pulling"}), "entry 2: expected each name once, and '1000.webm' was"),
        (v2({"id": None, "template": "Bending"}), "entry 2: expected an object with text for 'id' and 'temp"),
        (
            v2({"id": ["1"], "template": "Bending"}),
            "entry 2: expected an object with text for 'id' and 'temp",
        ),
        (v2({"id": "1", "template": 0}), "entry 2: expected an object with text for 'id' and 'template'"),
        (
            v2({"id": "1", "label": "Bending"}),
            "entry 2: expected an object with text for 'id' and 'template'",
        ),
        (v2({"ID": "1", "template": "Bending"}), "entry 2: expected an object with text for 'id' and 'temp"),
        (v2({"id": "1", "template": ""}), "entry 2: expected a template that is a class of the labels' file"),
        (
            v2({"id": "1", "template": "bending"}),
            "entry 2: expected a template that is a class of the labels'",
        ),
        (v2([{"id": "1", "template": "Bending"}]), "entry 2: expected an object with text"),
        (v2(None), "entry 2: expected an object with text .* Received: None"),
        (v2(float("nan")), "entry 2: expected an object with text .* Received: nan"),
        (v2({"id": "9" * 10**6}), "entry 2: expected an object with text"),
    ],
    ("kinetics400", "train", "train.csv"): [
        ("Bending,x,1,9,train\n", "line 1: expected a header with youtube_id, time_start, time_end"),
        (KINETICS.replace(",", ";"), "line 1: expected a header"),
        (KINETICS.replace(",", "\t"), "line 1: expected a header"),
        (KINETICS.upper(), "line 1: expected a header"),
        ("label,youtube_id,time_start,time_end,label\nBending,x,1,9,Pulling\n", "each column once"),
        (KINETICS + "Bending;x;1;9;train\n", "line 2: expected 5 fields as in the header"),
        (KINETICS + "Bending, you,x,1,9,train\n", "line 2: expected 5 fields as in the header"),
        (KINETICS + '"Bending, you",x,1,9,train\n', "line 2: expected 5 fields as in the header"),
        (KINETICS + "Bending,x,1,9,train,0\n", "line 2: expected 5 fields as in the header"),
        (KINETICS + "x,Bending,1,train,9\n", "line 2: expected a youtube_id, and whole seconds"),
        (KINETICS + "Bending,x,,9,train\n", "line 2: expected a youtube_id, and whole seconds"),
        (KINETICS + "Bending,x,0:01,0:09,train\n", "line 2: expected a youtube_id, and whole seconds"),
        (KINETICS + "Bending,x,NaN,9,train\n", "line 2: expected a youtube_id, and whole seconds"),
        (KINETICS + "Bending,x,9999999999,9,train\n", "line 2: expected a youtube_id, and whole seconds"),
        (
            KINETICS + "Bending,../x,1,9,train\n",
            r"line 2: expected the name of one file or folder, not '\.\./x'",
        ),
        (
            KINETICS + "Bending,/etc/x,1,9,train\n",
            "line 2: expected the name of one file or folder, not '/etc",
        ),
        (KINETICS + " ,x,1,9,train\n", "line 2: expected a label"),
        ("youtube_id,time_start,time_end\nx,1,9\n", "line 2: expected a label"),
        (
            KINETICS + "Bending,x,1,9,train\nPulling,x,01,9,train\n",
            "line 3: expected each name once, and 'x_0",
        ),
        (KINETICS + "," * 10**6, "line 2: expected 5 fields as in the header"),
    ],
    ("kinetics400", "validation", "validate.csv"): [
        (KINETICS + "bending,x,1,9,validate\n", "line 2: expected a label of train.csv"),
    ],
    ("kinetics400", "test", "test.csv"): [
        (KINETICS + "Falling,x,1,9,test\n", "line 2: expected a label of train.csv"),
    ],
    ("ucf101", "train", "classInd.txt"): [
        ("1 Bending\n1 Pulling\n", "line 2: expected each name once, and 1 was there before"),
        ("0 Bending\n1 Pulling\n", "line 1: expected `number Class`, with a number from 1 to 2"),
        ("-1 Bending\n", "line 1: expected `number Class`"),
        ("1.0 Bending\n", "line 1: expected `number Class`"),
        ("1,Bending\n", "line 1: expected `number Class`"),
        ("Bending 1\n", "line 1: expected `number Class`"),
        ("1\n", "line 1: expected `number Class`"),
        ("1 /etc\n", "line 1: expected the name of one file or folder, not '/etc'"),
    ],
    ("ucf101", "train", "trainlist01.txt"): [
        (
            "Bending/v.avi 0\n",
            "line 1: expected `Class/file.avi number` with a class of classInd.txt and its",
        ),
        ("Bending/v.avi -1\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/v.avi 1.0\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/v.avi 3\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/v.avi,1\n", "line 1: expected `Class/file.avi number`"),
        ("Bending\\v.avi 1\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/v.mp4 1\n", "line 1: expected `Class/file.avi number`"),
        ("../Bending/v.avi 1\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/../Pulling/v.avi 1\n", "line 1: expected `Class/file.avi number`"),
        ("/data/Bending/v.avi 1\n", "line 1: expected `Class/file.avi number`"),
        ("Bending/v.avi 1\nBending/v.avi 1\n", "line 2: expected each name once, and 'Bending/v.avi'"),
    ],
    ("hmdb51", "train", "Bending_test_split1.txt"): [
        ("a.avi 1\na.avi 1\n", "line 2: expected each name once, and 'a.avi' was there before"),
        ("a.avi -1\n", "line 1: expected `file.avi code`"),
        ("a.avi 1.0\n", "line 1: expected `file.avi code`"),
        ("a.avi,1\n", "line 1: expected `file.avi code`"),
        ("a.mp4 1\n", "line 1: expected `file.avi code`"),
        ("1 a.avi\n", "line 1: expected `file.avi code`"),
        (
            "../Pulling/a.avi 1\n",
            r"line 1: expected the name of one file or folder, not '\.\./Pulling/a.avi'",
        ),
        ("/etc/a.avi 1\n", "line 1: expected the name of one file or folder, not '/etc/a.avi'"),
        ("a.avi " * 10**5, "line 1: expected `file.avi code`"),
    ],
    # One class's file of this fold alone.
    ("hmdb51", "test", "Pulling_test_split1.txt"): [
        (NO_FILE, r"cannot be read \(No such file or directory\)"),
    ],
    ("list", "train", "classes.txt"): [
        ("Bending\nPulling\nPulling\n", "line 3: expected each name once, and 'Pulling' was there before"),
    ],
    ("list", "train", "train.txt"): [
        (
            "clips/1000.mp4 2\n",
            r"line 1: expected `path label` .* with a label from 0 to 1\. Received: 'clips",
        ),
        ("clips/1000.mp4 -1\n", "line 1: expected `path label`"),
        ("clips/1000.mp4 1.0\n", "line 1: expected `path label`"),
        ("clips/1000.mp4 ²\n", "line 1: expected `path label`"),
        ("clips/1000.mp4 Bending\n", "line 1: expected `path label`"),
        ("clips/1000.mp4,0\n", "line 1: expected `path label`"),
        ("clips/1000.mp4;0\n", "line 1: expected `path label`"),
        ('"clips/1000.mp4" 0\n', "line 1: expected `path label`"),
        ("0 clips/1000.mp4\n", "line 1: expected `path label`"),
        ("path label\n", "line 1: expected `path label`"),
        ("/etc/passwd 0\n", "line 1: expected `path label`"),
        ("../../etc/passwd 0\n", "line 1: expected `path label`"),
        ("clips/1000.mp4 0\nclips/1000.mp4 0\n", "line 2: expected each name once, and 'clips/1000.mp4' was"),
        ("clips/1000.mp4 0\n./clips//1000.mp4 1\n", "line 2: expected each name once, and 'clips/1000.mp4'"),
        ("clips/1000.mp4 0\n{root}/clips/1000.mp4 1\n", "line 2: expected each name once, and 'clips/1000"),
        ("clips/1000.mp4 0\n../{name}/clips/1000.mp4 1\n", "line 2: expected each name once, and 'clips/10"),
        ("7 " * 10**6 + "b\n", "line 1: expected `path label`"),
    ],
}
# What names no file, as it is about several or about what a folder holds.
OTHERWISE = [
    (
        "list",
        {"val.txt": "clips/2000.mp4 0\n"},
        "must hold one of validation.txt and val.txt. Received: root=",
    ),
    ("list", {"train.txt": NO_FILE}, "must be a folder with train.txt, or a .txt file. Received: root="),
    ("list", {"train.txt": "../nowhere/x.mp4 0\n"}, "none of the 1 is there, such as .*/nowhere/x.mp4"),
    ("list", {"classes.txt": "Ben\u2028ding\nPulling\n"}, r"class names of one line .* 'Ben\\u2028ding'"),
    ("list", {"classes.txt": "Ben\x85ding\nPulling\n"}, r"class names of one line .* 'Ben\\x85ding'"),
    ("folder", {"val": BROKEN_LINK}, "val: expected a folder of class folders"),
    ("folder", {"test": ""}, "test: expected a folder of class folders"),
    ("folder", {"validation/Bending/1.mp4": ""}, "must hold one of validation and val. Received: root="),
    ("folder", {"val/Falling/1.mp4": ""}, "no other classes for validation than for train, .* no 'Falling'"),
    ("folder", {"train/Ben\nding/1.mp4": ""}, r"class names of one line .* 'Ben\\nding'"),
    (
        "folder",
        {os.fsdecode(b"train/caf\xe9/1.mp4"): ""},
        r"class names of one line of UTF-8. Received: 'caf\\udce9'",
    ),
    (
        "something_v2",
        {"something-something-v2-labels.json": '{"Bending": 0, "Pulling": 1, "a\\nb": 2}'},
        r"class names of one line of UTF-8. Received: 'a\\nb'",
    ),
    (
        "something_v2",
        {"something-something-v2-labels.json": '{"Bending": 0, "Pulling": 1, "\\ud83d": 2}'},
        r"class names of one line of UTF-8. Received: '\\ud83d'",
    ),
    (
        "something_v2",
        {"something-something-v2-labels.json": '{"Bending": 0, "Pulling": 1, "": 2}'},
        "class names of one line of UTF-8. Received: ''",
    ),
    (
        "hmdb51",
        {f"{name}_test_split1.txt": "a.avi 0\n" for name in CLASSES},
        r"expected a clip with code 1 in some \*_test_split1.txt, there is none",
    ),
]
CASES = [
    *(
        (name, split, file, fault, change(WRITERS[name](CLASSES)[file]), message)
        for cases, faults in ((TEXT, TEXT_FAULTS), (JSON, JSON_FAULTS))
        for name, split, file in cases
        for fault, (change, message) in faults.items()
    ),
    *(
        (*where, number, content, message)
        for where, cases in MALFORMED.items()
        for number, (content, message) in enumerate(cases)
    ),
]


def write(folder, name, changes=()):
    """The folder of a small data set with some of its files changed."""
    changes = dict(changes)
    # What was in a folder goes with it.
    gone = tuple(f"{file}/" for file in changes)
    files = {file: text for file, text in WRITERS[name](CLASSES).items() if not file.startswith(gone)}
    for file, content in changes.items():
        files.pop(file, None)
        if content == FOLDER:
            files[f"{file}/inside"] = ""
        elif content == BROKEN_LINK:
            folder.mkdir(exist_ok=True)
            (folder / file).symlink_to("nowhere")
        elif isinstance(content, str) and content != NO_FILE:
            files[file] = content.replace("{root}", str(folder)).replace("{name}", folder.name)
        elif isinstance(content, bytes):
            files[file] = content
    return shipped.write(folder, files)


def contents(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        found[path] = path.stat().st_mtime_ns if path.exists() else os.readlink(path)
    return found


def check_refused(tmp_path, message, call):
    """What `call` says, in one short line; it writes nothing."""
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        call()
    # No UnicodeDecodeError and no JSONDecodeError, which are ValueErrors too.
    assert type(error.value) is ValueError
    text = str(error.value)
    assert "\n" not in text and len(text) < 600 and text.isprintable()
    assert contents(tmp_path) == before
    return text


def test_there_are_hundreds():
    assert len(CASES) + len(OTHERWISE) + len(EXCLUDE) + len(PACKED) >= 350
    assert {name for name, *_ in [*CASES, *OTHERWISE]} == set(WRITERS)


@pytest.mark.parametrize(
    "name,split,file,fault,content,message", CASES, ids=["-".join(map(str, case[:4])) for case in CASES]
)
def test_a_malformed_file_is_refused_with_its_place(tmp_path, name, split, file, fault, content, message):
    root = write(tmp_path / "data", name, {file: content})
    started = time.monotonic()
    text = check_refused(tmp_path, message, lambda: open_dataset(name, root, split))
    assert text.startswith(os.path.join(root, file))
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("name,changes,message", OTHERWISE)
@pytest.mark.filterwarnings("ignore:.*holds no video")
def test_files_that_do_not_go_together_are_refused(tmp_path, name, changes, message):
    root = write(tmp_path / "data", name, changes)
    split = "validation" if name == "folder" else "train"
    text = check_refused(tmp_path, message, lambda: open_dataset(name, root, split))
    assert root in text


def changed_lines(change):
    def apply(files):
        return {
            file: change(content) if file.endswith((".csv", ".txt", ".json")) else content
            for file, content in files.items()
        }

    return apply


READ = {
    "a byte order mark": changed_lines(lambda text: f"\ufeff{text}"),
    "Windows line ends": changed_lines(lambda text: re.sub("\r?\n", "\r\n", text)),
    "old Mac line ends": changed_lines(lambda text: re.sub("\r?\n", "\r", text)),
    "blank lines": changed_lines(lambda text: re.sub("\r?\n", " \n\n\t\n", f"\n{text}\n\n")),
    "no last line end": changed_lines(lambda text: text.rstrip()),
}


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("split", shipped.FIRST)
@pytest.mark.parametrize("name", [name for name in WRITERS if name != "folder"])
def test_what_editors_do_to_text_changes_no_clip_and_no_label(tmp_path, name, split, form):
    root = shipped.write(tmp_path, WRITERS[name](CLASSES))
    expected = open_dataset(name, root, split)
    shipped.write(tmp_path, READ[form](WRITERS[name](CLASSES)))
    assert open_dataset(name, root, split) == expected
    assert expected.records and not expected.missing


MILLION = 10**6
# A clip that is there, and many that are not.
LONG = {
    "something_v1": ("something-something-v1-train.csv", "1000;Bending\n", "x{};Bending\n"),
    "jester": ("jester-v1-train.csv", "1000;Bending\n", "x{};Bending\n"),
    "kinetics400": ("train.csv", KINETICS + "Bending,-a_1000,7,17,train\n", "Bending,x{},7,17,train\n"),
    "ucf101": ("trainlist01.txt", "Bending/v_Bending_g02_c01.avi 1\n", "Bending/x{}.avi 1\n"),
    "hmdb51": ("Bending_test_split1.txt", "A_(film)_Bending_2.avi 1\n", "x{}.avi 1\n"),
    "list": ("train.txt", "clips/1000.mp4 0\n", "clips/x{}.mp4 0\n"),
}


@pytest.mark.parametrize("name", LONG)
def test_a_file_of_a_million_lines_is_read_in_a_minute(tmp_path, name):
    file, first, line = LONG[name]
    root = write(tmp_path, name, {file: first + "".join(map(line.format, range(MILLION)))})
    started = time.monotonic()
    dataset = open_dataset(name, root)
    assert time.monotonic() - started < 60
    assert len(dataset.missing) == MILLION and dataset.records[0][1] == 0


EXCLUDE = {
    "latin-1": ("a.mp4\né.mp4\n".encode("latin-1"), r"line 2: expected UTF-8 \("),
    "UTF-16": ("a.mp4\n".encode("utf-16"), r"line 1: expected UTF-8 \("),
    "UTF-16 unmarked": ("a.mp4\n".encode("utf-16-le"), "line 1: expected UTF-8, without zero bytes"),
    "a zero byte": ("a.mp4\nb\0.mp4\n", "line 2: expected UTF-8, without zero bytes"),
    FOLDER: (FOLDER, r"cannot be read \(Is a directory\)"),
    BROKEN_LINK: (BROKEN_LINK, r"cannot be read \(No such file or directory\)"),
    NO_FILE: (NO_FILE, r"cannot be read \(No such file or directory\)"),
}


@pytest.mark.parametrize("fault", EXCLUDE)
def test_a_list_of_excluded_clips_that_cannot_be_read_is_refused_with_its_place(tmp_path, fault):
    content, message = EXCLUDE[fault]
    file = os.path.join(write(tmp_path, "jester", {"exclude.txt": content}), "exclude.txt")
    text = check_refused(tmp_path, message, lambda: read_exclude(file))
    assert text.startswith(f"`exclude` cannot be read: {file}") and text.endswith(f"exclude={file!r}")


@pytest.mark.parametrize("form", [*READ, "as it is"])
def test_what_editors_do_to_a_list_of_excluded_clips_changes_none(tmp_path, form):
    # The last has a name that some take for two lines.
    files = {"exclude.txt": "# broken\na b.mp4\n\nc.mp4\nd\u2028e.mp4\n"}
    root = shipped.write(tmp_path, READ.get(form, dict)(files))
    assert read_exclude(os.path.join(root, "exclude.txt")) == ["a b.mp4", "c.mp4", "d\u2028e.mp4"]


SHARD = "train-00000-of-00001"
PACKED = [
    (file, content, message)
    for file in ("train.json", f"{SHARD}.json")
    for content, message in [
        ("", "damaged, no JSON"),
        ('{"format": 1', "damaged, no JSON"),
        ("x".encode("utf-16"), "damaged, no JSON"),
        ("null", "not of a packed data set of format 1; pack again into a new folder"),
        ("[]", "not of a packed data set of format 1"),
        ("{}", "not of a packed data set of format 1"),
        ('{"format": "1"}', "not of a packed data set of format 1"),
        ('{"format": 0}', "not of a packed data set of format 1"),
        (FOLDER, "cannot be read"),
    ]
]


@pytest.mark.parametrize("file,content,message", PACKED)
def test_damaged_files_of_packed_clips_are_refused(tmp_path, file, content, message):
    settings = {"num_shards": 1, "fingerprint": Dataset([], tuple(CLASSES)).fingerprint}
    sidecar = {"settings": settings, "bytes": 0, "clips": [(0, 0, 1, 3, "a.mp4")], "left_out": {}}
    root = shipped.write(tmp_path, {f"{SHARD}.tfrecord": "", f"{SHARD}.json": ""})
    packed._write_json(os.path.join(root, f"{SHARD}.json"), sidecar)
    packed.write_manifest(root, "train", settings, CLASSES, [sidecar])
    assert open_dataset("packed", root).records == [(f"{root}/{SHARD}.tfrecord#0", 1)]
    (tmp_path / file).unlink()
    shipped.write(tmp_path, {f"{file}/inside": ""} if content == FOLDER else {file: content})
    text = check_refused(tmp_path, message, lambda: open_dataset("packed", root))
    assert text.startswith(os.path.join(root, file))


@pytest.mark.parametrize(
    "name,file,content,message",
    [
        ("jester", "jester-v1-train.csv", "1000;Bending\n1000;Pulling\n", "line 2: expected each name once"),
        ("something_v2", "something-something-v2-train.json", "[" * 10**6, r"expected JSON \(maximum recur"),
        ("kinetics400", "train.csv", KINETICS.encode("utf-16"), "line 1: expected UTF-8"),
        ("list", "exclude.txt", b"\xe9.mp4\n", "line 1: expected UTF-8"),
    ],
    ids=["a clip twice", "nested JSON", "UTF-16", "excluded clips"],
)
def test_fit_says_so_in_one_line_and_writes_nothing(tmp_path, name, file, content, message):
    root = write(tmp_path / "data", name, {file: content})
    before = contents(tmp_path)
    flags = [f"--exclude={root}/exclude.txt"] if file == "exclude.txt" else []
    result = command(f"--data_dir={root}", f"--dataset={name}", "--output=run", *flags, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("fit.py: ")]
    assert re.search(f"{re.escape(f'{root}/{file}')}.*{message}", line)
    assert result.stderr.splitlines()[-1] == line and "Traceback" not in result.stderr
    assert contents(tmp_path) == before
