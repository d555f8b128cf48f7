"""One meta-training run: what it is made of, its loop, and the checkpoint that it becomes."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metalearn.adaptation import prepare_episode
from metalearn.body import TextBody
from metalearn.collective import Collective
from metalearn.encoder import Encoder, EncoderSettings, locate_encoder
from metalearn.errors import InvalidEpisode, InvalidTasks
from metalearn.evaluate import score
from metalearn.learners.interface import LearnerOptions
from metalearn.meta_model import PreparedEpisode
from metalearn.meta_train import MetaTrainer, MetaTrainSettings, StepResult, TrainingState
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.tasks.feed import EpisodeFeed
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.plan import draw_validation_episodes
from metalearn.tasks.sampler import EpisodeSampler, MixedSampler, Sampler, SamplerSettings
from metalearn.tasks.task import Skipped, Task
from metalearn.tasks.transfer import Transfer, held_back, measure_transfer
from metalearn.tasks.unlabelled import cluster_tasks, masked_word_tasks, read_texts
from model_store.checkpoint import UNTRAINED, Hyperparameters, Manifest, TrainingTask, write_checkpoint
from service.training.options import TrainingOptions, bounds

_GUARD_EPISODES = 4
_LATER = 1 << 50
"""Indices of the guard's episodes: far from those that are trained on."""


@dataclass(frozen=True, slots=True)
class Validation:
    """How the slow weights did on the validation tasks.

    Attributes:
        step: After which outer step; 0 for the start.
        accuracy: Mean over tasks; an episode that could not be adapted on counts as wholly wrong.
        failed: How many could not.
        is_best: Whether it is the best so far.
    """

    step: int
    accuracy: float
    failed: int
    is_best: bool


Event = StepResult | Validation | list[Transfer]


@dataclass(frozen=True)
class Pool:
    """What is trained on.

    Attributes:
        labelled: Tasks from files.
        unlabelled: Tasks made of plain text.
        skipped: What could not be used, and why.
    """

    labelled: tuple[Task, ...]
    unlabelled: tuple[Task, ...]
    skipped: tuple[Skipped, ...]

    @property
    def digest(self) -> str:
        """Tells this pool from another."""
        content = hashlib.sha256()
        for task in (*self.labelled, *self.unlabelled):
            content.update(repr((task.name, task.labels, task.inputs, task.targets)).encode())
        return content.hexdigest()


class TrainingSession:
    """A run in memory. The loop is ``run``; everything that decides its next step is saved and restored.

    Attributes:
        spec: What the model is made of.
        pool: What is trained on.
        best: The best validation so far; None without validation tasks.
    """

    def __init__(self, options: TrainingOptions, out: Path, device: torch.device, collective: Collective) -> None:
        """Reads encoder and tasks.

        Raises:
            InvalidTasks: There is nothing to train on.
            InvalidModel: The parts of the model do not fit together.
            EncoderUnavailable: The encoder cannot be loaded.
        """
        self.options = options
        self.out = out
        self._collective = collective
        self._encoder_settings = EncoderSettings(max_tokens=options.max_tokens)
        encoder = Encoder(locate_encoder(options.encoder, out), self._encoder_settings, device)
        self.spec = model_spec(options)
        model = make_text_model(self.spec, encoder)
        assert isinstance(model.body, TextBody)  # noqa: S101 - what make_text_model makes
        self._body = model.body
        self._body.bf16 = options.bf16
        self.pool = read_pool(options, encoder)
        sampler, unusable = _sampler(self.pool, options)
        self.unusable = unusable
        self._feed = EpisodeFeed(
            self._body,
            sampler,
            label_text_weight=UNTRAINED.label_text_weight,
            label_text_share=options.label_text_share,
            seed=options.seed,
        )
        settings = MetaTrainSettings(
            inner_steps=options.inner_steps_used,
            outer_steps=options.steps,
            meta_batch=options.meta_batch,
            learning_rate=options.learning_rate,
            learner_learning_rate=options.learner_learning_rate,
            optimizer=options.optimizer,
            weight_decay=options.weight_decay,
            schedule=options.schedule,
            warmup_steps=options.warmup_steps,
            clip_norm=options.clip_norm,
            contrastive_weight=options.contrastive_weight,
            contrastive_temperature=options.contrastive_temperature,
            contrastive_episodes=options.contrastive_episodes,
            seed=options.seed,
        )
        slow = model.initial_slow_weights(steps=settings.inner_steps, seed=options.seed)
        slow = {name: weight.to(device) for name, weight in slow.items()}
        first_trained = encoder.n_layers - options.trained_layers
        self.trainer = MetaTrainer(
            model, slow, settings, trained=lambda name: _is_trained(name, first_trained), collective=collective
        )
        self._valid = self._validation_episodes() if options.valid else []
        self.best: Validation | None = None
        self._best_slow: dict[str, Tensor] = {}
        self._validations_since_best = 0

    # ---- the loop ----------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """Trains until the last step, until validation stops getting better, or until ``stop`` says so.

        Yields:
            What happened; after each event the state may be saved.
        """
        options, trainer = self.options, self.trainer
        if self._valid and trainer.step_number == 0:
            yield self._validate()
        while trainer.step_number < options.steps and not self._has_given_up:
            result = trainer.step(self._feed, stop=stop())
            if options.strategy == "difficulty":
                self._feed.observe(result.episodes)
            step = result.step
            transfers = []
            if options.guard_every and step % options.guard_every == 0:
                transfers = self._measure_transfer()
                self._feed.group_factors = held_back(self._feed.group_factors, transfers)
            validation = None
            if self._valid and (step % options.validate_every == 0 or step == options.steps or result.stop):
                validation = self._validate()
            yield result
            if transfers:
                yield transfers
            if validation:
                yield validation
            if result.stop:
                return

    @property
    def _has_given_up(self) -> bool:
        return self._validations_since_best >= self.options.patience

    def _validate(self) -> Validation:
        slow = self.trainer.slow_weights
        mine = self._valid[self._collective.rank :: self._collective.size]
        scored = score(self.trainer.model, slow, mine, steps=self.options.inner_steps_used)
        by_task: dict[str, list[float]] = {}
        found = self._collective.gathered([(s.task, 0.0 if s.failure else s.accuracy, bool(s.failure)) for s in scored])
        for task, accuracy, _ in found:
            if accuracy is not None:  # a regression task has none
                by_task.setdefault(task, []).append(accuracy)
        if not by_task:
            raise InvalidTasks("no validation task has an accuracy: give classification tasks to --valid")
        # In the tasks' order, whichever process scored them: a sum depends on the order of its terms
        means = [sum(sorted(by_task[task])) / len(by_task[task]) for task in sorted(by_task)]
        mean = sum(means) / len(means)
        is_best = self.best is None or mean > self.best.accuracy
        validation = Validation(self.trainer.step_number, mean, sum(failed for _, _, failed in found), is_best)
        if is_best:
            self.best = validation
            self._best_slow = {name: weight.clone() for name, weight in slow.items()}
            self._validations_since_best = 0
        else:
            self._validations_since_best += 1
        return validation

    def _measure_transfer(self) -> list[Transfer]:
        wanted = {task.group for task in (*self.pool.labelled, *self.pool.unlabelled)}
        indices: dict[str, list[int]] = {}
        begin = _LATER + self.trainer.step_number * 10_000
        for index in range(begin, begin + 200 * len(wanted)):
            found = indices.setdefault(self._feed.episode(index).group, [])
            if len(found) < _GUARD_EPISODES:
                found.append(index)
            if len(indices) == len(wanted) and all(len(i) == _GUARD_EPISODES for i in indices.values()):
                break
        enough = {group: found for group, found in sorted(indices.items()) if len(found) > 1}
        return measure_transfer(enough, lambda index: self.trainer.gradients(self._feed(index), index))

    def _validation_episodes(self) -> list[PreparedEpisode]:
        options = self.options
        episodes = draw_validation_episodes(
            read_tasks([Path(folder) for folder in options.valid]).tasks,
            ways=options.valid_ways,
            shots=options.valid_shots,
            queries=10,
            episodes=options.valid_episodes,
            seed=0,
        )
        prepared = []
        with torch.no_grad():
            for episode in episodes:
                try:
                    prepared.append(prepare_episode(self._body, episode))
                except InvalidEpisode:
                    continue  # a text without a token: the same one for every run
        return prepared

    # ---- what lasts --------------------------------------------------------------------------------------------

    def state(self) -> TrainingState:
        """Everything that decides the steps to come."""
        state = self.trainer.state()
        best = {f"best.{name}": weight for name, weight in self._best_slow.items()}
        numbers: dict[str, Any] = {
            **state.numbers,
            "feed": self._feed.state(),
            "best": None if self.best is None else [self.best.step, self.best.accuracy, self.best.failed],
            "validations_since_best": self._validations_since_best,
            "pool": self.pool.digest,
        }
        return TrainingState({**state.tensors, **best}, numbers)

    def restore(self, state: TrainingState) -> None:
        """Goes back to a state.

        Raises:
            ValueError: It is another model's, or the tasks have changed since.
        """
        if state.numbers["pool"] != self.pool.digest:
            raise ValueError("the task files have changed since the run was begun")
        self.trainer.restore(state)
        self._feed.restore(state.numbers["feed"])
        device = self._body.encoder.device
        self._best_slow = {
            name.removeprefix("best."): tensor.to(device)
            for name, tensor in state.tensors.items()
            if name.startswith("best.")
        }
        best = state.numbers["best"]
        self.best = None if best is None else Validation(best[0], best[1], best[2], is_best=True)
        self._validations_since_best = state.numbers["validations_since_best"]

    def write(self, extra_files: Mapping[str, bytes]) -> Manifest:
        """Writes the checkpoint: the best slow weights where there was validation, else the newest."""
        options = self.options
        slow = self._best_slow or self.trainer.slow_weights
        tasks = [TrainingTask(name=task.name, licence=task.licence) for task in self.pool.labelled]
        texts = [TrainingTask(name=Path(path).name, licence="unstated") for path in options.unlabelled]
        name = options.name or self.out.resolve().name
        return write_checkpoint(
            self.out,
            name=name,
            spec=self.spec,
            hyperparameters=Hyperparameters(
                steps=options.inner_steps_used,
                label_text_weight=UNTRAINED.label_text_weight,
                abstain_threshold=UNTRAINED.abstain_threshold,
            ),
            encoder_source=options.encoder,
            encoder_licence=options.encoder_licence,
            slow_weights=slow,
            card=self._card(name),
            settings=self._encoder_settings,
            trained_on=[*tasks, *texts],
            extra_files=extra_files,
        )

    def _card(self, name: str) -> str:
        options, best = self.options, self.best
        validated = "No validation tasks were given."
        if best is not None:
            validated = (
                f"The weights are those of step {best.step}, the best of the validations: mean accuracy "
                f"{best.accuracy:.4f} over {len({e.task for e in self._valid})} tasks, {options.valid_ways}-way "
                f"{options.valid_shots}-shot, without label text."
            )
        return f"""# {name}

Learner `{options.learner}`, fast weights in `{options.placement}`, the top {options.trained_layers} layers of
`{options.encoder}` (licence of its weights: {options.encoder_licence}) meta-trained for
{self.trainer.step_number} outer steps of {options.meta_batch} episodes on {len(self.pool.labelled)} labelled tasks and
{len(self.pool.unlabelled)} tasks made of plain text. {validated}

`manifest.json` lists the tasks with their licences; `training/config.json` has every option of the run, and
`handful metatrain` with these options makes the same weights again.
"""


def model_spec(options: TrainingOptions) -> ModelSpec:
    """What the options say of the model."""
    return ModelSpec(
        learner=options.learner,
        placement=options.placement,
        fast_layers=options.fast_layers,
        rank=options.rank,
        trained_layers=options.trained_layers,
        options=LearnerOptions(
            rates=options.rates,
            update_rule=options.update_rule,
            order=options.order,
            head_rate=options.head_rate,
            body_rate=options.body_rate,
        ),
    )


def read_pool(options: TrainingOptions, encoder: Encoder) -> Pool:
    """Reads task files, and makes tasks of plain text.

    Raises:
        InvalidTasks: A file is malformed, or nothing remains to train on.
    """
    labelled: tuple[Task, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    if options.tasks:
        pool = read_tasks(
            [Path(folder) for folder in options.tasks], index=Path(options.index) if options.index else None
        )
        if options.open_licences_only:
            pool = pool.only_open()
        labelled, skipped = pool.tasks, pool.skipped
    unlabelled: list[Task] = []
    if options.unlabelled:
        texts = [text for path in options.unlabelled for text in read_texts(Path(path))]
        if options.unlabelled_classes != "clusters":
            unlabelled += masked_word_tasks(texts, n_tasks=40, seed=options.seed)
        if options.unlabelled_classes != "words":
            features = _features(texts, encoder)
            unlabelled += cluster_tasks(texts, features, n_clusters=64, n_partitions=4, seed=options.seed)
    return Pool(labelled, tuple(unlabelled), skipped)


def _features(texts: list[str], encoder: Encoder) -> Tensor:
    from metalearn.types import TextInput

    body = TextBody(encoder, 0)
    return body.features({}, body.prepare(encoder.tokenize([TextInput(text) for text in texts])))


def _sampler(pool: Pool, options: TrainingOptions) -> tuple[Sampler, tuple[Skipped, ...]]:
    settings = SamplerSettings(
        ways=bounds(options.ways),
        shots=bounds(options.shots),
        queries=options.queries,
        max_support=options.max_support,
        max_query=options.max_query,
        strategy=options.strategy,
        out_of_scope_share=options.out_of_scope_share,
    )
    samplers = [EpisodeSampler(tasks, settings, options.seed) for tasks in (pool.labelled, pool.unlabelled) if tasks]
    unusable = tuple(skipped for sampler in samplers for skipped in sampler.unusable)
    if len(samplers) == 1:
        return samplers[0], unusable
    return MixedSampler(samplers[0], samplers[1], options.unlabelled_share, options.seed), unusable


def _is_trained(name: str, first_layer: int) -> bool:
    """Whether a slow weight is trained: the learner's and the placement's all are, the encoder's from a layer on."""
    if not name.startswith("body.layers."):
        return True
    return int(name.split(".")[2]) >= first_layer
