"""Batches of several support sets: every text once, its own features, bounds, and failures that stay with their set."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.encoder.batches import padded_width
from metalearn.encoder.encoder import Encoder, TokenizedText
from metalearn.types import TextInput
from model_store.checkpoint import Checkpoint
from model_store.learner_models import Models
from service.engine.compute import ComputeThread
from service.engine.feature_cache import FeatureCache
from service.engine.support_batches import SupportBatches, SupportTexts
from service.engine.work import SlicedWork
from service.metrics import Metrics
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, adapt, bearer, make_key, parts_of, predict
from tests.waiting import LIMIT_S

SHARED_TOKENS = 128
"""Most tokens of a batch of several support sets on a CPU."""


class CountingRuntime:
    """A stand-in for a runtime: a text's features are its token ids' sum, and one text cannot be encoded."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[list[TokenizedText]] = []
        self.refused: TokenizedText | None = None

    def __call__(self, texts: Sequence[TokenizedText]) -> Tensor:
        if any(text is self.refused for text in texts):
            raise RuntimeError("this text cannot be encoded")
        self.batches.append(list(texts))
        return torch.tensor([[float(sum(text.ids))] for text in texts])


def text(length: int, number: int) -> TokenizedText:
    return TokenizedText([1] * (length - 1) + [number], [0] * length, truncated=False)


def make_batches(max_batch_tokens: int = 512, cache_bytes: int = 0) -> tuple[SupportBatches, CountingRuntime]:
    encoder = CountingRuntime()
    cache = FeatureCache(Metrics(), max_bytes=cache_bytes)
    batches = SupportBatches(encoder, encoder.device, cache, max_batch_tokens=max_batch_tokens)  # type: ignore[arg-type]
    return batches, encoder


def check_features(support: SupportTexts) -> None:
    assert support.features()[:, 0].tolist() == [sum(each.ids) for each in support.texts]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=5),
    turns=st.lists(st.integers(0, 4), max_size=60),
    dropped=st.integers(0, 9),
    max_batch_tokens=st.sampled_from([1, 30, 128, 512]),
)
def test_every_text_is_encoded_once_and_gets_its_own_features(
    lengths: list[list[int]], turns: list[int], dropped: int, max_batch_tokens: int
) -> None:
    batches, encoder = make_batches(max_batch_tokens)
    numbers = iter(range(10_000))
    supports = [batches.add("a", [text(length, next(numbers)) for length in own]) for own in lengths]
    counted = [0] * len(supports)

    def turn(index: int) -> None:
        if not supports[index].encoded:
            before = len(encoder.batches)
            batches.encode_next(supports[index])
            assert any(each in supports[index].texts for each in encoder.batches[before]), "its turn moves it on"
        counted[index] += supports[index].new_tokens()

    for index in turns:
        turn(index % len(supports))
    gone = supports[dropped] if dropped < len(supports) else None
    if gone is not None:
        batches.drop(gone)
    before = len(encoder.batches)
    for index, support in enumerate(supports):
        while support is not gone and not support.encoded:
            turn(index)

    encoded = [each for batch in encoder.batches for each in batch]
    assert len({id(each) for each in encoded}) == len(encoded), "once each"
    for support, tokens in zip(supports, counted, strict=True):
        if support is not gone:
            check_features(support)
            assert tokens + support.new_tokens() == sum(len(each.ids) for each in support.texts)
        else:
            assert not {id(each) for each in support.texts} & {id(t) for b in encoder.batches[before:] for t in b}
    for batch in encoder.batches:
        owners = [next(s for s in supports if any(t is each for t in s.texts)) for each in batch]
        width = padded_width(max(len(each.ids) for each in batch))
        assert len(batch) == 1 or width * len(batch) <= max_batch_tokens
        along = [each for each, owner in zip(batch, owners, strict=True) if owner is not owners[0]]
        if along:
            assert width * len(batch) <= SHARED_TOKENS
            assert {padded_width(len(each.ids)) for each in batch} == {padded_width(width)}


def test_sets_of_one_length_share_batches() -> None:
    batches, encoder = make_batches()
    supports = [batches.add(tenant, [text(8, i) for i in range(4)]) for tenant in ("a", "b", "c")]
    batches.encode_next(supports[1])
    assert [len(batch) for batch in encoder.batches] == [12]
    for support in supports:
        check_features(support)
        assert support.encode_s > 0, "of the time each has its part"


def test_a_set_alone_has_the_batches_that_it_would_have_had() -> None:
    """No slice grows, and a lone request's features do not depend on when it comes."""
    batches, encoder = make_batches(max_batch_tokens=64)
    texts = [text(length, length) for length in (3, 3, 4, 12, 12, 13, 30, 31, 64)]
    support = batches.add("a", texts)
    while not support.encoded:
        batches.encode_next(support)
    again = batches.add("a", texts)
    first = list(encoder.batches)
    while not again.encoded:
        batches.encode_next(again)
    assert encoder.batches == first * 2
    assert len(first) > 3


def test_what_is_known_is_not_encoded_and_is_each_tenants_own() -> None:
    batches, encoder = make_batches(cache_bytes=2**20)
    mine = batches.add("a", [text(5, 1), text(5, 2)])
    theirs = batches.add("b", [text(5, 3)])
    batches.encode_next(mine)
    assert theirs.encoded, "it went along"
    again = batches.add("a", [text(5, 2), text(5, 3), text(5, 1)])
    batches.encode_next(again)
    assert again.encoded
    assert [each.ids[-1] for each in encoder.batches[-1]] == [3], "another tenant has sent it, which must not show"
    check_features(again)
    assert batches.add("b", [text(5, 3)]).encoded


def test_a_set_in_the_background_has_small_batches_of_its_own() -> None:
    batches, encoder = make_batches()
    behind = batches.add("a", [text(8, i) for i in range(20)], background=True)
    asked = batches.add("b", [text(8, 100 + i) for i in range(4)])
    batches.encode_next(behind)
    assert not asked.encoded, "a small batch is not filled up"
    batches.encode_next(asked)
    assert [len(batch) for batch in encoder.batches] == [4, 4], "nor does a request wait for texts of the background"
    while not behind.encoded:
        batches.encode_next(behind)
    assert [len(batch) for batch in encoder.batches] == [4, 4, 4, 4, 4, 4]
    for support in (behind, asked):
        check_features(support)


def test_a_text_that_cannot_be_encoded_is_its_own_sets_trouble() -> None:
    batches, encoder = make_batches()
    good = batches.add("a", [text(8, 1), text(8, 2)])
    bad = batches.add("b", [text(8, 3), text(8, 4)])
    encoder.refused = bad.texts[1]
    batches.encode_next(good)
    check_features(good)
    assert not bad.encoded
    with pytest.raises(RuntimeError, match="cannot be encoded"):
        batches.encode_next(bad)


def test_many_who_adapt_at_once_need_fewer_batches_and_get_the_same_answers(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supports = [SUPPORT, OTHER_SUPPORT] * 3
    sizes: list[int] = []
    encode = Encoder.encode_batch

    def noted(self: Encoder, texts: Sequence[TokenizedText], *more: Any) -> Tensor:
        sizes.append(len(texts))
        return encode(self, texts, *more)

    def ask(client: httpx.Client, together: bool) -> tuple[int, int, list[Any]]:
        keys = [bearer(make_key(client, f"tenant-{i}")) for i in range(len(supports))]
        (batches,) = parts_of(client).engine._support_batches.values()
        encode_next = batches.encode_next
        sizes.clear()
        with ThreadPoolExecutor(len(supports)) as pool, monkeypatch.context() as patch:
            if together:
                # The first batch is encoded once all wait for one, so that each has something to take along
                def once_all_wait(support: SupportTexts) -> None:
                    if len(batches._waiting) == len(supports) or sizes:
                        encode_next(support)

                patch.setattr(batches, "encode_next", once_all_wait)

            def one(i: int) -> None:
                adapt(client, support=supports[i], headers=keys[i])

            list((pool.map if together else map)(one, range(len(supports))))
        counts = len(sizes), sum(sizes)
        return *counts, [predict(client, headers=key)["predictions"] for key in keys]

    monkeypatch.setattr(Encoder, "encode_batch", noted)
    n_alone, texts_alone, alone = ask(start_service(runtime="torch"), together=False)
    n_together, texts_together, together = ask(
        start_service(runtime="torch", store=f"sqlite:{tmp_path / 'together.db'}"), together=True
    )
    assert texts_together == texts_alone
    assert n_together < n_alone
    for one, other in zip(alone, together, strict=True):
        for each, same in zip(one, other, strict=True):
            assert each["label"] == same["label"]
            assert each["scores"] == pytest.approx(same["scores"], abs=1e-3)


def test_who_gives_up_leaves_nothing_behind(loaded_checkpoint: Checkpoint) -> None:
    """A cancelled adaptation's texts are taken along by nobody."""
    batches, _ = make_batches()
    thread = ComputeThread(
        lambda _: Models(loaded_checkpoint), Metrics(), max_queue_tokens=10_000, max_batch_tokens=512
    )
    tokens = [text(10, i) for i in range(200)]
    left = loaded_checkpoint.encoder.tokenize([TextInput("left")])

    def slices(texts: Sequence[TokenizedText]) -> Any:
        support = batches.add("a", texts)
        try:
            while not support.encoded:
                batches.encode_next(support)
                yield support.new_tokens()
        finally:
            batches.drop(support)

    async def main() -> None:
        work: SlicedWork[None] = SlicedWork(2_000, slices(tokens))
        thread.submit(work)
        waiting = asyncio.ensure_future(work.result())
        await asyncio.sleep(0)
        waiting.cancel()
        kept: SlicedWork[None] = SlicedWork(1, slices(left))
        thread.submit(kept)
        await kept.result()

    try:
        asyncio.run(asyncio.wait_for(main(), LIMIT_S))
    finally:
        thread.close()
    assert batches._waiting == []
