"""Archives of one form: any program opens them, and no other bytes are read."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.stored_zip import NotStoredZip, unzipped, zipped

NAMES = st.text("abc./-_1", min_size=1, max_size=12)
ENTRIES = st.dictionaries(NAMES, st.binary(max_size=40), min_size=1, max_size=4)


@given(entries=ENTRIES)
def test_entries_come_back_and_other_programs_read_them(entries: dict[str, bytes]) -> None:
    data = zipped(entries)
    assert unzipped(data) == entries
    assert list(unzipped(data)) == list(entries), "in their order"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == entries


@given(entries=ENTRIES, at=st.integers(0, 10**6), bit=st.integers(0, 7), more=st.binary(min_size=1, max_size=30))
def test_no_other_bytes_are_read(entries: dict[str, bytes], at: int, bit: int, more: bytes) -> None:
    data = zipped(entries)
    at %= len(data)
    flipped = bytes([*data[:at], data[at] ^ 1 << bit, *data[at + 1 :]])
    for altered in (flipped, data[:at], data + more, more + data, data[:at] + more + data[at:]):
        if altered != data:
            with pytest.raises(NotStoredZip):
                unzipped(altered)


@given(data=st.binary(max_size=100).map(lambda rest: b"PK\x03\x04" + rest) | st.binary(max_size=100))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(NotStoredZip):
        unzipped(data)


def test_archives_of_other_programs_are_refused() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", method) as archive:
            archive.writestr("a", b"content")
        with pytest.raises(NotStoredZip):
            unzipped(written.getvalue())
