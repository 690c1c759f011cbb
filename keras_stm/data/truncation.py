"""What a container says and FFmpeg believes: that a file is whole, where it is cut, and how much is in it."""

import os
import struct

_EBML_HEADER = b"\x1aE\xdf\xa3"
# An AVI file that was written to a pipe states this instead of a size.
_UNKNOWN_RIFF_SIZE = 0xFFFFFFFF
# Boxes of an MP4 file that the tables of its frames lie in.
_TABLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")


def is_truncated(path):
    """Whether a file is shorter than it states.

    AVI states the size of the whole file, Matroska and WebM that of all but a header, MP4 and MOV
    those of their parts. Files of other kinds, and those written to a pipe, state none.

    Raises:
        OSError: the file cannot be opened.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:4] == b"RIFF":
            stated = int.from_bytes(start[4:], "little")
            return stated != _UNKNOWN_RIFF_SIZE and 8 + stated > size
        if start[:4] == _EBML_HEADER:
            return _matroska_end(file) > size
        return _mp4_end(file, size) > size


def _matroska_end(file):
    """Where the segment, which holds everything but the header, ends; 0 where that is not stated."""
    file.seek(len(_EBML_HEADER))
    file.seek(_read_ebml_size(file), os.SEEK_CUR)
    file.read(4)
    size = _read_ebml_size(file)
    return file.tell() + size if size else 0


def _read_ebml_size(file):
    """A number whose leading zero bits say of how many bytes it is; all ones is unknown, here 0."""
    first = file.read(1)
    if not first or not first[0]:
        return 0
    num_bytes = 9 - first[0].bit_length()
    all_ones = (1 << 7 * num_bytes) - 1
    size = int.from_bytes(first + file.read(num_bytes - 1)) & all_ones
    return size if size < all_ones else 0


def _mp4_end(file, size):
    """Where the last box ends that holds frames or their table; 0 where there is none."""
    # Other things, of which any may follow the last box, are not worth a claim.
    ends = [end for kind, _, end in _boxes(file, size) if kind in (b"mdat", b"moof", b"moov")]
    return max(ends, default=0)


def count_samples(path):
    """Frames, of sound too, that the tables of an MP4 or MOV file state; 0 for files of other kinds.

    FFmpeg makes room for them when it opens the file. It does not for uncompressed sound, of which a
    sample is a number: that is not counted.

    Raises:
        OSError: the file cannot be opened.
    """
    count = 0
    is_sound = is_pcm = False
    with open(path, "rb") as file:
        for kind, start, _ in _boxes(file, os.path.getsize(path), _TABLES):
            file.seek(start)
            numbers = struct.unpack(">4I", file.read(16).ljust(16, b"\0"))
            # QuickTime has another one for where the data are.
            if kind == b"hdlr" and numbers[1] != int.from_bytes(b"dhlr"):
                is_sound, is_pcm = numbers[2] == int.from_bytes(b"soun"), False
            elif kind == b"stts":
                is_pcm = is_sound and numbers[1] == numbers[3] == 1
            elif kind in (b"stsz", b"stz2") and not is_pcm:
                count += numbers[2]
            elif kind == b"trun":
                count += numbers[1]
    return count


def _boxes(file, size, opened=()):
    """Boxes of an MP4 file in order, with those inside of the kinds `opened`, which are made of others.

    Each is `(kind, start, end)`, the part of the file that it holds; the last may end beyond the file.
    """
    position = 0
    while position < size:
        file.seek(position)
        header = file.read(16)
        kind, length, skipped = header[4:8], int.from_bytes(header[:4]), 8
        if length == 1:
            length, skipped = int.from_bytes(header[8:]), 16
        # What is shorter than its header is no box; 0 is one up to the end of the file.
        if length < 8:
            break
        yield kind, position + skipped, position + length
        # FFmpeg takes any box that begins so for the table of all frames.
        is_table = header[12:] == b"mvhd"
        position += skipped if kind in opened or opened and is_table else length
