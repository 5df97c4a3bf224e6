"""Takes from an encoded image what tells a decoder to turn it: pixels are decoded as they are stored.

The reference reads images with PIL, which leaves them as they are stored; torchcodec turns them by the EXIF
orientation, and has no option for it. So that tag is hidden from it, in the copy that it is given.
"""

from __future__ import annotations

import struct
import zlib

JPEG_SIGNATURE = b"\xff\xd8"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif"
_APP1, _APP15, _START_OF_SCAN, _FILL = 0xE1, 0xEF, 0xDA, 0xFF
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_PNG_EXIF, _PNG_PRIVATE = b"eXIf", b"prVt"
_CHUNK_FRAME_BYTES = 12
"""Length, type and check sum around a chunk's data."""


def as_stored(encoded: bytes) -> bytearray:
    """Return a copy of a JPEG or PNG in which no decoder finds an EXIF orientation; all else is unchanged."""
    copy = bytearray(encoded)
    if encoded.startswith(JPEG_SIGNATURE):
        _hide_in_jpeg(copy)
    elif encoded.startswith(PNG_SIGNATURE):
        _hide_in_png(copy)
    return copy


def _hide_in_jpeg(content: bytearray) -> None:
    """Turn Exif segments before the first scan into another application's; what is damaged is left to the decoder."""
    place = len(JPEG_SIGNATURE)
    while place + 4 <= len(content) and content[place] == _FILL:
        marker = content[place + 1]
        if marker == _FILL:  # any number of fill bytes may stand before a marker
            place += 1
            continue
        if marker == _START_OF_SCAN:
            return
        if marker in _WITHOUT_LENGTH:
            place += 2
            continue
        if marker == _APP1 and content[place + 4 : place + 8] == _EXIF:
            content[place + 1] = _APP15
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")


def _hide_in_png(content: bytearray) -> None:
    """Rename the eXIf chunks to a private type, with its check sum."""
    place = len(PNG_SIGNATURE)
    while place + _CHUNK_FRAME_BYTES <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        if content[place + 4 : place + 8] == _PNG_EXIF and place + _CHUNK_FRAME_BYTES + length <= len(content):
            content[place + 4 : place + 8] = _PNG_PRIVATE
            check_sum = zlib.crc32(content[place + 4 : place + 8 + length])
            struct.pack_into(">I", content, place + 8 + length, check_sum)
        place += _CHUNK_FRAME_BYTES + length
