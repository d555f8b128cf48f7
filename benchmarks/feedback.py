"""Feedback on a stream whose wording changes half way, through HTTP with a real server.

python -m benchmarks.feedback --data FOLDER [--pairs xsid_id:xsid_nap …] [--share 0.5] [--wrong 0] [--out FILE]

A pair names two task files of FOLDER with the same labels: two sources, or two languages of one set. Each task is
adapted on examples of the first. Then queries of the first arrive, and then queries of the second. Two tasks answer all
of them: one that is left alone, and one that gets feedback on a share of its answers. With ``--forced`` a third one
adapts on the same feedback without the held-back check. ``--wrong`` gives that share of the feedback a wrong label. A
query is answered before its feedback is given. In the end the tasks answer further queries of the first wording.
"""

import argparse
import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.server import running_server
from handful.client import Client
from metalearn.evaluation.intervals import estimate_mean

_MOST_CLASSES = 10
_ARMS = ("alone", "feedback", "forced")

Rows = list[tuple[str, str]]
"""Text and label."""


@dataclass(frozen=True)
class Result:
    """The figures of a task in one stream.

    Attributes:
        pair: The two wordings.
        draw: The number of the stream.
        arm: What the task got.
        before: Share of right answers before the change.
        after: The same after it.
        afterwards: The same in the first wording, after the stream.
        outcomes: What became of right corrections, and of wrong ones.
    """

    pair: str
    draw: int
    arm: str
    before: float
    after: float
    afterwards: float
    outcomes: dict[str, int]


@dataclass(frozen=True)
class Stream:
    """A stream: examples, and queries before the change, after it, and in the end."""

    support: Rows
    before: Rows
    after: Rows
    end: Rows


def read_rows(folder: Path, name: str) -> Rows:
    """The rows of a task file, wherever it is in the folder."""
    (path,) = [*folder.rglob(f"{name}.jsonl"), *folder.rglob(f"{name}.train.jsonl")]
    found = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return list({row["text"]: (row["text"], row["label"]) for row in found}.values())


def drawn(first: Rows, second: Rows, options: argparse.Namespace, draw: random.Random) -> Stream:
    """A stream from the rows of two wordings."""
    counts = Counter(label for _, label in first) & Counter(label for _, label in second)
    labels = {label for label, n in counts.most_common(_MOST_CLASSES) if n >= 2 * options.shots}
    former, later = ([row for row in rows if row[1] in labels] for rows in (first, second))
    draw.shuffle(former)
    draw.shuffle(later)
    support, taken = [], Counter[str]()
    for row in former:
        if taken[row[1]] < options.shots:
            taken[row[1]] += 1
            support.append(row)
    chosen = set(support)
    rest = [row for row in former if row not in chosen]
    end = min(options.queries, len(rest) // 3)
    return Stream(support, rest[end : end + options.queries], later[: options.queries], rest[:end])


def played(client: Client, pair: str, number: int, stream: Stream, options: argparse.Namespace) -> Iterator[Result]:
    """The results of all tasks on one stream; all see the same queries and the same feedback."""
    labels = sorted({label for _, label in stream.support})
    for arm in _ARMS if options.forced else _ARMS[:2]:
        draw, task = random.Random(f"{pair}:{number}"), f"{pair.replace(':', '-')}-{number}-{arm}"
        client.adapt(task, stream.support)
        right: dict[str, list[bool]] = defaultdict(list)
        outcomes: Counter[str] = Counter()
        for part, rows in (("before", stream.before), ("after", stream.after)):
            for text, label in rows:
                right[part].append(client.predict(task, text).predictions[0].label == label)
                corrects, errs = draw.random() < options.share, draw.random() < options.wrong
                other = draw.choice([each for each in labels if each != label])
                if corrects and arm != "alone":
                    given = other if errs else label
                    found = client.feedback(task, given, text=text, force=arm == "forced")
                    outcomes[f"{'wrong' if errs else 'right'} {found.outcome}"] += 1
        answers = client.predict(task, [text for text, _ in stream.end]).predictions
        right["end"] = [answer.label == label for answer, (_, label) in zip(answers, stream.end, strict=True)]
        shares = [sum(right[part]) / len(right[part]) for part in ("before", "after", "end")]
        yield Result(pair, number, arm, *shares, dict(outcomes))


def table(results: Sequence[Result]) -> str:
    """Mean accuracies in percent, by pair and task, and the outcomes of feedback."""
    lines = [
        "| wording | task | before | after the change | first wording in the end | outcomes |",
        "|---|---|---|---|---|---|",
    ]
    for pair in [*dict.fromkeys(result.pair for result in results), "mean"]:
        for arm in dict.fromkeys(result.arm for result in results):
            members = [r for r in results if r.arm == arm and pair in {r.pair, "mean"}]
            means = [
                100 * sum(getattr(r, part) for r in members) / len(members)
                for part in ("before", "after", "afterwards")
            ]
            outcomes: Counter[str] = Counter()
            for each in members:
                outcomes.update(each.outcomes)
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            lines.append(f"| {pair} | {arm} | {' | '.join(f'{mean:.1f}' for mean in means)} | {told} |")
    return "\n".join(lines) + "\n"


def gains(results: Sequence[Result]) -> str:
    """What feedback gains over the task left alone on the same stream, in points: the mean and its 95 % interval."""
    lines = ["| wording | streams | before | after the change | first wording in the end |", "|---|---|---|---|---|"]
    of_arm = {(result.pair, result.draw, result.arm): result for result in results}
    for pair in [*dict.fromkeys(result.pair for result in results), "mean"]:
        streams = [
            (r, of_arm[r.pair, r.draw, "alone"]) for r in results if r.arm == "feedback" and pair in {r.pair, "mean"}
        ]
        cells = []
        for part in ("before", "after", "afterwards"):
            apart = [100 * (getattr(fed, part) - getattr(alone, part)) for fed, alone in streams]
            found = estimate_mean(apart)
            between = "" if found is None else " ({:+.1f} to {:+.1f})".format(*found.interval())
            cells.append(f"{sum(apart) / len(apart):+.1f}{between}")
        lines.append(f"| {pair} | {len(streams)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Plays the streams and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--pairs", nargs="+", default=["fewrel_semeval:semeval2010_task8", "arsarcasm_sentiment:se_sentiment"]
    )
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=100, help="queries before the change, and after it")
    parser.add_argument("--share", type=float, default=0.5, help="share of the answers that get feedback")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of the feedback with a wrong label")
    parser.add_argument("--forced", action="store_true", help="one more task, without the check")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--checkpoint")
    parser.add_argument("--out", type=Path, help="file for a JSON line of each result")
    options = parser.parse_args()
    results: list[Result] = []
    named = ["--checkpoint", options.checkpoint] if options.checkpoint else []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), *named) as server,
        Client(server.url) as client,
    ):
        for pair in options.pairs:
            first, second = (read_rows(options.data, name) for name in pair.split(":"))
            for number in range(options.draws):
                stream = drawn(first, second, options, random.Random(f"{pair}:{number}"))
                results += played(client, pair, number, stream, options)
    if options.out:
        options.out.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results), encoding="utf-8")
    print(table(results))
    print(gains(results))


if __name__ == "__main__":
    main()
