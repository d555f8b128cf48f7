"""Tags of tokens become entities."""

import pytest

from metalearn.tasks.entities import entity_spans, has_positions, mentions
from metalearn.types import TextInput


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-per I-per O B-loc", [(0, 2, "per"), (3, 4, "loc")]),
        ("B-per B-per", [(0, 1, "per"), (1, 2, "per")]),
        ("I-per I-per O I-per", [(0, 2, "per"), (3, 4, "per")]),  # inside alone, as in wikigold
        ("I-per I-loc B-loc", [(0, 1, "per"), (1, 2, "loc"), (2, 3, "loc")]),
        ("B-per I-loc", [(0, 1, "per"), (1, 2, "loc")]),
        ("B-a I-a E-a B-a", [(0, 3, "a"), (3, 4, "a")]),
        ("S-a S-a U-a", [(0, 1, "a"), (1, 2, "a"), (2, 3, "a")]),
        ("B-a E-a I-a", [(0, 2, "a"), (2, 3, "a")]),
        ("B-depart-time I-depart-time", [(0, 2, "depart-time")]),
    ],
)
def test_entities_of_positioned_tags(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert has_positions(tags.split())
    assert entity_spans(tags.split(), positions=True) == spans


def test_plain_tags_are_types_and_equal_neighbours_one_entity() -> None:
    tags = ["PESSOA", "PESSOA", "O", "LOCAL", "TEMPO"]
    assert not has_positions(tags)
    assert entity_spans(tags, positions=False) == [(0, 2, "PESSOA"), (3, 4, "LOCAL"), (4, 5, "TEMPO")]


def test_one_plain_tag_makes_all_of_a_file_plain() -> None:
    tags = ["E-mail", "E-mail", "phone"]
    assert not has_positions(tags)
    assert entity_spans(tags, positions=False) == [(0, 2, "E-mail"), (2, 3, "phone")]


def test_a_mention_is_read_beside_its_sentence() -> None:
    tokens, tags = ["Ada", "Lovelace", "met", "Babbage", " "], ["B-per", "I-per", "O", "B-per", "B-per"]
    assert list(mentions(tokens, tags, positions=True)) == [
        (TextInput("Ada Lovelace met Babbage", "Ada Lovelace"), "per"),
        (TextInput("Ada Lovelace met Babbage", "Babbage"), "per"),
    ]
