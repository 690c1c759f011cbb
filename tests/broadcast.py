"""A server that plays a video in real time over HTTP, like a camera of a network."""

import contextlib
import http.server
import threading
import time

import av
import numpy as np

# Frames per second.
RATE = 20


def write_broadcast(path, brightnesses):
    """Writes MPEG-TS with one plain frame for each brightness, every fifth of which is a key frame."""
    with av.open(str(path), "w", format="mpegts") as container:
        options = {"g": "5", "bf": "0", "tune": "zerolatency"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for brightness in brightnesses:
            image = np.full((48, 64, 3), brightness, "uint8")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


class Broadcast:
    """What a server sends, and what it has seen.

    Args:
        data: bytes of the video, of `num_frames` frames.
        num_frames: see `data`.
        connections: for each connection, in order, a dictionary: `"stop"`, the number of frames after which
            the server cuts the connection; and `"stall"`, seconds of silence in the middle. The connections
            after the last are refused.
        address: URL of the video, which `play` sets.
        opened: number of connections so far.
        open: number of connections that are open.
    """

    def __init__(self, data, num_frames, connections):
        self.data = data
        self.num_frames = num_frames
        self.connections = connections
        self.address = None
        self.opened = 0
        self.open = 0


@contextlib.contextmanager
def play(path, num_frames, connections=({},)):
    """Serves a video in a `with` block; yields its `Broadcast`."""
    with open(path, "rb") as file:
        broadcast = Broadcast(file.read(), num_frames, connections)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            number, broadcast.opened = broadcast.opened, broadcast.opened + 1
            if number >= len(broadcast.connections):
                self.send_error(503)
                return
            broadcast.open += 1
            try:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                self.send(**broadcast.connections[number])
            except OSError:
                pass  # the client has left
            finally:
                broadcast.open -= 1

        def send(self, stop=None, stall=0):
            step = -(-len(broadcast.data) // num_frames)
            start = time.monotonic()
            for number in range(num_frames if stop is None else stop):
                if number == num_frames // 2:
                    start += stall
                time.sleep(max(start + number / RATE - time.monotonic(), 0))
                self.wfile.write(broadcast.data[number * step : (number + 1) * step])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    broadcast.address = f"http://127.0.0.1:{server.server_port}/live.ts"
    try:
        yield broadcast
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
