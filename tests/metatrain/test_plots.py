"""Plots of evaluations: SVG that says what it shows, in light and dark, and the same bytes for the same figures."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from metatrain.plot_style import COLORS, INK, PAPER
from metatrain.plots import common_tasks, learners_plot, plots_of, reliability_plot, shots_plot

SVG = "{http://www.w3.org/2000/svg}"


def result(name: str = "e5-small", learner: str = "ridge", gain: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A file of ``handful evaluate --json``, as far as plots read it."""

    def figures(accuracy: float) -> dict[str, Any]:
        return {"accuracy": accuracy, "interval": [accuracy - 0.05, accuracy + 0.05], "ece": 0.04, "majority": 0.2}

    bins = [{"decisions": 0, "confidence": None, "accuracy": None}] * 5
    bins += [{"decisions": n, "confidence": (n - 0.5) / 15, "accuracy": n / 15} for n in range(6, 16)]
    return {
        "checkpoint": {"name": name, "fingerprint": "0123456789abcdef"},
        "settings": {"episodes": 3, "ways": 5, "seed": 0, "runtime": "onnxruntime int8", "learner": learner},
        "mean": {k: {**figures(0.5 + int(k) / 50 + gain), "n_tasks": 2} for k in ("1", "5", "10")},
        "tasks": {
            "bank & <b>": {k: figures(share + gain) for k, share in (("1", 0.5), ("5", 0.6), ("10", 0.7))},
            "one": {"1": {**figures(1), "interval": None}},
        },
        "calibration": dict.fromkeys(("1", "5"), bins),
        **fields,
    }


def texts_of(plot: bytes) -> str:
    """All text in a plot."""
    drawn = ElementTree.fromstring(plot)  # noqa: S314 - our own
    return "\n".join("".join(text.itertext()) for text in drawn.iter(f"{SVG}text"))


def test_one_evaluation_has_a_plot_of_shots_of_tasks_and_of_reliability() -> None:
    plots = plots_of(result())
    assert set(plots) == {"shots.svg", "tasks.svg", "reliability.svg"}
    for plot in plots.values():
        shown = texts_of(plot)
        assert "handful evaluate: e5-small (0123456789ab), onnxruntime int8; " in shown
        assert " tasks, 5 ways, 3 episodes a task, seed 0" in shown
    assert "examples per class" in texts_of(plots["shots.svg"])
    assert "always the most frequent class" in texts_of(plots["shots.svg"])
    assert "bank & <b>" in texts_of(plots["tasks.svg"])
    reliability = texts_of(plots["reliability.svg"])
    # Each bin is half a fifteenth off: (n - 0.5) / 15 against n / 15
    assert "calibration error of all answers 3.3 %" in reliability
    assert "confidence = accuracy" in reliability


def test_means_are_over_the_tasks_that_all_have_alone() -> None:
    assert common_tasks([result()]) == ["bank & <b>"]
    assert "1 tasks" in texts_of(shots_plot({"a": result()}))
    other = result(tasks={"one": {"1": {"accuracy": 0.5, "interval": None, "majority": 0.1}}})
    with pytest.raises(ValueError, match="no task"):
        learners_plot({"a": result(), "b": other})


def test_no_reliability_without_probabilities() -> None:
    assert "reliability.svg" not in plots_of(result(calibration={}))


def test_learners_stand_side_by_side_the_best_on_top() -> None:
    results = {"ridge": result(), "protomaml": result(gain=0.2), "matching": result(gain=0.1)}
    for plot in (learners_plot(results), shots_plot(results)):
        for name in results:
            assert name in texts_of(plot)
    names = [line for line in texts_of(learners_plot(results)).splitlines() if line in results]
    assert names == ["ridge", "matching", "protomaml"]  # from below


@pytest.mark.parametrize("plot", [reliability_plot, lambda found: shots_plot({"a": found})])
def test_every_colour_follows_the_readers_scheme(plot: Any) -> None:
    drawn = plot(result()).decode()
    style, _, rest = drawn.partition("</style>")
    assert "prefers-color-scheme:dark" in style
    assert re.findall(r"#[0-9a-f]{6}\b", rest) == []
    used = set(re.findall(r"var\(--c([0-9a-f]{6})\)", rest))
    assert {INK[1:], PAPER[1:]} <= used <= {color[1:] for color in (INK, PAPER, "#d0d7de", *COLORS)}


def test_the_same_figures_give_the_same_bytes() -> None:
    assert plots_of(result()) == plots_of(result())


def test_light_and_dark_differ_enough_from_their_paper() -> None:
    style = plots_of(result())["shots.svg"].decode().partition("</style>")[0]
    light, dark = (dict(re.findall(r"--c([0-9a-f]{6}):(#[0-9a-f]{6})", part)) for part in style.split("@media"))
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        paper = scheme[PAPER[1:]]
        assert contrast(scheme[INK[1:]], paper) > 7
        for color in COLORS:
            assert contrast(scheme[color[1:]], paper) >= 3, color


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours. Source: WCAG 2.2, relative luminance."""
    shades = []
    for color in (one, other):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        shades.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(shades) + 0.05) / (min(shades) + 0.05)
