"""The number of threads that torch takes."""

from collections.abc import Iterator

import pytest
import torch

from service.engine.threads import shared_if_worth_it


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_small_work_stays_on_its_thread() -> None:
    with shared_if_worth_it(25 * 770 * 5):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_large_work_is_shared() -> None:
    with shared_if_worth_it(770 * 770 * 77):
        assert torch.get_num_threads() == 3


def test_work_that_fails_gives_the_threads_back() -> None:
    with pytest.raises(ZeroDivisionError), shared_if_worth_it(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3
