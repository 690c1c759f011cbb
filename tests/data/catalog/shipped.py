"""Small versions of the six data sets in their published layouts, as dictionaries of path -> content.

The clip of class i has number 1000 + i for training, 2000 + i for validation and 3000 + i for test.
`notes` and `clips` are the folders of annotation files and of clips, such as `"labels/"`.
"""

import json

FIRST = {"train": 1000, "validation": 2000, "test": 3000}


def write(root, files):
    """Writes a dictionary of path -> text or bytes."""
    for file, content in files.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(root)


def lines(items):
    return "".join(f"{item}\n" for item in items)


def something_csv(prefix, class_names, notes, clips):
    files = {f"{notes}{prefix}-labels.csv": lines(class_names)}
    for split, first in FIRST.items():
        ids = range(first, first + len(class_names))
        labels = "" if split == "test" else class_names
        rows = [f"{i};{label}" for i, label in zip(ids, labels, strict=True)] if labels else ids
        files[f"{notes}{prefix}-{split}.csv"] = lines(rows)
        files |= {f"{clips}{i}/{frame:05d}.jpg": b"" for i in ids for frame in (1, 2)}
    return files


def something_v1(class_names, notes="", clips=""):
    return something_csv("something-something-v1", class_names, notes, clips)


def jester(class_names, notes="", clips=""):
    return something_csv("jester-v1", class_names, notes, clips)


def something_v2(class_names, notes="", clips="", prefix="something-something-v2-"):
    indices = {name: str(index) for index, name in enumerate(class_names)}
    files = {f"{notes}{prefix}labels.json": json.dumps(indices)}
    for split, first in FIRST.items():
        entries = [{"id": str(first + i)} for i in range(len(class_names))]
        if split != "test":
            for entry, name in zip(entries, class_names, strict=True):
                entry["label"] = name.replace("something", "a cup")
                entry["template"] = name.replace("something", "[something]")
                entry["placeholders"] = ["a cup"] * name.count("something")
        files[f"{notes}{prefix}{split}.json"] = json.dumps(entries)
        files |= {f"{clips}{entry['id']}.webm": b"" for entry in entries}
    return files


def kinetics400(class_names, notes="", clips="", validation="validate"):
    """`clips` may contain `{split}` and `{label}`."""
    files = {}
    for split, first in FIRST.items():
        name = validation if split == "validation" else split
        rows = ["label,youtube_id,time_start,time_end,split"]
        for number, label in enumerate(class_names, start=first):
            rows.append(f"{'' if split == 'test' else label},-a_{number},7,17,{name}")
            files[clips.format(split=name, label=label) + f"-a_{number}_000007_000017.mp4"] = b""
        files[f"{notes}{name}.csv"] = lines(rows)
    return files


def ucf101(class_names, notes="", clips=""):
    """In each fold, group number `fold` of each class is for test."""
    files = {
        f"{notes}classInd.txt": "".join(f"{i} {name}\r\n" for i, name in enumerate(class_names, start=1))
    }
    videos = [
        (f"{name}/v_{name}_g{group:02d}_c01.avi", number, group)
        for number, name in enumerate(class_names, start=1)
        for group in (1, 2, 3)
    ]
    for fold in (1, 2, 3):
        train = [f"{path} {number}" for path, number, group in videos if group != fold]
        files[f"{notes}trainlist{fold:02d}.txt"] = lines(train)
        files[f"{notes}testlist{fold:02d}.txt"] = lines(path for path, _, group in videos if group == fold)
    return files | {f"{clips}{path}": b"" for path, *_ in videos}


def hmdb51(class_names, notes="", clips=""):
    """In each fold, video number `fold` of each class is for test. Video number 4 is not used."""
    files = {}
    for name in class_names:
        videos = [f"A_(film)_{name}_{i}.avi" for i in (1, 2, 3, 4)]
        files |= {f"{clips}{name}/{video}": b"" for video in videos}
        for fold in (1, 2, 3):
            codes = [0 if i == 4 else 2 if i == fold else 1 for i in (1, 2, 3, 4)]
            rows = [f"{video} {code} " for video, code in zip(videos, codes, strict=True)]
            files[f"{notes}{name}_test_split{fold}.txt"] = lines(rows)
    return files


WRITERS = {
    "something_v1": something_v1,
    "something_v2": something_v2,
    "jester": jester,
    "kinetics400": kinetics400,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
}
# The folders to which the published archives unpack.
FOLDERS = {
    "something_v1": ("labels/", "20bn-something-something-v1/"),
    "something_v2": ("labels/", "20bn-something-something-v2/"),
    "jester": ("labels/", "20bn-jester-v1/"),
    "kinetics400": ("kinetics400/", "videos/{split}/{label}/"),
    "ucf101": ("ucfTrainTestlist/", "UCF-101/"),
    "hmdb51": ("testTrainMulti_7030_splits/", "hmdb51_org/"),
}
