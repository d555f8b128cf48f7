"""Feeds of prepared episodes from a sampler, with the difficulties that the sampling has learned so far."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from metalearn.body import TextBody
from metalearn.meta_train import EpisodeRecord
from metalearn.prepared import PreparedEpisode
from metalearn.support_plan import prepare_episode
from metalearn.tasks.difficulty import Difficulty, normalised_loss, updated
from metalearn.tasks.sampler import Sampler
from metalearn.types import Episode

_ATTEMPTS = 8
"""How often another episode is drawn in the place of one of a held-back group."""
_FAR = 1 << 40
"""Distance in the sampler's indices between an episode and the one drawn in its place."""


class EpisodeFeed:
    """Episodes for meta-training by index.

    An episode is a function of its index, and of two things that change between outer steps and belong to the training
    state: how difficult each task is, and which groups of tasks are held back.
    """

    def __init__(self, body: TextBody, sampler: Sampler, *, label_text_share: float, seed: int) -> None:
        """Feeds from a sampler.

        Args:
            body: Reads the texts.
            sampler: Draws episodes.
            label_text_share: Share of episodes whose labels' words are used, from 0 to 1.
            seed: Decides which.
        """
        self._body = body
        self._sampler = sampler
        self._label_text_share = label_text_share
        self._seed = seed
        self.difficulty = Difficulty()
        self.group_factors: dict[str, float] = {}

    def __call__(self, index: int) -> PreparedEpisode:
        """The episode at an index.

        Raises:
            InvalidEpisode: A text of it has no token.
        """
        draw = self._draw(f"label text:{index}")
        use_label_text = draw.random() < self._label_text_share
        return prepare_episode(self._body, self.episode(index), use_label_text=use_label_text)

    def episode(self, index: int) -> Episode:
        """The episode as it was sampled. One of a held-back group is replaced as often as its factor states."""
        for attempt in range(_ATTEMPTS):
            episode = self._sampler.episode(index + attempt * _FAR, self.difficulty)
            factor = self.group_factors.get(episode.group, 1.0)
            if factor >= 1 or self._draw(f"held back:{index}:{attempt}").random() < factor:
                break
        return episode

    def observe(self, records: Sequence[EpisodeRecord]) -> None:
        """Learns how difficult the tasks were, in the order of the episodes' indices."""
        seen = [
            (record.task, normalised_loss(record.loss, self.episode(record.index)))
            for record in records
            if not record.skipped
        ]
        self.difficulty = updated(self.difficulty, seen)

    def state(self) -> dict[str, Any]:
        """The state as JSON would hold it."""
        return {"difficulty": self.difficulty.to_json(), "group_factors": dict(self.group_factors)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state."""
        self.difficulty = Difficulty.from_json(state["difficulty"])
        self.group_factors = dict(state["group_factors"])

    def _draw(self, purpose: str) -> random.Random:
        return random.Random(f"{self._seed}:{purpose}")  # noqa: S311 - nothing secret
