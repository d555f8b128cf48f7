"""Few-shot regression of sinusoids: MAML, first-order MAML and Reptile beside a network pretrained on all tasks.

python -m benchmarks.sinusoid

Source: Finn et al. 2017, "Model-agnostic meta-learning", section 5.1; Reptile as in Nichol et al. 2018, section 4.1.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from metalearn.body import Body, MlpBody
from metalearn.encoded_set import EncodedSet
from metalearn.learners import Learner, LearnerOptions, make_learner
from metalearn.meta_model import MetaModel
from metalearn.options import Order
from metalearn.placement import Full
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.types import FastWeights, Objective, SlowWeights
from metalearn.update_rules import UpdateRule

SHOTS = 10
"""Support points of a task; in training, as many query points go with them."""

STEPS = (0, 1, 5, 10)
"""Gradient steps after which the error is taken."""

GRID = 100
"""Points at which the error is taken, evenly over the inputs' range."""

_ANY_RATE = 1.0


# --- the tasks --------------------------------------------------------------------------------------------------------


class Sinusoids(NamedTuple):
    """Tasks y = amplitude sin(x - phase): amplitude in [0.1, 5], phase in [0, pi], both uniform."""

    amplitude: Tensor
    phase: Tensor

    def at(self, inputs: Tensor) -> PreparedSet:
        """The tasks' values at (points, tasks) inputs, laid out as ``abreast`` wants them."""
        targets = self.amplitude * torch.sin(inputs - self.phase)
        return PreparedSet(inputs.reshape(-1, 1), targets.reshape(-1, 1), torch.ones(inputs.numel()), 1, "regression")

    def at_random(self, points: int, draw: torch.Generator) -> PreparedSet:
        """Values at inputs uniform in [-5, 5]."""
        return self.at(10 * torch.rand(points, len(self.phase), generator=draw) - 5)


def sample_sinusoids(tasks: int, draw: torch.Generator) -> Sinusoids:
    """Draws tasks."""
    amplitude, phase = torch.rand(2, tasks, generator=draw)
    return Sinusoids(0.1 + 4.9 * amplitude, math.pi * phase)


# --- many tasks at once -----------------------------------------------------------------------------------------------


def abreast(model: MetaModel, tasks: int) -> MetaModel:
    """The same model for many tasks of one shape at once, twenty times as fast as one after the other.

    Row i of its inputs belongs to task i mod ``tasks``. Weights lead with the tasks: slow ones get that axis by
    ``for_each``. Body and learner are mapped over it, and all else is the model's own: an episode of it is an episode
    of each task, and its meta-loss the mean of theirs. Inner rates have to be fixed, and no step may draw rows.
    """
    learner = model.learner
    of_learner = {name: getattr(learner, name) for name in ("name", "objectives", "descends", "rule", "order")}
    mapped = _LearnerAbreast(learner, tasks, **of_learner, joins_query=learner.joins_query)
    return MetaModel(_BodyAbreast(model.body, tasks), model.placement, mapped)


def for_each(tasks: int, slow: SlowWeights) -> dict[str, Tensor]:
    """Slow weights that all tasks share, with an axis for the tasks."""
    return {name: weight.expand(tasks, *weight.shape) for name, weight in slow.items()}


@dataclass(frozen=True)
class _BodyAbreast:
    body: Body
    tasks: int

    @property
    def dim(self) -> int:
        return self.body.dim

    def initial_weights(self, draw: torch.Generator) -> dict[str, Tensor]:
        return self.body.initial_weights(draw)

    def features(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        return vmap(self.body.features, (0, 1), 1)(dict(weights), inputs.unflatten(0, (-1, self.tasks))).flatten(0, 1)

    def concatenated(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])

    def some(self, inputs: Tensor, rows: Tensor) -> Tensor:
        return inputs[rows]


@dataclass(frozen=True)
class _LearnerAbreast:
    learner: Learner
    tasks: int
    name: str
    objectives: frozenset[Objective]
    descends: bool
    rule: UpdateRule
    order: Order
    joins_query: bool
    linear_head: bool = False

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        return self.learner.initial_slow_weights(dim, deep, steps=steps, draw=draw)

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        return self._mapped(lambda own, part: dict(self.learner.start(own, part)), support, slow)

    def learning_rates(
        self, slow: SlowWeights, fast: FastWeights, *, step: int, n_classes: int, base_rate: float | None = None
    ) -> Mapping[str, Tensor]:
        return self.learner.learning_rates(slow, fast, step=step, n_classes=n_classes, base_rate=base_rate)

    def logits(self, fast_weights: FastWeights, features: Tensor) -> Tensor:
        rows = features.unflatten(0, (-1, self.tasks))
        return vmap(self.learner.logits, (0, 1), 1)(dict(fast_weights), rows).flatten(0, 1)

    def support_loss(self, fast_weights: FastWeights, support: EncodedSet) -> Tensor:
        # A sum: its gradient by a task's weights is that of the task's own loss
        return self._mapped(self.learner.support_loss, support, fast_weights).sum()

    def head_gradients(self, support: EncodedSet) -> None:
        return None

    def meta_loss(self, start: FastWeights, adapted: FastWeights, query: EncodedSet) -> Tensor:
        return self._mapped(self.learner.meta_loss, query, start, adapted).mean()

    def _mapped(self, function: Callable[..., Any], part: EncodedSet, *weights: FastWeights) -> Any:
        def of_one(features: Tensor, targets: Tensor, counts: Tensor, *own: FastWeights) -> Any:
            return function(*own, replace(part, features=features, targets=targets, weights=counts))

        rows = [each.unflatten(0, (-1, self.tasks)) for each in (part.features, part.targets, part.weights)]
        return vmap(of_one, (1, 1, 1, *(0 for _ in weights)))(*rows, *(dict(each) for each in weights))


# --- training and judging ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recipe:
    """The training of a start.

    Attributes:
        learner: Name of the learner; ``maml`` without inner steps is plain training on all tasks.
        inner_steps: Gradient steps in training.
        inner_rate: Their rate, in training and in evaluation; None to choose it afterwards, for each number of steps.
        outer_rate: Rate of the outer optimizer; it falls linearly to zero over the last third.
        optimizer: The outer one: ``adam`` or ``sgd``.
        iterations: Outer steps.
        meta_batch: Tasks per outer step.
    """

    learner: str
    inner_steps: int
    inner_rate: float | None
    outer_rate: float
    optimizer: Literal["adam", "sgd"] = "adam"
    iterations: int = 20_000
    meta_batch: int = 25


def model_of(recipe: Recipe) -> MetaModel:
    """A network of two hidden layers of 40 units, all of it fast."""
    rate = recipe.inner_rate or _ANY_RATE
    learner = make_learner(recipe.learner, LearnerOptions(head_rate=rate, body_rate=rate))
    return MetaModel(MlpBody((1, 40, 40)), Full(2), learner)


def train(recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Slow weights after meta-training."""
    model = model_of(recipe)
    slow = {name: weight.requires_grad_() for name, weight in model.initial_slow_weights(steps=1, seed=seed).items()}
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(slow.values(), recipe.outer_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, 3 * (1 - done / recipe.iterations)))
    many, draw = abreast(model, recipe.meta_batch), torch.Generator().manual_seed(seed)
    for _ in range(recipe.iterations):
        tasks = sample_sinusoids(recipe.meta_batch, draw)
        episode = PreparedEpisode(tasks.at_random(SHOTS, draw), tasks.at_random(SHOTS, draw))
        optimizer.zero_grad()
        result = many.run_episode(for_each(recipe.meta_batch, slow), episode, steps=recipe.inner_steps)
        result.meta_loss.backward()
        optimizer.step()
        schedule.step()
    return {name: weight.detach() for name, weight in slow.items()}


def errors(
    recipe: Recipe, slow: SlowWeights, *, tasks: int, seed: int, rate: float | None = None
) -> Float[Tensor, "steps tasks"]:
    """Mean squared error on new tasks after 0, 1, 2 ... steps.

    Args:
        recipe: The recipe of the weights.
        slow: Slow weights.
        tasks: How many tasks.
        seed: Decides which.
        rate: Takes the place of the recipe's inner rate.
    """
    many, shared, draw = abreast(model_of(recipe), tasks), for_each(tasks, slow), torch.Generator().manual_seed(seed)
    sampled = sample_sinusoids(tasks, draw)
    support = sampled.at_random(SHOTS, draw)
    wanted = sampled.at(torch.linspace(-5, 5, GRID).unsqueeze(1).expand(-1, tasks))
    found = []
    for state in many.adapt(shared, support, many.start(shared, support), steps=max(STEPS), learning_rate=rate):
        with torch.no_grad():
            outputs = many.outputs(shared, state.fast_weights, wanted.inputs)
        found.append((outputs - wanted.targets).square().unflatten(0, (GRID, tasks)).mean(dim=(0, 2)))
    return torch.stack(found)


# --- the comparison ---------------------------------------------------------------------------------------------------

BASELINE = "pretrained on all tasks"

RECIPES: Mapping[str, Recipe] = {
    "MAML": Recipe("maml", inner_steps=1, inner_rate=0.01, outer_rate=1e-3),
    "first-order MAML": Recipe("fomaml", inner_steps=1, inner_rate=0.01, outer_rate=1e-3),
    "Reptile": Recipe("reptile", inner_steps=5, inner_rate=0.02, outer_rate=1.0, optimizer="sgd"),
    BASELINE: Recipe("maml", inner_steps=0, inner_rate=None, outer_rate=1e-3),
}
"""MAML's settings are those of Finn et al., but that the outer rate fades. Reptile's are its authors': five inner steps
at 0.02, and plain outer steps. In training it adapts on support and query points together, as the baseline learns from
the query points of all tasks."""

BASELINE_RATES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02)
"""The baseline is fine-tuned at whichever does best on validation tasks, chosen for each number of steps by itself."""

_TEST_TASKS = 1000
_VALIDATION_SEED, _TEST_SEED = 1_000_001, 1_000_002


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a start on test tasks.

    Attributes:
        error: Mean squared error, by number of steps.
        interval: Half the width of its 95% confidence interval over tasks.
        rate: Rate of the steps, by their number.
        train_s: Seconds that training took.
    """

    error: dict[int, float]
    interval: dict[int, float]
    rate: dict[int, float]
    train_s: float


def compare(recipes: Mapping[str, Recipe], seed: int) -> dict[str, Outcome]:
    """Trains by each recipe and judges on the same test tasks."""
    outcomes = {}
    for name, recipe in recipes.items():
        began = time.perf_counter()
        slow = train(recipe, seed)
        train_s = time.perf_counter() - began
        rates = dict.fromkeys(STEPS, recipe.inner_rate or 0.0)
        if recipe.inner_rate is None:
            tried = {rate: _means(recipe, slow, _VALIDATION_SEED, rate) for rate in BASELINE_RATES}
            rates = {steps: min(tried, key=lambda rate, at=steps: tried[rate][at]) for steps in STEPS}
        by_rate = {r: errors(recipe, slow, tasks=_TEST_TASKS, seed=_TEST_SEED, rate=r) for r in {*rates.values()}}
        found = {steps: by_rate[rate][steps] for steps, rate in rates.items()}
        error = {steps: float(each.mean()) for steps, each in found.items()}
        interval = {steps: 1.96 * float(each.std()) / _TEST_TASKS**0.5 for steps, each in found.items()}
        outcomes[name] = Outcome(error, interval, rates, round(train_s, 1))
        print(f"{name}: {train_s:.0f} s", flush=True)
    return outcomes


def _means(recipe: Recipe, slow: SlowWeights, seed: int, rate: float) -> list[float]:
    """Mean error by number of steps; infinite where the steps led out of the numbers."""
    return errors(recipe, slow, tasks=_TEST_TASKS, seed=seed, rate=rate).mean(dim=1).nan_to_num(math.inf).tolist()


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Mean squared errors with their intervals, in Markdown."""
    rows = [["", *(f"{steps} step{'s' * (steps != 1)}" for steps in STEPS), "rate"], ["---"] * (len(STEPS) + 2)]
    for name, outcome in outcomes.items():
        cells = [f"{outcome.error[steps]:.3f} ±{outcome.interval[steps]:.3f}" for steps in STEPS]
        rates = dict.fromkeys(f"{outcome.rate[steps]:g}" for steps in STEPS if steps)
        rows.append([name, *cells, ", ".join(rates)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plot(outcomes: Mapping[str, Outcome], file: Path) -> None:
    """Error by number of steps, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, outcome in outcomes.items():
        axes.errorbar(STEPS, list(outcome.error.values()), list(outcome.interval.values()), label=name, marker="o")
    axes.set(xlabel="gradient steps", ylabel="mean squared error", yscale="log", title=f"sinusoids, {SHOTS} points")
    axes.legend()
    figure.savefig(file, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--iterations", type=int, default=20_000, help="outer steps of each")
    parser.add_argument("--meta-batch", type=int, default=25, help="tasks per outer step")
    parser.add_argument("--outer-rate", type=float, help="of the recipes whose outer optimizer is Adam")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--png", type=Path, help="draw them here; needs matplotlib")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # tensors this small are slower on two threads than on one
    recipes = {}
    for name in options.recipes:
        recipe = replace(RECIPES[name], iterations=options.iterations, meta_batch=options.meta_batch)
        if options.outer_rate and recipe.optimizer == "adam":
            recipe = replace(recipe, outer_rate=options.outer_rate)
        recipes[name] = recipe
    outcomes = compare(recipes, options.seed)
    print(table(outcomes))
    for name, outcome in outcomes.items():
        if BASELINE in outcomes and name != BASELINE:
            parts = [f"1/{outcomes[BASELINE].error[k] / outcome.error[k]:.1f} after {k}" for k in STEPS if k]
            print(f"{name}, of the baseline's error: {', '.join(parts)}")
    if options.json:
        figures = {name: {"recipe": asdict(recipes[name]), **asdict(each)} for name, each in outcomes.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.png:
        plot(outcomes, options.png)


if __name__ == "__main__":
    main()
