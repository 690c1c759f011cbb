"""Checks the sizes that a container states, because FFmpeg trusts them.

The checks find truncated files, and count the frames for which FFmpeg would allocate memory.
"""

import os
import struct

_EBML_HEADER = b"\x1aE\xdf\xa3"
# An AVI file that was written to a pipe states this instead of a size.
_UNKNOWN_RIFF_SIZE = 0xFFFFFFFF
# Boxes of an MP4 file that contain the tables of its frames.
_TABLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")


def is_truncated(path):
    """Returns whether a file is shorter than it states.

    AVI states the size of the whole file. Matroska and WebM state the size of everything except a
    header. MP4 and MOV state the sizes of their parts. Files of other kinds, and files that were
    written to a pipe, state no size.

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
    """Returns the end of the segment, which holds everything except the header; 0 if it is not stated."""
    file.seek(len(_EBML_HEADER))
    file.seek(_read_ebml_size(file), os.SEEK_CUR)
    file.read(4)
    size = _read_ebml_size(file)
    return file.tell() + size if size else 0


def _read_ebml_size(file):
    """Reads a size whose leading zero bits give its number of bytes; returns 0 if the size is unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return 0
    num_bytes = 9 - first[0].bit_length()
    all_ones = (1 << 7 * num_bytes) - 1
    size = int.from_bytes(first + file.read(num_bytes - 1)) & all_ones
    return size if size < all_ones else 0


def _mp4_end(file, size):
    """Returns the end of the last box that holds frames or their table; 0 if there is none."""
    # Other kinds are ignored: any bytes may follow the last box, and they prove no truncation.
    ends = [end for kind, _, end in _boxes(file, size) if kind in (b"mdat", b"moof", b"moov")]
    return max(ends, default=0)


def count_samples(path):
    """Returns how many frames of video and sound the tables of an MP4 or MOV file state.

    FFmpeg allocates memory for these frames when it opens the file. It does not for uncompressed
    sound, in which each sample is a number, so that is not counted. Files of other kinds return 0.

    Raises:
        OSError: the file cannot be opened.
    """
    count = 0
    is_sound = is_pcm = False
    with open(path, "rb") as file:
        for kind, start, _ in _boxes(file, os.path.getsize(path), _TABLES):
            file.seek(start)
            numbers = struct.unpack(">4I", file.read(16).ljust(16, b"\0"))
            # QuickTime files have a second `hdlr` box, which says where the data are. It is ignored.
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
    """Yields the boxes of an MP4 file in order, including the boxes inside those of the kinds `opened`.

    Each is `(kind, start, end)`, with the part of the file that its content takes. The last box may
    end after the end of the file.
    """
    position = 0
    while position < size:
        file.seek(position)
        header = file.read(16)
        kind, length, skipped = header[4:8], int.from_bytes(header[:4]), 8
        if length == 1:
            length, skipped = int.from_bytes(header[8:]), 16
        # A length of 0 means a box up to the end of the file; other lengths below 8 mean no box.
        if length < 8:
            break
        yield kind, position + skipped, position + length
        # FFmpeg treats any box that starts with an `mvhd` box as the table of all frames.
        is_table = header[12:] == b"mvhd"
        position += skipped if kind in opened or opened and is_table else length
