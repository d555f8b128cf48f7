"""Which episodes the accuracy comparison asks its methods."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.episodes import Episode, Row
from benchmarks.suites import SUITES, Choice

OWN = SUITES["own"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def write(name: str, rows: list[dict[str, object]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("moods.jsonl", [{"text": f"text {i}", "label": "abc"[i % 3]} for i in range(60)])
    rare = [{"text": f"rare {i}", "label": "rare"} for i in range(5)]
    write(
        "pairs.train.jsonl", [{"text": "so", "text_pair": f"it is {i}", "label": f"{i % 2}"} for i in range(30)] + rare
    )
    write("pairs.test.jsonl", [{"text": "so", "text_pair": f"it was {i}", "label": f"{i % 2}"} for i in range(30)])
    write("one_class.jsonl", [{"text": f"same {i}", "label": "only"} for i in range(20)] + rare)
    write("scores.jsonl", [{"text": f"score {i}", "score": i / 10} for i in range(20)])
    return tmp_path


def texts(rows: tuple[Row, ...]) -> set[tuple[str, str | None]]:
    return {(row.text, row.text_pair) for row in rows}


def test_a_folder_of_ones_own_gives_its_classification_tasks(folder: Path) -> None:
    episodes = OWN.build(folder, Choice(shots=(1, 4)))
    assert {episode.key for episode in episodes} == {
        f"own/{task}/{k}/{index}" for task in ("moods", "pairs") for k in (1, 4) for index in range(3)
    }
    for episode in episodes:
        ways = 3 if episode.task == "moods" else 2
        assert len(episode.labels) == ways, "a class of five rows is left out"
        assert len(episode.support) == ways * episode.shots
        assert len(episode.queries) == {"moods": 3 * 6, "pairs": 2 * 10}[episode.task], "a third of each class"
        assert not texts(episode.support) & texts(episode.queries)
    assert len({episode.queries for episode in episodes}) == 2


def test_fewer_are_some_of_the_same(folder: Path) -> None:
    all_episodes: dict[str, Episode] = {e.key: e for e in OWN.build(folder, Choice(max_queries=10))}
    some = OWN.build(folder, Choice(("pairs",), shots=(5,), episodes=2, max_queries=10))
    assert [all_episodes[episode.key] for episode in some] == some
    other = OWN.build(folder, Choice(("pairs",), shots=(5,), episodes=2, max_queries=10, seed=1))
    assert not {episode.digest for episode in some} & {episode.digest for episode in other}


def test_unequal_support_sets_have_one_to_so_many_of_each_class(folder: Path) -> None:
    episodes = SUITES["unequal"].build(folder, Choice(shots=(4,), episodes=3))
    assert {episode.key for episode in episodes} == {
        f"unequal/{task}/4/{i}" for task in ("moods", "pairs") for i in range(3)
    }
    sizes = [Counter(row.label for row in episode.support) for episode in episodes]
    assert all(1 <= size <= 4 for each in sizes for size in each.values())
    assert any(len(set(each.values())) > 1 for each in sizes)
    assert {each.queries for each in episodes} == {each.queries for each in OWN.build(folder, Choice(shots=(1,)))}
    assert SUITES["unequal"].build(folder, Choice(shots=(4,), episodes=1))[0] == episodes[0]
