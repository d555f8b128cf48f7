"""The text of a file: its bytes, decoded."""

import codecs
import sys
from dataclasses import dataclass
from pathlib import Path

from handful.files.rows import FileInvalid

_STANDARD_INPUT = "-"
_NAMES = {"utf-8": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32", "mac-roman": "Mac Roman", "cp932": "Shift JIS"}
_ALIASES = {"ansi": "cp1252", "excel": "cp1252", "unicode": "utf-16", "utf-8-bom": "utf-8"}
_SAMPLE_BYTES = 1 << 16
_HEAD_BYTES = 1 << 13
# In Latin script few letters are beyond ASCII, in every other script most letters are. Offered all encodings at once,
# the detector takes a few accents for Korean or Chinese.
_LATIN_SCRIPT_SHARE = 1 / 3
# Of a few lines, "¿dónde" and "żdónde" are about as Spanish; the commonest encoding is taken then
_COHERENCE_NOISE = 0.03
_LATIN_ENCODINGS = ["cp1252", "cp1250", "cp1254", "cp1257"]
_OTHER_ENCODINGS = ["cp1251", "cp1253", "cp1255", "cp1256", "cp932", "gb18030", "big5", "cp949", "euc_jp", "koi8_r"]
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAVE_AS_CSV = "save it as CSV UTF-8"
_UNPACK = "unpack it"
_BINARY_FORMATS = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", _SAVE_AS_CSV),
    (b"%PDF-", "a PDF document", "copy its texts into a CSV or text file"),
    (b"{\\rtf", "a rich text document", "save it as plain text"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"PAR1", "a Parquet file", "export it as CSV or JSON lines"),
    (b"ARROW1", "an Arrow file", "export it as CSV or JSON lines"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"\x89PNG", "an image", "give a file of texts"),
    (b"\xff\xd8\xff", "an image", "give a file of texts"),
)
_ZIP = b"PK\x03\x04"
_ZIPPED_FORMATS = (
    (b"xl/workbook", "an Excel workbook", _SAVE_AS_CSV),
    (b"word/document", "a Word document", "save it as plain text"),
    (b"application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet", _SAVE_AS_CSV),
    (b"application/vnd.oasis.opendocument.text", "an OpenDocument text", "save it as plain text"),
)


@dataclass(frozen=True, slots=True)
class Content:
    """A file's text.

    Attributes:
        source: The file as errors name it.
        suffix: The file name's ending in lower case, such as ``.csv``; empty for standard input.
        text: The decoded text without a byte order mark.
        encoding: The encoding's name for messages, with a note where it is a guess.
    """

    source: str
    suffix: str
    text: str
    encoding: str

    @property
    def lines(self) -> list[str]:
        """The text's lines without their ends.

        A line separator such as U+2028 may stand inside a text, so ``splitlines`` would cut too often.
        """
        if "\n" not in self.text:
            return self.text.split("\r")
        return [line.removesuffix("\r") for line in self.text.split("\n")]


def read_content(source: str, encoding: str | None = None) -> Content:
    """Reads and decodes a file.

    Args:
        source: A path, or ``-`` for standard input.
        encoding: The codec's name; detected from the bytes where it is missing.

    Raises:
        FileInvalid: There is no such file, it is no text file, or its encoding cannot be detected.
    """
    return decode_content(*_read_bytes(source), encoding)


def decode_content(name: str, suffix: str, data: bytes, encoding: str | None = None) -> Content:
    """Decodes a file that was read already.

    Args:
        name: The file as errors name it.
        suffix: The file name's ending in lower case; empty for none.
        data: The bytes of the file.
        encoding: The codec's name; detected from the bytes where it is missing.

    Raises:
        FileInvalid: It is no text file, or its encoding cannot be detected.
    """
    _refuse_binary(name, data)
    codec, note = _given(name, encoding) if encoding else _detect(name, data)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileInvalid(
            name, line, f"byte 0x{data[error.start]:02x} is not {_display(codec)}: save the file as UTF-8, "
            "or name its encoding with --encoding"
        ) from error  # fmt: skip
    return Content(name, suffix, text.removeprefix("\ufeff"), _display(codec) + note)


def _read_bytes(source: str) -> tuple[str, str, bytes]:
    if source == _STANDARD_INPUT:
        return "standard input", "", sys.stdin.buffer.read()
    path = Path(source)
    try:
        return source, path.suffix.lower(), path.read_bytes()
    except FileNotFoundError as error:
        raise FileInvalid(source, 0, f"there is no such file; relative paths start at {Path.cwd()}") from error
    except IsADirectoryError as error:
        raise FileInvalid(source, 0, "this is a folder: give a file") from error
    except (OSError, ValueError) as error:
        raise FileInvalid(source, 0, f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _refuse_binary(name: str, data: bytes) -> None:
    if data.startswith(_ZIP):
        for part, kind, remedy in (*_ZIPPED_FORMATS, (b"", "a zip archive", _UNPACK)):
            if part in data:
                raise FileInvalid(name, 0, f"this is {kind}: {remedy}")
    for start, kind, remedy in _BINARY_FORMATS:
        if data.startswith(start):
            raise FileInvalid(name, 0, f"this is {kind}: {remedy}")
    if data[:100].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise FileInvalid(name, 0, "this is a web page: download the file itself")


def _given(name: str, encoding: str) -> tuple[str, str]:
    alias = encoding.strip().lower().replace("_", "-")
    try:
        codec = codecs.lookup(_ALIASES.get(alias, alias)).name
        "".encode(codec)
    except LookupError as error:
        raise FileInvalid(name, 0, f"no encoding is named {encoding!r}: try utf-8, utf-16 or windows-1252") from error
    return codec, ""


def _detect(name: str, data: bytes) -> tuple[str, str]:
    for mark, codec in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return codec, ""
    if b"\x00" in data:
        return _detect_utf16(name, data), " (a guess)"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse_mixed(name, data, error)
        return _guess(name, data), " (a guess)"
    return "utf-8", ""


def _detect_utf16(name: str, data: bytes) -> str:
    ascii_letters = {}
    for codec in ("utf-16-le", "utf-16-be"):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            ascii_letters[codec] = sum(character.isascii() for character in text)
    if not ascii_letters:
        raise FileInvalid(name, 0, "this is a binary file: give CSV, JSON or plain text in UTF-8")
    return max(ascii_letters, key=ascii_letters.__getitem__)


def _refuse_mixed(name: str, data: bytes, error: UnicodeDecodeError) -> None:
    """Refuses a UTF-8 file with a few invalid bytes, since another encoding would garble the rest of it."""
    characters = data.decode("utf-8", "surrogateescape")
    strange = sum("\udc80" <= character <= "\udcff" for character in characters)
    if sum(not character.isascii() for character in characters) > 2 * strange:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileInvalid(
            name, line, f"byte 0x{data[error.start]:02x} is not UTF-8, as the rest of the file is: correct this line, "
            "or name the encoding with --encoding"
        )  # fmt: skip


def _guess(name: str, data: bytes) -> str:
    # Slow to import, and most files are UTF-8
    from charset_normalizer import from_bytes

    beyond_ascii = b"".join(line for line in data.splitlines(keepends=True) if not line.isascii())[:_SAMPLE_BYTES]
    sample = data if len(data) <= _SAMPLE_BYTES else data[:_HEAD_BYTES] + b"\n" + beyond_ascii
    foreign = sum(byte > 0x7F for byte in beyond_ascii)
    latin = foreign < _LATIN_SCRIPT_SHARE * (foreign + sum(map(str.isalpha, beyond_ascii.decode("ascii", "ignore"))))
    matches = list(from_bytes(sample, cp_isolation=_LATIN_ENCODINGS if latin else _OTHER_ENCODINGS))
    if not matches:
        raise FileInvalid(name, 0, "the encoding is unknown: save the file as UTF-8, or name it with --encoding")
    best = matches[0]
    for match in matches:
        as_good = match.chaos <= best.chaos and match.coherence >= best.coherence - _COHERENCE_NOISE
        if as_good and "cp1252" in {match.encoding, *match.could_be_from_charset}:
            return "cp1252"
    return best.encoding


def _display(codec: str) -> str:
    name = codecs.lookup(codec).name
    if name.startswith("cp125"):
        return f"Windows-{name[2:]}"
    name = name.removesuffix("-le").removesuffix("-be").removesuffix("-sig")
    return _NAMES.get(name, name.upper().replace("ISO8859", "ISO-8859"))
