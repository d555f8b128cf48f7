"""From a support set to fast weights."""

from dataclasses import replace

import pytest
import torch

from metalearn.body import TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidEpisode, InvalidSupportSet
from metalearn.inner_loop import InnerLoopResult, collect
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.support_plan import plan_support, prepare_episode, prepared_support, support_accuracy
from metalearn.types import OUT_OF_SCOPE, Episode, Example, LabelledTexts, Objective, SupportSet, TextInput
from tests.metalearn.conftest import as_prepared, support_set

PAIR = support_set(("my card is late", "card_arrival"), ("a fee?", "extra_charge"), ("where is it", "card_arrival"))


def test_without_label_texts_the_examples_stand_alone() -> None:
    plan = plan_support(PAIR, use_label_text=False)
    assert plan.inputs == tuple(example.input for example in PAIR.examples)
    assert (plan.targets, plan.label_classes) == ((0, 1, 0), ())
    assert (plan.n_examples, plan.n_classes) == (3, 2)


def test_a_labels_text_is_one_more_example_of_its_class() -> None:
    plan = plan_support(PAIR, use_label_text=True)
    assert plan.inputs[3:] == (TextInput("card arrival"), TextInput("extra charge"))
    assert plan.inputs[:3] == tuple(example.input for example in PAIR.examples)
    assert (plan.targets, plan.label_classes) == ((0, 1, 0), (0, 1))
    assert (plan.n_examples, plan.n_classes) == (3, 2)


def test_only_labels_with_words_get_a_text() -> None:
    plan = plan_support(support_set(("x", "c1"), ("y", "refund"), ("z", "c2")), use_label_text=True)
    assert plan.inputs[3:] == (TextInput("refund"),)
    assert (plan.targets, plan.label_classes) == ((0, 2, 1), (2,))


def test_a_class_may_stand_in_the_descriptions_only() -> None:
    plan = plan_support(support_set(("x", "c1"), c2="the parcel is late"), use_label_text=True)
    assert plan.inputs == (TextInput("x"), TextInput("the parcel is late"))
    assert (plan.targets, plan.label_classes) == ((0,), (1,))
    assert plan.n_examples == 1


def test_all_classes_may_stand_in_the_descriptions_only() -> None:
    plan = plan_support(support_set(c2="the parcel is late", c1="asks for money back"), use_label_text=True)
    assert plan.inputs == (TextInput("asks for money back"), TextInput("the parcel is late"))
    assert (plan.targets, plan.label_classes) == ((), (0, 1))
    assert (plan.n_examples, plan.n_classes) == (0, 2)


@pytest.mark.parametrize(
    ("support", "use_label_text", "label"),
    [
        (support_set(("x", "card_arrival"), refund="the money comes back"), False, "refund"),
        (support_set(("x", "card_arrival"), c2=""), True, "c2"),
        (support_set(("x", "b"), a="first", c="last"), False, "a"),
        (support_set(refund="the money comes back", delay="the parcel is late"), False, "delay"),
        (support_set(refund="the money comes back", c2=""), True, "c2"),
    ],
)
def test_a_class_with_neither_example_nor_words_is_refused(
    support: SupportSet, use_label_text: bool, label: str
) -> None:
    with pytest.raises(InvalidSupportSet, match=repr(label)) as caught:
        plan_support(support, use_label_text=use_label_text)
    assert caught.value.code == "class_without_examples"
    assert caught.value.location == ("labels", label)


SPECS = [ModelSpec(), ModelSpec("maml", "modulations", 1), ModelSpec("maml", "full", 2)]


def _adapt(
    encoder: Encoder, support: SupportSet, use_label_text: bool, steps: int = 5, spec: ModelSpec = SPECS[0]
) -> InnerLoopResult:
    plan = plan_support(support, use_label_text=use_label_text)
    model = make_text_model(spec, encoder)
    assert isinstance(model.body, TextBody)
    prepared = as_prepared(plan, model.body)
    slow = model.initial_slow_weights(steps=steps)
    return collect(model.adapt(slow, prepared, model.start(slow, prepared), steps=steps))


def test_a_prepared_support_set_is_what_was_planned(encoder: Encoder) -> None:
    plan = plan_support(PAIR, use_label_text=True)
    body = TextBody(encoder, 1)
    texts = encoder.tokenize(plan.inputs)
    examples, label_texts = body.prepare(texts[:3]), body.prepare(texts[3:])
    prepared = prepared_support(plan, examples, label_texts)
    assert prepared.inputs is examples
    assert prepared.targets.tolist() == [0, 1, 0]
    assert prepared.weights.tolist() == [1, 1, 1]
    assert prepared.label_texts is not None
    assert prepared.label_texts.inputs is label_texts
    assert prepared.label_texts.classes.tolist() == [0, 1]
    assert (prepared.n_classes, prepared.objective) == (2, "classification")
    assert prepared_support(plan_support(PAIR, use_label_text=False), examples, None).label_texts is None


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.placement)
def test_a_labels_text_has_the_weight_of_the_model(encoder: Encoder, spec: ModelSpec) -> None:
    model = replace(make_text_model(spec, encoder), balanced=False)
    assert isinstance(model.body, TextBody)
    plan = plan_support(PAIR, use_label_text=True)
    prepared = as_prepared(plan, model.body)
    slow = model.initial_slow_weights(steps=1)
    at_first = model.start(slow, prepared).support
    torch.testing.assert_close(at_first.weights, torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0]))
    learned = {**slow, "prior.log_weight": torch.tensor(6.0).log(), "prior.fade": torch.tensor(1.0)}
    later = model.start(learned, prepared).support
    # Two examples of the first class, one of the second
    torch.testing.assert_close(later.weights, torch.tensor([1.0, 1.0, 1.0, 6 / 3, 6 / 2]))


def test_opaque_labels_change_nothing(encoder: Encoder) -> None:
    support = support_set(("my card is late", "c1"), ("a fee?", "2"), ("where is it", "c1"), ("who are you", "label_9"))
    with_texts, without = _adapt(encoder, support, True), _adapt(encoder, support, False)
    assert torch.equal(with_texts.losses, without.losses)
    for name, weight in without.fast_weights.items():
        assert torch.equal(with_texts.fast_weights[name], weight)


def test_labels_with_words_do_change_something(encoder: Encoder) -> None:
    assert not torch.equal(_adapt(encoder, PAIR, True).losses, _adapt(encoder, PAIR, False).losses)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.placement)
def test_the_same_support_set_gives_the_same_bits(encoder: Encoder, spec: ModelSpec) -> None:
    first, second = (_adapt(encoder, PAIR, True, spec=spec) for _ in range(2))
    assert torch.equal(first.losses, second.losses)
    for name, weight in first.fast_weights.items():
        assert torch.equal(weight, second.fast_weights[name])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.placement)
def test_two_classes_of_one_example_each_are_separated(encoder: Encoder, spec: ModelSpec) -> None:
    support = SupportSet((Example(TextInput("my card is late"), "b"), Example(TextInput("an extra fee?"), "a")))
    result = _adapt(encoder, support, False, steps=20, spec=spec)
    model = make_text_model(spec, encoder)
    assert isinstance(model.body, TextBody)
    inputs = model.body.prepare(encoder.tokenize([example.input for example in support.examples]))
    logits = model.outputs(model.initial_slow_weights(steps=20), result.fast_weights, inputs)
    assert support_accuracy(logits, support.targets) == 1.0
    assert result.losses[-1] < result.losses[0]


def test_support_accuracy_is_the_share_of_hits() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [1.0, 5.0]])
    assert support_accuracy(logits, (0, 1, 1, 1)) == 0.75


def test_without_examples_there_is_no_support_accuracy() -> None:
    assert support_accuracy(torch.zeros(0, 3), ()) is None


# ---- episodes --------------------------------------------------------------------------------------------------------


def _episode(objective: Objective = "classification", labels: tuple[str, ...] = ("card_arrival", "c17")) -> Episode:
    support, query = {
        "classification": ((0, 1, 0), (1, OUT_OF_SCOPE)),
        "multi_label": (((0,), (0, 1), ()), ((1,), ())),
        "regression": ((0.5, 2.0, -1.0), (3.0, 0.0)),
    }[objective]
    texts = tuple(TextInput(text) for text in ("where is my card", "a fee", "still waiting for my card", "why", "rain"))
    names = () if objective == "regression" else labels
    return Episode(
        "bank", "intent", objective, names, LabelledTexts(texts[:3], support), LabelledTexts(texts[3:], query)
    )


def test_an_episode_is_read_as_its_sets_are(encoder: Encoder) -> None:
    body, episode = TextBody(encoder, 1), _episode()
    prepared = prepare_episode(body, episode)
    assert (prepared.task, prepared.group) == ("bank", "intent")
    for part, texts in ((prepared.support, episode.support), (prepared.query, episode.query)):
        assert part.targets.tolist() == list(texts.targets)
        assert part.weights.tolist() == [1.0] * len(texts.inputs)
        features = body.features({}, part.inputs)
        expected = encoder.encode_batch(encoder.tokenize(texts.inputs))
        torch.testing.assert_close(features, expected, atol=1e-6, rtol=0)


def test_label_words_join_the_support_set_of_a_classification_alone(encoder: Encoder) -> None:
    body = TextBody(encoder, 0)
    prepared = prepare_episode(body, _episode(), use_label_text=True)
    assert prepared.support.label_texts is not None
    assert prepared.support.label_texts.classes.tolist() == [0], "an opaque label has no words"
    assert prepared.support.targets.tolist() == [0, 1, 0]
    assert prepared.support.weights.tolist() == [1.0] * 3
    assert prepared.query.label_texts is None
    assert prepared.query.targets.tolist() == [1, OUT_OF_SCOPE]
    features = body.features({}, prepared.support.label_texts.inputs)
    words = encoder.encode_batch(encoder.tokenize([TextInput("card arrival")]))
    torch.testing.assert_close(features, words, atol=1e-6, rtol=0)
    for objective in ("multi_label", "regression"):
        other = prepare_episode(body, _episode(objective), use_label_text=True)
        assert other.support.weights.tolist() == [1.0] * 3
        assert other.support.label_texts is None
        assert other.support.objective == objective


@pytest.mark.parametrize("where", ["support", "query"])
def test_an_episode_with_a_text_of_nothing_is_refused_by_task_and_text(encoder: Encoder, where: str) -> None:
    whole = _episode()
    texts = getattr(whole, where)
    spoiled = LabelledTexts((TextInput("\u200b"), *texts.inputs[1:]), texts.targets)
    episode = Episode(
        whole.task,
        whole.group,
        whole.objective,
        whole.labels,
        spoiled if where == "support" else whole.support,
        spoiled if where == "query" else whole.query,
    )
    with pytest.raises(InvalidEpisode, match=r"bank.*u200b"):
        prepare_episode(TextBody(encoder, 0), episode)
