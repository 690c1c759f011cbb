"""Writes H.264 of field pictures, which no encoder that PyAV has can write."""

import fractions

import av

# Height and width of a frame in macroblocks of 16 pixels.
_ROWS, _COLUMNS = 4, 3
# Frames from one IDR picture to the next.
_GROUP = 8


def write_fields(folder, values, extension=".ts", kinds=("fields",)):
    """Writes frames of one brightness, 64x48, at 25 frames/s, a packet for each field or whole frame.

    Args:
        folder: folder of the video; the path is returned.
        values: brightness of each frame, which the file stores as it is, as luma.
        extension: container.
        kinds: how the frames are coded, in turn: as `"fields"` or as a `"frame"`.
    """
    raw = folder / "fields.h264"
    units = []
    for i, value in enumerate(values):
        number = i % _GROUP
        start = _parameters() if not number else b""
        if kinds[i % len(kinds)] == "frame":
            units.append((2 * i, start + _picture(number, value, None), not number))
        else:
            units.append((2 * i, start + _picture(number, value, 0), not number))
            units.append((2 * i + 1, _picture(number, value, 1), False))
    raw.write_bytes(b"".join(data for _, data, _ in units))
    path = folder / f"fields{extension}"
    with av.open(str(raw)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for time, data, is_keyframe in units:
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, fractions.Fraction(1, 50)
            packet.pts = packet.dts = time
            packet.duration = 2 if "frame" == kinds[time // 2 % len(kinds)] else 1
            packet.is_keyframe = is_keyframe
            new.mux(packet)
    return str(path)


def _parameters():
    # These state the main profile and 25 frames/s.
    sequence = _bits((8, 77), (8, 0), (8, 30), 0, 0, 2, 1, (1, 0), _COLUMNS - 1, _ROWS // 2 - 1)
    sequence += _bits((4, 0b0010), (1, 1), (5, 0b00001), (32, 1), (32, 50), (1, 1), (4, 0))
    picture = _bits(0, 0, (2, 0), 0, 0, 0, (3, 0), 0, 0, 0, (3, 0))
    return _unit(7, sequence) + _unit(8, picture)


def _picture(number, value, field):
    """Returns an intra picture: a frame, or a `field`, 0 for the upper one and 1 for the lower one."""
    is_idr = not number and not field
    bits = _bits(0, 7, 0, (4, number), (1, 0) if field is None else (2, 2 + field))
    bits += _bits(0, (2, 0)) if is_idr else _bits((1, 0))
    bits += _bits(0)
    for _ in range(_ROWS * _COLUMNS // (1 if field is None else 2)):
        # A macroblock of bare pixels starts at a whole byte.
        bits += _bits(25)
        bits += "0" * (-len(bits) % 8)
        bits += "".join(f"{pixel:08b}" for pixel in [value] * 256 + [128] * 128)
    return _unit(9, "1111") + _unit(5 if is_idr else 1, bits)


def _bits(*numbers):
    """Returns bits as text; a number is an Exp-Golomb code, and `(count, number)` has a fixed length."""
    text = ""
    for number in numbers:
        if isinstance(number, tuple):
            text += f"{number[1]:0{number[0]}b}"
        else:
            text += f"{number + 1:b}".zfill(2 * (number + 1).bit_length() - 1)
    return text


def _unit(kind, bits):
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8)
    # A 3 is inserted, so that no start code occurs within the unit.
    for byte in range(4):
        data = data.replace(bytes((0, 0, byte)), bytes((0, 0, 3, byte)))
    return b"\0\0\0\1" + bytes((0x60 | kind,)) + data
