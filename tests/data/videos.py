"""Small video files for tests."""

import fractions

import av
import numpy as np

# Codec, options and extension of the three containers that the data sets ship.
KINDS = {
    "h264 with B-frames": ("libx264", {"bf": "2", "g": "10"}, ".mp4"),
    "h264 of key frames": ("libx264", {"bf": "0", "g": "1"}, ".mp4"),
    "mpeg4 with B-frames": ("mpeg4", {"bf": "2", "g": "10", "qscale": "3"}, ".avi"),
    "mpeg4": ("mpeg4", {"g": "12", "qscale": "3"}, ".avi"),
    "vp9": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}, ".webm"),
}


def write_video(
    path,
    num_frames=30,
    codec="libx264",
    options=None,
    height=32,
    width=48,
    brightness=None,
    times=None,
    tag=None,
):
    """Writes frames of noise about a brightness, which grows from 0 to 200 where none is given.

    The noise moves, so that frames are coded as the difference to others where the codec does so.
    `times` are those at which frames are shown, in milliseconds.
    """
    noise = np.random.default_rng(0).integers(0, 40, (height // 8, width // 8, 3))
    noise = noise.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=1000 if times else 10, options=options or {})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.codec_context.thread_count = 1
        if tag:
            video.codec_context.codec_tag = tag
        for i in range(num_frames):
            mean = 200 * i // num_frames if brightness is None else brightness
            pixels = (np.roll(noise, i, axis=1) + mean).astype("uint8")
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[i], fractions.Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return str(path)


def write_audio(path):
    """Writes a file whose only stream is sound."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "float32"), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(audio.encode(silence))
        container.mux(audio.encode())
    return str(path)


def copy_video(source, target, change=lambda packets: packets, degrees=None, options=None):
    """Copies coded frames into another container, a list of packets as `change` gives them back."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        if degrees is not None:
            stream.set_display_rotation(degrees)
        for packet in change([packet for packet in old.demux(video=0) if packet.size]):
            packet.stream = stream
            new.mux(packet)
    return str(target)


def packet_bytes(path):
    """The bytes of each coded frame, as they are in the file, in the order of decoding."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def decode_all(path):
    """Every frame of a file in presentation order, uint8 `(F, H, W, 3)`."""
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def damage(path, number):
    """Overwrites the coded frame of this place in the file with zeros."""
    packet = packet_bytes(path)[number]
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data.replace(packet, bytes(len(packet)), 1))
