"""Opens shards that `keras-stm pack` wrote."""

from keras_stm.arguments import ArgumentError
from keras_stm.data import shards
from keras_stm.data.dataset import SPLITS, Dataset


def open_packed(root, split, exclude):
    """Opens clips in shards, with the classes of the packed data set.

    If no validation split is packed, `"validation"` opens the test split.
    """
    files = shards.list_shards(root)
    found = [name for name in SPLITS if any(file.split == name for file in files)]
    if split == "validation" and split not in found:
        split = "test"
    if split not in found:
        raise ArgumentError(
            "split", split, f"must be packed in {root}, which holds: {', '.join(found) or 'no split'}"
        )
    manifest = shards.read_manifest(root, split)
    if manifest is None:
        files = [file for file in files if file.split == split]
        done, total = sum(file.ending == "json" for file in files), max(file.num_shards for file in files)
        raise ValueError(
            f"{root}: packing of {split} is not finished, {done} of {total} shards are there; the same "
            "`keras-stm pack` command resumes it"
        )
    records = shards.list_clips(manifest)
    if not records:
        raise ValueError(f"{manifest.path}: lists no clips")
    return Dataset(records, manifest.class_names).without(exclude)
