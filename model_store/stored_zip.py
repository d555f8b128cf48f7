"""Zip archives of one form alone: entries as they are, in a given order, without dates. Any program for zip opens them.

The same entries give the same bytes, and one archive alone has these bytes. So a reader that writes the entries again
and compares finds every altered byte, and needs none of what makes zip archives dangerous to read: no compression, no
paths on a disk, no second list of entries that differs from the first.

Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", sections 4.3.7, 4.3.12 and 4.3.16.
"""

import struct
import zlib
from collections.abc import Mapping

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 20
_MADE_BY = 3 << 8 | _VERSION
"""Unix, so that programs keep the entries' permissions below."""
_FIRST_DAY = 1 << 5 | 1
"""1980-01-01, the first date that the format can express."""
_READABLE = 0o100644 << 16
_NAME_BYTES = 64


class NotStoredZip(ValueError):
    """Bytes that are no archive of this form, or that were altered."""


def zipped(entries: Mapping[str, bytes]) -> bytes:
    """The archive with these entries, in their order; names are ASCII."""
    local, central = bytearray(), bytearray()
    for name, content in entries.items():
        encoded = name.encode("ascii")
        facts = (zlib.crc32(content), len(content), len(content), len(encoded), 0)
        head = (0, 0, 0, _FIRST_DAY)
        central += _CENTRAL.pack(b"PK\x01\x02", _MADE_BY, _VERSION, *head, *facts, 0, 0, 0, _READABLE, len(local))
        central += encoded
        local += _LOCAL.pack(b"PK\x03\x04", _VERSION, *head, *facts) + encoded + content
    count = len(entries)
    return bytes(local + central + _END.pack(b"PK\x05\x06", 0, 0, count, count, len(central), len(local), 0))


def unzipped(data: bytes) -> dict[str, bytes]:
    """The entries of an archive that ``zipped`` has made.

    Raises:
        NotStoredZip: It has not made these bytes.
    """
    entries: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\x03\x04" and len(data) - at >= _LOCAL.size:
        *_, size, _, name_bytes, _ = _LOCAL.unpack_from(data, at)
        begin = at + _LOCAL.size + name_bytes
        name = data[at + _LOCAL.size : begin]
        if name_bytes > _NAME_BYTES or not name.isascii() or len(data) - begin < size:
            raise NotStoredZip
        entries[name.decode("ascii")] = data[begin : begin + size]
        at = begin + size
    # Names that stand twice, other lengths and whatever follows the entries come out different
    if not entries or zipped(entries) != data:
        raise NotStoredZip
    return entries
