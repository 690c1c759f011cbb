"""Shards that `keras-stm pack` wrote."""

from keras_stm.arguments import ArgumentError
from keras_stm.data import shards
from keras_stm.data.dataset import SPLITS, Dataset


def open_packed(root, split, exclude):
    """Clips in shards; classes as they were packed. Validation is test where only that is packed."""
    files = shards.list_shards(root)
    found = [name for name in SPLITS if any(file.split == name for file in files)]
    if split == "validation" and split not in found:
        split = "test"
    if split not in found:
        raise ArgumentError(
            "split", split, f"must be one that is packed in {root}: {', '.join(found) or 'there is none'}"
        )
    manifest = shards.read_manifest(root, split)
    if manifest is None:
        files = [file for file in files if file.split == split]
        done, total = sum(file.ending == "json" for file in files), max(file.num_shards for file in files)
        raise ValueError(
            f"{root}: packing of {split} is not finished, {done} of {total} shards are there; the same "
            "`keras-stm pack` command goes on"
        )
    records = shards.list_clips(manifest)
    if not records:
        raise ValueError(f"{manifest.path}: names no clips")
    return Dataset(records, manifest.class_names).without(exclude)
