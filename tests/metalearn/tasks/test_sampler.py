"""Which tasks episodes come from, what shape they have, and that an index decides all of it."""

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.errors import InvalidEpisode, InvalidTasks
from metalearn.options import Strategy
from metalearn.tasks.difficulty import Difficulty, updated
from metalearn.tasks.sampler import EpisodeSampler, MixedSampler, SamplerSettings
from metalearn.tasks.task import Skipped, Task
from metalearn.types import OUT_OF_SCOPE, Episode, TextInput
from tests.metalearn.tasks.making import class_sizes, classes_task, label_of, multi_label_task, scores_task


@st.composite
def shapes(draw: st.DrawFn) -> SamplerSettings:
    ways = draw(st.tuples(st.integers(2, 5), st.integers(0, 6)))
    shots = draw(st.tuples(st.integers(1, 3), st.integers(0, 6)))
    return SamplerSettings(
        ways=(ways[0], sum(ways)),
        shots=(shots[0], sum(shots)),
        queries=draw(st.integers(1, 6)),
        max_support=draw(st.integers(ways[0] * shots[0], 40)),
        max_query=draw(st.integers(ways[0], 40)),
        strategy=draw(st.sampled_from(["uniform", "sqrt_size", "difficulty"])),
        out_of_scope_share=draw(st.sampled_from([0.0, 0.5, 1.0])),
        family_exponent=draw(st.sampled_from([0.0, 0.5, 1.0])),
        cross_lingual_share=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )


@settings(deadline=None, max_examples=60)
@given(sizes=class_sizes, shape=shapes(), seed=st.integers(0, 9), index=st.integers(0, 10**9))
def test_episodes_of_classes(sizes: list[int], shape: SamplerSettings, seed: int, index: int) -> None:
    task = classes_task(sizes)
    usable = sum(size > 1 for size in sizes)
    if usable < shape.ways[0]:
        with pytest.raises(InvalidTasks, match=f"{usable} classes with two texts or more"):
            EpisodeSampler([task], shape, seed)
        return
    sampler = EpisodeSampler([task], shape, seed)
    episode = sampler.episode(index)
    assert episode == sampler.episode(index)
    ways, support, query = len(episode.labels), episode.support, episode.query

    assert shape.ways[0] <= ways <= min(shape.ways[1], usable)
    assert len(set(episode.labels)) == ways
    assert len(support.inputs) <= shape.max_support
    assert len(query.inputs) <= min(shape.max_query, ways * shape.queries)
    texts = [*support.inputs, *query.inputs]
    assert len(set(texts)) == len(texts)

    found = Counter(label_of(text.text) for text in support.inputs)
    most = max(found.values())
    assert most <= shape.shots[1]
    for label in episode.labels:
        size = sizes[task.labels.index(label)]
        assert found[label] in {most, size - 1}  # all that the class has, but one for the query set
        assert found[label] >= min(shape.shots[0], size - 1)
    for text, target in zip(support.inputs, support.targets, strict=True):
        assert episode.labels[int(str(target))] == label_of(text.text)

    in_scope = 0
    for text, target in zip(query.inputs, query.targets, strict=True):
        if target == OUT_OF_SCOPE:
            assert label_of(text.text) not in episode.labels
        else:
            assert episode.labels[int(str(target))] == label_of(text.text)
            in_scope += 1
    asks_beyond = shape.out_of_scope_share == 1 and ways < len(sizes)
    assert in_scope > 0
    if asks_beyond or shape.out_of_scope_share == 0:
        assert (in_scope < len(query.inputs)) == asks_beyond


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=2, max_size=40),
    shape=shapes(),
    index=st.integers(0, 999),
)
def test_episodes_of_several_labels(rows: list[list[int]], shape: SamplerSettings, index: int) -> None:
    task = multi_label_task(rows)
    try:
        episode = EpisodeSampler([task], shape, 0).episode(index)
    except InvalidTasks:
        usable = sum(len(found) > 1 for found in task.rows_of_class)
        groups = shape.ways[0] + 1
        assert usable < shape.ways[0] or groups * shape.shots[0] > shape.max_support or groups > shape.max_query
        return
    assert shape.ways[0] <= len(episode.labels) <= shape.ways[1]
    assert len(episode.support.inputs) <= shape.max_support
    assert len(episode.query.inputs) <= shape.max_query
    assert not set(episode.support.inputs) & set(episode.query.inputs)
    place = {text: i for i, text in enumerate(task.inputs)}
    for side in (episode.support, episode.query):
        for text, target in zip(side.inputs, side.targets, strict=True):
            wanted = {task.labels[c] for c in rows[place[text]]} & set(episode.labels)
            assert isinstance(target, tuple)
            assert {episode.labels[c] for c in target} == wanted
            assert list(target) == sorted(target)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 60), shape=shapes(), index=st.integers(0, 999))
def test_episodes_of_scores(n: int, shape: SamplerSettings, index: int) -> None:
    episode = EpisodeSampler([scores_task(n)], shape, 0).episode(index)
    support, query = episode.support, episode.query
    assert min(shape.ways[0] * shape.shots[0], n - 1) <= len(support.inputs) <= min(shape.max_support, n - 1)
    assert 1 <= len(query.inputs) <= min(shape.max_query, shape.ways[1] * shape.queries)
    texts = [*support.inputs, *query.inputs]
    assert len(set(texts)) == len(texts)
    targets = [*support.targets, *query.targets]
    assert [text.text for text in texts] == [f"scores/{int(2 * float(str(y)))}" for y in targets]


POOL = [
    classes_task([5, 6, 7, 8], name="topics", group="topic"),
    classes_task([9, 9, 9], name="moods", group="sentiment"),
    multi_label_task([(i % 4, (i * 7) % 5) for i in range(30)]),
    scores_task(30),
]
MIXED = SamplerSettings(ways=(2, 4), shots=(1, 3), queries=2, out_of_scope_share=0.5, strategy="difficulty")
STATE = Difficulty({"topics": 0.25, "moods": 1.5})


def digest(sampler: EpisodeSampler | MixedSampler) -> str:
    return hashlib.sha256("".join(repr(sampler.episode(i, STATE)) for i in range(60)).encode()).hexdigest()


def test_an_episode_depends_on_seed_and_index_alone() -> None:
    sampler = EpisodeSampler(POOL, MIXED, 7)
    forwards = [sampler.episode(i, STATE) for i in range(40)]
    again = EpisodeSampler(POOL[::-1], MIXED, 7)  # nor on the pool's order
    assert [again.episode(i, STATE) for i in reversed(range(40))] == forwards[::-1]
    assert len({repr(episode) for episode in forwards}) == 40
    other = EpisodeSampler(POOL, MIXED, 8)
    assert sum(other.episode(i, STATE) == forwards[i] for i in range(40)) == 0


@pytest.mark.slow
def test_another_process_draws_the_same() -> None:
    script = (
        "from tests.metalearn.tasks import test_sampler as t;"
        "e = t.EpisodeSampler(t.POOL, t.MIXED, 3); print(t.digest(e), t.digest(t.MixedSampler([e, e], [0.5, 0.5], 1)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = EpisodeSampler(POOL, MIXED, 3)
    assert done.stdout.split() == [digest(here), digest(MixedSampler([here, here], [0.5, 0.5], 1))]


def shares(sampler: EpisodeSampler | MixedSampler, n: int = 2000, state: Difficulty | None = None) -> dict[str, float]:
    found = Counter(sampler.episode(i, state).task for i in range(n))
    return {task: count / n for task, count in found.items()}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("uniform", {"small": 1 / 3, "large": 1 / 3, "broken": 1 / 3}),
        ("sqrt_size", {"small": 0.2, "large": 0.6, "broken": 0.2}),
        # half of the roots' shares, half of the losses' 1.5 : 0.5 : 1 (not seen)
        ("difficulty", {"small": 0.1 + 0.25, "large": 0.3 + 0.5 / 6, "broken": 0.1 + 0.5 / 3}),
    ],
)
def test_tasks_come_as_often_as_the_strategy_states(strategy: Strategy, expected: dict[str, float]) -> None:
    pool = [
        classes_task(sizes, name=name) for name, sizes in (("small", [2, 2]), ("large", [18, 18]), ("broken", [2, 2]))
    ]
    state = updated(Difficulty(), [("small", 1.5), ("large", 0.5)])
    sampler = EpisodeSampler(pool, SamplerSettings(ways=(2, 2), strategy=strategy), 0)
    assert sampler.probabilities(state) == pytest.approx(expected)
    assert shares(sampler, state=state) == pytest.approx(expected, abs=0.04)


def test_a_solved_task_still_comes() -> None:
    pool = [classes_task([2, 2], name="solved"), classes_task([2, 2], name="hard")]
    sampler = EpisodeSampler(pool, SamplerSettings(ways=(2, 2), strategy="difficulty"), 0)
    assert sampler.probabilities(Difficulty({"solved": 0.0, "hard": 2.0})) == {"hard": 0.75, "solved": 0.25}
    assert sampler.probabilities(Difficulty({"solved": 0.0, "hard": 0.0})) == {"hard": 0.5, "solved": 0.5}
    assert sampler.probabilities() == {"hard": 0.5, "solved": 0.5}


def test_ways_and_shots_are_spread_evenly() -> None:
    sampler = EpisodeSampler([classes_task([30] * 9)], SamplerSettings(ways=(2, 5), shots=(1, 4), queries=1), 0)
    episodes = [sampler.episode(i) for i in range(1600)]
    ways = Counter(len(e.labels) for e in episodes)
    shots = Counter(len(e.support.inputs) // len(e.labels) for e in episodes)
    assert sorted(ways) == [2, 3, 4, 5]
    assert sorted(shots) == [1, 2, 3, 4]
    assert all(300 < count < 500 for count in [*ways.values(), *shots.values()])
    classes = Counter(label for e in episodes for label in e.labels)
    assert max(classes.values()) < 1.25 * min(classes.values())
    firsts = Counter(e.labels[0] < e.labels[1] for e in episodes)
    assert 600 < firsts[True] < 1000  # the order of the names does not depend on the classes


def test_total_bounds_lower_shots_before_ways() -> None:
    task = classes_task([50] * 60)
    shape = SamplerSettings(ways=(2, 60), shots=(2, 20), queries=10, max_support=40, max_query=30)
    sampler = EpisodeSampler([task], shape, 0)
    seen = [sampler.episode(i) for i in range(400)]
    assert max(len(e.labels) for e in seen) == 20  # 20 ways of the 2 shots that there have to be
    assert max(len(e.support.inputs) for e in seen) == 40
    assert max(len(e.query.inputs) for e in seen) <= 30
    pairs = EpisodeSampler([task], replace(shape, ways=(2, 2)), 0)
    assert {len(pairs.episode(i).support.inputs) // 2 for i in range(400)} == set(range(2, 21))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_out_of_scope_queries_come_in_the_stated_share(share: float) -> None:
    sampler = EpisodeSampler(
        [classes_task([9] * 8)], SamplerSettings(ways=(2, 6), queries=4, out_of_scope_share=share), 0
    )
    plain = EpisodeSampler([classes_task([9] * 8)], SamplerSettings(ways=(2, 6), queries=4), 0)
    touched = 0
    for i in range(800):
        episode, without = sampler.episode(i), plain.episode(i)
        assert episode.support == without.support
        strange = sum(target == OUT_OF_SCOPE for target in episode.query.targets)
        touched += strange > 0
        assert strange in {0, max(1, round(len(episode.query.inputs) / 4))}
        assert len(episode.query.inputs) == len(without.query.inputs)
        assert OUT_OF_SCOPE not in without.query.targets
    assert touched / 800 == pytest.approx(share, abs=0.05)


def test_a_task_without_other_classes_borrows_from_another_group() -> None:
    shared = TextInput("moods/k000/0")
    two = classes_task([9, 9], name="two", group="topic")
    two = Task("two", "classification", two.labels, (*two.inputs, shared), (*two.targets, 0), "topic")
    same_group = classes_task([9, 9], name="same", group="topic")
    pairs = Task(
        "pairs",
        "classification",
        ("x", "y"),
        tuple(TextInput(f"pairs/{i}", "p") for i in range(8)),
        tuple(i % 2 for i in range(8)),
        "nli",
    )
    pool = [two, same_group, pairs, scores_task(9), classes_task([2, 2], name="moods", group="sentiment")]
    sampler = EpisodeSampler(
        pool, SamplerSettings(ways=(2, 2), queries=8, out_of_scope_share=1.0, strategy="uniform"), 0
    )
    lenders = Counter()
    for i in range(300):
        episode = sampler.episode(i)
        for text, target in zip(episode.query.inputs, episode.query.targets, strict=True):
            if target == OUT_OF_SCOPE:
                lenders[episode.task, text.text.split("/")[0]] += 1
                assert not (episode.task == "two" and text == shared)
    assert set(lenders) == {("two", "moods"), ("same", "moods"), ("moods", "two"), ("moods", "same")}


def test_with_nothing_out_of_scope_episodes_stay_as_they_are() -> None:
    sampler = EpisodeSampler([classes_task([9, 9])], SamplerSettings(out_of_scope_share=1.0), 0)
    assert all(OUT_OF_SCOPE not in sampler.episode(i).query.targets for i in range(20))


def test_tasks_that_give_no_episode_are_counted() -> None:
    pool = [
        classes_task([5, 5, 1], name="two"),
        classes_task([5, 5, 5], name="three"),
        scores_task(1),
        multi_label_task([(0, 1, 2)] * 3),
    ]
    shape = SamplerSettings(ways=(3, 9), max_query=3)
    sampler = EpisodeSampler(pool, shape, 0)
    assert [task.name for task in sampler.tasks] == ["three"]
    assert sampler.unusable == (
        Skipped("many", "3 ways do not fit the bounds of support and query set", 3),
        Skipped("scores", "fewer than two texts", 1),
        Skipped("two", "2 classes with two texts or more, 3 ways asked for", 11),
    )
    with pytest.raises(InvalidTasks, match=r"none of 1 tasks .*two: 2 classes .*lower"):
        EpisodeSampler(pool[:1], shape, 0)
    with pytest.raises(InvalidTasks, match="none of 0 tasks"):
        EpisodeSampler([], shape, 0)
    with pytest.raises(InvalidTasks, match="two tasks are called two"):
        EpisodeSampler([pool[0], pool[0]], SamplerSettings(), 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ways": (1, 5)}, "ways from 1 to 5"),
        ({"ways": (5, 4)}, "ways from 5 to 4"),
        ({"shots": (0, 4)}, "shots from 0 to 4"),
        ({"queries": 0}, "0 queries"),
        ({"ways": (5, 9), "shots": (5, 9), "max_support": 24}, "5 ways of 5 shots do not fit"),
        ({"ways": (5, 9), "max_query": 4}, "query sets of 4"),
        ({"out_of_scope_share": 1.01}, "share is 1.01"),
        ({"out_of_scope_share": -0.01}, "share is -0.01"),
        ({"family_exponent": 1.5}, "family_exponent is 1.5"),
        ({"cross_lingual_share": -1.0}, "cross_lingual_share is -1.0"),
    ],
)
def test_settings_that_no_episode_meets(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidEpisode, match=message):
        SamplerSettings(**wrong)  # type: ignore[arg-type]


def test_samplers_mix_in_the_stated_ratio() -> None:
    own = {
        name: EpisodeSampler([classes_task([5, 5], name=name)], SamplerSettings(), 0)
        for name in ("labelled", "pairs", "made")
    }
    samplers = list(own.values())
    mixed = MixedSampler(samplers, [0.5, 0.2, 0.3], seed=0)
    assert shares(mixed) == pytest.approx({"labelled": 0.5, "pairs": 0.2, "made": 0.3}, abs=0.04)
    episodes: list[Episode] = [mixed.episode(i) for i in range(50)]
    assert all(episode == own[episode.task].episode(i) for i, episode in enumerate(episodes))
    assert any(a.task != b.task for a, b in pairwise(episodes))
    assert set(shares(MixedSampler(samplers, [1.0, 0.0, 0.0], seed=0), 100)) == {"labelled"}
    assert set(shares(MixedSampler(samplers, [0.0, 0.0, 1.0], seed=0), 100)) == {"made"}


@pytest.mark.parametrize("of_both", [[1.5, -0.5], [0.5, 0.6], [0.5, 0.4], [0.0, 0.0], [math.nan, 1.0]])
def test_shares_that_are_none_are_refused(of_both: list[float]) -> None:
    sampler = EpisodeSampler([classes_task([5, 5])], SamplerSettings(), 0)
    with pytest.raises(InvalidEpisode, match="share"):
        MixedSampler([sampler, sampler], of_both, seed=0)


def test_difficulty_reaches_the_samplers_in_a_mix() -> None:
    pool = [classes_task([5, 5], name="hard"), classes_task([5, 5], name="solved")]
    sampler = EpisodeSampler(pool, SamplerSettings(strategy="difficulty"), 0)
    mixed = MixedSampler([sampler, sampler], [0.5, 0.5], seed=0)
    found = shares(mixed, 400, Difficulty({"hard": 2.0, "solved": 0.0}))
    assert found == pytest.approx({"hard": 0.75, "solved": 0.25}, abs=0.08)
