"""Temperatures and thresholds: what is fitted is what was true, and no answer changes."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.calibration import (
    JudgedEpisode,
    fit_temperature,
    fit_threshold,
    initial_slow_weights,
    temperature,
    tempered,
)
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.types import OUT_OF_SCOPE, SlowWeights


def slow_of(log_temperature: float = 0.0, per_log_shot: float = 0.0, per_log_way: float = 0.0) -> dict[str, Tensor]:
    """Slow weights of a calibration."""
    numbers = {"log_temperature": log_temperature, "per_log_shot": per_log_shot, "per_log_way": per_log_way}
    return {name: torch.tensor(number) for name, number in numbers.items()}


def truthful(slow: SlowWeights, *, shots: float, ways: int, queries: int, draw: torch.Generator) -> JudgedEpisode:
    """Queries whose class is drawn from the softmax of their logits under the temperature."""
    logits = 4 * torch.randn(queries, ways, generator=draw)
    probabilities = (logits / temperature(slow, shots=shots, ways=ways)).softmax(dim=1)
    return JudgedEpisode(logits, torch.multinomial(probabilities, 1, generator=draw)[:, 0], shots)


def cross_entropy(episodes: Sequence[JudgedEpisode], slow: SlowWeights) -> float:
    """Mean over the episodes of that of their queries with a class, in double precision."""
    found = []
    for episode in episodes:
        rows = episode.targets != OUT_OF_SCOPE
        if bool(rows.any()):
            wide = {name: number.double() for name, number in slow.items()}
            divisor = temperature(wide, shots=episode.shots, ways=episode.logits.shape[1])
            logits = episode.logits[rows].double() / divisor
            found.append(float(torch.nn.functional.cross_entropy(logits, episode.targets[rows])))
    return sum(found) / len(found)


@st.composite
def judged(draw: st.DrawFn, *, largest: float = 100) -> JudgedEpisode:
    """Any logits and targets, however wrong."""
    ways, queries = draw(st.integers(2, 6)), draw(st.integers(1, 8))
    number = st.floats(-largest, largest, width=32)
    rows = draw(st.lists(st.lists(number, min_size=ways, max_size=ways), min_size=queries, max_size=queries))
    targets = draw(st.lists(st.integers(OUT_OF_SCOPE, ways - 1), min_size=queries, max_size=queries))
    return JudgedEpisode(torch.tensor(rows), torch.tensor(targets), draw(st.floats(0, 50)))


# ---- temperature -----------------------------------------------------------------------------------------------------


def test_a_temperature_follows_its_formula() -> None:
    slow = slow_of(0.5, -0.25, 2.0)
    assert float(temperature(slow, shots=3.0, ways=5)) == pytest.approx(math.exp(0.5) * 4**-0.25 * 5**2, rel=1e-5)
    assert float(temperature(slow, shots=0.0, ways=2)) == pytest.approx(math.exp(0.5) * 4, rel=1e-5)
    assert float(temperature(slow, shots=1.5, ways=2)) == pytest.approx(math.exp(0.5) * 2.5**-0.25 * 4, rel=1e-5)


@given(shots=st.floats(0, 1e4), ways=st.integers(2, 1000))
def test_before_it_is_fitted_a_temperature_is_one(shots: float, ways: int) -> None:
    assert float(temperature(initial_slow_weights(), shots=shots, ways=ways)) == 1


def test_a_tempered_head_gives_divided_logits_and_leaves_all_else_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    head = {HEAD_WEIGHT: torch.randn(3, 4, generator=draw), HEAD_BIAS: torch.randn(3, generator=draw)}
    deep = {**head, "layers.1.output.bias": torch.randn(4, generator=draw)}
    before = {name: weight.clone() for name, weight in deep.items()}
    found, features = tempered(deep, torch.tensor(2.5)), torch.randn(7, 4, generator=draw)
    torch.testing.assert_close(head_logits(found, features), head_logits(deep, features) / 2.5)
    assert found["layers.1.output.bias"] is deep["layers.1.output.bias"]
    assert all(torch.equal(deep[name], weight) for name, weight in before.items())
    untouched = tempered(deep, torch.tensor(1.0))
    assert all(torch.equal(untouched[name], weight) for name, weight in before.items())


@settings(deadline=None, max_examples=60)
@given(episode=judged(), exponents=st.tuples(*[st.floats(-2, 2)] * 3))
def test_no_temperature_changes_an_answer(episode: JudgedEpisode, exponents: tuple[float, float, float]) -> None:
    divided = episode.logits / temperature(slow_of(*exponents), shots=episode.shots, ways=episode.logits.shape[1])
    # Of logits that are all but equal, division may make equal ones; none becomes the smaller
    chosen = episode.logits.argmax(dim=1, keepdim=True)
    assert torch.equal(divided.gather(1, chosen)[:, 0], divided.amax(dim=1))


# ---- fitting it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0.25, 0.8, 1.0, 3.0, 12.0])
def test_the_temperature_that_is_true_is_found(true: float) -> None:
    draw = torch.Generator().manual_seed(1)
    slow = slow_of(math.log(true))
    episodes = [truthful(slow, shots=5.0, ways=4, queries=2000, draw=draw) for _ in range(10)]
    found = fit_temperature(episodes)
    assert float(temperature(found, shots=5.0, ways=4)) == pytest.approx(true, rel=0.05)


def test_what_the_temperature_depends_on_is_found_where_episodes_vary_in_it() -> None:
    draw = torch.Generator().manual_seed(2)
    slow = slow_of(1.0, -0.4, 0.3)
    shapes = [(shots, ways) for shots in (0.0, 1.0, 2.0, 5.0, 16.0) for ways in (2, 5, 12, 30)]
    found = fit_temperature([truthful(slow, shots=shots, ways=ways, queries=3000, draw=draw) for shots, ways in shapes])
    for name, number in slow.items():
        assert float(found[name]) == pytest.approx(float(number), abs=0.06), name
    for shots, ways in ((0.0, 2), (3.0, 8), (30.0, 30)):
        true = float(temperature(slow, shots=shots, ways=ways))
        assert float(temperature(found, shots=shots, ways=ways)) == pytest.approx(true, rel=0.1)


def test_every_episode_counts_alike_whatever_its_size() -> None:
    draw = torch.Generator().manual_seed(3)
    many = truthful(slow_of(0.0), shots=2.0, ways=3, queries=4000, draw=draw)
    few = truthful(slow_of(2.0), shots=2.0, ways=3, queries=400, draw=draw)
    repeated = JudgedEpisode(few.logits.repeat(5, 1), few.targets.repeat(5), few.shots)
    for name, number in fit_temperature([many, few]).items():
        torch.testing.assert_close(fit_temperature([many, repeated])[name], number, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=60)
@given(
    episodes=st.lists(judged(), min_size=1, max_size=5).filter(
        lambda found: any(bool((e.targets != OUT_OF_SCOPE).any()) for e in found)
    )
)
def test_no_input_makes_confidences_worse_than_they_were(episodes: list[JudgedEpisode]) -> None:
    found = fit_temperature(episodes)
    assert all(number.dtype == torch.float32 and number.shape == () for number in found.values())
    assert all(bool(number.isfinite()) for number in found.values())
    before, after = (cross_entropy(episodes, slow) for slow in (initial_slow_weights(), found))
    assert after <= before + 1e-5 * (1 + before)


def test_the_worst_that_logits_can_be_is_fitted_too() -> None:
    for scale in (1e-3, 1.0, 1e4, 1e30):
        right = JudgedEpisode(scale * torch.eye(3), torch.arange(3), 1.0)
        wrong = JudgedEpisode(scale * torch.eye(3), torch.arange(3).flip(0), 4.0)
        for episodes in ([right], [wrong], [right, wrong]):
            found = fit_temperature(episodes)
            assert all(bool(number.isfinite()) for number in found.values())
            assert cross_entropy(episodes, found) <= cross_entropy(episodes, initial_slow_weights()) * (1 + 1e-5)


def test_queries_of_no_class_do_not_count() -> None:
    draw = torch.Generator().manual_seed(4)
    episodes = [truthful(slow_of(1.0), shots=shots, ways=4, queries=50, draw=draw) for shots in (1.0, 4.0)]
    strange = [
        JudgedEpisode(
            torch.cat([torch.full((3, 4), 50.0), e.logits, 9 * torch.randn(9, 4, generator=draw)]),
            torch.cat([torch.full((3,), OUT_OF_SCOPE), e.targets, torch.full((9,), OUT_OF_SCOPE)]),
            e.shots,
        )
        for e in episodes
    ]
    none_at_all = JudgedEpisode(torch.randn(5, 3, generator=draw), torch.full((5,), OUT_OF_SCOPE), 2.0)
    expected, found = fit_temperature(episodes), fit_temperature([none_at_all, *strange])
    for name, number in expected.items():
        torch.testing.assert_close(found[name], number, atol=1e-6, rtol=0)


def test_without_a_query_with_a_class_there_is_nothing_to_fit() -> None:
    only_strange = JudgedEpisode(torch.randn(2, 3), torch.full((2,), OUT_OF_SCOPE), 1.0)
    for episodes in ([], [only_strange]):
        with pytest.raises(ValueError, match="nothing to fit a temperature to"):
            fit_temperature(episodes)


# ---- the threshold ---------------------------------------------------------------------------------------------------


def confident(inside: Sequence[float], outside: Sequence[float]) -> JudgedEpisode:
    """An episode of two classes that is this sure of queries with a class, and of those of none.

    No number should lie on the grid of thresholds, where rounding would decide.
    """
    sure = torch.tensor([*inside, *outside], dtype=torch.float64)
    logits = torch.stack([(sure / (1 - sure)).log(), torch.zeros_like(sure)], dim=1)
    targets = torch.tensor([0] * len(inside) + [OUT_OF_SCOPE] * len(outside))
    return JudgedEpisode(logits.float(), targets, 1.0)


def test_a_threshold_parts_what_can_be_parted() -> None:
    found = fit_threshold([confident([0.802, 0.902, 0.952], [0.552, 0.602, 0.702])], initial_slow_weights())
    assert 0.702 < found <= 0.802
    # Also where the two kinds stand in different episodes
    apart = [confident([0.802, 0.902], []), confident([], [0.552, 0.702]), confident([0.952], [0.602])]
    assert fit_threshold(apart, initial_slow_weights()) == found


@pytest.mark.parametrize(
    ("inside", "outside", "low", "high"),
    [
        # 3 of 4 answered and all refused: 1.75; the next best keeps all and refuses 2 of 4
        ([0.602, 0.902, 0.902, 0.902], [0.552, 0.552, 0.802, 0.802], 0.802, 0.902),
        # All answered and 3 of 4 refused: 1.75; the next best keeps 2 of 4 and refuses all
        ([0.702, 0.702, 0.902, 0.902], [0.552, 0.602, 0.602, 0.802], 0.602, 0.702),
        # Many of one kind weigh no more than few of the other
        ([0.902], [0.602] * 30 + [0.952], 0.602, 0.902),
        # Where the strange queries are the surer ones, never to abstain is as good as it gets
        ([0.602, 0.652], [0.802, 0.902], -1.0, 0.5),
    ],
)
def test_a_threshold_is_the_best_by_the_mean_of_two_shares(
    inside: list[float], outside: list[float], low: float, high: float
) -> None:
    assert low < fit_threshold([confident(inside, outside)], initial_slow_weights()) <= high


def test_a_threshold_is_of_tempered_confidences() -> None:
    episode = confident([0.9, 0.95], [0.6, 0.7])
    slow = slow_of(per_log_way=1.0)  # two classes: a temperature of 2

    def tempered_confidence(confidence: float) -> float:
        return 1 / (1 + (confidence / (1 - confidence)) ** -0.5)

    assert tempered_confidence(0.7) < fit_threshold([episode], slow) <= tempered_confidence(0.9)


def test_a_threshold_needs_queries_of_both_kinds() -> None:
    for episode in (confident([0.9], []), confident([], [0.6])):
        with pytest.raises(ValueError, match="queries with a class and out-of-scope queries"):
            fit_threshold([episode, episode], initial_slow_weights())


@settings(deadline=None, max_examples=60)
@given(episodes=st.lists(judged(largest=20), min_size=1, max_size=4))
def test_no_threshold_would_have_been_better(episodes: list[JudgedEpisode]) -> None:
    targets = torch.cat([episode.targets for episode in episodes])
    if not 0 < int((targets == OUT_OF_SCOPE).sum()) < len(targets):
        return
    found = fit_threshold(episodes, initial_slow_weights())
    assert 0 <= found <= 1
    confidence = torch.cat([episode.logits.softmax(dim=1).amax(dim=1) for episode in episodes]).double()
    inside, outside = confidence[targets != OUT_OF_SCOPE], confidence[targets == OUT_OF_SCOPE]

    def worth(threshold: float) -> float:
        return float((inside >= threshold).double().mean() + (outside < threshold).double().mean())

    assert all(worth(found) >= worth(step / 200) - 1e-9 for step in range(201))
