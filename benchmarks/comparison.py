"""Methods answer episodes; what comes of it is kept line by line, so that a run can be stopped and gone on with.

The standard library alone, since methods of other projects run in environments of their own.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.episodes import Episode

_CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class Answer:
    """A method's answer to an episode.

    Attributes:
        predicted: A label for each query.
        adapt_s: Seconds from the support set's texts to something that can answer.
        predict_s: Seconds for all queries.
        confidences: Probability that the method gives each label; None where it gives none.
    """

    predicted: Sequence[str]
    adapt_s: float
    predict_s: float
    confidences: Sequence[float] | None = None


class Mismatch(Exception):
    """Figures that do not compare; the message names them and the remedy."""


class LeftOut(Exception):
    """A method does not take an episode on; the message has the reason."""


class Method(Protocol):
    """A method is one column of the comparison.

    Attributes:
        name: Names the column.
        setting: The options that it ran with; figures of different settings never share a column.
        threads: CPU threads that it computed with.
    """

    name: str
    setting: str
    threads: int

    def answer(self, episode: Episode) -> Answer:
        """Adapts on the support set, then classifies the queries.

        Raises:
            LeftOut: It does not take this episode on.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """A method's figures on one episode; a line of a file of outcomes.

    Attributes:
        method: The method's name.
        setting: The options that it ran with.
        threads: CPU threads that it computed with.
        suite: See ``Episode``, as are those down to ``digest``.
        ways: Classes of the support set.
        n_support: Examples in the support set.
        n_queries: Queries.
        majority: Accuracy of always giving the queries' most frequent label.
        accuracy: Share of queries with the right label.
        macro_f1: Mean F1 over all classes of support set and queries.
        mcc: Matthews' correlation coefficient, for many classes.
        adapt_s: See ``Answer``.
        predict_s: See ``Answer``.
        ece: Expected calibration error; None where the method gives no probabilities.
    """

    method: str
    setting: str
    threads: int
    suite: str
    task: str
    shots: int
    index: int
    digest: str
    ways: int
    n_support: int
    n_queries: int
    majority: float
    accuracy: float
    macro_f1: float
    mcc: float
    adapt_s: float
    predict_s: float
    ece: float | None = None

    @property
    def key(self) -> str:
        """The episode's."""
        return f"{self.suite}/{self.task}/{self.shots}/{self.index}"


def run(method: Method, episodes: Sequence[Episode], path: Path) -> None:
    """Lets a method answer the episodes that the file has no line of yet, first episodes of all tasks first.

    Args:
        method: Answers.
        episodes: The episodes to answer.
        path: File of outcomes, which grows by a line for each answer.

    Raises:
        Mismatch: The file holds figures of another setting, or of other episodes under the same names.
    """
    done = {outcome.key: outcome for outcome in read_outcomes(path)}
    for outcome in done.values():
        if outcome.setting != method.setting:
            raise Mismatch(f"{path} is of {outcome.setting!r}, not of {method.setting!r}: take another folder or label")
    for number, episode in enumerate(sorted(episodes, key=lambda episode: episode.index), 1):
        if episode.key in done:
            if done[episode.key].digest != episode.digest:
                raise Mismatch(
                    f"{path}: {episode.key} had other rows: take the same data and options, or another folder"
                )
            continue
        progress = f"{method.name}: {number} of {len(episodes)}, {episode.key}"
        try:
            outcome = judged(method, episode, method.answer(episode))
        except LeftOut as reason:
            print(f"{progress}: left out: {reason}", file=sys.stderr, flush=True)
            continue
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        print(f"{progress}: {100 * outcome.accuracy:.1f} %, {outcome.adapt_s:.3f} s", file=sys.stderr, flush=True)


def read_outcomes(path: Path) -> list[Outcome]:
    """The lines of a file of outcomes; none where there is no file.

    A line that a killed run left without its end is cut off.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    return [Outcome(**json.loads(line)) for line in whole.decode().split("\n") if line]


def judged(method: Method, episode: Episode, answer: Answer) -> Outcome:
    """Figures of an answer."""
    wanted = [row.label for row in episode.queries]
    if len(answer.predicted) != len(wanted):
        raise ValueError(f"{method.name} gave {len(answer.predicted)} labels for {len(wanted)} queries")
    pairs = list(zip(answer.predicted, wanted, strict=True))
    labels = sorted({*episode.labels, *wanted})
    return Outcome(
        method=method.name,
        setting=method.setting,
        threads=method.threads,
        suite=episode.suite,
        task=episode.task,
        shots=episode.shots,
        index=episode.index,
        digest=episode.digest,
        ways=len(episode.labels),
        n_support=len(episode.support),
        n_queries=len(wanted),
        majority=max(Counter(wanted).values()) / len(wanted),
        accuracy=sum(given == right for given, right in pairs) / len(pairs),
        macro_f1=macro_f1(pairs, labels),
        mcc=matthews(pairs),
        adapt_s=answer.adapt_s,
        predict_s=answer.predict_s,
        ece=None if answer.confidences is None else calibration_error(answer.confidences, pairs),
    )


def calibration_error(confidences: Sequence[float], pairs: Sequence[tuple[str, str]]) -> float:
    """The distance of confidence from accuracy, as ``metalearn.evaluation.figures.expected_calibration_error``.

    Args:
        confidences: Probability of each label that is given.
        pairs: The label given and the right one, of each query.
    """
    gaps: dict[int, float] = {}
    for confidence, (given, right) in zip(confidences, pairs, strict=True):
        place = max(1, math.ceil(confidence * _CALIBRATION_BINS))
        gaps[place] = gaps.get(place, 0.0) + (given == right) - confidence
    return sum(map(abs, gaps.values())) / len(pairs)


def macro_f1(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> float:
    """Mean of F1 over ``labels``; 0 for one that is neither given nor right anywhere.

    As scikit-learn's ``f1_score(average="macro", labels=labels, zero_division=0)``.

    Args:
        pairs: The label given and the right one, of each query.
        labels: The classes.
    """
    hits = Counter(given for given, right in pairs if given == right)
    marked = Counter(given for given, _ in pairs) + Counter(right for _, right in pairs)
    return sum(2 * hits[label] / max(1, marked[label]) for label in labels) / len(labels)


def matthews(pairs: Sequence[tuple[str, str]]) -> float:
    """Matthews' correlation coefficient; 0 where one side is constant. As scikit-learn's ``matthews_corrcoef``.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".

    Args:
        pairs: The label given and the right one, of each query.
    """
    n = len(pairs)
    given, right = Counter(given for given, _ in pairs), Counter(right for _, right in pairs)
    hits = sum(one == other for one, other in pairs)
    covariance = hits * n - sum(given[label] * right[label] for label in given)
    spread = (n * n - sum(c * c for c in given.values())) * (n * n - sum(c * c for c in right.values()))
    return covariance / math.sqrt(spread) if spread else 0.0
