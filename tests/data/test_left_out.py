import pytest

from keras_stm.data import LeftOut
from tests.data.errors import argument_error


def test_a_clip_is_named_once_however_often_it_is_found():
    lines = []
    left_out = LeftOut(10, log=lines.append)
    for _ in range(3):
        left_out.add("a.mp4", "a.mp4: no such file")
    left_out.add("b.mp4", "b.mp4: holds no video stream")
    assert lines == ["Skipped: a.mp4: no such file", "Skipped: b.mp4: holds no video stream"]
    assert list(left_out.reasons) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("max_unreadable, allowed", [(0.0, 0), (0.25, 2), (0.5, 5), (0.55, 5), (1.0, 10)])
def test_it_stops_above_the_share_and_not_before(max_unreadable, allowed):
    left_out = LeftOut(10, max_unreadable)
    for i in range(allowed):
        left_out.add(str(i), f"{i}: broken")
    if allowed < 10:
        with pytest.raises(ValueError, match=f"^{allowed + 1} of 10 "):
            left_out.add("one more", "one more: broken")


def test_the_error_lists_clips_and_the_share():
    left_out = LeftOut(100, 0.25, log=lambda line: None)
    for i in range(25):
        left_out.add(str(i), f"{i}.mp4: broken")
    with pytest.raises(ValueError) as error:
        left_out.add("25", "25.mp4: broken")
    lines = str(error.value).splitlines()
    assert lines[1].strip() == "0.mp4: broken" and len(lines) == 1 + 20 + 1 + 1
    assert lines[-2].strip() == "and 6 more"
    assert lines[-1] == "Received: max_unreadable=0.25"


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_and_1_is_refused(share):
    with argument_error("max_unreadable", share):
        LeftOut(10, share)
