"""The number of threads that torch may use for an operation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

_WORTH_SHARING = 4_000_000
"""Multiplications from which on a product is worth another thread: some 0.1 ms on one core."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def shared_if_worth_it(multiplications: int) -> AbstractContextManager[None]:
    """Keeps small work on one thread, since waking another thread for each operator takes ten times as long."""
    return nullcontext() if multiplications >= _WORTH_SHARING else one_thread()
