"""One meta-training run: its parts, its loop, and the checkpoint that it becomes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metalearn.body import TextBody
from metalearn.collective import Collective
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.suitable import check_suitable
from metalearn.errors import InvalidEpisode
from metalearn.evaluation.evaluate import score
from metalearn.meta_train import MetaTrainer, StepResult, TrainingState
from metalearn.meta_train_settings import MetaTrainSettings
from metalearn.model_spec import make_text_model
from metalearn.prepared import PreparedEpisode
from metalearn.support_plan import prepare_episode
from metalearn.tasks.feed import EpisodeFeed
from metalearn.tasks.transfer import Transfer, held_back, measure_transfer, sketch
from metatrain.label_names import read_label_names
from metatrain.options import TrainingOptions
from metatrain.pool import make_sampler, read_pool, validation_episodes
from metatrain.run_model import is_calibration, is_trained, model_spec, stages_of_run
from model_store.checkpoint import (
    UNTRAINED,
    Hyperparameters,
    Manifest,
    TrainingTask,
    read_manifest,
    resolve_checkpoint,
    starting_weights,
    write_checkpoint,
)

_GUARD_EPISODES = 4
_GUARD_DRAWS = 200
"""The largest number of draws per group in search of the guard's episodes."""
_FAR_APART = 1 << 20
_LATER = 1 << 50
"""Indices of the guard's episodes: far from those that are trained on."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of the slow weights on the validation tasks.

    Attributes:
        step: After which outer step; 0 for the start.
        accuracy: Mean over tasks; an episode that could not be adapted on counts as wholly wrong.
        failed: Number of episodes that could not be adapted on.
        is_best: Whether it is the best so far.
    """

    step: int
    accuracy: float
    failed: int
    is_best: bool


Event = StepResult | Validation | list[Transfer]


class TrainingSession:
    """A run in memory. The loop is ``run``; everything that decides its next step is saved and restored.

    Attributes:
        spec: The specification of the model.
        pool: The tasks for training and validation.
        best: The best validation so far; None without validation tasks.
    """

    def __init__(self, options: TrainingOptions, out: Path, device: torch.device, collective: Collective) -> None:
        """Reads encoder and tasks.

        Raises:
            InvalidTasks: There is nothing to train on.
            InvalidModel: The parts of the model do not fit together.
            EncoderUnavailable: The encoder cannot be loaded.
            CheckpointInvalid: Training cannot start from the checkpoint that it should.
        """
        self.options = options
        self.out = out
        self._collective = collective
        begun_from = None if options.start_from is None else resolve_checkpoint(options.start_from)
        self._begun_from = None if begun_from is None else read_manifest(begun_from)
        encoder_folder = locate_encoder(options.encoder, out)
        self._stages = stages_of_run(options, encoder_folder, self._begun_from)
        encoder = build_encoder(encoder_folder, self._stages, device)
        check_suitable(encoder)
        self.spec = model_spec(options)
        model = make_text_model(self.spec, encoder)
        assert isinstance(model.body, TextBody)  # noqa: S101 - what make_text_model makes
        self._body = model.body
        self._body.bf16 = options.bf16
        self.pool = read_pool(options, encoder, model.learner.objectives)
        sampler, used, self.unusable = make_sampler(self.pool, options)
        self._groups = {task.group for task in used}
        self._feed = EpisodeFeed(
            self._body,
            sampler,
            label_text_share=options.label_text_share,
            seed=options.seed,
        )
        settings = options.part(MetaTrainSettings, inner_steps=options.inner_steps_used, outer_steps=options.steps)
        slow = model.initial_slow_weights(steps=settings.inner_steps, seed=options.seed)
        if begun_from is not None:
            begun = starting_weights(begun_from, slow, self.spec, encoder_folder)
            slow |= {name: weight for name, weight in begun.items() if not is_calibration(name)}
        slow = {name: weight.to(device) for name, weight in slow.items()}
        first_trained = encoder.n_layers - options.tuned_layers
        self.trainer = MetaTrainer(
            model, slow, settings, trained=lambda name: is_trained(name, first_trained), collective=collective
        )
        self._valid = self._validation_episodes() if options.valid else []
        self._validated_at: int | None = None
        self.best: Validation | None = None
        self._best_slow: dict[str, Tensor] = {}
        self._validations_since_best = 0

    @property
    def device(self) -> torch.device:
        """Where the encoder runs."""
        return self._body.encoder.device

    # ---- the loop ----------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool]) -> Iterator[list[Event]]:
        """Trains until the last step, until validation stops getting better, or until ``stop`` returns true.

        Yields:
            What happened in each step; after it the state may be saved.
        """
        options, trainer = self.options, self.trainer
        if options.valid and trainer.step_number == 0:
            yield [self._validate()]
        while trainer.step_number < options.steps and not self.has_given_up:
            result = trainer.step(self._feed, stop=stop)
            events: list[Event] = [result]
            if options.strategy == "difficulty":
                self._feed.observe(result.episodes)
            step = result.step
            if options.guard_every and step % options.guard_every == 0:
                transfers = self._measure_transfer()
                self._feed.group_factors = held_back(self._feed.group_factors, transfers)
                events.append(transfers)
            # Not where the run is stopped: when a run is interrupted must not decide what it arrives at
            if options.valid and (step % options.validate_every == 0 or step == options.steps):
                events.append(self._validate())
            yield events
            if result.stop:
                return

    @property
    def has_given_up(self) -> bool:
        """Whether validation has not got better for as long as the options allow."""
        return self._validations_since_best >= self.options.patience

    def conclude(self) -> None:
        """Chooses between the newest weights and the best validated ones; every process has to call it.

        What it finds out about weights that no validation of the run has seen is not part of the run's state.
        """
        if self.options.valid and self._validated_at != self.trainer.step_number:
            accuracy, failed = self._score()
            if self.best is None or accuracy > self.best.accuracy:
                self.best = Validation(self.trainer.step_number, accuracy, failed, is_best=True)
                self._best_slow = self.trainer.result

    def _validate(self) -> Validation:
        accuracy, failed = self._score()
        is_best = self.best is None or accuracy > self.best.accuracy
        validation = Validation(self.trainer.step_number, accuracy, failed, is_best)
        self._validated_at = validation.step
        if is_best:
            self.best = validation
            self._best_slow = {name: weight.clone() for name, weight in self.trainer.result.items()}
            self._validations_since_best = 0
        else:
            self._validations_since_best += 1
        return validation

    def _score(self) -> tuple[float, int]:
        """Mean accuracy over the validation tasks, and how many episodes failed; alike in all processes."""
        slow, steps = self.trainer.result, self.options.inner_steps_used
        scored = score(self.trainer.model, slow, self._valid, steps=steps)
        own = [(s.task, 0.0 if s.failure or s.accuracy is None else s.accuracy, bool(s.failure)) for s in scored]
        found = self._collective.gathered(own)
        by_task: dict[str, list[float]] = {}
        for task, accuracy, _ in found:
            by_task.setdefault(task, []).append(accuracy)
        # Sorted, whichever process scored them: a sum depends on the order of its terms
        means = [sum(sorted(by_task[task])) / len(by_task[task]) for task in sorted(by_task)]
        return sum(means) / len(means), sum(failed for _, _, failed in found)

    def _measure_transfer(self) -> list[Transfer]:
        places: dict[str, list[int]] = {}
        begin = _LATER + self.trainer.step_number * _FAR_APART
        for index in range(begin, begin + _GUARD_DRAWS * len(self._groups)):
            found = places.setdefault(self._feed.episode(index).group, [])
            if len(found) < _GUARD_EPISODES:
                found.append(index)
            if len(places) == len(self._groups) and all(len(found) == _GUARD_EPISODES for found in places.values()):
                break
        drawn = [(group, index) for group, indices in sorted(places.items()) for index in indices]
        own = drawn[self._collective.rank :: self._collective.size]
        sketches = [(group, index, self._sketch(index)) for group, index in own]
        by_group: dict[str, list[Tensor]] = {}
        for group, _, found_sketch in sorted(self._collective.gathered(sketches), key=lambda each: each[:2]):
            if found_sketch is not None:
                by_group.setdefault(group, []).append(found_sketch)
        return measure_transfer(by_group)

    def _sketch(self, index: int) -> Tensor | None:
        try:
            episode = self._feed(index)
        except InvalidEpisode:  # left out of a training step as well
            return None
        return sketch(self.trainer.gradients(episode, index)).cpu()

    def _validation_episodes(self) -> list[PreparedEpisode]:
        """This process's share of them, after the frozen layers."""
        episodes = validation_episodes(self.pool, self.options)
        self._n_validation_tasks = len({episode.task for episode in episodes})
        prepared = []
        with torch.no_grad():
            for episode in episodes[self._collective.rank :: self._collective.size]:
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
            "validated_at": self._validated_at,
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
        self._validated_at = state.numbers["validated_at"]

    def write(self, extra_files: Mapping[str, bytes]) -> Manifest:
        """Writes the checkpoint: the weights that ``conclude`` chose, or the newest where there is no validation."""
        options = self.options
        slow = self._best_slow or self.trainer.result
        language = read_label_names().language
        tasks = [
            TrainingTask(name=task.name, licence=task.licence, language=language(task.language))
            for task in self.pool.labelled
        ]
        texts = [TrainingTask(name=file.name, licence=file.licence) for file in self.pool.plain_text]
        before = [] if self._begun_from is None else self._begun_from.trained_on
        name = options.name or self.out.resolve().name
        return write_checkpoint(
            self.out,
            name=name,
            spec=self.spec,
            hyperparameters=Hyperparameters(
                steps=options.inner_steps_used,
                abstain_threshold=UNTRAINED.abstain_threshold,
            ),
            encoder_source=options.encoder,
            encoder_licence=options.encoder_licence,
            slow_weights=slow,
            card=self._card(name),
            stages=self._stages,
            trained_on=[*{task.name: task for task in (*before, *tasks, *texts)}.values()],
            extra_files=extra_files,
        )

    def _card(self, name: str) -> str:
        options, best = self.options, self.best
        validated = "No validation tasks were given."
        if best is not None:
            validated = (
                f"The weights are those of step {best.step}, the best of the validations: mean accuracy "
                f"{best.accuracy:.4f} over {self._n_validation_tasks} tasks, {options.valid_ways}-way "
                f"{options.valid_shots}-shot, without label text."
            )
        begun = ""
        if self._begun_from is not None:
            begun = f", from `{self._begun_from.name}` ({self._begun_from.fingerprint[:12]}) on"
        return f"""# {name}

Learner `{options.learner}`, fast weights in `{options.placement}`, the top {options.tuned_layers} layers of
`{options.encoder}` (licence of its weights: {options.encoder_licence}) meta-trained for
{self.trainer.step_number} outer steps of {options.meta_batch} episodes on {len(self.pool.labelled)} labelled tasks and
{len(self.pool.unlabelled)} tasks made of plain text{begun}. {validated}

`manifest.json` lists the tasks with their licences; `training/config.json` has every option of the run, and
`handful metatrain` with these options makes the same weights again.
"""
