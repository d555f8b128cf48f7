"""From a support set to fast weights."""

import pytest
import torch

from metalearn.adaptation import adaptation_steps, plan_support, support_accuracy, support_features
from metalearn.encoder import Encoder
from metalearn.errors import InvalidSupportSet
from metalearn.inner_loop import InnerLoopResult, collect
from metalearn.learners.optimization import ProtoMaml
from metalearn.types import Example, SupportSet, TextInput
from tests.metalearn.conftest import support_set

PAIR = support_set(("my card is late", "card_arrival"), ("a fee?", "extra_charge"), ("where is it", "card_arrival"))


def test_without_label_texts_the_examples_stand_alone() -> None:
    plan = plan_support(PAIR, label_text_weight=0.0)
    assert plan.inputs == tuple(example.input for example in PAIR.examples)
    assert plan.targets == (0, 1, 0)
    assert plan.weights == (1.0, 1.0, 1.0)
    assert (plan.n_examples, plan.n_classes) == (3, 2)


def test_a_labels_text_is_one_more_example_of_its_class() -> None:
    plan = plan_support(PAIR, label_text_weight=2.5)
    assert plan.inputs[3:] == (TextInput("card arrival"), TextInput("extra charge"))
    assert plan.inputs[:3] == tuple(example.input for example in PAIR.examples)
    assert plan.targets == (0, 1, 0, 0, 1)
    assert plan.weights == (1.0, 1.0, 1.0, 2.5, 2.5)
    assert (plan.n_examples, plan.n_classes) == (3, 2)


def test_only_labels_with_words_get_a_text() -> None:
    plan = plan_support(support_set(("x", "c1"), ("y", "refund"), ("z", "c2")), label_text_weight=1.0)
    assert plan.inputs[3:] == (TextInput("refund"),)
    assert plan.targets == (0, 2, 1, 2)


def test_a_class_may_stand_in_the_descriptions_only() -> None:
    plan = plan_support(support_set(("x", "c1"), c2="the parcel is late"), label_text_weight=2.0)
    assert plan.inputs == (TextInput("x"), TextInput("the parcel is late"))
    assert plan.targets == (0, 1)
    assert plan.n_examples == 1


@pytest.mark.parametrize(
    ("support", "weight", "label"),
    [
        (support_set(("x", "card_arrival"), refund="the money comes back"), 0.0, "refund"),
        (support_set(("x", "card_arrival"), c2=""), 2.0, "c2"),
        (support_set(("x", "b"), a="first", c="last"), 0.0, "a"),
    ],
)
def test_a_class_with_neither_example_nor_words_is_refused(support: SupportSet, weight: float, label: str) -> None:
    with pytest.raises(InvalidSupportSet, match=repr(label)) as caught:
        plan_support(support, label_text_weight=weight)
    assert caught.value.code == "class_without_examples"
    assert caught.value.location == ("labels", label)


def _adapt(encoder: Encoder, support: SupportSet, weight: float, steps: int = 5) -> InnerLoopResult:
    plan = plan_support(support, label_text_weight=weight)
    features = support_features(plan, encoder.encode_batch(encoder.tokenize(plan.inputs)))
    learner = ProtoMaml()
    return collect(adaptation_steps(learner, learner.initial_slow_weights(), features, steps=steps))


def test_opaque_labels_change_nothing(encoder: Encoder) -> None:
    support = support_set(("my card is late", "c1"), ("a fee?", "2"), ("where is it", "c1"), ("who are you", "label_9"))
    with_texts, without = _adapt(encoder, support, 2.0), _adapt(encoder, support, 0.0)
    assert torch.equal(with_texts.losses, without.losses)
    for name, weight in without.fast_weights.items():
        assert torch.equal(with_texts.fast_weights[name], weight)


def test_labels_with_words_do_change_something(encoder: Encoder) -> None:
    assert not torch.equal(_adapt(encoder, PAIR, 2.0).losses, _adapt(encoder, PAIR, 0.0).losses)


def test_the_same_support_set_gives_the_same_bits(encoder: Encoder) -> None:
    first, second = _adapt(encoder, PAIR, 2.0), _adapt(encoder, PAIR, 2.0)
    assert torch.equal(first.losses, second.losses)
    for name, weight in first.fast_weights.items():
        assert torch.equal(weight, second.fast_weights[name])


def test_two_classes_of_one_example_each_are_told_apart(encoder: Encoder) -> None:
    support = SupportSet((Example(TextInput("my card is late"), "b"), Example(TextInput("an extra fee?"), "a")))
    result = _adapt(encoder, support, 0.0, steps=20)
    features = encoder.encode_batch(encoder.tokenize([example.input for example in support.examples]))
    assert support_accuracy(ProtoMaml().logits(result.fast_weights, features), support.targets) == 1.0
    assert result.losses[-1] < result.losses[0]


def test_support_accuracy_is_the_share_of_hits() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [1.0, 5.0]])
    assert support_accuracy(logits, (0, 1, 1, 1)) == 0.75
