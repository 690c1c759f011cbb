"""Finds field pictures in H.264: interlaced pictures that are coded as two fields, in a packet each.

FFmpeg does not tell before it decodes. Camcorders (AVCHD) and television (DVB) write such pictures.
"""

import itertools
import typing

# Kinds of NAL units: slices of a picture, and the parameters of a sequence.
_SLICES = (1, 2, 5)
_PARAMETERS = 7
# Profiles whose parameters state a chroma format and scaling lists.
_HIGH_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)
_CHROMA_444 = 3
# Bytes that are enough for the start of a slice.
_SLICE_START = 32


class FieldCoding(typing.NamedTuple):
    """How to read the slices of a stream that may have field pictures.

    `length_size` is the number of bytes of a unit's length, or 0 if start codes separate the units.
    """

    length_size: int
    has_planes: bool
    frame_number_bits: int


def field_coding(extradata, packet):
    """Returns the `FieldCoding` of a stream, or `None` if it cannot have field pictures.

    Args:
        extradata: what the container states about the stream, as bytes, or `None`.
        packet: bytes of the first packet. They are read if `extradata` holds no parameters.
    """
    extradata = extradata or b""
    if extradata[:1] == b"\x01":
        # This is an `avcC` box. Its own lengths have two bytes; it states the size of those in packets.
        length_size = 1 + (extradata[4] & 3)
        units = _units(extradata[6:], 2)
    else:
        length_size = 0
        units = _units(extradata, 0)
    for unit in itertools.chain(units, _units(packet, length_size)):
        if unit and unit[0] & 31 == _PARAMETERS:
            try:
                return _read_parameters(_Bits(unit[1:]), length_size)
            except ValueError:
                return None
    return None


def is_field(packet, coding):
    """Returns whether the bytes of a packet start with a field; `coding` is a `FieldCoding`."""
    for unit in _units(packet, coding.length_size):
        if unit and unit[0] & 31 in _SLICES:
            bits = _Bits(unit[1:_SLICE_START])
            try:
                # The first macroblock, the kind of the slice, and its parameters.
                for _ in range(3):
                    bits.read_exponential()
                bits.read(2 * coding.has_planes + coding.frame_number_bits)
                return bool(bits.read(1))
            except ValueError:
                return False
    return False


def _read_parameters(bits, length_size):
    profile = bits.read(24) >> 16
    bits.read_exponential()
    has_planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.read_exponential()
        if chroma == _CHROMA_444:
            has_planes = bool(bits.read(1))
        # Two bit depths, and whether a lossless mode is allowed.
        bits.read_exponential(), bits.read_exponential(), bits.read(1)
        if bits.read(1):
            for i in range(12 if chroma == _CHROMA_444 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_number_bits = 4 + bits.read_exponential()
    order_type = bits.read_exponential()
    if order_type == 0:
        bits.read_exponential()
    elif order_type == 1:
        bits.read(1), bits.read_exponential(), bits.read_exponential()
        for _ in range(bits.read_exponential()):
            bits.read_exponential()
    # Reference frames, whether frame numbers may have gaps, width and height.
    bits.read_exponential(), bits.read(1), bits.read_exponential(), bits.read_exponential()
    has_frames_only = bits.read(1)
    return None if has_frames_only else FieldCoding(length_size, has_planes, frame_number_bits)


def _skip_scaling_list(bits, size):
    scale = step = 8
    for _ in range(size):
        if step:
            code = bits.read_exponential()
            step = (scale + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        scale = step or scale


def _units(data, length_size):
    """Yields the NAL units of data, which start codes or lengths separate."""
    if not length_size:
        start = data.find(b"\0\0\1")
        while start >= 0:
            end = data.find(b"\0\0\1", start + 3)
            yield data[start + 3 : end if end >= 0 else len(data)]
            start = end
        return
    while len(data) > length_size:
        length = int.from_bytes(data[:length_size])
        yield data[length_size : length_size + length]
        data = data[length_size + length :]


class _Bits:
    """Reads numbers from the bytes of a NAL unit; raises `ValueError` behind the last one."""

    def __init__(self, unit):
        # An encoder inserts the 3, so that no start code occurs by chance.
        data = unit.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count):
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit is cut")
        return self._value >> self._left & (1 << count) - 1

    def read_exponential(self):
        """Reads an Exp-Golomb code: as many zeros as bits follow the first one."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) + self.read(zeros) - 1
