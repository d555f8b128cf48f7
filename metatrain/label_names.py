"""Label names in other languages, for episodes whose labels are not in the language of their texts."""

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metalearn.label_text import label_words
from metalearn.tasks.difficulty import Difficulty
from metalearn.tasks.families import base_language
from metalearn.tasks.sampler import Sampler
from metalearn.tasks.task import Task
from metalearn.types import Episode

_OF_THE_TEXTS = 0.5
"""Share of the episodes whose labels go into the language of the texts, where they are known in it."""


_NO_LANGUAGE = ("mul", "multi", "und", "xx")


@dataclass(frozen=True, slots=True)
class LabelNames:
    """Translations of English label names.

    Attributes:
        codes: Other codes of the languages, such as ``deu`` -> ``de``.
        aliases: Other words of the same labels, such as ``org`` -> ``organization``.
        names: Language -> words of an English label in lower case -> label in that language.
    """

    codes: Mapping[str, str]
    aliases: Mapping[str, str]
    names: Mapping[str, Mapping[str, str]]

    def translations(self, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The labels in each language that has a name for every one of them, and no two of the same name."""
        read = [(label_words(label) or label).lower() for label in labels]
        words = [self.aliases.get(word, word) for word in read]
        found = {}
        for language, names in self.names.items():
            translated = tuple(names[word] for word in words if word in names)
            if len(set(translated)) == len(labels):
                found[language] = translated
        return found

    def language(self, code: str) -> str:
        """The language of a task's code; empty where the code is of several languages, or of none."""
        base = base_language(code)
        return "" if base in _NO_LANGUAGE else self.codes.get(base, base)


def read_label_names() -> LabelNames:
    """The translations that come with the package."""
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        return LabelNames(**tomllib.load(file))


class TranslatedLabels:
    """Episodes of a sampler, some of them with their label names in another language."""

    def __init__(
        self, sampler: Sampler, tasks: Sequence[Task], label_names: LabelNames, share: float, seed: int
    ) -> None:
        """Translates the labels of a sampler's episodes.

        Args:
            sampler: Where the episodes come from.
            tasks: Its tasks, which know the language of their texts.
            label_names: The translations.
            share: Share of the episodes that are translated, of those whose labels are all known.
            seed: Decides which, and into which language.
        """
        self.sampler = sampler
        self._languages = {task.name: label_names.language(task.language) for task in tasks}
        self._label_names = label_names
        self._share = share
        self._seed = seed

    def episode(self, index: int, difficulty: Difficulty | None = None) -> Episode:
        """The sampler's episode at that index, with the labels that this index gives it."""
        episode = self.sampler.episode(index, difficulty)
        draw = random.Random(f"label names:{self._seed}:{index}")  # noqa: S311  # nothing secret
        if draw.random() >= self._share or not (translations := self._label_names.translations(episode.labels)):
            return episode
        language = self._languages[episode.task]
        if language not in translations or draw.random() >= _OF_THE_TEXTS:
            language = draw.choice(sorted(translations))
        return replace(episode, labels=translations[language])
