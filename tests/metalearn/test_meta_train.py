"""The outer loop: what a step does, what it leaves out, exact resumption, and several processes as one."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from metalearn.body import MlpBody, TextBody
from metalearn.collective import Alone, Collective, wait_for_all
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidEpisode, InvalidModel, MetaTrainingFailed
from metalearn.learners import make_learner
from metalearn.learners.interface import LearnerOptions
from metalearn.losses import supervised_contrastive
from metalearn.meta_model import MetaModel
from metalearn.meta_train import MetaTrainer
from metalearn.meta_train_settings import MetaTrainSettings
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.placement import Full, HeadOnly, Placement
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.support_plan import prepare_episode
from metalearn.types import Episode, LabelledTexts, TextInput
from tests.metalearn.test_placement import moved
from tests.waiting import LIMIT_S, until

STEPS = 2


def blobs(index: int, *, ways: int = 3, shots: int = 2, queries: int = 3) -> PreparedEpisode:
    """Classes that lie around random points."""
    draw = torch.Generator().manual_seed(index)
    centres = torch.randn(ways, 4, generator=draw)

    def labelled(per_class: int) -> PreparedSet:
        targets = torch.arange(ways).repeat(per_class)
        inputs = centres[targets] + 0.5 * torch.randn(len(targets), 4, generator=draw)
        return PreparedSet(inputs, targets, torch.ones(len(targets)), ways)

    return PreparedEpisode(labelled(shots), labelled(queries), f"task-{index % 3}", "blobs")


def model(learner: str = "maml", placement: Placement | None = None, **options: object) -> MetaModel:
    """A small perceptron under a learner."""
    made = make_learner(learner, LearnerOptions(head_rate=0.1, body_rate=0.05, **options))  # type: ignore[arg-type]
    return MetaModel(MlpBody((4, 8, 6)), placement or Full(2), made)


def trainer(which: MetaModel | None = None, **changes: object) -> MetaTrainer:
    """At its start."""
    which = which or model()
    settings = MetaTrainSettings(**{"inner_steps": STEPS, "outer_steps": 20, "warmup_steps": 3, **changes})  # type: ignore[arg-type]
    return MetaTrainer(which, which.initial_slow_weights(steps=STEPS, seed=1), settings)


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_lowers_the_loss_on_episodes_that_were_not_trained_on() -> None:
    trained = trainer(meta_batch=8, outer_steps=60, learning_rate=1e-2, learner_learning_rate=1e-2)

    def loss() -> float:
        held_out = [blobs(10_000_000 + i) for i in range(50)]
        results = [trained.model.run_episode(trained.slow_weights, episode, steps=STEPS) for episode in held_out]
        return float(torch.stack([result.meta_loss.detach() for result in results]).mean())

    before = loss()
    for _ in range(60):
        trained.step(blobs)
    assert loss() < 0.93 * before


def test_a_step_is_adamw_on_the_mean_gradient() -> None:
    settings = {"meta_batch": 4, "learning_rate": 1e-2, "learner_learning_rate": 3e-2, "clip_norm": 1e9}
    ours = trainer(**settings, weight_decay=0.1, schedule="constant", warmup_steps=0)
    slow = {name: weight.clone().requires_grad_() for name, weight in ours.slow_weights.items()}
    reference = torch.optim.AdamW(
        [
            {
                "params": [weight],
                "lr": 3e-2 if name.startswith("learner.") else 1e-2,
                "weight_decay": 0.1 if name.startswith("body.") and weight.dim() == 2 else 0.0,
            }
            for name, weight in slow.items()
        ]
    )
    for step in range(3):
        ours.step(blobs)
        reference.zero_grad()
        losses = [ours.model.run_episode(slow, blobs(4 * step + i), steps=STEPS).meta_loss for i in range(4)]
        torch.stack(losses).mean().backward()
        reference.step()
    for name, weight in ours.slow_weights.items():
        torch.testing.assert_close(weight, slow[name].detach(), atol=1e-6, rtol=1e-5)


def _bank_episode() -> Episode:
    """Two classes whose labels have words, which separate the examples."""
    own = ("the card arrival", "card arrival is late", "an extra fee")
    texts = [TextInput(text) for text in (*own, "why a fee", "card", "fees?")]
    support, query = LabelledTexts(tuple(texts[:3]), (0, 0, 1)), LabelledTexts(tuple(texts[3:]), (1, 0, 1))
    return Episode("bank", "intent", "classification", ("card_arrival", "extra_fee"), support, query)


@pytest.mark.parametrize(
    ("spec", "own"),
    [
        (ModelSpec(tuned_layers=1), {"learner.log_scale"}),
        (ModelSpec("metasgd", tuned_layers=1), {"learner.rate.head.weight"}),
        (ModelSpec("protomaml", "modulations", 1), {"learner.log_scale"}),
        (ModelSpec("protomaml", "low_rank", 1, rank=2, tuned_layers=2), {"learner.log_body_rate"}),
        (ModelSpec("attention", tuned_layers=1), set()),
    ],
    ids=lambda value: f"{value.learner}-{value.placement}" if isinstance(value, ModelSpec) else None,
)
def test_the_encoders_weights_have_one_rate_and_what_is_learned_beside_them_another(
    encoder: Encoder, spec: ModelSpec, own: set[str]
) -> None:
    which = make_text_model(spec, encoder)
    assert isinstance(which.body, TextBody)
    episode = prepare_episode(which.body, _bank_episode(), use_label_text=True)
    slow = moved(which.initial_slow_weights(steps=STEPS), by=0.05)
    of_encoder, of_learner = 0.25, 2.0
    settings = MetaTrainSettings(
        inner_steps=STEPS,
        outer_steps=20,
        meta_batch=1,
        learning_rate=of_encoder,
        learner_learning_rate=of_learner,
        optimizer="sgd",
        weight_decay=0.0,
        schedule="constant",
        warmup_steps=0,
        clip_norm=1e9,
    )
    ours = MetaTrainer(which, slow, settings)
    gradients = ours.gradients(episode, 0)
    assert {"prior.log_weight", "prior.fade", *own} <= gradients.keys()
    ours.step(lambda _: episode)
    for name, gradient in gradients.items():
        if name.startswith(("body.layers.", "fast.")):
            rate = of_encoder
        else:
            rate = of_learner / 10 if gradient.dim() == 2 else of_learner
        torch.testing.assert_close(ours.slow_weights[name], slow[name] - rate * gradient, atol=1e-5, rtol=1e-4)
        if name in own or name.startswith(("prior.", "fast.")):
            assert float(gradient.abs().max()) > 1e-4, f"{name}: else any rate would do"
    assert any(name.startswith("fast.") for name in gradients) is (spec.placement != "head")


def test_weight_decay_is_of_the_encoders_matrices_alone(encoder: Encoder) -> None:
    which = make_text_model(ModelSpec("attention", tuned_layers=1), encoder)
    assert isinstance(which.body, TextBody)
    # Without label texts nothing reaches the prior, and without a gradient nothing but decay moves a weight
    episode = prepare_episode(which.body, _bank_episode())
    slow = moved(which.initial_slow_weights(steps=STEPS), by=0.05)
    kept, decayed = (_after_one_step(which, slow, episode, weight_decay=decay) for decay in (0.0, 0.5))
    assert torch.equal(kept["prior.fade"], slow["prior.fade"])
    for name, weight in slow.items():
        if name.startswith("body.layers.") and weight.dim() == 2:
            torch.testing.assert_close(decayed[name], kept[name] - 0.1 * 0.5 * weight, atol=1e-6, rtol=1e-5)
        else:
            assert torch.equal(decayed[name], kept[name]), name


def _after_one_step(
    which: MetaModel, slow: dict[str, Tensor], episode: PreparedEpisode, *, weight_decay: float
) -> dict[str, Tensor]:
    settings = MetaTrainSettings(
        inner_steps=STEPS,
        outer_steps=20,
        meta_batch=1,
        learning_rate=0.1,
        learner_learning_rate=0.2,
        weight_decay=weight_decay,
        schedule="constant",
        warmup_steps=0,
    )
    ours = MetaTrainer(which, slow, settings)
    ours.step(lambda _: episode)
    return ours.slow_weights


def test_training_learns_what_label_texts_count(encoder: Encoder) -> None:
    which = make_text_model(ModelSpec(), encoder)
    assert isinstance(which.body, TextBody)
    episode = prepare_episode(which.body, _bank_episode(), use_label_text=True)
    slow = which.initial_slow_weights(steps=STEPS)
    settings = MetaTrainSettings(inner_steps=STEPS, outer_steps=30, meta_batch=1, warmup_steps=0)
    only_prior = MetaTrainer(which, slow, settings, trained=lambda name: name.startswith("prior."))
    before = float(which.run_episode(slow, episode, steps=STEPS).meta_loss.detach())
    for _ in range(30):
        only_prior.step(lambda _: episode)
    after = only_prior.slow_weights
    assert float(which.run_episode(after, episode, steps=STEPS).meta_loss.detach()) < before
    changed = {name for name, weight in slow.items() if not torch.equal(weight, after[name])}
    assert changed == {"prior.log_weight", "prior.fade"}


def test_splits_reach_every_episode_of_a_step() -> None:
    which, index = model("protomaml", HeadOnly()), 5
    ours, once = trainer(which, splits=3, seed=2), trainer(which, seed=2)
    slow = {name: weight.clone().requires_grad_() for name, weight in ours.slow_weights.items()}
    loss = which.run_episode(slow, blobs(index), steps=STEPS, seed=2 * 1_000_003 + index, splits=3).meta_loss
    expected = torch.autograd.grad(loss, list(slow.values()))
    found, other = ours.gradients(blobs(index), index), once.gradients(blobs(index), index)
    assert all(torch.equal(found[name], gradient) for name, gradient in zip(slow, expected, strict=True))
    assert not _equal(found, other)
    results = ours.step(blobs), once.step(blobs)
    assert not _equal(ours.slow_weights, once.slow_weights)
    # A record is of the episode as it came
    for divided, plain in zip(results[0].episodes, results[1].episodes, strict=True):
        assert divided.loss == pytest.approx(plain.loss, rel=1e-5)
        assert divided.accuracy == plain.accuracy


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("average", [0.15, 0.9, 0.999])
def test_the_result_is_a_moving_average_that_forgets_the_start_quickly(average: float, optimizer: str) -> None:
    ours = trainer(average=average, optimizer=optimizer, learning_rate=0.05, learner_learning_rate=0.05)
    expected = {name: weight.double() for name, weight in ours.slow_weights.items()}
    assert _equal(ours.result, ours.slow_weights)
    decays = []
    for step in range(8):
        ours.step(blobs)
        decay = min(average, (1 + step) / (10 + step))
        decays.append(decay)
        expected = {n: decay * w + (1 - decay) * ours.slow_weights[n].double() for n, w in expected.items()}
        for name, weight in ours.result.items():
            torch.testing.assert_close(weight.double(), expected[name], atol=1e-6, rtol=1e-5)
        assert not _equal(ours.result, ours.slow_weights)
    assert decays[0] == pytest.approx(0.1)
    assert (max(decays) == average) is (average == 0.15), "warmed up within the steps taken, or not yet"


def test_averaging_does_not_change_the_steps() -> None:
    plain, averaged = trainer(), trainer(average=0.9)
    for _ in range(4):
        results = plain.step(blobs), averaged.step(blobs)
        assert results[0] == results[1]
    assert _equal(plain.slow_weights, averaged.slow_weights)


def test_without_an_average_the_result_is_the_weights_themselves() -> None:
    ours = trainer()
    for _ in range(3):
        ours.step(blobs)
        assert _equal(ours.result, ours.slow_weights)
    assert not [name for name in ours.state().tensors if name.startswith("average.")]


def test_a_weight_that_is_not_trained_is_passed_through() -> None:
    which = model()
    slow = which.initial_slow_weights(steps=STEPS)
    settings = MetaTrainSettings(inner_steps=STEPS, outer_steps=9, warmup_steps=0, average=0.9)
    part = MetaTrainer(which, slow, settings, trained=lambda name: name.startswith("body.layers.1"))
    for _ in range(3):
        part.step(blobs)
    assert part.result.keys() == slow.keys()
    moved_by_average = {name for name, weight in part.result.items() if not torch.equal(weight, slow[name])}
    assert moved_by_average == {"body.layers.1.weight", "body.layers.1.bias"}
    assert not any(torch.equal(part.result[name], part.slow_weights[name]) for name in moved_by_average)


def test_a_step_without_a_usable_episode_leaves_the_average_as_it_is() -> None:
    ours = trainer(average=0.9)
    ours.step(blobs)
    before = {name: weight.clone() for name, weight in ours.result.items()}
    for _ in range(3):
        ours.step(_spoiled(lambda _: True, math.nan))
    assert _equal(ours.result, before)
    ours.step(blobs)
    assert not _equal(ours.result, before)


def test_results_are_no_windows_on_the_average_of_a_state() -> None:
    ours = trainer(average=0.9)
    ours.step(blobs)
    state = ours.state()
    kept = {name: tensor.clone() for name, tensor in state.tensors.items()}
    ours.step(blobs)
    assert _equal(dict(state.tensors), kept)


@pytest.mark.parametrize("average", [0.0, 0.7])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("learner", ["maml", "reptile", "protomaml"])
def test_a_restored_run_arrives_at_the_same_bits(learner: str, optimizer: str, average: float) -> None:
    placement = HeadOnly() if learner == "protomaml" else Full(2)
    uninterrupted = trainer(model(learner, placement), optimizer=optimizer, average=average)
    for _ in range(7):
        uninterrupted.step(blobs)
    first = trainer(model(learner, placement), optimizer=optimizer, average=average)
    for _ in range(3):
        first.step(blobs)
    state = first.state()
    first.step(blobs)  # what comes after the saved state must not reach it
    again = trainer(model(learner, placement), optimizer=optimizer, average=average)
    again.restore(state)
    for _ in range(4):
        again.step(blobs)
    assert again.step_number == 7
    assert _equal(again.slow_weights, uninterrupted.slow_weights)
    assert _equal(again.result, uninterrupted.result)
    assert _equal(again.result, again.slow_weights) is (average == 0)
    assert not _equal(first.slow_weights, uninterrupted.slow_weights)


def test_a_state_of_another_model_is_refused() -> None:
    state = trainer(model("maml")).state()
    with pytest.raises(ValueError, match="another model"):
        trainer(model("metasgd")).restore(state)


def test_rates_warm_up_and_run_out() -> None:
    def factors(schedule: str) -> list[float]:
        settings = MetaTrainSettings(inner_steps=1, outer_steps=12, warmup_steps=4, schedule=schedule)  # type: ignore[arg-type]
        return [settings.rate_factor(step) for step in range(12)]

    assert factors("constant") == pytest.approx([0.25, 0.5, 0.75, 1.0] + [1.0] * 8)
    assert factors("linear") == pytest.approx([0.25, 0.5, 0.75, 1.0] + [1 - i / 8 for i in range(8)])
    assert factors("cosine")[8] == pytest.approx(0.5)
    assert factors("cosine")[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))


def test_a_long_gradient_is_scaled_down() -> None:
    settings = {"optimizer": "sgd", "learning_rate": 1.0, "learner_learning_rate": 1.0, "weight_decay": 0.0}
    clipped = trainer(clip_norm=1e-3, schedule="constant", warmup_steps=0, **settings)
    before = clipped.slow_weights
    before = {name: weight.clone() for name, weight in before.items()}
    result = clipped.step(blobs)
    moved = torch.cat([(clipped.slow_weights[name] - weight).reshape(-1) for name, weight in before.items()])
    assert result.gradient_norm > 1e-2
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_only_what_is_to_be_trained_moves() -> None:
    which = model()
    slow = which.initial_slow_weights(steps=STEPS)
    settings = MetaTrainSettings(inner_steps=STEPS, outer_steps=5, warmup_steps=0)
    part = MetaTrainer(which, slow, settings, trained=lambda name: name.startswith("body.layers.1"))
    part.step(blobs)
    moved = {name for name, weight in part.slow_weights.items() if not torch.equal(weight, slow[name])}
    assert moved == {"body.layers.1.weight", "body.layers.1.bias"}
    with pytest.raises(ValueError, match="no slow weight"):
        MetaTrainer(which, slow, settings, trained=lambda _: False)


def _spoiled(bad: Callable[[int], bool], how: float) -> Callable[[int], PreparedEpisode]:
    def source(index: int) -> PreparedEpisode:
        episode = blobs(index)
        if bad(index):
            episode.query.inputs.mul_(how)
        return episode

    return source


@pytest.mark.parametrize("how", [math.nan, math.inf])
def test_an_episode_whose_loss_is_not_finite_is_left_out_and_counted(how: float) -> None:
    ours, reference = trainer(), trainer()
    result = ours.step(_spoiled(lambda index: index == 1, how))

    def without(index: int) -> PreparedEpisode:
        if index == 1:
            raise InvalidEpisode("a text has no token")
        return blobs(index)

    expected = reference.step(without)
    assert [record.skipped for record in result.episodes] == ["", "the loss was not finite", "", ""]
    assert [record.skipped for record in expected.episodes] == ["", "a text has no token", "", ""]
    assert result.loss == expected.loss
    assert result.loss is not None
    assert math.isfinite(result.loss)
    assert _equal(ours.slow_weights, reference.slow_weights)


def test_a_run_without_usable_episodes_ends_with_a_reason_and_unspoiled_weights() -> None:
    hopeless = trainer()
    before = {name: weight.clone() for name, weight in hopeless.slow_weights.items()}
    with pytest.raises(MetaTrainingFailed, match="the loss was not finite"):
        for _ in range(100):
            hopeless.step(_spoiled(lambda _: True, math.nan))
    assert _equal(hopeless.slow_weights, before)


def test_the_contrast_runs_across_the_tasks_of_a_group_of_episodes() -> None:
    weight, temperature = 0.7, 0.2
    which = model("protomaml", HeadOnly())
    changes = {"contrastive_weight": weight, "contrastive_temperature": temperature, "meta_batch": 4}
    settings = {"optimizer": "sgd", "learning_rate": 1.0, "learner_learning_rate": 1.0, "clip_norm": 1e9}
    ours = trainer(which, **changes, **settings, weight_decay=0.0, schedule="constant", warmup_steps=0)
    slow = {name: w.clone().requires_grad_() for name, w in ours.slow_weights.items()}
    total = torch.zeros(())
    for pair in ((0, 1), (2, 3)):
        features, classes = [], []
        for place, index in enumerate(pair):
            episode = blobs(index)
            result = which.run_episode(slow, episode, steps=STEPS)
            total = total + result.meta_loss / 4
            features += [result.support_features, result.query_features]
            classes += [episode.support.targets + 3 * place, episode.query.targets + 3 * place]
        total = total + weight * supervised_contrastive(torch.cat(features), torch.cat(classes), temperature) / 2
    gradients = torch.autograd.grad(total, list(slow.values()))
    ours.step(blobs)
    for (name, before), gradient in zip(slow.items(), gradients, strict=True):
        torch.testing.assert_close(ours.slow_weights[name], (before - gradient).detach(), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="do not divide"):
        trainer(which, contrastive_weight=1.0, contrastive_episodes=3, meta_batch=4)


def test_gradients_of_one_episode_change_nothing() -> None:
    ours = trainer()
    before = ours.state()
    gradients = ours.gradients(blobs(5), 5)
    assert gradients.keys() == ours.slow_weights.keys()
    assert any(bool(gradient.abs().sum() > 0) for gradient in gradients.values())
    after = ours.state()
    assert _equal(dict(before.tensors), dict(after.tensors))
    assert before.numbers == after.numbers


def four_steps(processes: Collective) -> dict[str, Tensor]:
    """Slow weights after four outer steps in float64; rank 0 asks to stop after the last one."""
    which = model()
    slow = {name: weight.double() for name, weight in which.initial_slow_weights(steps=STEPS, seed=1).items()}

    def doubled(part: PreparedSet) -> PreparedSet:
        return replace(part, inputs=part.inputs.double(), weights=part.weights.double())

    def source(index: int) -> PreparedEpisode:
        episode = blobs(index)
        return replace(episode, support=doubled(episode.support), query=doubled(episode.query))

    settings = MetaTrainSettings(
        inner_steps=STEPS, outer_steps=20, warmup_steps=3, meta_batch=6, contrastive_weight=0.5
    )
    ours = MetaTrainer(which, slow, settings, collective=processes)
    stops = []
    for step in range(4):
        result = ours.step(source, stop=lambda last=step == 3: last and processes.rank == 0)
        stops.append(result.stop)
        assert [record.index for record in result.episodes] == list(range(6 * step, 6 * step + 6))
    assert stops == [False, False, False, True], stops
    return ours.slow_weights


WORKER = """
import sys
import safetensors.torch, torch
torch.set_num_threads(1)
from metalearn.collective import torch_processes
from tests.metalearn.test_meta_train import four_steps
with torch_processes("gloo") as processes:
    assert processes.size == 2
    safetensors.torch.save_file(four_steps(processes), f"{sys.argv[1]}/{processes.rank}")
"""


def test_no_process_leaves_before_all_have_finished() -> None:
    store = torch.distributed.HashStore()
    with ThreadPoolExecutor(2) as threads:
        leaving = [threads.submit(wait_for_all, store, 3) for _ in range(2)]
        until(lambda: store.add("handful/finished", 0) == 2)
        assert not any(each.done() for each in leaving)
        wait_for_all(store, 3)
        for each in leaving:
            each.result(LIMIT_S)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*command, str(script), str(tmp_path)],
        check=True,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        timeout=LIMIT_S,
    )
    alone = four_steps(Alone())
    first, second = (safetensors.torch.load_file(tmp_path / str(rank)) for rank in (0, 1))
    assert _equal(first, second)
    for name, weight in alone.items():
        # In float64, where summing in another order is the only difference
        torch.testing.assert_close(first[name], weight, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("learner", ["reptile", "fomaml", "maml"])
def test_a_model_of_which_nothing_can_be_trained_is_refused(learner: str) -> None:
    which = model(learner, HeadOnly())
    slow = which.initial_slow_weights(steps=STEPS)
    settings = MetaTrainSettings(inner_steps=STEPS, outer_steps=5)
    only_learner = MetaTrainer(which, slow, settings, trained=lambda name: name.startswith("learner."))
    with pytest.raises(InvalidModel, match=f"nothing that {learner} meta-trains"):
        only_learner.step(blobs)


def test_rates_that_nothing_would_learn_are_refused() -> None:
    for options in (LearnerOptions(rates="learned"), LearnerOptions(order="second")):
        with pytest.raises(InvalidModel, match="reptile"):
            make_learner("reptile", options)


def test_the_contrast_takes_each_text_once_where_support_and_query_set_are_joined() -> None:
    joined = trainer(model("reptile"), contrastive_weight=1.0)
    result = joined.step(blobs)
    assert not any(record.skipped for record in result.episodes)
    episode = blobs(0)
    features = joined.model.run_episode(joined.slow_weights, episode, steps=STEPS).support_features
    assert features.shape[0] == episode.support.targets.shape[0]
