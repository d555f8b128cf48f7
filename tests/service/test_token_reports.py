"""Reports on tasks that tag words: entities that heads without a sentence find in it."""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.service.conftest import adapt, predict
from tests.service.test_report import report

_WORDS = ["fly", "to", "now", "from", "please"]
_PLACES = {"city": ["Paris", "Rome", "Oslo"], "day": ["Monday", "Friday"]}


def _sentence(number: int) -> dict[str, Any]:
    """A sentence with a city, a day, or both; every number another one."""
    tokens = [_WORDS[(number + i) % len(_WORDS)] for i in range(3 + number % 2)]
    tags = ["O"] * len(tokens)
    for label, places in _PLACES.items():
        if number % 3 != (0 if label == "day" else 1):
            tokens.append(places[number % len(places)])
            tags.append(f"B-{label}")
    return {"tokens": [*tokens, f"x{number}"], "tags": [*tags, "O"], "id": f"s{number}"}


SENTENCES = [_sentence(number) for number in range(8)]


def _entities(sentence: dict[str, Any]) -> set[tuple[str, str]]:
    """The entities of a sentence: a word and its label. No two are neighbours of one label here."""
    both = zip(sentence["tokens"], sentence["tags"], strict=True)
    return {(token, tag[2:]) for token, tag in both if tag != "O"}


@pytest.fixture
def client(shared_service: httpx.Client) -> httpx.Client:
    """A service whose task ``bank`` is the test's own."""
    shared_service.delete("/v1/tasks/bank")
    return shared_service


def test_a_report_counts_the_entities_that_a_task_without_the_sentence_finds(client: httpx.Client) -> None:
    right, found = Counter[str](), Counter[str]()
    for left_out in SENTENCES:
        adapt(client, support=[each for each in SENTENCES if each is not left_out], task="others")
        (answer,) = predict(client, queries=[{"tokens": left_out["tokens"]}], task="others")["predictions"]
        answered = {(span["text"], span["label"]) for span in answer["spans"]}
        found.update(label for _, label in answered)
        right.update(label for _, label in answered & _entities(left_out))
    adapted = adapt(client, support=SENTENCES)
    made = report(client)
    asked = Counter(label for each in SENTENCES for _, label in _entities(each))
    counts = {each["label"]: each for each in made["classes"]}
    assert counts.keys() == {"city", "day"}
    for label, each in counts.items():
        assert (each["examples"], each["right"], each["predicted"]) == (asked[label], right[label], found[label])
    figures = {each["name"]: each for each in made["figures"]}
    marked = asked.total() + found.total()
    assert figures["micro_f1"]["value"] == pytest.approx(2 * right.total() / marked)
    low, high = figures["micro_f1"]["interval"]
    assert low <= figures["micro_f1"]["value"] <= high
    assert figures["micro_f1"]["baselines"].keys() == {"known_words"}
    assert adapted["leave_one_out"] == pytest.approx({name: each["value"] for name, each in figures.items()})
    assert (made["kind"], made["examples"], made["labels"]) == ("tokens", 8, ["O", "city", "day"])
    assert any("Micro F1" in sentence for sentence in made["findings"])


def test_known_words_are_those_of_other_sentences(client: httpx.Client) -> None:
    # Every city stands in two sentences, and no other word is ever tagged: the baseline finds all of them
    support = [{"tokens": ["to", city, end], "tags": ["O", "B-city", "O"]} for city in ("Rome", "Oslo") for end in "ab"]
    adapt(client, support=support)
    figures = {each["name"]: each for each in report(client)["figures"]}
    assert figures["micro_f1"]["baselines"]["known_words"] == 1
    adapt(client, support=support[::2])
    figures = {each["name"]: each for each in report(client)["figures"]}
    assert figures["micro_f1"]["baselines"]["known_words"] == 0


def test_a_sentence_with_a_wrong_tag_is_the_first_suspect(client: httpx.Client) -> None:
    cities = ["Paris", "Rome", "Oslo"]
    support: list[dict[str, Any]] = [
        {"tokens": ["to", city, end], "tags": ["O", "B-city", "O"], "weight": 10}
        for city in cities
        for end in "abcefghi"
    ]
    support.append({"tokens": ["to", "Rome", "d"], "tags": ["B-city", "O", "O"], "id": "wrong"})
    adapt(client, support=support)
    suspects = report(client)["suspects"]
    assert (suspects[0]["id"], suspects[0]["label"]) == ("wrong", "city 'to'")
    assert "city 'Rome'" in suspects[0]["reads_as"]
    assert suspects[0]["confidence"] + suspects[0]["of_label"] == pytest.approx(1)


def test_one_sentence_alone_has_no_figures(client: httpx.Client) -> None:
    adapt(client, support=SENTENCES[2:3])
    made = report(client)
    assert (made["figures"], made["classes"], made["suspects"]) == ([], [], [])
    assert any("No example was left out" in sentence for sentence in made["findings"])
