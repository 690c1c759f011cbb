"""Sources of frames: which frames a model gets, at which times, and how sources end and break off."""

import gc
import itertools
import threading
import time
import types
import weakref

import numpy as np
import pytest

from keras_stm import live
from keras_stm.arguments import ArgumentError
from keras_stm.data.video import VideoError
from tests import broadcast
from tests.broadcast import RATE
from tests.data.videos import damage, decode_all, write_video

# The brightness tells which frame of the broadcast an image is.
BRIGHTNESSES = range(20, 220, 10)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 20 frames, 10 a second."""
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", 20)


@pytest.fixture(scope="module")
def transmitted(tmp_path_factory):
    return broadcast.write_broadcast(tmp_path_factory.mktemp("live") / "live.ts", BRIGHTNESSES)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(live, "READ_SECONDS", 0.4)
    monkeypatch.setattr(live, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(live, "LONGEST_WAIT", 0.2)


def number_of(image):
    """Returns which frame of the broadcast an image is."""
    return round((float(image.mean()) - 20) / 10)


def threads_of(name):
    return [thread for thread in threading.enumerate() if thread.name == f"frames of {name}"]


def empty_frames(times):
    return [(seconds, np.zeros((4, 4, 3), "uint8")) for seconds in times]


@pytest.mark.parametrize(
    "source_rate, rate, taken",
    [
        (10, 10, range(10)),
        (10, 5, range(0, 10, 2)),
        # Never more than there are.
        (10, 1000, range(10)),
        (25, 10, [0, 2, 5, 7]),
    ],
)
def test_frames_are_taken_at_the_rate_by_the_times_of_the_source(source_rate, rate, taken):
    times = [100 + number / source_rate for number in range(10)]
    found = [frame.time for frame in live.open_source(empty_frames(times), rate)]
    assert found == [times[number] for number in taken]


def test_frames_of_an_irregular_camera_are_not_lost_and_errors_of_the_rate_do_not_add_up():
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 1000)
    times = [number / 10 + error for number, error in enumerate(jitter)]
    assert len(list(live.open_source(empty_frames(times), 10))) == 1000
    # After a pause, frames are not taken faster to catch up.
    times = [0, 0.1, 5, 5.03, 5.06, 5.1]
    assert [frame.time for frame in live.open_source(empty_frames(times), 10)] == [0, 0.1, 5, 5.1]


def test_a_file_is_read_without_loss_however_slow_the_model_is(video):
    found = []
    for frame in live.open_source(video, 10):
        time.sleep(0.01)
        found.append(frame)
    np.testing.assert_array_equal([frame.image for frame in found], decode_all(video))
    assert [frame.time for frame in found] == pytest.approx(np.arange(20) / 10)
    assert [frame.is_first for frame in found] == [True] + 19 * [False]


def test_a_part_of_a_file_begins_at_zero(video):
    found = list(live.open_source(f"{video}#t=0.5,1", 10))
    np.testing.assert_array_equal([frame.image for frame in found], decode_all(video)[5:10])
    assert found[0].time == 0


def test_damage_is_an_error_after_the_frames_before_it(tmp_path):
    path = write_video(tmp_path / "video.mp4", 20, options={"g": "1", "bf": "0"})
    damage(path, 15)
    source = live.open_source(path, 10)
    assert len(list(itertools.islice(source, 10))) == 10
    with pytest.raises(VideoError, match="video.mp4"):
        list(source)


def test_a_file_in_real_time_keeps_its_pace_and_a_slow_model_gets_the_newest_frame(video):
    start = time.monotonic()
    source = live.open_source(f"{video}#t=0,1.2", 10, realtime=True)
    found = []
    for frame in source:
        found.append(frame.time)
        # A frame is at most as old as the model is slow.
        assert time.monotonic() - start - frame.time < 0.5
        time.sleep(0.25)
    assert time.monotonic() - start >= 1.1
    assert found[-1] == pytest.approx(1.1) and source.dropped == 12 - len(found) > 3


def test_a_broadcast_goes_on_after_a_stall_a_cut_and_a_restart(transmitted, impatient, caplog):
    # 0.2 s of silence are nothing, 20 s are an end. The third connection ends as well.
    connections = [{"stop": 14, "stall": 0.2}, {"stop": 12, "stall": 20}, {}]
    with broadcast.play(transmitted, 20, connections) as sent:
        source = live.open_source(sent.address, RATE, reconnect=True)
        found = [
            (frame.time, number_of(frame.image), frame.is_first) for frame in itertools.islice(source, 30)
        ]
        assert source.reconnections == 2
        source.close()
        assert not threads_of(sent.address)
    times, numbers, firsts = zip(*found, strict=True)
    assert all(one <= other for one, other in itertools.pairwise(times))
    starts = [i for i, is_first in enumerate(firsts) if is_first]
    assert len(starts) == 3 and starts[0] == 0
    # Within a connection, frames keep their order, and their times are those of the source.
    for start, end in itertools.pairwise([*starts, 30]):
        steps = np.diff(numbers[start:end])
        assert (steps > 0).all()
        assert np.diff(times[start:end]) == pytest.approx(steps / RATE, abs=0.01)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) >= 2 and all("connecting again in" in line for line in lines)


@pytest.mark.parametrize("connection, reason", [({"stop": 8}, "has broken off"), ({"stall": 20}, "no data")])
def test_what_breaks_off_is_an_error_after_the_last_frame(connection, reason, transmitted, impatient):
    with broadcast.play(transmitted, 20, [connection]) as sent:
        source = live.open_source(sent.address, RATE)
        found = []
        with pytest.raises(VideoError, match=reason):
            for frame in source:
                found.append(number_of(frame.image))
        assert found[-1] >= 6
        assert list(source) == []


def test_a_connection_ends_when_nobody_wants_it_any_more(transmitted, impatient):
    with broadcast.play(transmitted, 20, [{}]) as sent:
        source = live.open_source(sent.address, RATE)
        next(source)
        assert sent.open == 1 and threads_of(sent.address)
        source.close()
        assert not threads_of(sent.address)
        deadline = time.monotonic() + 2
        while sent.open and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not sent.open


def test_attempts_to_reconnect_become_rarer_and_end_with_the_source(monkeypatch):
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return len(waits) == 8

    fakes = {"Event": Stop, "Thread": threading.Thread, "Condition": threading.Condition}
    monkeypatch.setattr(live, "threading", types.SimpleNamespace(**fakes))

    def open_frames(stop):
        if not waits or len(waits) == 3:
            yield 0.0, lambda: np.zeros((4, 4, 3), "uint8")
        raise VideoError("camera", "unreadable", "is off")

    source = live.Newest(open_frames, "camera", 10, reconnect=True)
    assert len(list(source)) in (1, 2)
    assert waits == [1, 2, 4, 1, 2, 4, 8, 16]


def test_clocks_that_are_set_and_missing_times_give_times_that_ascend():
    clock = live._Clock()
    clock.begin()
    # Stamp and arrival. The clock jumps far ahead, and back; then there is none.
    seen = [(500, 0), (500.1, 0.1), (9000, 0.2), (9000.1, 0.3), (3, 0.4), (3.1, 0.5), (None, 0.6)]
    times = [clock.read(stamp, 70 + arrived) for stamp, arrived in seen]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    clock.begin()
    assert clock.read(0, 75) == pytest.approx(5)


def test_a_source_that_is_not_there_is_an_error_at_once(tmp_path, impatient):
    (tmp_path / "notes.mp4").write_text("no video")
    with broadcast.play(tmp_path / "notes.mp4", 1, []) as sent:
        for source, reason in {
            sent.address.replace("//", "//user:secret@"): "cannot be opened",
            "/dev/video99": "no such device",
            "/dev/null": "cannot be opened",
            str(tmp_path / "notes.mp4"): "not a video",
            str(tmp_path / "nowhere.mp4"): "no such file",
            str(tmp_path): "whose frames have no times",
        }.items():
            with pytest.raises(VideoError, match=reason) as error:
                live.open_source(source, 10)
            assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "source, arguments, name, received",
    [
        (5, {}, "source", "source=5"),
        ("ftp://user:secret@camera/live", {}, "source", "source='ftp://camera/live'"),
        ("a.mp4", {"reconnect": True}, "reconnect", "reconnect=True"),
        ([], {"realtime": True}, "realtime", "realtime=True"),
    ],
)
def test_wrong_arguments_are_named(source, arguments, name, received):
    with pytest.raises(ArgumentError) as error:
        live.open_source(source, 10, **arguments)
    assert error.value.name == name and str(error.value).endswith(f"Received: {received}")


@pytest.mark.parametrize(
    "item, received",
    [
        (np.zeros((4, 4, 3), "uint8"), "an item of source: ndarray"),
        ((0, np.zeros((4, 4, 3), "float32")), "an item of source: (0, float32 (4, 4, 3))"),
        ((None, np.zeros((4, 4, 3), "uint8")), "an item of source: (None, uint8 (4, 4, 3))"),
        ((0, np.zeros((4, 4), "uint8")), "an item of source: (0, uint8 (4, 4))"),
        ((-1, np.zeros((4, 4, 3), "uint8")), "seconds=-1"),
    ],
)
def test_wrong_items_of_an_iterator_are_named_when_they_come(item, received):
    source = live.open_source([*empty_frames([0]), item], 10)
    next(source)
    with pytest.raises(ArgumentError) as error:
        next(source)
    assert str(error.value).endswith(f"Received: {received}")


def test_a_file_is_closed_although_nothing_was_read(video):
    source = live.open_source(video, 10)
    timed = weakref.ref(source._timed)
    source.close()
    assert list(source) == []
    del source
    gc.collect()
    assert timed() is None
