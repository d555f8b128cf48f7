"""Token similarity against its definition, token by token; and what single texts and empty ones have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoder.views import COLUMNS, MIDDLE, token_similarity


def by_hand(hidden: torch.Tensor, words: list[bool], second: list[bool]) -> list[float]:
    """The similarity of one text's tokens, with loops."""

    def cosine(i: int, j: int) -> float:
        a, b = hidden[i].tolist(), hidden[j].tolist()
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.dist(a, [0] * len(a)) / math.dist(b, [0] * len(b))

    texts = [[i for i, word in enumerate(words) if word and second[i] is is_second] for is_second in (True, False)]
    if not all(texts):
        return [0.0] * COLUMNS
    return [
        sum(max(cosine(i, j) for j in there) for i in asked) / len(asked) - MIDDLE
        for asked, there in (texts, texts[::-1])
    ]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 10_000), tokens=st.integers(1, 6), rows=st.integers(1, 3))
def test_it_follows_its_definition(data: st.DataObject, seed: int, tokens: int, rows: int) -> None:
    masks = st.lists(st.lists(st.booleans(), min_size=tokens, max_size=tokens), min_size=rows, max_size=rows)
    words, second = data.draw(masks), data.draw(masks)
    hidden = torch.randn(rows, tokens, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = token_similarity(hidden, torch.tensor(words), torch.tensor(second))
    expected = [by_hand(hidden[row], words[row], second[row]) for row in range(rows)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_a_text_repeated_in_full_has_full_similarity() -> None:
    hidden = torch.eye(4)[[0, 1, 2, 1, 0]].unsqueeze(0)  # three words, then two of them again
    words, second = torch.ones(1, 5, dtype=torch.bool), torch.tensor([[False, False, False, True, True]])
    found = token_similarity(hidden, words, second)[0].tolist()
    assert found == pytest.approx([1 - MIDDLE, 2 / 3 - MIDDLE])
