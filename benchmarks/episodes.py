"""Episodes that every method of the comparison meets: drawn once, kept in a file.

The standard library alone, since methods of other projects read the file in environments of their own.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled text, or a labelled pair of texts.

    Attributes:
        text: The text.
        label: Its class.
        text_pair: The second text of a pair.
    """

    text: str
    label: str
    text_pair: str | None = None


Rows = tuple[Row, ...]


@dataclass(frozen=True)
class Episode:
    """A support set and queries.

    Attributes:
        suite: The collection that it belongs to, such as ``leopard``.
        task: The task within the suite.
        shots: Support examples per class that were asked for; a small class may have fewer.
        index: Number among the episodes of this task and these shots.
        support: The support set.
        queries: Texts to classify. Episodes of one task may share them, as one tuple.
    """

    suite: str
    task: str
    shots: int
    index: int
    support: Rows
    queries: Rows

    @property
    def key(self) -> str:
        """The name of the episode."""
        return f"{self.suite}/{self.task}/{self.shots}/{self.index}"

    @cached_property
    def digest(self) -> str:
        """The digest of all rows: figures of two methods compare where it is the same."""
        content = json.dumps([[_to_json(row) for row in rows] for rows in (self.support, self.queries)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the support set, ordered by name."""
        return tuple(sorted({row.label for row in self.support}))


def write_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """Writes a file of episodes; queries that several of them share are written once."""
    places: dict[int, int] = {}
    sets: list[Rows] = []
    for episode in episodes:
        if id(episode.queries) not in places:
            places[id(episode.queries)] = len(sets)
            sets.append(episode.queries)
    content = {
        "query_sets": [[_to_json(row) for row in rows] for rows in sets],
        "episodes": [
            {
                "suite": episode.suite,
                "task": episode.task,
                "shots": episode.shots,
                "index": episode.index,
                "support": [_to_json(row) for row in episode.support],
                "queries": places[id(episode.queries)],
            }
            for episode in episodes
        ],
    }
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def read_episodes(path: Path) -> list[Episode]:
    """Reads what ``write_episodes`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    sets = [_rows(rows) for rows in content["query_sets"]]
    return [
        Episode(
            each["suite"], each["task"], each["shots"], each["index"], _rows(each["support"]), sets[each["queries"]]
        )
        for each in content["episodes"]
    ]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of tasks, one ``{"text", "label"}`` a line, with ``"text_pair"`` for pairs.

    Blank texts are left out: nothing could be read of them.
    """
    # Split by hand: str.splitlines would also split at U+2028, which JSON strings may hold
    rows = _rows([json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()])
    return [row for row in rows if row.text.strip()]


def _rows(lines: Sequence[dict[str, Any]]) -> Rows:
    return tuple(Row(line["text"], str(line["label"]), line.get("text_pair")) for line in lines)


def _to_json(row: Row) -> dict[str, str]:
    pair = {} if row.text_pair is None else {"text_pair": row.text_pair}
    return {"text": row.text, **pair, "label": row.label}
