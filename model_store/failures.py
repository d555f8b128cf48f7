"""Translation of a client library's failures into a store's own."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from model_store.errors import StoreUnavailable

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def failing_as(
    translate: Callable[[Any, Exception], StoreUnavailable], *kinds: type[Exception]
) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """A decorator for methods that raise ``translate(self, error)`` in place of errors of some kinds."""

    def decorate(method: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        @functools.wraps(method)
        def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            try:
                return method(*args, **kwargs)
            except kinds as error:
                raise translate(args[0], error) from error

        return wrapper

    return decorate
