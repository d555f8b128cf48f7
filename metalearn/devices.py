"""Devices for tensors."""

import torch

from metalearn.errors import DeviceUnavailable


def select_device(name: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        DeviceUnavailable: This machine or this build of torch does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise DeviceUnavailable(f"the device {name!r} is not available here: use auto or cpu")
    return device


def bfloat16_is_emulated(device: torch.device) -> bool:
    """Whether a CPU has no instructions for bfloat16, which takes many times as long as float32 then."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2"}


def wait_for(device: torch.device) -> None:
    """A GPU is handed work and left to it; without waiting, slices have no bound and timings no sense."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
