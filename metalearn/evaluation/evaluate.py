"""Few-shot figures of a model: adapt on the support set of each episode, judge by its queries.

A figure is of what serving does: the same support set meets the same texts, the same start and the same inner loop.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.adapting import adapt
from metalearn.body import TextBody
from metalearn.errors import AdaptationDiverged, InvalidEpisode, InvalidModel, UnsupportedObjective
from metalearn.evaluation.report import NotEvaluated, Report
from metalearn.evaluation.scores import EpisodeScores, judge
from metalearn.meta_model import MetaModel
from metalearn.objectives import OBJECTIVES
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedEpisode
from metalearn.support_plan import prepare_episode_support
from metalearn.tasks.fixed import FixedEpisode, FixedTask
from metalearn.tasks.plan import EpisodePlan, draw_validation_episodes
from metalearn.tasks.task import Task
from metalearn.types import Episode, FastWeights, SlowWeights, TextInput

__all__ = [
    "EpisodePlan",
    "Evaluator",
    "draw_validation_episodes",
    "evaluate_fixed",
    "evaluate_tasks",
    "score",
]

_QUERIES_AT_ONCE = 256
"""Bounds the memory that hidden states take, however many queries an episode has."""

Observer = Callable[[EpisodeScores], None]
"""A callback that gets each episode when it is done."""


class Evaluator:
    """Evaluates episodes of texts under fixed slow weights.

    Features of queries that do not depend on the task are computed once for all episodes, and kept within a bound. The
    support set is encoded anew in each episode, since that is part of what an adaptation takes.
    """

    def __init__(
        self,
        model: MetaModel,
        slow: SlowWeights,
        *,
        steps: int = 0,
        clock: Callable[[], float] | None = None,
        max_cached_texts: int = 2**17,
    ) -> None:
        """Takes a model.

        Args:
            model: Reads texts.
            slow: Its slow weights; they do not change while the evaluator lives.
            steps: Inner steps where the options name none.
            clock: Seconds that only grow; without one adaptations are not timed.
            max_cached_texts: How many texts' features are kept.

        Raises:
            InvalidModel: The model does not read texts.
        """
        if not isinstance(model.body, TextBody):
            raise InvalidModel("episodes of texts need a model that reads texts")
        self.model = model
        self.steps = steps
        self._body = model.body
        self._slow = slow
        self._clock = clock
        self._max_cached_texts = max_cached_texts
        self._warm = False
        self._features: dict[TextInput, Float[Tensor, " dim"]] = {}

    def evaluate_episode(self, episode: Episode | FixedEpisode, settings: AdaptOptions) -> EpisodeScores:
        """Figures of one episode; an adaptation that fails is one of them.

        Raises:
            UnsupportedObjective: The learner does not do what the task asks for.
        """
        given = episode.episode if isinstance(episode, FixedEpisode) else episode
        truth, n_classes, unseen = given.query.targets, given.n_classes, 0
        if isinstance(episode, FixedEpisode):
            truth, n_classes, unseen = episode.truth, n_classes + len(episode.unseen), episode.n_unseen_queries
        targets = OBJECTIVES[given.objective].targets(truth, n_classes)
        try:
            if self._clock and not self._warm:
                # The first adaptation of a process also pays for what the later ones find done
                self._warm = True
                self._adapted(given, settings)
            fast, adapt_ms = self._adapted(given, settings)
            outputs = self._outputs(fast, given.query.inputs)
            scores = judge(outputs.cpu(), targets, given.objective, task=given.task)
        except (AdaptationDiverged, InvalidEpisode) as error:
            return EpisodeScores(given.task, failure=str(error))
        return replace(scores, adapt_ms=adapt_ms, unseen=unseen)

    def outputs_of(self, episode: Episode, settings: AdaptOptions) -> Float[Tensor, "queries outputs"]:
        """Logits of an episode's queries after adaptation, or predictions in regression.

        Raises:
            AdaptationDiverged: A loss or a weight is not finite.
        """
        return self._outputs(self._adapted(episode, settings)[0], episode.query.inputs)

    @torch.no_grad()
    def _adapted(self, episode: Episode, settings: AdaptOptions) -> tuple[FastWeights, float | None]:
        """Fast weights, and the milliseconds from the support set's texts to them."""
        began = self._clock() if self._clock else 0.0
        support = prepare_episode_support(self._body, episode, use_label_text=settings.use_label_text)
        fast = adapt(self.model, self._slow, support, settings, default_steps=self.steps).fast_weights
        return fast, (self._clock() - began) * 1000 if self._clock else None

    @torch.no_grad()
    def _outputs(self, fast: FastWeights, texts: Sequence[TextInput]) -> Float[Tensor, "texts outputs"]:
        # By length, so that no chunk is wider than needed
        order = sorted(range(len(texts)), key=lambda row: (_length(texts[row]), row))
        ordered = [texts[row] for row in order]
        if self.model.placement.layers == 0:  # what a task owns does not reach its features
            outputs = self.model.learner.logits(fast, self._shared_features(ordered))
        else:
            outputs = torch.cat([self._read(fast, chunk) for chunk in _chunks(ordered)])
        return outputs[torch.tensor(order, device=outputs.device).argsort()]

    def _read(self, fast: FastWeights, texts: Sequence[TextInput]) -> Float[Tensor, "texts outputs"]:
        hidden = self._body.prepare(self._body.encoder.tokenize(texts))
        return self.model.outputs(self._slow, fast, hidden)

    def _shared_features(self, texts: Sequence[TextInput]) -> Float[Tensor, "texts dim"]:
        found = {text: self._features[text] for text in texts if text in self._features}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for chunk in _chunks(missing):
            rows = self.model.features(self._slow, {}, self._body.prepare(self._body.encoder.tokenize(chunk)))
            fresh = dict(zip(chunk, rows, strict=True))
            found |= fresh
            self._features |= fresh
        # The oldest first: rows of one chunk share their memory, so they have to go together
        for text in list(self._features)[: max(0, len(self._features) - self._max_cached_texts)]:
            del self._features[text]
        return torch.stack([found[text] for text in texts])


@torch.no_grad()
def score(
    model: MetaModel,
    slow: SlowWeights,
    prepared: Sequence[PreparedEpisode],
    *,
    steps: int,
    learning_rate: float | None = None,
) -> list[EpisodeScores]:
    """Figures of episodes whose hidden states the caller keeps, such as validation episodes during meta-training.

    The slow weights may differ from call to call, and the body need not read texts.

    Args:
        model: The model.
        slow: Its slow weights.
        prepared: The episodes.
        steps: Inner steps.
        learning_rate: Takes the place of the meta-learned inner rate.

    Returns:
        One each, in their order; without the time that adaptation took.
    """
    scores = []
    for episode in prepared:
        query = episode.query
        try:
            fast = adapt(model, slow, episode.support, AdaptOptions(steps, learning_rate)).fast_weights
            outputs = model.outputs(slow, fast, query.inputs)
            scores.append(judge(outputs.cpu(), query.targets.cpu(), query.objective, task=episode.task))
        except (AdaptationDiverged, InvalidEpisode, UnsupportedObjective) as error:
            scores.append(EpisodeScores(episode.task, failure=str(error)))
    return scores


def evaluate_tasks(
    evaluator: Evaluator,
    tasks: Sequence[Task],
    plan: EpisodePlan,
    settings: AdaptOptions,
    *,
    observe: Observer = lambda _: None,
) -> Report:
    """Figures over random episodes of tasks; every model is given the same ones.

    A task that can give no episode is left out, and counted.

    Args:
        evaluator: Holds the model.
        tasks: Where episodes are drawn from.
        plan: Which.
        settings: How support sets are adapted on.
        observe: Gets each episode when it is done.
    """
    scores: dict[str, dict[int, tuple[EpisodeScores, ...]]] = {}
    left_out = []
    for task in tasks:
        for shots in plan.shots:
            try:
                episodes = [plan.episode(task, shots, index) for index in range(plan.episodes)]
                evaluated = _evaluated(evaluator, enumerate(episodes), settings, observe)
            except (InvalidEpisode, UnsupportedObjective) as error:
                left_out.append(NotEvaluated(task.name, str(error), shots))
                continue
            scores.setdefault(task.name, {})[shots] = evaluated
    return Report(scores, tuple(left_out))


def evaluate_fixed(
    evaluator: Evaluator,
    tasks: Sequence[FixedTask],
    settings: AdaptOptions,
    *,
    observe: Observer = lambda _: None,
) -> Report:
    """Figures over fixed episodes.

    A query whose class has no example in the support set cannot be answered: it counts as wrong.

    Args:
        evaluator: Holds the model.
        tasks: The episodes.
        settings: How support sets are adapted on.
        observe: Gets each episode when it is done.
    """
    scores: dict[str, dict[int, tuple[EpisodeScores, ...]]] = {}
    left_out = []
    for task in tasks:
        left_out += [NotEvaluated(task.name, f"{s.file}: {s.reason}", rows=s.rows) for s in task.skipped]
        for shots in sorted({episode.shots for episode in task.episodes}):
            episodes = [(episode.index, episode) for episode in task.episodes if episode.shots == shots]
            try:
                evaluated = _evaluated(evaluator, episodes, settings, observe)
            except UnsupportedObjective as error:
                left_out.append(NotEvaluated(task.name, str(error), shots))
                continue
            scores.setdefault(task.name, {})[shots] = evaluated
    return Report(scores, tuple(left_out))


def _evaluated(
    evaluator: Evaluator,
    episodes: Iterable[tuple[int, Episode | FixedEpisode]],
    settings: AdaptOptions,
    observe: Observer,
) -> tuple[EpisodeScores, ...]:
    scores = []
    for index, episode in episodes:
        scores.append(replace(evaluator.evaluate_episode(episode, settings), index=index))
        observe(scores[-1])
    return tuple(scores)


def _chunks(texts: Sequence[TextInput]) -> Iterator[Sequence[TextInput]]:
    for start in range(0, len(texts), _QUERIES_AT_ONCE):
        yield texts[start : start + _QUERIES_AT_ONCE]


def _length(text: TextInput) -> int:
    return len(text.text) + len(text.text_pair or "")
