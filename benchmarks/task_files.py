"""Task files and episodes: ``NAME.train.jsonl`` and ``NAME.test.jsonl``, one ``{"text", "label"}`` a line."""

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Split:
    """Labelled texts.

    Attributes:
        texts: The texts.
        labels: Their labels.
    """

    texts: list[str]
    labels: list[str]


def load_split(folder: Path, name: str, split: str) -> Split:
    """One split of a set."""
    path = folder / f"{name}.{split}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return Split([row["text"] for row in rows], [row["label"] for row in rows])


def sample_support(split: Split, shots: int, seed: int) -> Split:
    """``shots`` examples of every class, drawn with ``seed``."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in zip(split.texts, split.labels, strict=True):
        by_label[label].append(text)
    draw = random.Random(seed)
    texts, labels = [], []
    for label in sorted(by_label):
        for text in draw.sample(by_label[label], min(shots, len(by_label[label]))):
            texts.append(text)
            labels.append(label)
    return Split(texts, labels)
