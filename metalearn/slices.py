"""Work in slices: generators that pause, so that a caller may do other work, and return a result."""

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def result_of(slices: Generator[Any, None, Result]) -> Result:
    """Runs all slices without a pause."""
    while True:
        try:
            next(slices)
        except StopIteration as done:
            result: Result = done.value
            return result
