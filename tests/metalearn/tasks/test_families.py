"""Which tasks are one task in several languages."""

from dataclasses import replace

import pytest

from metalearn.tasks.families import base_language, families, is_english
from metalearn.tasks.task import Task
from tests.metalearn.tasks.making import classes_task


def in_language(name: str, language: str, *, labels: str = "ab", group: str = "topic") -> Task:
    return replace(classes_task([2] * len(labels), name=name, labels=labels, group=group), language=language)


def names(*tasks: Task) -> set[tuple[str, ...]]:
    return {tuple(sorted(task.name for task in family)) for family in families(tasks).values()}


def test_tasks_of_one_name_up_to_the_language_are_a_family() -> None:
    tasks = [
        in_language("news", "en"),
        in_language("news_de-st", "de-st"),
        in_language("news_deu_Latn", "deu_Latn"),
        in_language("stance_women", "en"),
        in_language("stance_climate", "en"),
        in_language("sports_de", ""),
        in_language("sports_fr", ""),
    ]
    assert names(*tasks) == {
        ("news", "news_de-st", "news_deu_Latn"),
        ("stance_women",),
        ("stance_climate",),
        ("sports_de",),
        ("sports_fr",),
    }
    assert families(tasks).keys() == {task.name for task in tasks}


@pytest.mark.parametrize(
    ("of_other", "together"),
    [({}, True), ({"labels": "bc"}, True), ({"labels": "bcd"}, False), ({"group": "intent"}, False)],
)
def test_a_family_shares_kind_and_labels(of_other: dict[str, str], together: bool) -> None:
    one, other = in_language("news_en", "en", labels="abc"), in_language("news_fr", "fr", **of_other)
    assert names(one, other) == ({("news_en", "news_fr")} if together else {("news_en",), ("news_fr",)})


def test_the_language_of_a_code_is_without_script_and_region() -> None:
    assert [base_language(code) for code in ("eng_Latn", "de-st", "fr", "")] == ["eng", "de", "fr", ""]
    assert [is_english(in_language("x", code)) for code in ("eng_Latn", "en-GB", "enf", "")] == [
        True,
        True,
        False,
        False,
    ]
