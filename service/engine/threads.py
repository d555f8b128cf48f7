"""How many threads torch may take for what."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORTH_SHARING = 4_000_000
"""Multiplications of a product, from which on another thread is woken for a part of it: some 0.1 ms on one core."""


@contextmanager
def shared_if_worth_it(multiplications: int) -> Iterator[None]:
    """Small work stays on the thread that does it: waking another one for each operator takes ten times as long."""
    threads = torch.get_num_threads()
    if multiplications >= _WORTH_SHARING or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
