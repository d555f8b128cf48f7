"""Which file a ``sqlite:`` URL names, and the reason why one cannot be opened."""

import os
import pwd
from pathlib import Path

import pytest

from model_store import sqlite_path as module
from model_store.sqlite_path import sqlite_path, why_not_writable


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:handful.db", "handful.db"),
        ("sqlite:./data/handful.db", "data/handful.db"),
        ("sqlite:/data/handful.db", "/data/handful.db"),
        ("sqlite:with space.db", "with space.db"),
        ("sqlite:überfällig.db", "überfällig.db"),
        # As SQLAlchemy has it
        ("sqlite:///rel.db", "rel.db"),
        ("sqlite:///folder/rel.db", "folder/rel.db"),
        ("sqlite:////data/handful.db", "/data/handful.db"),
        ("sqlite:~/handful.db", "/home/someone/handful.db"),
        ("sqlite:///~/handful.db", "/home/someone/handful.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert sqlite_path(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite::memory:",
        "sqlite:///:memory:",
        "sqlite://host/handful.db",
        "sqlite://handful.db",
        "sqlite:file:handful.db",
        "sqlite:///file:handful.db?mode=ro&uri=true",
        "sqlite:handful.db?timeout=5",
        "sqlite:.",
        "sqlite:..",
        "sqlite:/data/",
        "sqlite:/data/.",
        "sqlite:handful.db\r",
        "sqlite:hand\0ful.db",
        "sqlite:\u200bhandful.db",
        "sqlite:~nobody-of-this-name/handful.db",
    ],
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"write sqlite:PATH|nobody-of-this-name"):
        sqlite_path(url)


def test_a_folder_of_somebody_else_is_named_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    monkeypatch.setattr(module.os, "geteuid", lambda: 4_000_000)
    message = why_not_writable(tmp_path / "handful.db")
    assert f"the folder {tmp_path} belongs to {pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})" in message
    assert "runs as uid 4000000" in message
    assert "chown" in message


def test_a_file_of_somebody_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "handful.db"
    path.touch()
    monkeypatch.setattr(module.os, "access", lambda each, _: each != path)
    assert f"the file {path} belongs to" in why_not_writable(path)


def test_a_read_only_disk_is_named() -> None:
    if not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY and not os.statvfs("/sys").f_flag & os.ST_RDONLY:
        pytest.skip("nothing is mounted read-only here")
    folder = Path("/sys") if os.statvfs("/sys").f_flag & os.ST_RDONLY else Path("/proc/sys")
    assert "read-only file system" in why_not_writable(folder / "handful.db")


def test_without_an_obstacle_there_is_no_reason(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path / "handful.db") == ""
