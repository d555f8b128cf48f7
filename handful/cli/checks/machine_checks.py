"""Checks of the machine: packages, device, threads, the disk of the embedded store, open files."""

import os
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from handful.cli.checks.finding import Finding

if TYPE_CHECKING:
    from service.settings import Settings

_LOW_DISK_BYTES = 2**30
_FILES_BESIDE_REQUESTS = 128
"""Open files of a server beside its requests': store, libraries, checkpoints, log."""
_GPU = Path("/dev/nvidia0")
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "beegfs", "afs"}
"""File systems on which SQLite's locks do not hold; so do those that start with ``fuse.`` and end with ``fs``."""
_IN_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))


def check_packages() -> Iterator[Finding]:
    """Looks for the packages of the extra ``server``."""
    lines = metadata.requires("handful") or []
    names = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines if re.search(r"extra == ['\"]server['\"]", line)]
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        yield Finding.ok("packages", f"all of the extra server, {len(names)}")
        return
    yield Finding.error("packages", f"missing: {', '.join(missing)}", "pip install 'handful[server]'")


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_device(settings: "Settings") -> Iterator[Finding]:
    """Looks for the device that the settings ask for, and for a GPU that nothing uses."""
    import torch

    from metalearn.devices import select_device
    from metalearn.errors import DeviceUnavailable

    try:
        device = select_device(settings.device)
    except DeviceUnavailable:
        built = f"this torch ({torch.__version__}) is built {'for' if torch.version.cuda else 'without'} CUDA"
        yield Finding.error(
            "device",
            f"{settings.device} is not there; {built}",
            "take --device auto or cpu (HANDFUL_DEVICE); for CUDA install the driver, a torch that is built for it, "
            "and give the container its GPU (docs/deployment.md)",
        )
        return
    if settings.device == "auto" and device.type == "cpu" and _GPU.exists():
        yield Finding.warning(
            "device",
            f"there is a GPU, and this torch ({torch.__version__}) cannot use it: the CPU computes",
            "install a torch that is built for CUDA, or set HANDFUL_DEVICE=cpu where the CPU is meant",
        )
    else:
        yield Finding.ok("device", str(device))


def check_threads(settings: "Settings") -> Iterator[Finding]:
    """Compares threads and workers with the cores that this process may use."""
    from service.settings import granted_threads

    granted = granted_threads()
    used = settings.threads or granted
    if used > granted:
        yield Finding.warning(
            "threads",
            f"{used} are asked for, and {granted} granted (cores, affinity, container's quota): they take turns",
            f"set HANDFUL_THREADS to {granted} or leave it out, or raise the quota",
        )
    elif settings.workers > granted:
        yield Finding.warning(
            "threads",
            f"{settings.workers} workers share {granted} granted threads: they take turns",
            f"set HANDFUL_WORKERS to {granted} or less, or raise the quota",
        )
    else:
        yield Finding.ok("threads", f"{used} of {granted} granted, {os.cpu_count()} in the machine")


def check_disk(settings: "Settings") -> Iterator[Finding]:
    """Looks at the room, and at the kind of the file system, of the embedded store."""
    if settings.sqlite_path is None:
        return
    folder = settings.sqlite_path.absolute().parent
    if not folder.is_dir():
        return  # the check of the store reports it
    free = shutil.disk_usage(folder).free
    room = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < _LOW_DISK_BYTES:
        yield Finding.warning(
            "disk", f"{room}: when it is full, writes are refused", "make room, or move the store to another disk"
        )
    else:
        yield Finding.ok("disk", room)
    kind = file_system_of(folder)
    if kind in _REMOTE or re.fullmatch(r"fuse\..*fs", kind):
        yield Finding.warning(
            "file system",
            f"{folder} is on {kind}: locks of SQLite do not hold over a network, and the store may be damaged",
            "move the store to a local disk, or take Redis (HANDFUL_STORE)",
        )
    elif kind == "tmpfs" or (kind == "overlay" and in_container()):
        ends = "the machine restarts" if kind == "tmpfs" else "the container is removed"
        yield Finding.warning(
            "file system",
            f"{folder} is on {kind}: its tasks are lost when {ends}",
            "mount a volume there (docs/deployment.md), or name a file on one with HANDFUL_STORE",
        )


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of the file system that a folder is on; empty where the system does not list them."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    found = (Path("/"), "")
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= len(found[0].parts):
            found = (point, kind)
    return found[1]


def in_container() -> bool:
    """Whether this process runs in a container of Docker or Podman."""
    return any(mark.exists() for mark in _IN_CONTAINER)


def check_open_files(settings: "Settings") -> Iterator[Finding]:
    """Compares the files that this process may open with the connections that a server takes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_inflight_requests + _FILES_BESIDE_REQUESTS
    if limit != resource.RLIM_INFINITY and limit < needed:
        yield Finding.warning(
            "open files",
            f"this process may open {limit} files, and {settings.max_inflight_requests} requests at once need {needed}",
            f"`ulimit -n {needed}` before the start (LimitNOFILE= of systemd, --ulimit of Docker), or lower "
            "HANDFUL_MAX_INFLIGHT_REQUESTS",
        )
    else:
        yield Finding.ok("open files", f"{limit} may be open")
