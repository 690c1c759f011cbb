"""Small video files for tests."""

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


def write_video(path, num_frames=30, codec="libx264", options=None, height=32, width=48, brightness=None):
    """Writes frames of noise about a brightness, which grows from 0 to 200 where none is given."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10, options=options or {})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.codec_context.thread_count = 1
        for i in range(num_frames):
            mean = 200 * i // num_frames if brightness is None else brightness
            pixels = rng.integers(0, 40, (height // 8, width // 8, 3)) + mean
            pixels = pixels.repeat(8, axis=0).repeat(8, axis=1).astype("uint8")
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
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


def decode_all(path):
    """Every frame of a file in presentation order, uint8 `(F, H, W, 3)`."""
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
