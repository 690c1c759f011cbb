"""Videos with predictions drawn on them: contents and place of the panel, and unchanged pixels elsewhere."""

import fractions
import math

import av
import numpy as np
import pytest
from PIL import ImageFont

from keras_stm import rendering
from keras_stm.data.video import VideoError, frame_times, iterate_frames, probe
from tests.data.videos import copy_video, damage, decode_all, write_video

PREDICTIONS = [{"label": "dark", "score": 0.7}, {"label": "bright", "score": 0.3}]


def render(source, target, moments=((math.inf, PREDICTIONS),), progress=lambda done: None):
    rendering.render(str(source), str(target), moments, progress)
    return decode_all(str(target))


def frame_rate(path):
    with av.open(str(path)) as container:
        return container.streams.video[0].average_rate


def luminance(frames):
    return np.asarray(frames).mean(axis=-1)


@pytest.mark.parametrize("height, width", [(240, 320), (352, 240)])
def test_the_rendered_video_is_the_same_but_for_what_is_drawn(height, width, tmp_path):
    path = write_video(tmp_path / "a.mp4", 20, height=height, width=width, brightness=130)
    target, done = tmp_path / "drawn.mp4", []
    before, after = decode_all(path).astype(int), render(path, target, progress=done.append).astype(int)
    assert before.shape == after.shape == (20, height, width, 3)
    assert frame_rate(target) == 10 == frame_rate(path)
    assert done == list(range(1, 21))
    panel = rendering.draw_panel(PREDICTIONS, width, height)
    left = top = min(width, height) // 40
    inside = np.zeros((height, width), bool)
    inside[top : top + panel.height, left : left + panel.width] = True
    outside = ~inside
    # The video stores one colour for 2 x 2 pixels, so pixels next to the panel change.
    outside[top - 2 : top + panel.height + 2, left - 2 : left + panel.width + 2] = False
    assert np.abs(after - before)[:, outside].mean() < 4
    # In every frame, the panel is darker than the video, except for its letters.
    assert np.all(np.abs(after - before)[:, inside].mean(axis=(1, 2)) > 40)
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_colours_stay_what_they_are(tmp_path):
    path = str(tmp_path / "red.mkv")
    with av.open(path, "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.height, video.width, video.pix_fmt = 240, 320, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), (230, 40, 60), "uint8"), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode())
    drawn = render(path, tmp_path / "drawn.mp4")
    assert drawn[0, 200:].mean(axis=(0, 1)) == pytest.approx((230, 40, 60), abs=4)


def test_what_is_drawn_is_that_of_the_moment(tmp_path, monkeypatch):
    drawn, numbers = [], []
    draw_panel = rendering.draw_panel

    def remember(predictions, *size):
        drawn.append((numbers[-1], predictions))
        return draw_panel(predictions, *size)

    def count(path):
        for number, frame in enumerate(iterate_frames(path)):
            numbers.append(number)
            yield frame

    monkeypatch.setattr(rendering, "draw_panel", remember)
    monkeypatch.setattr(rendering, "iterate_frames", count)
    path = write_video(tmp_path / "a.mp4", 30)
    moments = [(1.0, PREDICTIONS[:1]), (2.5, PREDICTIONS[1:]), (math.inf, PREDICTIONS)]
    render(path, tmp_path / "drawn.mp4", moments)
    assert drawn == [(0, PREDICTIONS[:1]), (10, PREDICTIONS[1:]), (25, PREDICTIONS)]
    assert probe(str(tmp_path / "drawn.mp4")).num_frames == 30


@pytest.mark.parametrize(
    "height, width, expected",
    [
        (64, 64, (256, 256)),
        (100, 176, (300, 528)),
        (240, 427, (240, 428)),
        (241, 243, (242, 244)),
        (121, 300, (242, 600)),
    ],
)
def test_small_frames_are_enlarged_and_odd_ones_made_even(height, width, expected):
    frames = np.random.default_rng(0).integers(0, 255, (2, height, width, 3), "uint8")
    predictions = [{"label": "clap", "score": 0.7}]
    labelled = list(rendering.label_frames(frames, [(math.inf, predictions)], rate=10))
    assert [frame.shape for frame in labelled] == [(*expected, 3)] * 2
    if min(height, width) >= 240:
        np.testing.assert_array_equal(labelled[1][height - 60 : height, :width], frames[1][height - 60 :])
        np.testing.assert_array_equal(labelled[1][-1, width // 2], frames[1][-1, width // 2])


@pytest.mark.parametrize("width, height", [(240, 240), (1920, 1080), (240, 5000), (5000, 240)])
@pytest.mark.parametrize("count", [1, 5, 400])
def test_the_panel_fits_into_the_frame(width, height, count):
    predictions = [{"label": "Pretending to put something behind something " * 9, "score": 1.0}] * count
    panel = rendering.draw_panel(predictions, width, height)
    margin = min(width, height) // 40
    assert panel.width + margin <= width and panel.height + margin <= height / 2


def test_bars_are_as_long_as_the_scores_and_text_stands_out():
    predictions = [{"label": "x", "score": score} for score in (1.0, 0.5, 0.0)]
    for background in (0, 128, 255):
        frame = np.full((480, 640, 3), background, "uint8")
        (drawn,) = rendering.label_frames([frame], [(math.inf, predictions)], rate=10)
        panel = rendering.draw_panel(predictions, 640, 480)
        inside = drawn[12 : 12 + panel.height, 12 : 12 + panel.width].astype(int)
        rows = np.split(inside[: panel.height // 3 * 3], 3)
        # Bars are blue, and the background is grey.
        blue = [((row[..., 2] - row[..., 0]) > 60).any(axis=0).mean() for row in rows]
        assert blue == pytest.approx([1, 0.5, 0], abs=0.03)
        assert inside.max() > 250
        # The panel lets a third of the background's brightness through.
        assert np.median(luminance(inside)) == pytest.approx(background / 3, abs=1)


def test_a_long_name_is_cut_to_its_room():
    font = ImageFont.load_default(size=12)
    assert rendering.shorten("clap", font, 100) == "clap"
    short = rendering.shorten("putting something onto something", font, 100)
    assert short.endswith("…") and 80 < font.getlength(short) <= 100
    assert rendering.shorten("clap", font, 0) == "…"


def test_the_stated_rate_is_kept_where_time_stamps_are_rounded(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30)
    assert rendering.meant_rate(path, 9.95) == 10
    assert rendering.meant_rate(path, 29.97003) == fractions.Fraction(30000, 1001)


def test_a_turned_video_is_drawn_upright(tmp_path):
    path = write_video(tmp_path / "flat.mp4", 5, height=240, width=320)
    turned = copy_video(path, tmp_path / "turned.mp4", degrees=90)
    assert render(turned, tmp_path / "drawn.mp4").shape == (5, 320, 240, 3)


def test_damage_that_is_met_on_the_way_is_an_error(tmp_path):
    path = write_video(tmp_path / "damaged.mp4", 60, options={"g": "1", "bf": "0"})
    damage(path, 59)
    with pytest.raises(VideoError, match="damaged.mp4"):
        render(path, tmp_path / "drawn.mp4")


def test_a_disk_that_is_full_is_an_error_of_the_file_to_write(tmp_path, monkeypatch):
    def full(*args):
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(rendering, "label_frames", full)
    path = write_video(tmp_path / "a.mp4", 8)
    with pytest.raises(OSError, match="drawn.mp4: cannot be written"):
        render(path, tmp_path / "drawn.mp4")


def test_frames_of_a_stream_that_change_their_size_are_scaled_to_the_first(tmp_path):
    path = str(tmp_path / "drawn.mp4")
    with rendering.StreamVideo(path) as video:
        for seconds, size in ((3.0, (240, 320)), (3.0, (480, 640)), (3.5, (301, 243))):
            image = np.full((*size, 3), 130, "uint8")
            video.write(seconds, image, PREDICTIONS)
    assert decode_all(path).shape == (3, 240, 320, 3)
    # Two frames at the same time would end the file.
    assert (frame_times(path) / 1e6).tolist() == pytest.approx([0, 0.001, 0.5])


def test_a_stream_that_cannot_be_written_is_an_error_of_its_file(tmp_path):
    with pytest.raises(OSError, match="drawn.mp4: cannot be written"):
        with rendering.StreamVideo(str(tmp_path / "nowhere" / "drawn.mp4")) as video:
            video.write(0.0, np.zeros((240, 320, 3), "uint8"), PREDICTIONS)
