"""Devices by name."""

import pytest
import torch

from metalearn.devices import bfloat16_is_emulated, select_device
from metalearn.errors import DeviceUnavailable


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=repr(name)):
        select_device(name)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_an_accelerator_the_cpu_is_chosen(name: str) -> None:
    assert select_device(name) == torch.device("cpu")


def test_a_device_number_beyond_those_that_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert select_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceUnavailable, match="'cuda:7'"):
        select_device("cuda:7")


@pytest.mark.parametrize(("capability", "emulated"), [("DEFAULT", True), ("AVX2", True), ("AVX512", False)])
def test_bfloat16_is_emulated_on_a_cpu_without_wide_vectors(
    monkeypatch: pytest.MonkeyPatch, capability: str, emulated: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert bfloat16_is_emulated(torch.device("cpu")) is emulated
    assert not bfloat16_is_emulated(torch.device("cuda"))
