"""Checks the sizes that a container states, because FFmpeg trusts them.

The checks find truncated files, and count the frames for which FFmpeg would allocate memory.
"""

import os
import struct

_EBML_HEADER = b"\x1aE\xdf\xa3"
_SEGMENT = b"\x18S\x80g"
_CLUSTER = b"\x1fC\xb6u"
# An AVI file that was written to a pipe states this instead of a size.
_UNKNOWN_RIFF_SIZE = 0xFFFFFFFF
# Boxes of an MP4 file that contain the tables of its frames.
_TABLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
# Bytes of the header of FLV, and of the header of each of its tags; kinds of tags: sound, video and text.
_FLV_HEADER, _FLV_TAG, _FLV_KINDS = 13, 11, (8, 9, 18)
# Each packet of MPEG-TS has a first byte and a size. In some files, four bytes precede each packet, and in
# others, more bytes follow.
_TS_START, _TS_SIZE, _TS_DISTANCES = 0x47, 188, (188, 192, 204)


def is_truncated(path):
    """Returns whether a file is shorter than it states.

    AVI states the size of the whole file. Matroska and WebM state the size of everything except a
    header. MP4, MOV and FLV state the sizes of their parts. MPEG-TS consists of packets of one size. Files of
    other kinds, and files that were written to a pipe, state no size.

    A file that states too much, but is cut in none of its parts, is not truncated. A part that holds the
    frames of MP4 may lack some bytes although all frames are there: see `has_whole_tables`.

    Raises:
        OSError: the file cannot be opened.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:4] == b"RIFF":
            stated = int.from_bytes(start[4:], "little")
            return stated != _UNKNOWN_RIFF_SIZE and 8 + stated > size and not _has_whole_chunks(file, size)
        if start[:3] == b"FLV":
            return _flv_end(file, size) > size
        if start[:4] == _EBML_HEADER:
            return _is_matroska_cut(file, size)
        may_be_transport = _TS_START in (*start[:1], *start[4:5])
        return (
            may_be_transport and _is_transport_packet_cut(file, size) or _is_mp4_cut(file, size, (b"mdat",))
        )


def has_unread_parts(path):
    """Returns whether a file consists of joined files, of which FFmpeg does not read the last ones.

    FFmpeg reads FLV up to a second header, and Matroska and WebM that state their sizes up to a third.

    Raises:
        OSError: the file cannot be opened.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(4)
        if start[:3] == b"FLV":
            file.seek(_flv_end(file, size))
            return file.read(3) == b"FLV"
        position = segments = 0
        while start == _EBML_HEADER and position < size:
            kind, content, position = _read_ebml_element(file, position)
            if kind not in (_EBML_HEADER, _SEGMENT) or content == position:
                break
            segments += kind == _SEGMENT
        return segments > 2


def has_whole_tables(path):
    """Returns whether the tables of an MP4 file, which state where its frames are, are there and not cut.

    Raises:
        OSError: the file cannot be opened.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        has_tables = any(kind in (b"moov", b"moof") for kind, _, _ in _boxes(file, size))
        return has_tables and not _is_mp4_cut(file, size)


def _has_whole_chunks(file, size):
    """Returns whether no chunk of an AVI file is cut, and the chunk that holds the frames is there."""
    position = 12
    has_frames = False
    while position < size:
        file.seek(position)
        header = file.read(12)
        length = int.from_bytes(header[4:8], "little")
        has_frames |= header[:4] == b"LIST" and header[8:] == b"movi"
        if position + 8 + length > size:
            return False
        # Chunks start at even positions.
        position += 8 + length + length % 2
    return has_frames


def _is_matroska_cut(file, size):
    """Returns whether a segment, which holds everything except the header, lacks a part or a piece of one."""
    position = 0
    while position < size:
        kind, start, end = _read_ebml_element(file, position)
        if kind not in (_EBML_HEADER, _SEGMENT) or start == end:
            return False
        if end > size:
            return kind == _EBML_HEADER or not _has_whole_elements(file, start, size)
        position = end
    return False


def _has_whole_elements(file, position, size):
    """Returns whether no element from a position to the end of the file is cut, and the last one is there."""
    kind = _CLUSTER
    while position < size:
        kind, start, position = _read_ebml_element(file, position)
        if start == position:
            return False
    # Behind the last cluster of frames, an index follows; without it, more clusters may be missing.
    return position == size and kind != _CLUSTER


def _read_ebml_element(file, position):
    """Returns the kind of an element, and the start and the end of its content; both are one if unknown."""
    file.seek(position)
    first = file.read(1)
    # Leading zero bits give the number of bytes of a kind, too.
    kind = first + file.read(8 - first[0].bit_length())
    length = _read_ebml_size(file)
    return kind, file.tell(), file.tell() + length


def _read_ebml_size(file):
    """Reads a size whose leading zero bits give its number of bytes; returns 0 if the size is unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return 0
    num_bytes = 9 - first[0].bit_length()
    all_ones = (1 << 7 * num_bytes) - 1
    size = int.from_bytes(first + file.read(num_bytes - 1)) & all_ones
    return size if size < all_ones else 0


def _is_mp4_cut(file, size, others=()):
    """Returns whether a part of the tables of an MP4 file, or a box of one of the kinds `others`, is cut."""
    tables_end = last = 0
    for kind, start, end in _boxes(file, size, _TABLES):
        # Other kinds are ignored: any bytes may follow the last box, and they prove no truncation.
        if end > size and (start < tables_end or kind in others):
            return True
        if kind in (b"moov", b"moof"):
            tables_end = end
        elif start < tables_end:
            last = end
    # The header of a box may be cut as well.
    return tables_end > size != last


def _flv_end(file, size):
    """Returns where the tags end, which hold the frames; the last one may end behind the end of the file."""
    position = _FLV_HEADER
    while position < size:
        file.seek(position)
        kind, *length = file.read(4)
        if kind not in _FLV_KINDS:
            break
        position += _FLV_TAG + int.from_bytes(length) + 4
    return position


def _is_transport_packet_cut(file, size):
    """Returns whether a file ends within a packet of MPEG-TS."""
    file.seek(max(0, size - 4 * max(_TS_DISTANCES)))
    end = file.read()
    for distance in _TS_DISTANCES:
        for start in range(len(end) - _TS_SIZE + 1, len(end)):
            if start >= 3 * distance and set(end[start - 3 * distance : start + 1 : distance]) == {_TS_START}:
                return True
    return False


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
