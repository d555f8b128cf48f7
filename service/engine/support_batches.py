"""Encoding of support sets' texts, in batches that mix tasks."""

import time
from collections.abc import Generator, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.devices import wait_for
from metalearn.encoder.batches import padded_width, plan_batches
from metalearn.encoder.encoder import FeatureRuntime
from metalearn.encoder.tokenizing import TokenizedText
from service.engine.feature_cache import FeatureCache

_SHARED_TOKENS_OF_CPU = 128
"""Most tokens of a mixed batch on a CPU. It takes 13 ms, for which a new prediction may have to wait; see docs/adr."""

_BACKGROUND_TOKENS_OF_CPU = 32
"""Most tokens of a batch in the background on a CPU, since any prediction may have to wait for one."""


class SupportTexts:
    """The texts of one support set, and their features. Belongs to the compute thread.

    Attributes:
        tenant: The tenant of the texts.
        texts: The texts.
        background: Whether no request waits for them.
        encode_s: Time spent encoding; the texts' part, by tokens, of a batch with other sets' texts.
    """

    def __init__(
        self,
        tenant: str,
        texts: Sequence[TokenizedText],
        known: Sequence[Float[Tensor, " dim"] | None],
        *,
        background: bool = False,
    ) -> None:
        self.tenant = tenant
        self.texts = texts
        self.background = background
        self.encode_s = 0.0
        self._features = list(known)
        self._waiting: dict[int, list[int]] = {}  # padded width -> indices of the texts of that width
        for index, features in enumerate(known):
            if features is None:
                self._waiting.setdefault(padded_width(len(texts[index].ids)), []).append(index)
        self._plan: list[list[int]] | None = None
        self._new_tokens = 0

    @property
    def encoded(self) -> bool:
        """Whether no text is left to encode."""
        return not self._waiting

    def features(self) -> Float[Tensor, "texts dim"]:
        """The features of all texts, once they are encoded."""
        return torch.stack(cast(list[Tensor], self._features))

    def new_tokens(self) -> int:
        """The number of tokens encoded since the last call."""
        tokens, self._new_tokens = self._new_tokens, 0
        return tokens

    def next_batch(self, max_batch_tokens: int) -> list[int]:
        """The indices of the set's next batch."""
        if self._plan is None:
            left = [index for indices in self._waiting.values() for index in indices]
            plan = plan_batches([len(self.texts[index].ids) for index in left], max_batch_tokens)
            self._plan = [[left[row] for row in rows] for rows in reversed(plan)]
        return self._plan[-1]

    def of_width(self, width: int, most: int) -> list[int]:
        """The indices of waiting texts of a padded width, up to a number."""
        return self._waiting.get(width, [])[:most]

    def take(self, indices: Sequence[int], features: Float[Tensor, "some dim"], seconds: float) -> None:
        """Stores the features of some texts, and the time that they took."""
        self.encode_s += seconds
        for index, row in zip(indices, features, strict=True):
            length = len(self.texts[index].ids)
            self._features[index] = row
            self._new_tokens += length
            width = padded_width(length)
            self._waiting[width].remove(index)
            if not self._waiting[width]:
                del self._waiting[width]
        if self._plan is not None and self._plan[-1] == indices:
            self._plan.pop()
        else:
            self._plan = None  # another task's batch has encoded them


class SupportBatches:
    """Encodes support sets batch by batch. Belongs to the compute thread.

    A batch belongs to the support set whose turn it is. Texts of other sets fill its room if they have the same padded
    width. So simultaneous adaptations need fewer batches, no set waits for more than its own batches, and features have
    the same bits as without the other sets. A set in the background has small batches of its own texts alone.

    Attributes:
        max_batch_tokens: The bound on rows times width of a padded batch.
    """

    def __init__(
        self, runtime: FeatureRuntime, device: torch.device, cache: FeatureCache, *, max_batch_tokens: int
    ) -> None:
        """Prepares it.

        Args:
            runtime: The runtime that computes the features.
            device: The runtime's device.
            cache: The features of earlier texts; it gets the new ones.
            max_batch_tokens: The bound.
        """
        self._runtime = runtime
        self._cache = cache
        self.max_batch_tokens = max_batch_tokens
        on_cpu = device.type == "cpu"
        self._shared_tokens = min(max_batch_tokens, _SHARED_TOKENS_OF_CPU) if on_cpu else max_batch_tokens
        self._background_tokens = min(max_batch_tokens, _BACKGROUND_TOKENS_OF_CPU) if on_cpu else max_batch_tokens
        self._waiting: list[SupportTexts] = []

    def add(self, tenant: str, texts: Sequence[TokenizedText], *, background: bool = False) -> SupportTexts:
        """Adds a support set. Texts whose features are cached are not encoded again."""
        added = SupportTexts(tenant, texts, self._cache.get(tenant, texts), background=background)
        self._waiting.append(added)
        return added

    def drop(self, support: SupportTexts) -> None:
        """Removes a support set; no more of its texts are encoded."""
        self._waiting.remove(support)

    def forget(self, tenant: str, texts: Sequence[TokenizedText]) -> Generator[int, None, None]:
        """Drops the cached features of erased texts, in one slice."""
        self._cache.forget(tenant, texts)
        yield 0

    def encoded(
        self, tenant: str, texts: Sequence[TokenizedText], *, background: bool = False
    ) -> Generator[int, None, SupportTexts]:
        """Encodes the texts of a support set batch by batch.

        Args:
            tenant: The tenant of the texts.
            texts: The texts.
            background: Whether no request waits for them.

        Yields:
            The number of tokens encoded, after each batch.
        """
        waiting = self.add(tenant, texts, background=background)
        try:
            while not waiting.encoded:
                self.encode_next(waiting)
                yield waiting.new_tokens()
        finally:
            self.drop(waiting)
        return waiting

    def encode_next(self, support: SupportTexts) -> None:
        """Encodes the next batch of a support set, filled with other sets' texts."""
        own = support.next_batch(self._background_tokens if support.background else self.max_batch_tokens)
        shares = [(support, own), *([] if support.background else self._fitting(support, own))]
        try:
            self._encode(shares)
        except Exception:
            if len(shares) == 1:
                raise
            # Another set's text must not fail this set
            self._encode(shares[:1])

    def _fitting(self, support: SupportTexts, own: Sequence[int]) -> list[tuple[SupportTexts, list[int]]]:
        width = padded_width(max(len(support.texts[index].ids) for index in own))
        room = self._shared_tokens // width - len(own)
        shares: list[tuple[SupportTexts, list[int]]] = []
        for other in self._waiting:
            if room <= 0:
                break
            if other is not support and not other.background and (along := other.of_width(width, room)):
                shares.append((other, along))
                room -= len(along)
        return shares

    def _encode(self, shares: Sequence[tuple[SupportTexts, list[int]]]) -> None:
        began = time.perf_counter()
        batch = [support.texts[index] for support, indices in shares for index in indices]
        features = self._runtime(batch)
        wait_for(features.device)
        seconds_of_token = (time.perf_counter() - began) / sum(len(text.ids) for text in batch)
        for (support, indices), rows in zip(
            shares, torch.split(features, [len(own) for _, own in shares]), strict=True
        ):
            texts = [support.texts[index] for index in indices]
            self._cache.put(support.tenant, texts, rows)
            support.take(indices, rows, seconds_of_token * sum(len(text.ids) for text in texts))
