"""Meta-learning learns to learn: sinusoids, as in Finn et al. 2017, section 5.1, by the benchmark's own code."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.sinusoid import (
    BASELINE,
    RECIPES,
    STEPS,
    Outcome,
    Recipe,
    abreast,
    errors,
    for_each,
    model_of,
    sample_sinusoids,
    table,
)
from metalearn.inner_loop import collect
from metalearn.prepared import PreparedEpisode, PreparedSet
from tests.metalearn.test_placement import drawn, moved

ROOT = Path(__file__).parents[2]


def _of_task(part: PreparedSet, task: int, tasks: int) -> PreparedSet:
    rows = slice(task, None, tasks)
    return replace(part, inputs=part.inputs[rows], targets=part.targets[rows], weights=part.weights[rows])


@pytest.mark.parametrize("learner", ["maml", "fomaml", "reptile"])
def test_tasks_abreast_are_those_tasks_one_after_the_other(learner: str) -> None:
    tasks, draw = 4, drawn()
    recipe = Recipe(learner, inner_steps=2, inner_rate=0.05, outer_rate=1e-3)
    model = model_of(recipe)
    slow = {n: w.double().requires_grad_() for n, w in moved(model.initial_slow_weights(steps=2), by=0.1).items()}
    sampled = sample_sinusoids(tasks, draw)
    both = [sampled.at_random(points, draw) for points in (3, 5)]
    both = [replace(p, inputs=p.inputs.double(), targets=p.targets.double(), weights=p.weights.double()) for p in both]

    together = abreast(model, tasks).run_episode(for_each(tasks, slow), PreparedEpisode(*both), steps=2)
    alone = [
        model.run_episode(slow, PreparedEpisode(*(_of_task(part, i, tasks) for part in both)), steps=2)
        for i in range(tasks)
    ]
    mean = torch.stack([each.meta_loss for each in alone]).mean()
    torch.testing.assert_close(together.meta_loss, mean, atol=1e-12, rtol=1e-12)
    for i, each in enumerate(alone):
        torch.testing.assert_close(together.query_outputs[i::tasks], each.query_outputs, atol=1e-12, rtol=1e-12)
    found, expected = (torch.autograd.grad(loss, list(slow.values())) for loss in (together.meta_loss, mean))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


def test_errors_are_those_of_each_task_adapted_by_itself() -> None:
    recipe = Recipe("maml", inner_steps=1, inner_rate=0.01, outer_rate=1e-3)
    model = model_of(recipe)
    slow = moved(model.initial_slow_weights(steps=1), by=0.1)
    found = errors(recipe, slow, tasks=3, seed=4, rate=0.002)
    assert found.shape == (11, 3)
    draw = drawn(4)
    sampled = sample_sinusoids(3, draw)
    support = sampled.at_random(10, draw)
    grid = torch.linspace(-5, 5, 100).unsqueeze(1)
    for task in range(3):
        own = _of_task(support, task, 3)
        result = collect(model.adapt(slow, own, model.start(slow, own), steps=5, learning_rate=0.002))
        wanted = sampled.amplitude[task] * torch.sin(grid - sampled.phase[task])
        error = (model.outputs(slow, result.fast_weights, grid) - wanted).square().mean()
        torch.testing.assert_close(found[5, task], error, atol=1e-5, rtol=1e-5)


def test_sinusoids_are_those_of_the_paper() -> None:
    sampled = sample_sinusoids(5000, drawn())
    part = sampled.at_random(2, drawn(1))
    for found, least, most in ((sampled.amplitude, 0.1, 5.0), (sampled.phase, 0.0, math.pi), (part.inputs, -5.0, 5.0)):
        ends, mean = (least, most), float(found.mean())
        assert (float(found.min()), float(found.max())) == pytest.approx(ends, abs=0.01 * (most - least))
        assert least <= float(found.min())
        assert float(found.max()) <= most
        assert mean == pytest.approx(sum(ends) / 2, abs=0.02 * (most - least))
    amplitude, phase = (each.repeat(2).unsqueeze(1) for each in sampled)
    torch.testing.assert_close(part.targets, amplitude * torch.sin(part.inputs - phase))


def _compared(folder: Path, *options: str) -> dict[str, Any]:
    """Runs the benchmark in a process of its own, where no shape is checked at run time."""
    file = folder / "figures.json"
    command = [sys.executable, "-m", "benchmarks.sinusoid", "--json", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found: dict[str, Any] = json.loads(file.read_text())
    for outcome in found.values():
        assert list(outcome["error"]) == [str(steps) for steps in STEPS]
    return found


def _part_of_baseline(found: dict[str, Any], name: str, steps: int) -> float:
    return float(found[name]["error"][str(steps)] / found[BASELINE]["error"][str(steps)])


@pytest.mark.slow
@pytest.mark.parametrize(("iterations", "part_after_ten"), [(1800, 1 / 5), (4000, 1 / 10)])
def test_maml_learns_to_learn_sinusoids(iterations: int, part_after_ten: float, tmp_path: Path) -> None:
    # Fewer and larger outer steps than the paper's; the whole comparison is the very slow test below
    settings = ("--iterations", str(iterations), "--meta-batch", "100", "--outer-rate", "0.005")
    found = _compared(tmp_path, "--recipes", "MAML", BASELINE, *settings)
    assert _part_of_baseline(found, "MAML", 1) < 1 / 3
    assert _part_of_baseline(found, "MAML", 10) < part_after_ten
    errors_of_maml = found["MAML"]["error"]
    assert errors_of_maml["10"] < errors_of_maml["5"] < errors_of_maml["1"] < errors_of_maml["0"]
    # before the first step no start can know the task: the best is to predict the mean of all
    assert _part_of_baseline(found, "MAML", 0) == pytest.approx(1, abs=0.1)


@pytest.mark.very_slow
@pytest.mark.timeout(3600)
def test_every_optimization_based_learner_learns_to_learn_sinusoids(tmp_path: Path) -> None:
    found = _compared(tmp_path)
    assert set(found) == set(RECIPES)
    for steps, part in ((1, 1 / 3), (10, 1 / 10)):
        assert _part_of_baseline(found, "MAML", steps) < part
    for name in ("first-order MAML", "Reptile"):
        # Near MAML: far nearer to it than to the baseline
        for steps, part in ((1, 1 / 2), (5, 1 / 4), (10, 1 / 5)):
            assert _part_of_baseline(found, name, steps) < part
            assert found[name]["error"][str(steps)] < 3 * found["MAML"]["error"][str(steps)]


def test_the_table_names_every_rate_that_was_chosen() -> None:
    outcome = Outcome(dict.fromkeys(STEPS, 0.5), dict.fromkeys(STEPS, 0.01), {0: 0.1, 1: 0.005, 5: 0.002, 10: 0.002}, 1)
    assert table({"a": outcome}).splitlines() == [
        "|  | 0 steps | 1 step | 5 steps | 10 steps | rate |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 0.500 ±0.010 | 0.500 ±0.010 | 0.500 ±0.010 | 0.500 ±0.010 | 0.005, 0.002 |",
    ]
