"""Texts of support sets on their way through the encoder, in batches that tasks share."""

import time
from collections.abc import Sequence
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
"""A prediction that comes in waits for the batch that is computed: on a CPU 13 ms for so many; see docs/adr."""


class SupportTexts:
    """Texts of one support set, and what the encoder says of them. Belongs to the compute thread.

    Attributes:
        tenant: Whose they are.
        texts: The texts.
        encode_s: Time that they have taken: of a batch that others share, their part by tokens.
    """

    def __init__(
        self, tenant: str, texts: Sequence[TokenizedText], known: Sequence[Float[Tensor, " dim"] | None]
    ) -> None:
        self.tenant = tenant
        self.texts = texts
        self.encode_s = 0.0
        self._features = list(known)
        self._waiting: dict[int, list[int]] = {}  # padded width -> which texts have it
        for index, features in enumerate(known):
            if features is None:
                self._waiting.setdefault(padded_width(len(texts[index].ids)), []).append(index)
        self._plan: list[list[int]] | None = None
        self._new_tokens = 0

    @property
    def encoded(self) -> bool:
        """Whether none is left to encode."""
        return not self._waiting

    def features(self) -> Float[Tensor, "texts dim"]:
        """Of all texts, once they are encoded."""
        return torch.stack(cast(list[Tensor], self._features))

    def new_tokens(self) -> int:
        """How many tokens were encoded since this was asked last."""
        tokens, self._new_tokens = self._new_tokens, 0
        return tokens

    def next_batch(self, max_batch_tokens: int) -> list[int]:
        """The next of its own batches."""
        if self._plan is None:
            left = [index for indices in self._waiting.values() for index in indices]
            plan = plan_batches([len(self.texts[index].ids) for index in left], max_batch_tokens)
            self._plan = [[left[row] for row in rows] for rows in reversed(plan)]
        return self._plan[-1]

    def of_width(self, width: int, most: int) -> list[int]:
        """At most so many texts that wait and have this padded width."""
        return self._waiting.get(width, [])[:most]

    def take(self, indices: Sequence[int], features: Float[Tensor, "some dim"], seconds: float) -> None:
        """Notes what some texts' features are, and how long that took."""
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
            self._plan = None  # another task's batch had room for them


class SupportBatches:
    """Encodes support sets batch by batch. Belongs to the compute thread.

    A batch is of one support set, whose turn it is, and takes texts of others along where it has room and they have the
    same padded width: many who adapt at once need fewer batches then, none waits for more than its own, and features
    are the same bits as without the others.

    Attributes:
        max_batch_tokens: Bound on rows times width of a padded batch.
    """

    def __init__(
        self, runtime: FeatureRuntime, device: torch.device, cache: FeatureCache, *, max_batch_tokens: int
    ) -> None:
        """Prepares it.

        Args:
            runtime: Makes the features.
            device: Where it does.
            cache: Has those of texts that were met before, and is given the new ones.
            max_batch_tokens: The bound.
        """
        self._runtime = runtime
        self._cache = cache
        self.max_batch_tokens = max_batch_tokens
        on_cpu = device.type == "cpu"
        self._shared_tokens = min(max_batch_tokens, _SHARED_TOKENS_OF_CPU) if on_cpu else max_batch_tokens
        self._waiting: list[SupportTexts] = []

    def add(self, tenant: str, texts: Sequence[TokenizedText]) -> SupportTexts:
        """A support set, of which what is known need not be encoded."""
        added = SupportTexts(tenant, texts, self._cache.get(tenant, texts))
        self._waiting.append(added)
        return added

    def drop(self, support: SupportTexts) -> None:
        """Encodes no more for a support set."""
        self._waiting.remove(support)

    def encode_next(self, support: SupportTexts) -> None:
        """Encodes the next batch of a support set that is not encoded yet, and what of others' goes with it."""
        own = support.next_batch(self.max_batch_tokens)
        shares = [(support, own), *self._fitting(support, own)]
        try:
            self._encode(shares)
        except Exception:
            if len(shares) == 1:
                raise
            # Another's text must not be this one's trouble
            self._encode(shares[:1])

    def _fitting(self, support: SupportTexts, own: Sequence[int]) -> list[tuple[SupportTexts, list[int]]]:
        width = padded_width(max(len(support.texts[index].ids) for index in own))
        room = self._shared_tokens // width - len(own)
        shares: list[tuple[SupportTexts, list[int]]] = []
        for other in self._waiting:
            if room <= 0:
                break
            if other is not support and (along := other.of_width(width, room)):
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
