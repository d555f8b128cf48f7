"""Encodings and files that hold no text."""

# ruff: noqa: RUF001  # the letters of other scripts are meant

import codecs
from pathlib import Path

import pytest

from handful.files import FileInvalid, ReadOptions, read_queries, read_support
from tests.handful.files.conftest import Write

FRENCH = "text;label\r\nje veux être remboursé;remboursement\r\noù est mon colis;livraison\r\n"
RUSSIAN = "text;label\nгде моя посылка;доставка\nверните деньги;возврат\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FRENCH.encode(), "UTF-8"),
        (FRENCH.encode("utf-8-sig"), "UTF-8"),
        (codecs.BOM_UTF16_LE + FRENCH.encode("utf-16-le"), "UTF-16"),
        (codecs.BOM_UTF16_BE + FRENCH.encode("utf-16-be"), "UTF-16"),
        (codecs.BOM_UTF32_LE + FRENCH.encode("utf-32-le"), "UTF-32"),
        (FRENCH.encode("utf-16-le"), "UTF-16 (a guess)"),
        (FRENCH.encode("utf-16-be"), "UTF-16 (a guess)"),
        (RUSSIAN.encode("utf-16-le"), "UTF-16 (a guess)"),
        (FRENCH.encode("cp1252"), "Windows-1252 (a guess)"),
        (RUSSIAN.encode("cp1251"), "Windows-1251 (a guess)"),
    ],
)
def test_encodings_are_found_and_guesses_are_named(write: Write, data: bytes, words: str) -> None:
    content = RUSSIAN if "где".encode("utf-16-le") in data or words.startswith("Windows-1251") else FRENCH
    expected = content.split("\n")[1].strip().split(";")
    read = read_support(write("a.csv", data))
    assert [read.rows[0].text, read.rows[0].label] == expected
    assert read.found.endswith(f"semicolons, {words}")


@pytest.mark.parametrize(
    "line",
    [
        "thé et café,a",
        "ich möchte mein Geld zurück – schnell,a",
        "ik wil één terugbetaling,a",
        "¿dónde está mi pedido?,a",
        "não consigo acessar,a",
        "perché non è arrivato,a",
        "hvor er min pakke og pengene på kontoen,a",
        "I can’t log in – it “crashes”,a",
        "it costs €5,a",
    ],
)
def test_western_european_texts_are_guessed_from_one_line(write: Write, line: str) -> None:
    read = read_support(write("a.csv", f"text,label\n{line}\nwhere is it,b\n".encode("cp1252")))
    assert read.rows[0].text == line.removesuffix(",a")
    assert "Windows-1252 (a guess)" in read.found


def test_the_caller_names_the_encoding(write: Write) -> None:
    source = write("a.csv", RUSSIAN.encode("koi8_r"))
    assert read_support(source, ReadOptions(encoding="KOI8-R")).rows[0].text == "где моя посылка"
    with pytest.raises(FileInvalid, match=r"a\.csv, line 2: byte 0xc7 is not UTF-8"):
        read_support(source, ReadOptions(encoding="utf-8"))
    for name in ("nope", "base64"):
        with pytest.raises(FileInvalid, match=f"no encoding is named '{name}'"):
            read_support(source, ReadOptions(encoding=name))


def test_other_bytes_in_a_utf8_file_are_refused_with_their_line(write: Write) -> None:
    data = "text,label\nété à la plage,a\nça où naïf,b\n".encode() + b"caf\xe9,c\n"
    with pytest.raises(FileInvalid, match=r"a\.csv, line 4: byte 0xe9 is not UTF-8, as the rest of the file is"):
        read_support(write("a.csv", data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04...xl/workbook.xml", "an Excel workbook: save it as CSV UTF-8"),
        (b"PK\x03\x04...word/document.xml", "a Word document"),
        (b"PK\x03\x04...a.txt", "a zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"PAR1", "a Parquet file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x00\x01\x02\xff\xfe", "a binary file"),
    ],
)
def test_files_of_no_text_are_named(write: Write, data: bytes, reason: str) -> None:
    for read in (read_support, read_queries):
        with pytest.raises(FileInvalid, match=reason):
            read(write("a.csv", data))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match="there is no such file"):
        read_support(str(tmp_path / "none.csv"))
    with pytest.raises(FileInvalid, match="this is a folder"):
        read_support(str(tmp_path))
