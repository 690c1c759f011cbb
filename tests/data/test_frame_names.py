"""Which images of a folder are the frames of a clip, and in which order."""

import random

import pytest

from keras_stm.data import frame_names


def count(form, numbers=range(9, 12)):
    return [form.format(number) for number in numbers]


# Names in their right order.
ORDERED = [
    count("{:05}.jpg"),
    count("{}.jpg"),
    ["8.jpeg", "9.JPEG", "10.jpg", "11.png"],
    ["1_left.jpg", "2_go.jpg", "3_left.jpg", "10_go.jpg"],
    ["00000_0s.jpg", "00001_0.04s.jpg", "00002_0.08s.jpg", "00003_0.12s.jpg"],
    # Time stamps in seconds: 0.5 is more than 0.12.
    ["t0.jpg", "t0.04.jpg", "t0.12.jpg", "t0.5.jpg", "t1.jpg", "t1.5.jpg", "t10.25.jpg"],
    ["1305031102.160407.png", "1305031102.175304.png", "1305031103.011.png"],
    # The number that does not change counts nothing.
    count("cam2_frame{}.jpg"),
    count("IMG_20260501_1200{:02}.jpg"),
    count("frame_{}_of_300.jpg"),
    count("shot.{:04}.png"),
    ["take 1 frame 9.bmp", "take 1 frame 10.bmp", "take 2 frame 1.bmp"],
    ["Frame_1.jpg", "frame_2.jpg", "FRAME_10.jpg"],
    ["only.jpg"],
    ["99999999999999999998.jpg", "99999999999999999999.jpg", "100000000000000000000.jpg"],
]


@pytest.mark.parametrize("names", ORDERED, ids=lambda names: names[0])
def test_frames_are_in_the_order_of_their_numbers(names):
    shuffled = random.Random(0).sample(names, len(names))
    assert frame_names.sort(shuffled) == names


# Names of frames, and names of other images beside them.
BESIDE = [
    (count("img_{:05}.jpg"), count("flow_x_{:05}.jpg") + count("flow_y_{:05}.jpg")),
    (count("{:05}.jpg"), count("x_{:05}.jpg") + count("y_{:05}.jpg")),
    (count("rgb_{}.png"), count("depth_{}.png")),
    (count("frame-{:06}.rgb.png"), count("frame-{:06}.depth.png")),
    (count("Frame{}.jpg"), count("Mask{}.jpg")),
    (count("{}.jpg"), count("{}_mask.png")),
    (count("frame_{}.jpg"), count("frame_{}_mask.png")),
    (count("cam1_rgb_{}.jpg"), count("cam1_ir_{}.jpg")),
    (count("v_Archery_g01_c01_img_{}.jpg"), count("v_Archery_g01_c01_x_{}.jpg")),
    (["1.5_rgb.png", "2.5_rgb.png"], ["1.6_depth.png", "2.6_depth.png"]),
    (count("{:05}.jpg"), ["cover.jpg", "frame.jpg"]),
    (count("{:05}.jpg"), count("{:05} (1).jpg")),
]


@pytest.mark.parametrize("frames,others", BESIDE, ids=lambda names: names[0])
def test_of_several_kinds_the_rgb_frames_are_taken(frames, others):
    assert frame_names.sort([*others, *frames]) == frames


@pytest.mark.parametrize(
    "names,patterns",
    [
        (count("flow_x_{}.jpg") + count("flow_y_{}.jpg"), "flow_x_#.jpg, flow_y_#.jpg"),
        (count("x_{}.jpg") + count("y_{}.jpg"), "x_#.jpg, y_#.jpg"),
        (count("img_{}.jpg") + count("frame_{}.jpg"), "frame_#.jpg, img_#.jpg"),
        (count("{}.jpg") + count("{}.png"), "#.jpg, #.png"),
        (count("frame-{}.color.png") + count("frame-{}.depth.png"), "frame-#.color.png, frame-#.depth.png"),
        (count("depth_{}.png") + count("depth_{}_mask.png"), "depth_#.png, depth_#_mask.png"),
        (["a.jpg", "b.jpg"], "a.jpg, b.jpg"),
        ([f"{letter}1.jpg" for letter in "abcdef"], "a#.jpg, b#.jpg, c#.jpg, d#.jpg, e#.jpg, ..."),
    ],
)
def test_kinds_that_cannot_be_told_apart_are_refused_by_their_patterns(names, patterns):
    with pytest.raises(frame_names.SeveralKinds) as error:
        frame_names.sort(names)
    assert f"({patterns})" in str(error.value)
