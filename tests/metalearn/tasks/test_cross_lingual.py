"""Families in sampling: how often they come, and episodes that ask in other languages than they show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.options import Strategy
from metalearn.tasks.difficulty import Difficulty
from metalearn.tasks.sampler import EpisodeSampler, SamplerSettings
from metalearn.tasks.task import Task
from metalearn.types import OUT_OF_SCOPE, Episode, TextInput
from tests.metalearn.tasks.making import class_sizes, classes_task, label_of, multi_label_task


def in_language(task: Task, language: str) -> Task:
    return replace(task, name=f"{task.name}_{language}", language=language)


def shuffled(language: str, sizes: Sequence[int] = (9, 8, 7, 6), labels: str = "abcd") -> Task:
    """A task whose rows are in an order of their own."""
    task = classes_task(sizes, name=language, labels=labels)
    turned = len(task.inputs) // 2 + len(language)
    inputs = task.inputs[turned:] + task.inputs[:turned]
    targets = task.targets[turned:] + task.targets[:turned]
    return replace(task, name=f"news_{language}", inputs=inputs, targets=targets, language=language)


def languages(episode: Episode) -> tuple[set[str], set[str]]:
    """The languages of the support set and of the query set."""
    found = [{text.text.split("/")[0] for text in side.inputs} for side in (episode.support, episode.query)]
    return found[0], found[1]


CROSSED = SamplerSettings(ways=(2, 4), queries=3, cross_lingual_share=1.0, strategy="uniform")
ALONE = classes_task([5, 5], name="alone")


@pytest.mark.parametrize("strategy", ["uniform", "sqrt_size", "difficulty"])
@pytest.mark.parametrize(("exponent", "share"), [(1.0, 0.8), (0.5, 2 / 3), (0.0, 0.5)])
def test_a_family_counts_as_its_number_to_the_exponent(strategy: Strategy, exponent: float, share: float) -> None:
    family = [in_language(classes_task([5, 5], name="news"), language) for language in ("en", "de", "fr", "tr")]
    sampler = EpisodeSampler([*family, ALONE], SamplerSettings(strategy=strategy, family_exponent=exponent), 0)
    found = sampler.probabilities(Difficulty())
    assert sum(found[task.name] for task in family) == pytest.approx(share)
    assert found["alone"] == pytest.approx(1 - share)


def test_half_of_the_episodes_show_english_and_all_ask_in_other_languages() -> None:
    family = [shuffled(language) for language in ("en", "deu", "fr", "tr", "zh")]
    sampler = EpisodeSampler([*family, ALONE], CROSSED, 0)
    shown: Counter[str] = Counter()
    asked: Counter[int] = Counter()
    for i in range(600):
        episode = sampler.episode(i)
        support, query = languages(episode)
        if episode.task == "alone":
            assert support == query == {"alone"}
            continue
        assert len(support) == 1
        assert not support & query
        shown[min(support)] += 1
        asked[len(query)] += 1
        assert episode.task == f"news_{min(support)}"
        for side in (episode.support, episode.query):
            found = [episode.labels[int(str(target))] for target in side.targets]
            assert found == [label_of(text.text) for text in side.inputs]
        assert len(episode.query.inputs) <= 3 * len(episode.labels)
    assert shown["en"] / shown.total() == pytest.approx(0.5 + 0.5 / 5, abs=0.06)
    assert set(shown) == {"en", "deu", "fr", "tr", "zh"}
    assert set(asked) == {1, 2, 3}
    assert [sampler.episode(i) for i in range(20)] == [
        EpisodeSampler([ALONE, *family[::-1]], CROSSED, 0).episode(i) for i in range(20)
    ]


def test_episodes_in_one_language_stay_in_the_stated_share() -> None:
    family = [shuffled(language) for language in ("de", "fr", "tr")]
    sampler = EpisodeSampler(family, replace(CROSSED, cross_lingual_share=0.3), 0)
    crossed = sum(len(set.union(*languages(sampler.episode(i)))) > 1 for i in range(600))
    assert crossed / 600 == pytest.approx(0.3, abs=0.05)


@settings(deadline=None, max_examples=60)
@given(sizes=class_sizes, index=st.integers(0, 999))
def test_nothing_that_was_shown_is_asked_in_translation(sizes: list[int], index: int) -> None:
    """Tasks whose rows have the same targets are translations of each other, row by row."""
    task = classes_task([2, 2, *sizes])
    both = [in_language(task, "en"), in_language(translation(task), "fr")]
    episode = EpisodeSampler(both, replace(CROSSED, out_of_scope_share=0.0), 0).episode(index)
    shown = {text.text.removeprefix("fr:") for text in episode.support.inputs}
    asked = {text.text.removeprefix("fr:") for text in episode.query.inputs}
    assert asked
    assert not shown & asked
    assert {label_of(text) for text in asked} <= set(episode.labels)


def translation(task: Task) -> Task:
    return replace(task, inputs=tuple(TextInput(f"fr:{text.text}") for text in task.inputs))


def test_a_text_that_is_the_same_in_both_languages_is_not_asked_again() -> None:
    own = classes_task([6, 6], name="news")
    rows = [*zip(own.inputs, own.targets, strict=True)][::-1]
    other = replace(own, inputs=tuple(text for text, _ in rows), targets=tuple(target for _, target in rows))
    sampler = EpisodeSampler([in_language(own, "en"), in_language(other, "fr")], CROSSED, 0)
    for i in range(50):
        episode = sampler.episode(i)
        assert not set(episode.support.inputs) & set(episode.query.inputs)


def test_only_classes_that_both_languages_have_are_asked() -> None:
    few = shuffled("ja", [3, 3], labels="cd")
    sampler = EpisodeSampler([shuffled("en"), few], CROSSED, 0)
    for i in range(50):
        assert set(sampler.episode(i).labels) == {"c", "d"}
    wide = EpisodeSampler([shuffled("en"), few, shuffled("fr")], replace(CROSSED, ways=(3, 4)), 0)
    assert [task.name for task in wide.tasks] == ["news_en", "news_fr"]
    apart = EpisodeSampler([few, shuffled("en", [3, 3, 3, 1])], CROSSED, 0)  # one class in common is none to tell apart
    assert all(len(set.union(*languages(apart.episode(i)))) == 1 for i in range(50))


def test_several_labels_and_out_of_scope_queries_cross_as_well() -> None:
    targets = [(i % 3, (i * 7) % 4) for i in range(24)] + [()] * 6
    own, other = multi_label_task(targets, name="moods"), multi_label_task(targets[::-1], name="moods")
    other = replace(other, inputs=tuple(TextInput(f"fr:{text.text}") for text in other.inputs))
    truth = {text: target for task in (own, other) for text, target in zip(task.inputs, task.targets, strict=True)}
    sampler = EpisodeSampler([in_language(own, "en"), in_language(other, "fr")], CROSSED, 0)
    for i in range(30):
        episode = sampler.episode(i)
        assert len({text.text.startswith("fr:") for text in episode.support.inputs}) == 1
        for text, target in zip(episode.query.inputs, episode.query.targets, strict=True):
            wanted = {own.labels[label] for label in truth[text]} & set(episode.labels)  # type: ignore[union-attr]
            assert {episode.labels[label] for label in target} == wanted  # type: ignore[union-attr]
    family = [shuffled(language) for language in ("en", "fr")]
    beyond = EpisodeSampler(family, replace(CROSSED, ways=(2, 2), out_of_scope_share=1.0), 0)
    for i in range(30):
        query = beyond.episode(i).query
        strange = [
            text.text for text, target in zip(query.inputs, query.targets, strict=True) if target == OUT_OF_SCOPE
        ]
        assert strange
        assert not {label_of(text) for text in strange} & set(beyond.episode(i).labels)
