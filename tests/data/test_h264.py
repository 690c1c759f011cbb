import itertools

import av
import pytest

from keras_stm.data import h264
from tests.data.field_pictures import write_fields
from tests.data.videos import packet_bytes, write_video


def extradata(path):
    with av.open(path) as container:
        return container.streams.video[0].codec_context.extradata


@pytest.mark.parametrize("extension", [".mp4", ".ts"])
@pytest.mark.parametrize(
    "parameters", ["", "cqm=jvt", "cqm4=16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31", "level=40:ref=4"]
)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_streams_of_frames_have_no_fields_and_interlaced_frames_are_none(
    tmp_path, extension, parameters, pixels
):
    for interlaced in (False, True):
        options = {"x264-params": f"{parameters}:interlaced={interlaced:d}".strip(":")}
        path = write_video(tmp_path / f"video{extension}", 6, options=options, pixels=pixels, height=64)
        packets = packet_bytes(path)
        coding = h264.field_coding(extradata(path), packets[0])
        assert (coding is not None) == interlaced
        if interlaced:
            assert not any(h264.is_field(packet, coding) for packet in packets)


@pytest.mark.parametrize("extension", [".mp4", ".ts"])
def test_fields_are_told_from_frames(tmp_path, extension):
    path = write_fields(tmp_path, range(40, 120, 8), extension, ("fields", "frame"))
    packets = packet_bytes(path)
    coding = h264.field_coding(extradata(path), packets[0])
    expected = itertools.islice(itertools.cycle([True, True, False]), 15)
    assert [h264.is_field(packet, coding) for packet in packets] == [*expected]


def test_parameters_are_found_in_the_first_packet_and_what_is_cut_is_no_field(tmp_path):
    packets = packet_bytes(write_fields(tmp_path, range(40, 120, 8)))
    coding = h264.field_coding(None, packets[0])
    assert coding is not None and h264.is_field(packets[0], coding)
    start = packets[0].index(b"\0\0\1\x67") + 3
    for length in range(start + 6):
        assert h264.field_coding(None, packets[0][:length]) is None
    slice_start = packets[1].index(b"\0\0\1\x61") + 3
    assert not any(h264.is_field(packets[1][:length], coding) for length in range(slice_start + 3))
