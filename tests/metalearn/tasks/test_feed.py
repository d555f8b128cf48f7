"""Episodes by index: what they depend on, and nothing else."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import torch

from metalearn.body import TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.meta_train import EpisodeRecord
from metalearn.options import Strategy
from metalearn.tasks.feed import EpisodeFeed
from metalearn.tasks.sampler import EpisodeSampler, SamplerSettings
from metalearn.tasks.task import Task
from metalearn.types import TextInput


def tasks(groups: Sequence[str]) -> list[Task]:
    """One task per group, three classes of eight texts, with words for names."""
    made = []
    for group in groups:
        inputs = tuple(TextInput(f"{group} text {i}") for i in range(24))
        labels = ("bread", "cards", "water")
        made.append(Task(group, "classification", labels, inputs, tuple(i % 3 for i in range(24)), group))
    return made


def feed(encoder: Encoder, *, strategy: Strategy = "uniform", label_text_share: float = 0.0) -> EpisodeFeed:
    """Over four groups."""
    sampler = EpisodeSampler(tasks(["a", "b", "c", "d"]), SamplerSettings(ways=(2, 3), strategy=strategy), seed=5)
    body = TextBody(encoder, 1)
    return EpisodeFeed(body, sampler, label_text_share=label_text_share, seed=5)


def test_an_episode_depends_on_its_index_alone(encoder: Encoder) -> None:
    first, second = feed(encoder), feed(encoder)
    indices = list(range(12))
    random.Random(0).shuffle(indices)
    found = {index: first.episode(index) for index in indices}
    assert found == {index: second.episode(index) for index in range(12)}
    assert len({episode.support.inputs for episode in found.values()}) > 10


def test_a_group_that_is_held_back_comes_as_seldom_as_its_factor_states(encoder: Encoder) -> None:
    fed = feed(encoder)
    before = Counter(fed.episode(index).group for index in range(2000))
    fed.group_factors = {"b": 0.25}
    after = Counter(fed.episode(index).group for index in range(2000))
    assert 400 < before["b"] < 600
    # A quarter of its draws stay, the others are drawn again: 0.25 p / (1 - 0.75 p) with p = 1/4
    assert abs(after["b"] / 2000 - 0.25 * 0.25 / (1 - 0.75 * 0.25)) < 0.03
    kept = [fed.episode(index) for index in range(200)]
    again = feed(encoder)
    again.restore(fed.state())
    assert kept == [again.episode(index) for index in range(200)]


def test_label_words_stand_in_the_stated_share_of_episodes(encoder: Encoder) -> None:
    fed = feed(encoder, label_text_share=0.5)
    with_words = 0
    for index in range(40):
        prepared, episode = fed(index), fed.episode(index)
        label_texts = prepared.support.label_texts
        assert prepared.support.targets.shape[0] == len(episode.support.inputs)
        assert bool((prepared.support.weights == 1).all()), "the model decides their weights"
        if label_texts is not None:
            with_words += 1
            assert sorted(label_texts.classes.tolist()) == list(range(episode.n_classes))
    assert 10 < with_words < 30


def test_difficult_tasks_come_more_often_once_they_were_seen_to_be(encoder: Encoder) -> None:
    fed = feed(encoder, strategy="difficulty")
    before = Counter(fed.episode(index).group for index in range(1000))
    records = []
    for index in range(200):
        episode = fed.episode(index)
        loss = 2.0 * math.log(episode.n_classes) if episode.group == "c" else 0.01
        records.append(EpisodeRecord(index, episode.task, episode.group, loss, 0.5))
    records.append(EpisodeRecord(200, "", "", math.nan, None, "a text has no token"))
    fed.observe(records)
    after = Counter(fed.episode(index).group for index in range(1000))
    assert after["c"] > before["c"] + 150
    assert all(after[group] > 60 for group in "abd"), "nothing starves"


def test_hidden_states_are_those_of_the_episodes_texts(encoder: Encoder) -> None:
    fed = feed(encoder)
    prepared, episode = fed(3), fed.episode(3)
    body = TextBody(encoder, 1)
    weights = body.initial_weights(torch.Generator())
    features = body.features(weights, prepared.support.inputs)
    alone = encoder.encode_batch(encoder.tokenize(episode.support.inputs))
    torch.testing.assert_close(features, alone, atol=1e-5, rtol=0)
    assert prepared.support.targets.tolist() == list(episode.support.targets)
    assert prepared.query.targets.tolist() == list(episode.query.targets)
