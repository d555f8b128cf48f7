"""The file of the embedded store: which one a URL names, and why it cannot be opened."""

import os
from pathlib import Path

from model_store.errors import StoreAbsent, StoreUnavailable

SCHEME = "sqlite:"
_MEMORY = ":memory:"
_FORMS = "write sqlite:PATH, such as sqlite:handful.db or sqlite:/data/handful.db"


def sqlite_path(url: str) -> Path:
    """The file that a ``sqlite:`` URL names; relative where the URL is.

    ``sqlite:PATH`` takes the path as it stands. ``sqlite:///PATH`` and ``sqlite:////PATH`` mean what they mean to
    SQLAlchemy: a path relative to the working folder, and an absolute one.

    Raises:
        ValueError: The URL names no file; the message has the right form.
    """
    path = url.removeprefix(SCHEME)
    if path.startswith("//") and path.strip("/") not in {"", _MEMORY}:
        if not path.startswith("///"):
            raise ValueError(f"{url!r} names a host, as URLs with two slashes do: {_FORMS}")
        path = path.removeprefix("///")
    path = path if path.strip("/") else ""
    if path.strip("/") == _MEMORY:
        raise ValueError(f"the store in memory would be lost at each end of the process and has no use here: {_FORMS}")
    if path.startswith("file:") or "?" in path:
        raise ValueError(f"{url!r} has options or is a file: URI, which are not read: {_FORMS}")
    if not path or path.endswith(("/", "/.", "/..")) or path in {".", ".."}:
        raise ValueError(f"{url!r} names no file: {_FORMS}")
    if not path.isprintable():
        raise ValueError(f"{url!r} has a character that cannot be seen: {_FORMS}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{url!r}: {error}") from error


def check_place(path: Path, *, create: bool) -> None:
    """Refuses a file that is not there and that is not to be made, and one in a folder that is not there.

    A folder is never made: a typo in a path would make an empty store somewhere else.

    Raises:
        StoreAbsent: There is no such file, or no such folder.
        StoreUnavailable: The path is a folder's, or leads through a file or a folder that cannot be looked into.
    """
    folder = path.parent
    try:
        if path.is_dir():
            raise StoreUnavailable(f"{path} is a folder: name a file in it, such as {path / 'handful.db'}")
        if not folder.exists():
            raise StoreAbsent(f"there is no store at {path}: the folder {folder} does not exist")
        if not folder.is_dir():
            raise StoreUnavailable(f"there is no store at {path}: {folder} is a file, not a folder")
        if not create and not path.exists():
            raise StoreAbsent(f"there is no store at {path}: the folder is there, the file is not")
    except OSError as error:
        raise StoreUnavailable(f"SQLite at {path}: {error}{why_not_writable(path)}") from error


def why_not_writable(path: Path) -> str:
    """The reason why this process cannot write a store's file, with owners and remedy; empty where it can."""
    folder = path.parent
    for each in (folder, path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        kind = "the folder" if each == folder else "the file"
        try:
            if not each.exists():
                continue
            status = each.stat()
            if os.statvfs(each).f_flag & os.ST_RDONLY:
                return f"; {kind} {each} is on a read-only file system: mount it writable, or name another store"
        except OSError:  # a folder on the way cannot be looked into
            status = None
        if status is not None and os.access(each, os.W_OK | (os.X_OK if each == folder else 0)):
            continue
        owner = "" if status is None else f" belongs to {_user(status.st_uid)} (mode {status.st_mode & 0o777:04o}) and"
        return (
            f"; {kind} {each}{owner} is not writable for this process, which runs as {_user(os.geteuid())}: "
            "chown it, or name another store"
        )
    return ""


def _user(uid: int) -> str:
    import pwd  # not everywhere

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
