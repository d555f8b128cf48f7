"""Checks of the checkpoints: files, calibration, and the memory that serving them takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handful.cli.checks.finding import Finding
from handful.cli.server_part import advice_on
from model_store.errors import ModelStoreError

if TYPE_CHECKING:
    from model_store.checkpoint import Checkpoint
    from service.settings import Settings

_BASE_BYTES = 500 * 2**20
"""Memory of a server beside its checkpoints: interpreter, torch, ONNX Runtime, requests."""
_COPIES = 2.0
"""Memory of a checkpoint while it is loaded, as a multiple of its weights in float32: torch's and the runtime's."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT = 2**60


def check_checkpoints(settings: "Settings") -> Iterator[Finding]:
    """Loads each checkpoint, which compares every file with its digest."""
    import torch

    from model_store.checkpoint import Checkpoint, Encoders, resolve_checkpoint

    shared: Encoders = {}
    loaded = []
    for each in settings.checkpoint:
        try:
            one = Checkpoint(resolve_checkpoint(each), torch.device("cpu"), shared=shared)
        except ModelStoreError as error:
            yield Finding.error("checkpoint", str(error), _remedy(each))
        except ModuleNotFoundError as error:
            advice = advice_on(error)
            if advice is None:
                raise
            cause, _, remedy = advice.partition(": ")
            yield Finding.error("packages", f"the checkpoint {each}: {cause}", remedy)
        else:
            loaded.append(one)
            yield Finding.ok("checkpoint", f"{one.manifest.name} ({one.fingerprint[:12]}), every file as it was made")
            if one.model.calibrated and not _was_calibrated(one):
                yield Finding.warning(
                    "calibration",
                    f"the confidences of {one.manifest.name} are not calibrated: thresholds mean little",
                    f"`handful checkpoint calibrate {each} OUT --tasks FOLDER`, then serve OUT",
                )
    if loaded:
        yield _memory(settings, loaded)


def _was_calibrated(checkpoint: "Checkpoint") -> bool:
    """Whether the temperature is another than that before any fit, which is 1 everywhere."""
    return any(
        bool(weight.any()) for name, weight in checkpoint.slow_weights.items() if name.startswith("calibration.")
    )


def _remedy(reference: str) -> str:
    if Path(reference).is_dir():
        return "copy the folder again from where it was made, or make the checkpoint anew"
    return "give --checkpoint (HANDFUL_CHECKPOINT) the absolute path of a checkpoint's folder, or a shipped one's name"


def _memory(settings: "Settings", loaded: "Sequence[Checkpoint]") -> Finding:
    """Compares an estimate of the memory of all workers with what this process may take."""
    parts = (part for each in loaded for part in (each.encoder.transformer.named_weights(), each.slow_weights))
    # By the place in memory, since checkpoints of one encoder share it
    sizes = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes()
             for part in parts for weight in part.values()}  # fmt: skip
    caches = settings.cache_max_bytes + settings.feature_cache_max_bytes
    needed = settings.workers * (_BASE_BYTES + int(_COPIES * sum(sizes.values())) + caches)
    limit = memory_limit()
    if limit is None:
        return Finding.ok("memory", f"about {_gib(needed)} with full caches; no limit was found")
    said = f"about {_gib(needed)} with full caches, of {_gib(limit)}"
    if needed <= limit:
        return Finding.ok("memory", said)
    return Finding.warning(
        "memory",
        f"serving takes {said}: the process may be killed",
        "raise the memory limit, or lower HANDFUL_CACHE_MAX_BYTES, HANDFUL_WORKERS or the number of checkpoints",
    )


def memory_limit(files: Sequence[Path] = _LIMITS) -> int | None:
    """The bytes that this process may take: its container's limit, or the machine's memory if that is less."""
    found = []
    for file in files:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    except OSError:  # not Linux
        pass
    return min((limit for limit in found if limit < _NO_LIMIT), default=None)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
