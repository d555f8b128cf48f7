"""Support sets of versions in memory, with their features, for explanations of predictions."""

from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from metalearn.types import SupportSet
from model_store.codec import AdapterKey

_MAX_BYTES = 2**26
_BYTES_OF_EXAMPLE = 1024
"""Bytes of an example beside its features, roughly."""


@dataclass(frozen=True, slots=True)
class KnownExamples:
    """A support set with features.

    Attributes:
        support: The support set.
        features: Features of the examples, on the CPU.
    """

    support: SupportSet
    features: Float[Tensor, "examples dim"]

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, roughly."""
        of_features = self.features.numel() * self.features.element_size()
        return of_features + _BYTES_OF_EXAMPLE * len(self.support.examples)


class ExamplesInMemory:
    """Support sets of versions that were asked to explain; the least recently used are dropped. Of the event loop.

    Attributes:
        forgotten: How often examples were dropped because they were deleted or erased.
    """

    def __init__(self) -> None:
        self.forgotten = 0
        self._known: OrderedDict[AdapterKey, KnownExamples] = OrderedDict()
        self._bytes = 0

    def get(self, key: AdapterKey) -> KnownExamples | None:
        """The examples of a version, if they are in memory."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, key: AdapterKey, examples: KnownExamples, *, forgotten: int) -> None:
        """Keeps the examples of a version, and drops others until the bound holds again.

        Args:
            key: The version.
            examples: Its examples.
            forgotten: The number when their reading began; if it is another now, they may be erased, and are not kept.
        """
        if forgotten != self.forgotten:
            return
        if key not in self._known:
            self._bytes += examples.size_bytes
        self._known[key] = examples
        while self._bytes > _MAX_BYTES and self._known:
            self._bytes -= self._known.popitem(last=False)[1].size_bytes

    def forget(self, tenant: str, task: str) -> None:
        """Drops the examples of a task that was deleted, or that examples were erased from."""
        self.forgotten += 1
        for key in [key for key in self._known if (key.tenant, key.task) == (tenant, task)]:
            self._bytes -= self._known.pop(key).size_bytes
