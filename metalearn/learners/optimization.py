"""Learners that adapt by gradient steps on a linear head and, with a placement below the head, on weights there.

They differ in three things: where the head starts, which inner rates are learned, and how far the meta-gradient sees.

The head of MAML has one learned row that every class starts from, so that tasks of any number of classes share one
start and the index of a class decides nothing (Ye and Chao 2022, "How to train your MAML", section 5:
UNICORN-MAML).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.errors import InvalidModel, UnsupportedObjective
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.inner_loop import Gradients
from metalearn.learners.interface import LearnerOptions, Losses
from metalearn.objectives import OBJECTIVES
from metalearn.options import Order, RateKind
from metalearn.types import FastWeights, Objective, SlowWeights
from metalearn.update_rules import UpdateRule, make_update_rule

_DEFAULT_RATES = {
    "gradient_descent": (2.0, 0.1),
    "minibatch_sgd": (2.0, 0.1),
    "noisy_sgd": (2.0, 0.1),
    "momentum": (0.2, 0.01),
    "nesterov": (0.2, 0.01),
    "adam": (0.1, 0.001),
}
"""Where the rates of head and body start, by update rule; for features of unit length."""

_SHRINKAGE = 2.0
"""How many examples the grand mean counts in the mean of each class; see docs/log.md."""


@dataclass(frozen=True)
class GradientLearner(Losses):
    """A linear head moved by gradient steps; so are fast weights below it.

    Attributes:
        name: The registered name.
        head_start: ``shared_row``: one learned row for every class. ``class_means``: nearest class mean, those of few
            examples shrunk towards the grand mean.
        rates: Which inner rates are meta-learned.
        order: How far meta-gradients see into the inner loop.
        rule: The inner update rule.
        head_rate: Inner rate of the head, or where it starts from.
        body_rate: Inner rate below the head, or where it starts from.
        joins_query: Whether meta-training adapts on support and query set together.
    """

    name: str
    head_start: Literal["shared_row", "class_means"]
    rates: RateKind
    order: Order
    rule: UpdateRule
    head_rate: float
    body_rate: float
    joins_query: bool = False
    descends: bool = True
    linear_head: bool = True

    @property
    def objectives(self) -> frozenset[Objective]:
        """Class means exist where there are classes."""
        needs_classes = self.head_start == "class_means"
        return frozenset(name for name, rules in OBJECTIVES.items() if rules.has_classes or not needs_classes)

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """Start of the head and inner rates; logarithms where meta-training has to keep a number positive."""
        if self.head_start == "class_means":
            slow = {"log_scale": torch.tensor(4.0).log()}
        else:
            slow = {"head.row": torch.zeros(dim), "head.bias": torch.zeros(())}
        initial = {HEAD_WEIGHT: (self.head_rate, (dim,)), HEAD_BIAS: (self.head_rate, ())}
        initial |= {name: (self.body_rate, tuple(weight.shape)) for name, weight in deep.items()}
        if self.rates == "learned":
            slow["log_head_rate"] = torch.tensor(self.head_rate).log()
            if deep:
                slow["log_body_rate"] = torch.tensor(self.body_rate).log()
        elif self.rates == "per_parameter":
            slow |= {f"rate.{name}": torch.full(shape, rate) for name, (rate, shape) in initial.items()}
        elif self.rates == "per_layer_per_step":
            slow |= {
                f"log_rate.{name}": torch.full((max(steps, 1),), rate).log() for name, (rate, _) in initial.items()
            }
        return slow

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """The head before the first step.

        With class means c_k and a learned scale s, the squared Euclidean distance s |f - c_k|^2 is, up to a term common
        to all classes, the linear function -2 s c_k . f + s |c_k|^2; its negative is the head's start.

        Source: Triantafillou et al. 2020, Meta-Dataset, section 3 (Proto-MAML), eq. 3 and below.

        Shrinkage towards the grand mean: the mean of few examples lies away from the mean m of all classes by chance
        alone, and the further the fewer they are, so that queries go to classes with more examples or with a mean that
        happens to be central. So c_k is m + n / (n + 2) (c_k - m) of n examples: as if the class had two more at m, an
        empirical Bayes estimate (Efron and Morris 1973). The scale makes up for the shorter means. Where there are
        label texts alone, no mean is one of chance, and none is shrunk.
        """
        excludes = OBJECTIVES[support.objective].one_class_each
        if self.head_start == "class_means":
            means, scale = class_means(support), slow["log_scale"].exp()
            if excludes and support.has_examples:
                grand_mean, counted = means.mean(dim=0), support.weight_of_class
                kept = (counted / (counted + _SHRINKAGE)).unsqueeze(1)
                means, scale = grand_mean + kept * (means - grand_mean), scale / kept.mean()
            return {HEAD_WEIGHT: 2 * scale * means, HEAD_BIAS: -scale * means.square().sum(dim=1)}
        row, bias = slow["head.row"], slow["head.bias"]
        if excludes:
            # The common part of all classes cancels in the softmax: its gradient is rounding, which Adam would follow
            row, bias = row.detach(), bias.detach()
        return {HEAD_WEIGHT: row.expand(support.n_classes, -1), HEAD_BIAS: bias.expand(support.n_classes)}

    def learning_rates(
        self, slow: SlowWeights, fast: FastWeights, *, step: int, n_classes: int, base_rate: float | None = None
    ) -> Mapping[str, Tensor]:
        """The rates of the head times the number of classes; those of the body are unchanged.

        The loss is a mean over examples, so a class's share of the gradient shrinks as classes are added; the factor
        makes a step move each class's row as far in a 77-way task as in a 5-way one. A ``base_rate`` takes the place of
        the head's rate; the rates below keep their proportion to it.
        """
        proportion = 1.0 if base_rate is None else base_rate / self.head_rate
        rates = {}
        for name, weight in fast.items():
            at_head = name in (HEAD_WEIGHT, HEAD_BIAS)
            initial = self.head_rate if at_head else self.body_rate
            if self.rates == "fixed" or base_rate is not None:
                rate = weight.new_tensor(initial * proportion)
            elif self.rates == "learned":
                rate = slow["log_head_rate" if at_head else "log_body_rate"].exp()
            elif self.rates == "per_parameter":
                rate = slow[f"rate.{name}"]
            else:
                schedule = slow[f"log_rate.{name}"]
                rate = schedule[min(step, schedule.shape[0] - 1)].exp()
            rates[name] = rate * n_classes if at_head else rate
        return rates

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Linear in the features."""
        return head_logits(fast_weights, features)

    def head_gradients(self, support: EncodedSet) -> Gradients | None:
        """The gradients of cross-entropy."""
        closed_form = OBJECTIVES[support.objective].head_gradients
        if closed_form is None:
            return None
        at = closed_form(support.features.detach(), support.targets, support.weights, support.n_classes)

        def gradients(fast: FastWeights) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
            loss, weight, bias = at(fast[HEAD_WEIGHT], fast[HEAD_BIAS])
            return loss, {HEAD_WEIGHT: weight, HEAD_BIAS: bias}

        return gradients


@dataclass(frozen=True)
class Reptile(GradientLearner):
    """Moves the start towards where the inner steps lead; the query set is adapted on as well.

    Source: Nichol et al. 2018, "On first-order meta-learning algorithms", algorithm 1.
    """

    def meta_loss(self, start: FastWeights, adapted: FastWeights, query: EncodedSet) -> Float[Tensor, ""]:
        """A number whose gradient with respect to the start is (start - adapted), Reptile's outer gradient."""
        return torch.stack([(weight * (weight - adapted[name]).detach()).sum() for name, weight in start.items()]).sum()


def maml(options: LearnerOptions) -> GradientLearner:
    """MAML: a learned start, a fixed rate, second order.

    Source: Finn et al. 2017, "Model-agnostic meta-learning", algorithm 2.
    """
    return _made(GradientLearner, "maml", options, order="second")


def first_order_maml(options: LearnerOptions) -> GradientLearner:
    """MAML whose inner gradients count as constants.

    Source: Finn et al. 2017, section 5.2; Nichol et al. 2018, section 5.
    """
    return _made(GradientLearner, "fomaml", options, order="first")


def reptile(options: LearnerOptions) -> GradientLearner:
    """See ``Reptile``."""
    if options.rates not in {None, "fixed"} or options.order not in {None, "detached"}:
        raise InvalidModel("reptile learns a start alone: its inner rates are fixed, and it has no order")
    return replace(_made(Reptile, "reptile", options, order="detached"), joins_query=True)


def anil(options: LearnerOptions) -> GradientLearner:
    """MAML whose inner loop is meant to move the head alone: its place is the placement ``head``.

    Source: Raghu et al. 2020, "Rapid learning or feature reuse?", section 4.
    """
    return _made(GradientLearner, "anil", options, order="second")


def meta_sgd(options: LearnerOptions) -> GradientLearner:
    """MAML with a learned rate for each parameter, which may turn negative: size and direction of a step are learned.

    Source: Li et al. 2017, "Meta-SGD: learning to learn quickly for few-shot learning", eq. 2.
    """
    return _made(GradientLearner, "metasgd", options, order="second", rates="per_parameter")


def proto_maml(options: LearnerOptions) -> GradientLearner:
    """A head that starts as ``GradientLearner.start`` has it of class means, and takes steps at a learned rate.

    Source: Triantafillou et al. 2020, Meta-Dataset, section 3 (Proto-MAML).
    """
    return _made(GradientLearner, "protomaml", options, order="second", rates="learned", head_start="class_means")


def _made(
    family: type[GradientLearner],
    name: str,
    options: LearnerOptions,
    *,
    order: Order,
    rates: RateKind = "fixed",
    head_start: Literal["shared_row", "class_means"] = "shared_row",
) -> GradientLearner:
    rule = options.update_rule or "gradient_descent"
    head_rate, body_rate = _DEFAULT_RATES.get(rule, _DEFAULT_RATES["gradient_descent"])
    if not (options.head_rate is None or options.head_rate > 0) or not (
        options.body_rate is None or options.body_rate > 0
    ):
        raise InvalidModel("inner rates have to be above 0")
    return family(
        name=name,
        head_start=head_start,
        rates=options.rates or rates,
        order=options.order or order,
        rule=make_update_rule(rule),
        head_rate=head_rate if options.head_rate is None else options.head_rate,
        body_rate=body_rate if options.body_rate is None else options.body_rate,
    )


def class_means(support: EncodedSet) -> Float[Tensor, "classes dim"]:
    """Weighted mean feature of each class.

    Raises:
        UnsupportedObjective: The targets are scores.
    """
    if not OBJECTIVES[support.objective].has_classes:
        raise UnsupportedObjective("class means need classes: choose a learner that does regression, such as maml")
    weighted = support.membership * support.weights.unsqueeze(1)
    return (weighted.T @ support.features) / weighted.sum(dim=0).unsqueeze(1)
