import pytest

from keras_stm.data import fragment, frame_folder, frames, shards, video


@pytest.mark.parametrize(
    "name,reader",
    [
        ("clip.mp4", video),
        ("missing.avi", video),
        ("folder", frame_folder),
        ("folder.mp4", frame_folder),
        # Names may contain the characters that mark a place in a shard.
        ("clip #3.mp4", video),
        ("a.tfrecord#12.mp4", video),
        ("folder #3", frame_folder),
        ("clip.mp4#t=1.5,4", fragment),
        ("clip.mp4#t=4s", video),
        ("train-00003-of-00016.tfrecord#0", shards),
        ("train-00003-of-00016.tfrecord#1234567", shards),
    ],
)
@pytest.mark.parametrize("function,arguments", [("count_frames", ()), ("read_frames", ([0],)), ("probe", ())])
def test_each_path_is_read_by_what_it_is(tmp_path, monkeypatch, name, reader, function, arguments):
    for folder in ("folder", "folder.mp4", "folder #3"):
        (tmp_path / folder).mkdir()
    for module in (fragment, frame_folder, shards, video):
        monkeypatch.setattr(module, function, lambda *given, module=module: (module, *given))
    path = str(tmp_path / name)
    assert getattr(frames, function)(path, *arguments) == (reader, path, *arguments)


def test_shard_may_be_a_url(monkeypatch):
    monkeypatch.setattr(shards, "count_frames", lambda path: path)
    path = "gs://bucket/train-00000-of-00001.tfrecord#0"
    assert frames.count_frames(path) == path
