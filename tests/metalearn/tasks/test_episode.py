"""Episodes of a fixed shape."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.errors import InvalidEpisode
from metalearn.tasks.episode import sample_episode
from metalearn.types import Episode
from tests.metalearn.tasks.making import class_sizes, classes_task, label_of, multi_label_task, scores_task


def labels_of_support(episode: Episode) -> Counter[str]:
    return Counter(label_of(text.text) for text in episode.support.inputs)


@settings(deadline=None, max_examples=60)
@given(sizes=class_sizes, ways=st.integers(2, 5), shots=st.integers(1, 4), queries=st.none() | st.integers(1, 4))
def test_exactly_the_ways_and_shots_asked_for(sizes: list[int], ways: int, shots: int, queries: int | None) -> None:
    task = classes_task(sizes)
    able = [size for size in sizes if size > shots]
    if len(able) < ways:
        with pytest.raises(InvalidEpisode, match=f"{len(able)} classes with the {shots + 1} examples"):
            sample_episode(task, ways=ways, shots=shots, queries=queries, draw=random.Random(0))
        return
    episode = sample_episode(task, ways=ways, shots=shots, queries=queries, draw=random.Random(0))
    assert len(episode.labels) == ways
    assert labels_of_support(episode) == dict.fromkeys(episode.labels, shots)
    in_query = Counter(label_of(text.text) for text in episode.query.inputs)
    for label in episode.labels:
        left = sizes[task.labels.index(label)] - shots
        assert in_query[label] == (left if queries is None else min(left, queries))
    for side in (episode.support, episode.query):
        assert [episode.labels[int(str(t))] for t in side.targets] == [label_of(text.text) for text in side.inputs]
    assert not set(episode.support.inputs) & set(episode.query.inputs)


def test_all_ways_take_all_classes_and_no_limit_all_texts() -> None:
    task = classes_task([3, 4, 5])
    episode = sample_episode(task, ways=None, shots=2, queries=None, draw=random.Random(1))
    assert sorted(episode.labels) == list(task.labels)
    assert {*episode.support.inputs, *episode.query.inputs} == task.texts
    assert len(episode.support.inputs) == 6


def test_a_class_with_fewer_examples_than_shots_is_named() -> None:
    task = classes_task([9, 2, 9], labels=["delay", "refund", "theft"], name="bank")
    with pytest.raises(InvalidEpisode, match=r"bank has fewer examples than shots: 'refund' has 2 examples"):
        sample_episode(task, ways=None, shots=2, queries=1, draw=random.Random(0))
    assert set(sample_episode(task, ways=2, shots=2, queries=1, draw=random.Random(0)).labels) == {"delay", "theft"}


@pytest.mark.parametrize(("ways", "shots", "queries"), [(1, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_shapes_that_no_episode_has(ways: int, shots: int, queries: int) -> None:
    with pytest.raises(InvalidEpisode):
        sample_episode(classes_task([5, 5]), ways=ways, shots=shots, queries=queries, draw=random.Random(0))


def test_the_order_of_classes_and_examples_is_random() -> None:
    task = classes_task([4] * 6)
    orders = set()
    for seed in range(20):
        episode = sample_episode(task, ways=None, shots=2, queries=2, draw=random.Random(seed))
        orders.add(episode.labels)
        assert list(episode.support.targets) != sorted(map(int, map(str, episode.support.targets)))
    assert len(orders) > 15  # of 720


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=40),
    shots=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_several_labels(rows: list[list[int]], shots: int, seed: int) -> None:
    task = multi_label_task(rows)
    sizes = [len(found) for found in task.rows_of_class]
    if min(sizes) <= shots or len(sizes) < 2:
        with pytest.raises(InvalidEpisode):
            sample_episode(task, ways=None, shots=shots, queries=None, draw=random.Random(seed))
        return
    episode = sample_episode(task, ways=None, shots=shots, queries=None, draw=random.Random(seed))
    given_ = {task.inputs[i]: {task.labels[c] for c in classes} for i, classes in enumerate(rows)}
    counts: Counter[str] = Counter()
    for side in (episode.support, episode.query):
        for text, target in zip(side.inputs, side.targets, strict=True):
            assert isinstance(target, tuple)
            assert {episode.labels[c] for c in target} == given_[text]
            if side is episode.support:
                counts.update(given_[text])
    assert all(counts[label] >= shots for label in task.labels)
    assert sorted([*episode.support.inputs, *episode.query.inputs], key=str) == sorted(task.inputs, key=str)
    bare = [text for text, classes in given_.items() if not classes]
    assert sum(text in bare for text in episode.support.inputs) == min(shots, max(len(bare) - 1, 0))


def test_texts_of_other_labels_alone_belong_to_none_of_the_episode() -> None:
    task = multi_label_task([(0, 1)] * 4 + [(1,)] * 4 + [(2,)] * 9 + [()] * 9)
    episode = next(
        e
        for seed in range(99)
        if set((e := sample_episode(task, ways=2, shots=1, queries=2, draw=random.Random(seed))).labels)
        == {"k000", "k001"}
    )
    zero = episode.labels.index("k000")
    for side, bare in ((episode.support, 1), (episode.query, 2)):
        assert sum(target == () for target in side.targets) == bare
        assert set(side.targets) <= {(), (0, 1), (1 - zero,)}


def test_regression_multiplies_shots_and_queries_by_the_ways() -> None:
    task = scores_task(20)
    episode = sample_episode(task, ways=3, shots=2, queries=4, draw=random.Random(0))
    assert (episode.labels, len(episode.support.inputs), len(episode.query.inputs)) == ((), 6, 12)
    for side in (episode.support, episode.query):
        assert [t.text for t in side.inputs] == [f"scores/{int(2 * float(str(y)))}" for y in side.targets]
    assert len({*episode.support.inputs, *episode.query.inputs}) == 18
    rest = sample_episode(task, ways=None, shots=5, queries=None, draw=random.Random(0))
    assert (len(rest.support.inputs), len(rest.query.inputs)) == (5, 15)
    with pytest.raises(InvalidEpisode, match="20 texts: 20 shots leave none"):
        sample_episode(task, ways=4, shots=5, queries=1, draw=random.Random(0))
