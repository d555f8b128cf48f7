"""The outer loop: episodes in, better slow weights out. Everything that decides the next step is in its state."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metalearn.collective import Alone, Collective
from metalearn.errors import InvalidEpisode, InvalidModel, MetaTrainingFailed
from metalearn.losses import supervised_contrastive
from metalearn.meta_model import EpisodeResult, MetaModel
from metalearn.meta_train_settings import MetaTrainSettings
from metalearn.objectives import OBJECTIVES
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.types import OUT_OF_SCOPE

EpisodeSource = Callable[[int], PreparedEpisode]
"""Index -> episode, the same one whenever it is asked for; raises ``InvalidEpisode`` where there is none."""

_MAX_EMPTY_STEPS = 20
"""So many outer steps in a row without a usable episode end the run."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """The result of one episode of an outer step.

    Attributes:
        index: Its index in the source.
        task: Its task; empty where the source had no episode.
        group: Its kind of task.
        loss: Loss on the query set after adaptation.
        accuracy: On the query set; None in regression.
        skipped: Why it did not count; empty where it did.
    """

    index: int
    task: str
    group: str
    loss: float
    accuracy: float | None
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of an outer step.

    Attributes:
        step: Its number, from 1.
        episodes: All processes' episodes, by index.
        gradient_norm: Before clipping.
        rate_factor: The factor of the outer rates.
        stop: Whether any process asked to stop after it.
    """

    step: int
    episodes: tuple[EpisodeRecord, ...]
    gradient_norm: float
    rate_factor: float
    stop: bool

    @property
    def loss(self) -> float | None:
        """Mean query loss of the episodes that counted."""
        return _mean(record.loss for record in self.episodes if not record.skipped)

    @property
    def accuracy(self) -> float | None:
        """Mean query accuracy of those that have one."""
        return _mean(r.accuracy for r in self.episodes if not r.skipped and r.accuracy is not None)


@dataclass(frozen=True)
class TrainingState:
    """Everything that decides the steps to come.

    Attributes:
        tensors: Slow weights and the optimizer's moments, by name.
        numbers: The rest, as JSON would hold it.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]


class MetaTrainer:
    """Slow weights on their way. One process's part of it, where there are several."""

    def __init__(
        self,
        model: MetaModel,
        slow_weights: Mapping[str, Tensor],
        settings: MetaTrainSettings,
        *,
        trained: Callable[[str], bool] = lambda _: True,
        collective: Collective | None = None,
    ) -> None:
        """Takes copies of the slow weights.

        Args:
            model: The model that is trained.
            slow_weights: Where training starts.
            settings: How.
            trained: Name of a slow weight -> whether it is trained; the others stay as they are.
            collective: The processes that share each meta-batch.

        Raises:
            ValueError: The meta-batch cannot be divided as the settings ask.
        """
        together = settings.contrastive_episodes if settings.contrastive_weight else 1
        if settings.meta_batch % together:
            raise ValueError(
                f"{together} episodes contrasted together do not divide a meta-batch of {settings.meta_batch}"
            )
        self.model = model
        self.settings = settings
        self.step_number = 0
        self._together = together
        self._collective: Collective = collective or Alone()
        self._empty_steps = 0
        self._slow = {name: weight.detach().clone() for name, weight in slow_weights.items()}
        self._trained = {name: weight.requires_grad_() for name, weight in self._slow.items() if trained(name)}
        if not self._trained:
            raise ValueError("no slow weight is trained")
        self._average = {n: w.detach().clone() for n, w in self._trained.items()} if settings.average else {}
        self._optimizer = _optimizer(self._trained, settings)

    @property
    def slow_weights(self) -> dict[str, Tensor]:
        """The current slow weights, detached; the next step changes them in place."""
        return {name: weight.detach() for name, weight in self._slow.items()}

    @property
    def result(self) -> dict[str, Tensor]:
        """The slow weights that training has come to: averages where they are kept, else as they are now."""
        return {**self.slow_weights, **self._average}

    def step(self, source: EpisodeSource, *, stop: Callable[[], bool] = lambda: False) -> StepResult:
        """Takes one outer step.

        Args:
            source: Where episodes come from.
            stop: Whether this process wants to stop after it, asked when its work is done; the result has whether any
                does.

        Raises:
            InvalidModel: Nothing that is trained has any effect.
            MetaTrainingFailed: For many steps in a row no episode could be used.
        """
        for weight in self._trained.values():
            weight.grad = torch.zeros_like(weight)  # also where an episode does not reach it: ranks must agree
        records = [record for first in self._own_share() for record in self._backward(source, first)]
        gradients = [weight.grad for weight in self._trained.values() if weight.grad is not None]
        if self._collective.size > 1:
            self._collective.add_up(gradients)
        everybody = self._collective.gathered([(records, stop())])
        records = sorted((r for part, _ in everybody for r in part), key=lambda record: record.index)
        factor = self.settings.rate_factor(self.step_number)
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if norm == 0 and self.step_number == 0 and not any(record.skipped for record in records):
            raise InvalidModel(
                f"nothing that {self.model.learner.name} meta-trains reaches the loss: train layers of the encoder, or "
                "choose a placement below the head"
            )
        if all(record.skipped for record in records) or not math.isfinite(norm):
            self._empty_steps += 1
            if self._empty_steps == _MAX_EMPTY_STEPS:
                reasons = sorted({record.skipped or "the gradient was not finite" for record in records})
                raise MetaTrainingFailed(
                    f"{_MAX_EMPTY_STEPS} outer steps in a row had no usable episode ({'; '.join(reasons[:3])}): "
                    "lower the learning rates, or look at the tasks"
                )
        else:
            self._empty_steps = 0
            torch.nn.utils.clip_grads_with_norm_(self._trained.values(), self.settings.clip_norm, torch.tensor(norm))
            for group in self._optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self._optimizer.step()
            decay = self.settings.average_decay(self.step_number)
            for name, average in self._average.items():
                average.lerp_(self._trained[name].detach(), 1 - decay)
        self.step_number += 1
        return StepResult(self.step_number, tuple(records), norm, factor, any(asked for _, asked in everybody))

    def gradients(self, episode: PreparedEpisode, index: int) -> dict[str, Tensor]:
        """Gradient of one episode's meta-loss with respect to each trained slow weight; nothing is changed."""
        result = self._run(episode, index)
        if not result.meta_loss.requires_grad:
            return {name: torch.zeros_like(weight) for name, weight in self._trained.items()}
        found = torch.autograd.grad(result.meta_loss, list(self._trained.values()), materialize_grads=True)
        return dict(zip(self._trained, found, strict=True))

    def state(self) -> TrainingState:
        """A copy of everything that ``restore`` needs."""
        tensors = {f"slow.{name}": weight.detach().clone() for name, weight in self._slow.items()}
        tensors |= {f"average.{name}": average.clone() for name, average in self._average.items()}
        for name, weight in self._trained.items():
            for key, value in self._optimizer.state.get(weight, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{key}.{name}"] = value.detach().clone()
        return TrainingState(tensors, {"step": self.step_number, "empty_steps": self._empty_steps})

    def restore(self, state: TrainingState) -> None:
        """Goes back to a state, of this or of another process.

        Raises:
            ValueError: The state is another model's.
        """
        slow = {n.removeprefix("slow."): t for n, t in state.tensors.items() if n.startswith("slow.")}
        shapes = {name: weight.shape for name, weight in slow.items()}
        if shapes != {name: weight.shape for name, weight in self._slow.items()}:
            raise ValueError("the state belongs to another model: its weights have other names or shapes")
        with torch.no_grad():
            for name, weight in self._slow.items():
                weight.copy_(slow[name])
            for name, average in self._average.items():
                average.copy_(state.tensors[f"average.{name}"])
        for name, weight in self._trained.items():
            found = {
                key: tensor.clone()
                for key in ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
                if (tensor := state.tensors.get(f"optimizer.{key}.{name}")) is not None
            }
            if found:
                device = weight.device
                # AdamW keeps its count of steps on the CPU
                self._optimizer.state[weight] = {k: t if k == "step" else t.to(device) for k, t in found.items()}
        self.step_number = int(state.numbers["step"])
        self._empty_steps = int(state.numbers["empty_steps"])

    # ---- one step ----------------------------------------------------------------------------------------------

    def _own_share(self) -> range:
        """Place in the meta-batch of the first episode of each group that is this process's."""
        mine = self._together * self._collective.size
        return range(self._together * self._collective.rank, self.settings.meta_batch, mine)

    def _run(self, episode: PreparedEpisode, index: int) -> EpisodeResult:
        settings = self.settings
        return self.model.run_episode(
            self._slow,
            episode,
            steps=settings.inner_steps,
            seed=settings.seed * 1_000_003 + index,
            splits=settings.splits,
        )

    def _backward(self, source: EpisodeSource, first: int) -> list[EpisodeRecord]:
        """Adds the gradients of episodes that are contrasted with each other."""
        settings = self.settings
        records, losses, sets = [], [], []
        for place in range(first, first + self._together):
            index = self.step_number * settings.meta_batch + place
            try:
                episode = source(index)
            except InvalidEpisode as error:
                records.append(EpisodeRecord(index, "", "", math.nan, None, str(error)))
                continue
            result = self._run(episode, index)
            record = _record(index, episode, result)
            records.append(record)
            if not record.skipped:
                losses.append(result.meta_loss)
                sets += [(episode.support, result.support_features), (episode.query, result.query_features)]
        if losses:
            loss = torch.stack(losses).sum()
            if not loss.requires_grad:
                return records
            if settings.contrastive_weight:
                contrast = _contrast(sets, settings.contrastive_temperature)
                loss = loss + settings.contrastive_weight * self._together * contrast
            (loss / settings.meta_batch).backward()  # type: ignore[no-untyped-call]
        return records


def _optimizer(trained: Mapping[str, Tensor], settings: MetaTrainSettings) -> torch.optim.Optimizer:
    groups = []
    for name, weight in trained.items():
        encoder = name.startswith(("body.layers.", "fast."))
        learner_rate = settings.learner_learning_rate * (0.1 if weight.dim() == 2 else 1)
        groups.append(
            {
                "params": [weight],
                "initial_lr": settings.learning_rate if encoder else learner_rate,
                "weight_decay": settings.weight_decay if encoder and weight.dim() == 2 else 0.0,
            }
        )
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _record(index: int, episode: PreparedEpisode, result: EpisodeResult) -> EpisodeRecord:
    query, rules = episode.query, OBJECTIVES[episode.query.objective]
    with torch.no_grad():
        outputs = result.query_outputs
        loss = float(rules.loss(outputs, query.targets, query.weights))
        finite = math.isfinite(loss) and math.isfinite(float(result.meta_loss))
    skipped = "" if finite else "the loss was not finite"
    return EpisodeRecord(index, episode.task, episode.group, loss, rules.accuracy(outputs, query.targets), skipped)


def _contrast(sets: Sequence[tuple[PreparedSet, Tensor]], temperature: float) -> Tensor:
    """Contrasts all texts of some episodes; a class of one is no class of another."""
    classes, offset = [], 0
    for place, (prepared, _) in enumerate(sets):
        targets = prepared.targets_of_all  # a label's text is contrasted, too, as one more of its class
        if OBJECTIVES[prepared.objective].one_class_each:
            classes.append(torch.where(targets == OUT_OF_SCOPE, targets, targets + offset))
        else:
            classes.append(targets.new_full((targets.shape[0],), OUT_OF_SCOPE, dtype=torch.long))
        if place % 2:  # support and query set of one episode share their classes
            offset += prepared.n_classes
    return supervised_contrastive(torch.cat([features for _, features in sets]), torch.cat(classes), temperature)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
