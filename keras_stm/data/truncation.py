"""Whether a video file ends before its container says: FFmpeg reads the rest of many as if it were all."""

import os

_EBML_HEADER = b"\x1aE\xdf\xa3"
# An AVI file that was written to a pipe states this instead of a size.
_UNKNOWN_RIFF_SIZE = 0xFFFFFFFF


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
    end = position = 0
    while position < size:
        file.seek(position)
        header = file.read(16)
        kind, length = header[4:8], int.from_bytes(header[:4])
        if length == 1:
            length = int.from_bytes(header[8:])
        # What is shorter than its header is no box; 0 is one up to the end of the file.
        if length < 8:
            break
        position += length
        # Other things, of which any may follow the last box, are not worth a claim.
        if kind in (b"mdat", b"moof", b"moov"):
            end = position
    return end
