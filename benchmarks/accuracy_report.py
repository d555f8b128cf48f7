"""Tables of the accuracy comparison."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev

from benchmarks.comparison import Mismatch, Outcome, read_outcomes
from benchmarks.suites import SUITES
from metalearn.evaluation.intervals import Difference, paired_difference

OURS = "handful"
BASELINE = "frozen + logistic regression"
OTHERS = ("setfit", "fastfit", BASELINE, "frozen + ridge", "frozen + prototypical")
"""The methods that our own columns are compared with, in their order. Other columns are our checkpoints."""

Measure = Callable[[Outcome], float]

MEASURES: dict[str, Measure] = {
    "accuracy": lambda outcome: outcome.accuracy,
    "macro-F1": lambda outcome: outcome.macro_f1,
    "MCC": lambda outcome: outcome.mcc,
}


@dataclass(frozen=True)
class Row:
    """The figures of one task at one number of shots.

    Attributes:
        task: The task.
        shots: Examples per class.
        found: Method -> episode's index -> outcome.
    """

    task: str
    shots: int
    found: dict[str, dict[int, Outcome]]

    @property
    def any(self) -> Outcome:
        """Any one of the outcomes, for figures that do not depend on the method."""
        return next(outcome for by_index in self.found.values() for outcome in by_index.values())

    def common(self, methods: Sequence[str]) -> list[int]:
        """Episodes that all of these methods answered."""
        return sorted(set.intersection(*(set(self.found.get(method, ())) for method in methods)))


def read_folder(folder: Path) -> list[Outcome]:
    """All outcomes in a folder.

    Raises:
        Mismatch: Two methods met different rows under one episode's name.
    """
    outcomes = [outcome for path in sorted(folder.glob("*.jsonl")) for outcome in read_outcomes(path)]
    digests: dict[str, str] = {}
    for outcome in outcomes:
        if digests.setdefault(outcome.key, outcome.digest) != outcome.digest:
            raise Mismatch(f"{outcome.key} in {folder} had different rows for different methods: compute them anew")
    return outcomes


def methods_of(outcomes: Iterable[Outcome]) -> list[str]:
    """The methods that occur, in the order of the columns: ours by name, then the others."""
    place = {method: i for i, method in enumerate(OTHERS, 1)}
    return sorted({outcome.method for outcome in outcomes}, key=lambda name: (place.get(name, 0), name))


def rows_of(outcomes: Iterable[Outcome], suite: str) -> list[Row]:
    """The rows, by task, then by shots."""
    rows: dict[tuple[str, int], Row] = {}
    for outcome in outcomes:
        if outcome.suite == suite:
            row = rows.setdefault((outcome.task, outcome.shots), Row(outcome.task, outcome.shots, {}))
            row.found.setdefault(outcome.method, {})[outcome.index] = outcome
    return [rows[key] for key in sorted(rows)]


def report(outcomes: Sequence[Outcome], measure: str = "accuracy") -> str:
    """The report in Markdown: a table for each suite, and what beats what.

    Args:
        outcomes: The outcomes of all methods.
        measure: One of ``MEASURES``.
    """
    methods = methods_of(outcomes)
    parts = []
    for suite in (suite for suite in SUITES.values() if any(outcome.suite == suite.name for outcome in outcomes)):
        parts += [f"### {suite.name}: {suite.title}", suite_table(rows_of(outcomes, suite.name), measure)]
        pairs = [(method, BASELINE) for method in methods if method != BASELINE]
        parts.append(comparison(outcomes, [suite.name], pairs, MEASURES[measure]))
    ours = [method for method in methods if method not in OTHERS]
    pairs = [(one, other) for one in ours for other in (OURS, *OTHERS) if one != other]
    overall = comparison(outcomes, list(SUITES), pairs, MEASURES[measure])
    parts += ["### all suites", overall] if overall else []
    settings = {(outcome.method, outcome.setting, outcome.threads) for outcome in outcomes}
    parts.append(
        "\n".join(
            f"- {name}: {setting}, {threads} CPU thread{'s' * (threads != 1)}"
            for name, setting, threads in sorted(settings)
        )
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def suite_table(rows: Sequence[Row], measure: str) -> str:
    """Tasks and shots by methods; mean and standard deviation over episodes, in percent.

    The last rows are over what all methods answered, so that their columns compare.
    """
    value = MEASURES[measure]
    methods = methods_of(outcome for row in rows for found in row.found.values() for outcome in found.values())
    lines = [["task", "ways", "shots", "queries", "majority", *methods], ["---"] * (5 + len(methods))]
    for row in rows:
        most = max(len(found) for found in row.found.values())
        means = {method: fmean(map(value, found.values())) for method, found in row.found.items()}
        best = max(mean for method, mean in means.items() if len(row.found[method]) == most)
        cells = []
        for method in methods:
            values = [value(outcome) for outcome in row.found.get(method, {}).values()]
            if not values:
                cells.append("-")
                continue
            mean = (
                f"**{100 * means[method]:.1f}**"
                if means[method] == best and len(values) == most
                else f"{100 * means[method]:.1f}"
            )
            spread = f" ±{100 * stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(mean + spread + (f" ({len(values)} of {most})" if len(values) < most else ""))
        facts = row.any
        lines.append(
            [row.task, str(facts.ways), str(row.shots), f"{facts.n_queries:,}", f"{100 * facts.majority:.1f}", *cells]
        )
    lines += _summary(rows, methods, measure)
    return _markdown(lines)


def _summary(rows: Sequence[Row], methods: Sequence[str], measure: str) -> list[list[str]]:
    shared = [(row, common) for row in rows if (common := row.common(methods))]
    episodes = sum(len(common) for _, common in shared)
    answered = sum(len(found) for row in rows for found in row.found.values())

    def of(method: str) -> list[list[Outcome]]:
        return [[row.found[method][index] for index in common] for row, common in shared]

    def line(name: str, cell: Callable[[str], str]) -> list[str]:
        return [name, "", "", "", "", *(cell(method) for method in methods)]

    def mean_of_all(method: str) -> str:
        return _mean([[*row.found.get(method, {}).values()] for row in rows], MEASURES[measure])

    def median_ms(method: str, seconds: Callable[[Outcome], float]) -> str:
        return _milliseconds(median(seconds(outcome) for found in of(method) for outcome in found))

    lines = [line("mean", mean_of_all)]
    if not shared:
        return lines
    if answered > episodes * len(methods):
        name = f"mean where all answered (episodes: {episodes})"
        lines.append(line(name, lambda method: _mean(of(method), MEASURES[measure])))
    for other, value in MEASURES.items():
        if other != measure:
            lines.append(line(other, lambda method, value=value: _mean(of(method), value)))  # type: ignore[misc]
    if any(outcome.ece is not None for method in methods for found in of(method) for outcome in found):
        lines.append(line("expected calibration error", lambda method: _calibration(of(method))))
    lines += [
        line("adapt, ms (median)", lambda method: median_ms(method, lambda outcome: outcome.adapt_s)),
        line("predict, ms per query", lambda method: median_ms(method, lambda o: o.predict_s / o.n_queries)),
    ]
    if OURS in methods:
        ours = of(OURS)
        lines.append(line(f"adapt, times {OURS}'s", lambda method: f"{slower(of(method), ours):.3g}"))
    return lines


def _calibration(found: Sequence[Sequence[Outcome]]) -> str:
    errors = [[outcome.ece for outcome in outcomes if outcome.ece is not None] for outcomes in found]
    return f"{100 * fmean(map(fmean, errors)):.1f}" if all(errors) else "-"


def slower(theirs: Sequence[Sequence[Outcome]], ours: Sequence[Sequence[Outcome]]) -> float:
    """How many times longer an adaptation takes: the median over the episodes of the ratio."""
    pairs = [pair for their, our in zip(theirs, ours, strict=True) for pair in zip(their, our, strict=True)]
    return median(their.adapt_s / our.adapt_s for their, our in pairs)


def comparison(
    outcomes: Sequence[Outcome], suites: Sequence[str], pairs: Sequence[tuple[str, str]], value: Measure
) -> str:
    """How much better one method is than another on the episodes that both answered, tasks being the sample.

    Args:
        outcomes: The outcomes of all methods.
        suites: Names of those that count.
        pairs: Which methods are compared; a pair without common episodes is passed over.
        value: The figure that is compared.

    Returns:
        A table; empty where there is nothing to compare.
    """
    lines = []
    for one, other in pairs:
        a, b = _paired(outcomes, suites, one, other)
        if not a:
            continue
        means = [[fmean(map(value, found)) for found in side] for side in (a, b)]
        lines.append(
            [
                f"{one} against {other}",
                *(str(len(a)), str(sum(map(len, a)))),
                *(f"{100 * fmean(side):.1f}" for side in means),
                in_points(paired_difference(*means)),
                f"{slower(b, a):.3g}",
            ]
        )
    head = ["", "tasks", "episodes", "first", "second", "difference, 95 % interval over tasks", "adapts times as fast"]
    return _markdown([head, ["---"] * len(head), *lines]) if lines else ""


def _paired(
    outcomes: Sequence[Outcome], suites: Sequence[str], one: str, other: str
) -> tuple[list[list[Outcome]], list[list[Outcome]]]:
    """The outcomes of two methods on the episodes that both answered, task by task."""
    by_task: dict[tuple[str, str], tuple[list[Outcome], list[Outcome]]] = {}
    for suite in suites:
        for row in rows_of(outcomes, suite):
            for index in row.common([one, other]):
                sides = by_task.setdefault((suite, row.task), ([], []))
                sides[0].append(row.found[one][index])
                sides[1].append(row.found[other][index])
    return [a for a, _ in by_task.values()], [b for _, b in by_task.values()]


def in_points(difference: Difference) -> str:
    """The difference in percentage points."""
    if difference.interval is None:
        return f"{100 * difference.mean:+.1f}"
    low, high = difference.interval
    return f"{100 * difference.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _mean(found: Sequence[Sequence[Outcome]], value: Measure) -> str:
    """Over rows, each the mean of its episodes; a dash where one of them has none."""
    return f"{100 * fmean(fmean(map(value, each)) for each in found):.1f}" if all(found) else "-"


def _milliseconds(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
