"""Communication of processes that share one meta-batch: sums of gradients, and the records of all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

Record = TypeVar("Record")

_FINISHED, _ALL_FINISHED = "handful/finished", "handful/all_finished"


@runtime_checkable
class Collective(Protocol):
    """A group of processes.

    Attributes:
        rank: This process's place, from 0.
        size: Number of processes.
    """

    rank: int
    size: int

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""

    def gathered(self, records: Sequence[Record]) -> list[Record]:
        """The records of all processes, those of rank 0 first; the same list in every process."""


class Alone:
    """A group of one process."""

    rank = 0
    size = 1

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Leaves the tensors as they are."""

    def gathered(self, records: Sequence[Record]) -> list[Record]:
        """The records of this process, the only ones."""
        return list(records)


class TorchProcesses:
    """The processes of ``torch.distributed``, which has to be initialised."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sums all tensors in one message."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def gathered(self, records: Sequence[Record]) -> list[Record]:
        """The records of all processes, by ``all_gather_object``."""
        parts: list[list[Record]] = [[] for _ in range(self.size)]
        torch.distributed.all_gather_object(parts, list(records))
        return [record for part in parts for record in part]


@contextmanager
def torch_processes(backend: str) -> Iterator[TorchProcesses]:
    """The processes that torchrun started, connected for the length of a block.

    No process closes its connections before every process has come to the end of the block: another may still read
    from them. A block that ends with an exception is left at once.

    Args:
        backend: As ``torch.distributed.init_process_group`` takes it.
    """
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield TorchProcesses()
        wait_for_all(store, size)
    finally:
        torch.distributed.destroy_process_group()


def wait_for_all(store: "torch.distributed.Store", size: int) -> None:
    """Returns once so many processes have called it. It needs no connection between them but the store's."""
    if store.add(_FINISHED, 1) == size:
        store.set(_ALL_FINISHED, "")
    store.wait([_ALL_FINISHED])
