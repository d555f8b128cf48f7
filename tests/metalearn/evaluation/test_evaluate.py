"""Evaluation does what serving does, gives every model the same episodes, and hides no failure."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from metalearn.adapting import adapt
from metalearn.body import HiddenTexts, MlpBody, TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.errors import InvalidModel, UnsupportedObjective
from metalearn.evaluation import evaluate
from metalearn.evaluation.evaluate import EpisodePlan, Evaluator, evaluate_fixed, evaluate_tasks, score
from metalearn.evaluation.report import EpisodeScores, Report
from metalearn.fast_weights import rounded_head
from metalearn.inner_loop import collect
from metalearn.learners import make_learner
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.options import AdaptOptions
from metalearn.placement import HeadOnly
from metalearn.support_plan import plan_support, prepare_episode, prepare_episode_support
from metalearn.tasks.fixed import read_fixed_tasks
from metalearn.tasks.task import Task
from metalearn.types import OUT_OF_SCOPE, Episode, Example, LabelledTexts, SupportSet, TextInput
from tests.metalearn.conftest import as_prepared
from tests.metalearn.tasks.making import classes_task, multi_label_task, scores_task
from tests.metalearn.tasks.test_fixed import write_task
from tests.metalearn.test_meta_model import episode_of, model_of, slow_of

TASK = classes_task([9] * 4, name="colours", labels=["blue sky", "green grass", "red rose", "yellow sun"])
OTHER = classes_task([9] * 3, name="moods")
PLAN = EpisodePlan(ways=3, shots=(1, 2), queries=4, episodes=3)
STEPS = AdaptOptions(steps=3, use_label_text=False)
DEEP = ModelSpec("maml", "modulations", fast_layers=1)
TUNED = ModelSpec(tuned_layers=1)


def evaluator_of(encoder: Encoder, spec: ModelSpec | None = None, **options: object) -> Evaluator:
    """A model before any meta-training."""
    model = make_text_model(spec or ModelSpec(), encoder)
    return Evaluator(model, model.initial_slow_weights(steps=3), **options)  # type: ignore[arg-type]


def episode(*, queries: Sequence[tuple[str, int]] = (("sky", 0), ("rose", 1))) -> Episode:
    """Two classes of two examples."""
    support = LabelledTexts(tuple(map(TextInput, ("the sky", "the sea", "a rose", "blood"))), (0, 0, 1, 1))
    texts, targets = zip(*queries, strict=True)
    query = LabelledTexts(tuple(map(TextInput, texts)), targets)
    return Episode("colours", "topic", "classification", ("blue", "red"), support, query)


class Counting:
    """Counts the texts that a body is given, call by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[int] = []
        prepare: Callable[..., HiddenTexts] = TextBody.prepare

        def counted(body: TextBody, texts: Sequence[TokenizedText]) -> HiddenTexts:
            self.calls.append(len(texts))
            return prepare(body, texts)

        monkeypatch.setattr(TextBody, "prepare", counted)


def untimed(report: Report) -> Report:
    """Without what no two runs have in common."""
    return replace(
        report,
        scores={
            task: {k: tuple(replace(s, adapt_ms=None) for s in scores) for k, scores in by_shots.items()}
            for task, by_shots in report.scores.items()
        },
    )


# ---- what serving does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [ModelSpec(), ModelSpec("maml"), DEEP, TUNED])
@pytest.mark.parametrize("use_label_text", [False, True])
def test_fast_weights_are_those_that_serving_makes(encoder: Encoder, spec: ModelSpec, use_label_text: bool) -> None:
    model = make_text_model(spec, encoder)
    slow = model.initial_slow_weights(steps=3)
    given = episode()
    examples = [
        Example(text, given.labels[target])
        for text, target in zip(given.support.inputs, given.support.targets, strict=True)
        if isinstance(target, int)
    ]
    plan = plan_support(SupportSet(tuple(examples)), use_label_text=use_label_text)
    assert isinstance(model.body, TextBody)
    served = as_prepared(plan, model.body)
    result = collect(model.adapt(slow, served, model.start(slow, served), steps=3))
    wanted = rounded_head(model.answering(slow, result.fast_weights, served))
    support = prepare_episode_support(model.body, given, use_label_text=use_label_text)
    found = adapt(model, slow, support, AdaptOptions(3)).fast_weights
    assert found.keys() == wanted.keys()
    for name, weights in wanted.items():
        assert torch.equal(found[name], weights), name
        assert not found[name].requires_grad


@pytest.mark.parametrize("spec", [ModelSpec(), ModelSpec("maml"), DEEP, TUNED])
def test_an_episode_scores_the_same_from_texts_and_prepared(encoder: Encoder, spec: ModelSpec) -> None:
    model = make_text_model(spec, encoder)
    slow = model.initial_slow_weights(steps=3)
    assert isinstance(model.body, TextBody)
    for index in range(3):
        given = PLAN.episode(TASK, 2, index)
        prepared = prepare_episode(model.body, given, use_label_text=True)
        found = Evaluator(model, slow).evaluate_episode(given, AdaptOptions(3))
        (wanted,) = score(model, slow, [prepared], steps=3)
        assert found.accuracy == wanted.accuracy
        assert found.macro_f1 == wanted.macro_f1
        assert found.ece == pytest.approx(wanted.ece, abs=1e-5)
        assert (found.task, found.n_queries, found.majority) == ("colours", 12, wanted.majority)


def test_settings_reach_the_inner_loop(encoder: Encoder) -> None:
    evaluator = evaluator_of(encoder, ModelSpec("maml"))
    given = PLAN.episode(TASK, 2, 0)
    still = evaluator.evaluate_episode(given, AdaptOptions(steps=0, use_label_text=False))
    assert still.accuracy == pytest.approx(1 / 3)  # a shared start separates no classes
    plain = AdaptOptions(20, use_label_text=False)
    several = (plain, replace(plain, learning_rate=0.01), replace(plain, use_label_text=True))
    scores = [evaluator.evaluate_episode(given, options) for options in several]
    assert len({s.ece for s in scores}) == 3


def test_the_model_has_to_read_texts() -> None:
    model = MetaModel(MlpBody((3, 4)), HeadOnly(), make_learner("maml"))
    with pytest.raises(InvalidModel, match="texts"):
        Evaluator(model, {})


# ---- encoding ------------------------------------------------------------------------------------------------------


def test_queries_are_encoded_once_and_support_sets_each_time(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, counting = evaluator_of(encoder), Counting(monkeypatch)
    given = PLAN.episode(TASK, 2, 0)
    first = evaluator.evaluate_episode(given, STEPS)
    assert counting.calls == [6, 12]
    assert evaluator.evaluate_episode(given, STEPS) == first
    assert counting.calls == [6, 12, 6]


def test_a_query_that_stands_there_twice_is_encoded_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    given = episode(queries=[("sky", 0), ("rose", 1), ("sky", 1)])
    assert evaluator_of(encoder).evaluate_episode(given, STEPS).n_queries == 3
    assert counting.calls == [4, 2]


def test_the_cache_has_a_bound_and_changes_nothing(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, small, none = (evaluator_of(encoder, max_cached_texts=n) for n in (2**17, 10, 0))
    reports = [untimed(evaluate_tasks(e, [TASK, OTHER], PLAN, STEPS)) for e in (roomy, small, none)]
    for other in reports[1:]:
        assert [s.accuracy for s in other.scores["colours"][2]] == [s.accuracy for s in reports[0].scores["colours"][2]]
    counting = Counting(monkeypatch)
    given = PLAN.episode(TASK, 2, 0)
    for evaluator, calls in ((roomy, [6]), (small, [6, 12]), (none, [6, 12])):
        counting.calls.clear()
        evaluator.evaluate_episode(PLAN.episode(OTHER, 2, 0), STEPS)
        counting.calls.clear()
        evaluator.evaluate_episode(given, STEPS)
        assert counting.calls == calls


@pytest.mark.parametrize("spec", [ModelSpec(), DEEP, TUNED])
def test_queries_are_read_in_bounded_chunks(encoder: Encoder, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec) -> None:
    texts = [("word " * (i % 7 + 1), i % 2) for i in range(23)]
    queries = [(f"{text} {i}", target) for i, (text, target) in enumerate(texts)]
    given = episode(queries=queries)
    whole = evaluator_of(encoder, spec).evaluate_episode(given, STEPS)
    monkeypatch.setattr(evaluate, "_QUERIES_AT_ONCE", 5)
    counting = Counting(monkeypatch)
    parts = evaluator_of(encoder, spec).evaluate_episode(given, STEPS)
    assert counting.calls == [4, 5, 5, 5, 5, 3]
    assert parts.accuracy == whole.accuracy
    assert parts.ece == pytest.approx(whole.ece, abs=1e-5)


def test_outputs_stand_in_the_order_of_the_queries(encoder: Encoder) -> None:
    """Each query alone gets what it gets among others of other lengths."""
    queries = [("a very long text about the blue sky above us", 0), ("red", 1), ("the sky", 0), ("roses " * 9, 1)]
    evaluator = evaluator_of(encoder)
    together = evaluator.evaluate_episode(episode(queries=queries), STEPS)
    alone = [evaluator.evaluate_episode(episode(queries=[query]), STEPS) for query in queries]
    assert together.accuracy == pytest.approx(sum(s.accuracy or 0.0 for s in alone) / 4)


def test_nothing_is_kept_for_gradients(encoder: Encoder) -> None:
    model = make_text_model(DEEP, encoder)
    slow = {name: weight.requires_grad_() for name, weight in model.initial_slow_weights(steps=3).items()}
    evaluator = Evaluator(model, slow)
    fast, _ = evaluator._adapted(episode(), STEPS)
    assert not any(weight.requires_grad for weight in fast.values())
    assert not evaluator._outputs(fast, [TextInput("sky")]).requires_grad
    assert all(weight.grad is None for weight in slow.values())


# ---- time ----------------------------------------------------------------------------------------------------------


def test_adaptation_is_timed_by_the_clock_given(encoder: Encoder) -> None:
    ticks = count()
    evaluator = evaluator_of(encoder, clock=lambda: next(ticks) * 0.25)
    assert [evaluator.evaluate_episode(episode(), STEPS).adapt_ms for _ in range(2)] == [250.0, 250.0]
    assert evaluator_of(encoder).evaluate_episode(episode(), STEPS).adapt_ms is None


def test_the_first_adaptation_warms_up_before_it_is_timed(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    evaluator_of(encoder, clock=lambda: 0.0).evaluate_episode(episode(), STEPS)
    assert counting.calls == [4, 4, 2]


# ---- failures ------------------------------------------------------------------------------------------------------


def test_divergence_is_a_counted_failure(encoder: Encoder) -> None:
    settings = AdaptOptions(40, learning_rate=1e39, use_label_text=False)  # more than a float32 holds
    found = evaluator_of(encoder).evaluate_episode(episode(), settings)
    assert "learning rate" in found.failure
    assert (found.accuracy, found.n_queries, found.adapt_ms) == (None, 0, None)
    report = evaluate_tasks(evaluator_of(encoder), [TASK], PLAN, settings)
    assert (report.tasks["colours"][2].failed, report.tasks["colours"][2].n_episodes) == (3, 0)
    assert [f["episode"] for f in report.to_json()["failures"]] == [0, 1, 2] * 2


def test_an_example_without_a_token_is_a_counted_failure(encoder: Encoder) -> None:
    given = episode()
    support = replace(given.support, inputs=(TextInput("\u200b"), *given.support.inputs[1:]))
    found = evaluator_of(encoder).evaluate_episode(replace(given, support=support), STEPS)
    assert "no token" in found.failure


def test_a_query_without_a_token_is_answered_like_any_other(encoder: Encoder) -> None:
    found = evaluator_of(encoder).evaluate_episode(episode(queries=[("\u200b", 0), ("rose", 1)]), STEPS)
    assert (found.failure, found.n_queries) == ("", 2)


def test_queries_out_of_scope_do_not_count(encoder: Encoder) -> None:
    queries = [("sky", 0), ("rose", 1)]
    evaluator = evaluator_of(encoder)
    found = evaluator.evaluate_episode(episode(queries=[*queries, ("a dog", OUT_OF_SCOPE)]), STEPS)
    assert found.n_queries == 2
    assert found.accuracy == evaluator.evaluate_episode(episode(queries=queries), STEPS).accuracy


def test_prepared_episodes_that_fail_keep_their_place() -> None:
    model = model_of()
    found = score(model, slow_of(model), [episode_of(), episode_of(4)], steps=3)
    assert [s.failure for s in found] == ["", ""]
    assert [s.n_queries for s in found] == [12, 16]
    failed = score(model, slow_of(model), [episode_of(), episode_of(3, "regression")], steps=3, learning_rate=1e30)
    assert "lower the learning rate" in failed[0].failure
    assert "regression" in failed[1].failure


@pytest.mark.parametrize("objective", ["classification", "multi_label", "regression"])
def test_prepared_episodes_of_every_objective(objective: str) -> None:
    model = model_of("maml")
    (found,) = score(model, slow_of(model), [episode_of(1 if objective == "regression" else 3, objective)], steps=3)  # type: ignore[arg-type]
    assert found.failure == ""
    assert (found.accuracy is None) == (objective == "regression") == (found.mse is not None)


# ---- random episodes -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_report(encoder: Encoder) -> None:
    reports = [evaluate_tasks(evaluator_of(encoder), tasks, PLAN, STEPS) for tasks in ([TASK, OTHER], [OTHER, TASK])]
    assert reports[0].scores == reports[1].scores  # nor does the tasks' order matter
    other = evaluate_tasks(evaluator_of(encoder), [TASK, OTHER], replace(PLAN, seed=1), STEPS)
    assert other.scores != reports[0].scores


def test_every_model_is_given_the_same_episodes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Episode]] = {}
    evaluate_episode = Evaluator.evaluate_episode

    def noted(self: Evaluator, given: Episode, settings: AdaptOptions) -> EpisodeScores:
        seen.setdefault(self.model.learner.name, []).append(given)
        return evaluate_episode(self, given, settings)

    monkeypatch.setattr(Evaluator, "evaluate_episode", noted)
    for spec in (ModelSpec(), DEEP, ModelSpec("anil")):
        evaluate_tasks(evaluator_of(encoder, spec), [TASK, OTHER], PLAN, STEPS)
    assert len(seen) == 3
    assert seen["protomaml"] == seen["maml"] == seen["anil"]
    assert len(seen["maml"]) == 2 * 2 * 3


def test_each_task_and_number_of_shots_is_reported(encoder: Encoder) -> None:
    done: list[EpisodeScores] = []
    report = evaluate_tasks(evaluator_of(encoder), [TASK, OTHER], PLAN, STEPS, observe=done.append)
    assert {task: list(by_shots) for task, by_shots in report.scores.items()} == {"colours": [1, 2], "moods": [1, 2]}
    assert [s.index for s in report.scores["moods"][2]] == [0, 1, 2]
    assert len(done) == 12
    assert report.left_out == ()
    json.dumps(report.to_json(), allow_nan=False)


def test_a_task_that_can_give_no_episode_is_left_out_with_the_reason(encoder: Encoder) -> None:
    small = classes_task([2] * 3, name="small")
    report = evaluate_tasks(evaluator_of(encoder), [TASK, small], PLAN, STEPS)
    assert list(report.scores) == ["colours", "small"]
    assert list(report.scores["small"]) == [1]
    (left_out,) = report.left_out
    assert (left_out.task, left_out.shots) == ("small", 2)
    assert "small" in left_out.reason


def test_a_task_that_the_learner_does_not_do_is_left_out(encoder: Encoder) -> None:
    report = evaluate_tasks(evaluator_of(encoder), [scores_task(30)], PLAN, STEPS)
    assert report.scores == {}
    assert [(n.task, n.shots) for n in report.left_out] == [("scores", 1), ("scores", 2)]
    assert "regression" in report.left_out[0].reason
    with pytest.raises(UnsupportedObjective):
        evaluator_of(encoder).evaluate_episode(PLAN.episode(scores_task(30), 2, 0), STEPS)


@pytest.mark.parametrize(
    "task", [scores_task(40), multi_label_task([[0], [1], [0, 1], []] * 8)], ids=["regression", "multi_label"]
)
def test_other_objectives(encoder: Encoder, task: Task) -> None:
    plan = EpisodePlan(ways=2, shots=(2,), queries=4, episodes=2)
    report = evaluate_tasks(evaluator_of(encoder, ModelSpec("maml")), [task], plan, STEPS)
    figures = report.tasks[task.name][2]
    assert figures.n_episodes == 2
    assert (figures.accuracy is None) == (task.objective == "regression") == (figures.mse is not None)


# ---- fixed episodes ------------------------------------------------------------------------------------------------


def test_fixed_episodes_share_their_queries(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = read_fixed_tasks(write_task(tmp_path / "mood"))
    counting = Counting(monkeypatch)
    report = evaluate_fixed(evaluator_of(encoder), tasks, STEPS)
    assert {k: [s.index for s in scores] for k, scores in report.scores["mood"].items()} == {1: [0, 1], 2: [0]}
    assert counting.calls == [2, 9, 2, 4]
    assert report.tasks["mood"][1].majority == pytest.approx(6 / 9)
    assert report.tasks["mood"][1].n_queries == 9


def test_queries_of_a_class_without_example_are_wrong_and_counted(encoder: Encoder, tmp_path: Path) -> None:
    seen: list[object] = [{"text": f"query {i}", "label": "good"} for i in range(4)]
    unseen: list[object] = [{"text": f"other {i}", "label": "strange"} for i in range(6)]
    write_task(tmp_path / "all", queries=[*seen, *unseen])
    write_task(tmp_path / "seen", queries=seen)
    report = evaluate_fixed(evaluator_of(encoder), read_fixed_tasks(tmp_path), STEPS)
    figures, alone = report.tasks["all"][1], report.tasks["seen"][1]
    assert (figures.n_queries, figures.unseen) == (10, 6)
    assert (alone.n_queries, alone.unseen) == (4, 0)
    assert figures.accuracy is not None and alone.accuracy is not None
    assert figures.accuracy == pytest.approx(alone.accuracy * 4 / 10)
    assert figures.majority == pytest.approx(6 / 10)


def test_what_the_files_lack_is_left_out_and_reported(encoder: Encoder, tmp_path: Path) -> None:
    write_task(tmp_path / "mood", queries=[{"text": "q", "label": "good"}, {"text": "", "label": "bad"}])
    rows: list[object] = [{"text": "a", "score": 1}, {"text": "b", "score": 2.5}]
    write_task(tmp_path / "scores", support=rows, queries=rows)
    report = evaluate_fixed(evaluator_of(encoder), read_fixed_tasks(tmp_path), STEPS)
    assert list(report.scores) == ["mood"]
    assert [(n.task, n.shots, n.rows) for n in report.left_out] == [
        ("mood", None, 1),
        ("scores", 1, None),
        ("scores", 2, None),
    ]
