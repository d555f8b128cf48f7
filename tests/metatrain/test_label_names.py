"""Label names in other languages, and the episodes that get them."""

from collections import Counter
from dataclasses import replace

import pytest

from metalearn.label_text import label_words
from metalearn.tasks.sampler import EpisodeSampler, SamplerSettings
from metatrain.label_names import LabelNames, TranslatedLabels, read_label_names
from tests.metalearn.tasks.making import classes_task

NAMES = LabelNames(
    codes={"deu": "de"},
    aliases={"org": "organization"},
    names={
        "de": {"person": "Person", "organization": "Organisation", "set alarm": "Wecker stellen", "none": "keines"},
        "fi": {"person": "henkilö", "organization": "organisaatio", "none": "ei mikään"},
        "ja": {"person": "名", "organization": "名"},
    },
)


def test_the_names_of_the_package_are_complete() -> None:
    shipped = read_label_names()
    assert len(shipped.names) >= 30
    assert set(shipped.codes.values()) >= set(shipped.names)
    (keys,) = {frozenset(names) for names in shipped.names.values()}
    assert keys >= set(shipped.aliases.values())
    assert not keys & set(shipped.aliases)
    for key in (*keys, *shipped.aliases):
        assert (label_words(key) or key).lower() == key
    # "no" and "ja" are too short for words, and stand for themselves
    nameless = [name for names in shipped.names.values() for name in names.values() if len(name) > 3]
    assert [name for name in nameless if not label_words(name)] == []


@pytest.mark.parametrize(
    "labels",
    [
        ("entertainment", "geography", "health", "politics", "science/technology", "sports", "travel"),
        ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust"),
        ("AddToPlaylist", "alarm/set_alarm", "reminder/show_reminders", "weather/find"),
        ("contradiction", "entailment", "neutral"),
        ("LOC", "ORG", "PER", "misc"),
    ],
)
def test_recurring_labels_are_known_in_every_language(labels: tuple[str, ...]) -> None:
    shipped = read_label_names()
    assert shipped.translations(labels).keys() == shipped.names.keys()


def test_labels_are_translated_where_all_are_known_and_stay_apart() -> None:
    assert NAMES.translations(["ORG", "Person"]) == {
        "de": ("Organisation", "Person"),
        "fi": ("organisaatio", "henkilö"),
    }
    assert NAMES.translations(["set_alarm", "none"]) == {"de": ("Wecker stellen", "keines")}
    assert NAMES.translations(["person", "unheard of"]) == {}
    assert [NAMES.language(code) for code in ("deu_Latn", "de-st", "fi", "et", "")] == ["de", "de", "fi", "et", ""]
    assert NAMES.language("multi") == NAMES.language("xx") == ""


def drawn(language: str, share: float) -> Counter[tuple[str, ...]]:
    """The labels of 400 episodes of a task of texts in that language; all else is as without translation."""
    task = replace(classes_task([3, 3], labels=["person", "none"]), language=language)
    plain = EpisodeSampler([task], SamplerSettings(), 0)
    sampler = TranslatedLabels(plain, [task], NAMES, share, seed=1)
    episodes = [sampler.episode(i) for i in range(400)]
    again = TranslatedLabels(plain, [task], NAMES, share, seed=1)
    assert [again.episode(i) for i in (399, 7)] == [episodes[399], episodes[7]]
    for i, episode in enumerate(episodes):
        original = plain.episode(i)
        assert replace(episode, labels=original.labels) == original
        assert episode.labels in {original.labels, *NAMES.translations(original.labels).values()}
    return Counter(tuple(sorted(episode.labels)) for episode in episodes)


def test_labels_go_into_the_language_of_the_texts_or_into_any() -> None:
    english, german, finnish = ("none", "person"), ("Person", "keines"), ("ei mikään", "henkilö")
    assert drawn("et", 0.0) == {english: 400}
    found = drawn("et", 0.5)
    assert found[english] / 400 == pytest.approx(0.5, abs=0.08)
    assert found[german] / found[finnish] == pytest.approx(1, rel=0.4)
    own = drawn("deu_Latn", 1.0)
    assert own.keys() == {german, finnish}
    assert own[german] / 400 == pytest.approx(0.75, abs=0.08)


def test_other_labels_stay() -> None:
    task = classes_task([3, 3], labels=["person", "unheard of"])
    plain = EpisodeSampler([task], SamplerSettings(), 0)
    assert TranslatedLabels(plain, [task], NAMES, 1.0, seed=1).episode(3) == plain.episode(3)
