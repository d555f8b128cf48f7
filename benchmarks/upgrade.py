"""A change of checkpoint while queries arrive: ``python -m benchmarks.upgrade --tasks 1000``.

A server with the old checkpoint adapts the tasks. Then servers with other checkpoints answer queries at a steady rate
on copies of its store, timed from when each was due:

* ``quiet``: the new checkpoint is the default, the old one is loaded behind it, and no task moves.
* ``background``: the same, and the server moves the tasks to the new checkpoint.
* ``first use`` (where it has seconds): the new checkpoint alone, so that the first query of each task adapts it again.

Each answer is compared with the answer of its version, asked for by number when all is quiet: answers are bit-equal, or
they are counted as mixed.

Progress goes to standard error. The whole takes ``--limit-seconds`` and little more, unless the machine is so busy that
servers take minutes to start: tasks that have not moved by then stay, and the table counts them. ``--store FILE`` keeps
the adapted tasks, so that another run begins with them; a run that ends during the adaptation goes on there.
"""

import argparse
import asyncio
import itertools
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.server import running_server
from handful import Client
from handful.errors import HandfulError
from handful.wire import Prediction

EXAMPLES = Path(__file__).parents[1] / "examples" / "banking.jsonl"
_AT_ONCE = 4
_LOOK_EVERY_S = 5.0
"""Seconds between looks at the metrics, in each part, since a look takes some of the server's time."""
_PREPARING, _COMPARING = 0.35, 0.1
"""Shares of the limit: the most for the adaptation of the tasks, and what is kept back to compare answers."""


@dataclass(frozen=True)
class Answer:
    """A query and what was answered.

    Attributes:
        task: The task's number.
        text: The query.
        status: The HTTP status; 0 where no answer came.
        seconds: From when the query was due to its answer.
        version: The version that answered.
        predictions: The predictions, whole.
    """

    task: int
    text: str
    status: int
    seconds: float
    version: int | None = None
    predictions: Sequence[object] = ()


@dataclass
class Part:
    """The answers of one part.

    Attributes:
        name: Its name.
        answers: In the order in which they came.
        mixed: Answers that differ from those of their version.
        moved: Tasks that were adapted again.
        stayed: Tasks that were not.
        seconds: How long it took until all tasks were moved.
    """

    name: str
    answers: list[Answer] = field(default_factory=list)
    mixed: int = 0
    moved: int = 0
    stayed: int = 0
    seconds: float = 0.0

    def quantile_ms(self, share: float) -> float:
        """A quantile of the times, in milliseconds."""
        times = sorted(answer.seconds for answer in self.answers)
        return 1000 * times[min(len(times) - 1, int(share * len(times)))]

    @property
    def failed(self) -> int:
        """The number of queries without a prediction."""
        return sum(answer.status != 200 for answer in self.answers)


def main() -> None:
    """Prints a table of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--old", default="minilm-l6-handful")
    parser.add_argument("--new", default="e5-small-handful")
    parser.add_argument("--queries-per-second", type=float, default=20)
    parser.add_argument("--tasks-per-second", type=float, default=5)
    parser.add_argument("--quiet-seconds", type=float, default=30)
    parser.add_argument("--first-use-seconds", type=float, default=0)
    parser.add_argument("--limit-seconds", type=float, default=300, help="most seconds in all")
    parser.add_argument("--store", type=Path, help="file of the tasks of the old checkpoint; made, or gone on with")
    parser.add_argument("--prepare-only", action="store_true", help="adapt the tasks in --store and end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="handful-upgrade-") as name:
        parts = upgraded(given, Path(name))
    if not parts:
        return
    quiet = parts[0]
    print("| | queries | failed | mixed | moved | stayed | seconds | p50 ms | p99 ms | p99 by the quiet one |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for part in parts:
        ratio = part.quantile_ms(0.99) / quiet.quantile_ms(0.99)
        print(
            f"| {part.name} | {len(part.answers)} | {part.failed} | {part.mixed} | {part.moved} | {part.stayed} "
            f"| {part.seconds:.0f} | {part.quantile_ms(0.5):.1f} | {part.quantile_ms(0.99):.1f} | {ratio:.2f} |"
        )


class _Clock:
    """The time since the start, for progress and for the limit."""

    def __init__(self, limit_s: float) -> None:
        self._began = time.monotonic()
        self.limit_s = limit_s

    @property
    def passed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, message: str) -> None:
        """Prints a line of progress."""
        print(f"{self.passed_s:6.1f} s  {message}", file=sys.stderr, flush=True)


def upgraded(given: argparse.Namespace, folder: Path) -> list[Part]:
    """The parts, each on a copy of a store with the tasks of the old checkpoint."""
    clock = _Clock(given.limit_seconds)
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    first = given.store.absolute() if given.store else folder / "handful.db"
    _prepare(given, folder, first, rows, clock)
    if given.prepare_only:
        return []
    both = ("--checkpoint", given.new, "--checkpoint", given.old)
    moving = ("--readapt-to-default", "--readapt-tasks-per-second", str(given.tasks_per_second))
    rate, texts = given.queries_per_second, [row["text"] for row in rows]

    def part(name: str, options: Sequence[str], seconds: float, *, until_moved: bool = False) -> Part:
        store = folder / f"{name.replace(' ', '-')}.db"
        shutil.copy(first, store)
        clock.say(f"{name}: the server starts")
        with running_server(folder, *options, "--store", f"sqlite:{store}") as server:
            done = asyncio.run(_asked(server.url, texts, given.tasks, rate, name, seconds, until_moved, clock))
            clock.say(f"{name}: {len(done.answers)} answers are compared with those of their versions")
            _check(server.url, done, given.tasks)
        return done

    parts = [part("quiet", both, given.quiet_seconds)]
    left_s = clock.limit_s * (1 - _COMPARING) - clock.passed_s - given.first_use_seconds
    parts.append(part("background", (*both, *moving), max(10.0, left_s), until_moved=True))
    if given.first_use_seconds:
        parts.append(part("first use", both[:2], given.first_use_seconds))
    return parts


def _prepare(
    given: argparse.Namespace, folder: Path, store: Path, rows: Sequence[dict[str, str]], clock: _Clock
) -> None:
    """Adapts the tasks that the store does not have yet.

    Raises:
        SystemExit: The time for it was over before.
    """
    limit_s = clock.limit_s * (1.0 if given.prepare_only else _PREPARING)
    with (
        running_server(folder, "--checkpoint", given.old, "--store", f"sqlite:{store}") as server,
        Client(server.url) as client,
        ThreadPoolExecutor(_AT_ONCE) as threads,
    ):
        there = {task.task for task in client.tasks()}
        missing = [number for number in range(given.tasks) if _task(number) not in there]
        clock.say(f"{len(missing)} of {given.tasks} tasks are still to be adapted by {given.old}")

        def adapt(number: int) -> bool:
            if clock.passed_s > limit_s:
                return False
            client.adapt(_task(number), _support(rows, number))
            return True

        made = 0
        for done in threads.map(adapt, missing):
            made += done
            if made % 100 == 0 and done:
                clock.say(f"{made} of {len(missing)} tasks adapted")
    _settle(store)
    if made < len(missing):
        raise SystemExit(
            f"{made} of {len(missing)} tasks were adapted within {limit_s:.0f} s. Name a --store and run "
            "it with --prepare-only until all are, or allow more --limit-seconds, or take fewer --tasks"
        )


def _task(number: int) -> str:
    return f"task-{number:05}"


def _support(rows: Sequence[dict[str, str]], number: int) -> list[dict[str, str]]:
    """The examples, with words of the task's own, so that no features are shared between tasks."""
    return [{**row, "text": f"{row['text']} Case {number}."} for row in rows]


def _settle(store: Path) -> None:
    """Moves the write-ahead log into the file, so that the file can be copied."""
    with closing(sqlite3.connect(store)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _asked(
    url: str,
    texts: Sequence[str],
    tasks: int,
    rate: float,
    name: str,
    seconds: float,
    until_moved: bool,
    clock: _Clock,
) -> Part:
    """Asks at a steady rate for so many seconds, or until no task waits to be moved if that is sooner."""
    part, draw = Part(name), random.Random(name)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def ask(task: int, text: str, due: float) -> None:
            try:
                response = await client.post(f"/v1/tasks/{_task(task)}/predict", json={"queries": [text]})
            except httpx.TransportError:
                part.answers.append(Answer(task, text, 0, time.perf_counter() - due))
                return
            took, body = time.perf_counter() - due, response.json()
            answer = Answer(task, text, response.status_code, took, body.get("version"), body.get("predictions", ()))
            part.answers.append(answer)

        async def over() -> None:
            ends = time.perf_counter() + seconds
            while (left_s := ends - time.perf_counter()) > 0:
                await asyncio.sleep(min(left_s, _LOOK_EVERY_S))
                settled = await _settled(client)
                failed = sum(answer.status != 200 for answer in part.answers)
                moved = f", the turn of {settled} of {tasks} tasks is over" if until_moved else ""
                clock.say(f"{name}: {len(part.answers)} queries answered, {failed} of them failed{moved}")
                if until_moved and settled >= tasks:
                    return

        for task in range(_AT_ONCE):  # so that what is made once is there
            await client.post(f"/v1/tasks/{_task(task)}/predict", json={"queries": texts[:1]})
        began = due = time.perf_counter()
        end = asyncio.create_task(over())
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                due += draw.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if end.done():
                    break
                text = f"{draw.choice(texts)} Query {number}."
                group.create_task(ask(draw.randrange(tasks), text, due))
        end.result()
        part.seconds = time.perf_counter() - began
    return part


async def _settled(client: httpx.AsyncClient) -> int:
    """The number of tasks whose turn in the background is over."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return int(
        sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "handful_readapts_total" and sample.labels["trigger"] == "background"
        )
    )


def _check(url: str, part: Part, tasks: int) -> None:
    """Compares each answer with that of its version, and counts the tasks that have a second version."""
    with Client(url) as client, ThreadPoolExecutor(_AT_ONCE) as threads:

        def differs(answer: Answer) -> bool:
            try:
                own = client.predict(_task(answer.task), [answer.text], version=answer.version)
            except HandfulError:  # no version that can be asked for has given this answer
                return True
            return own.predictions != [Prediction.model_validate(each) for each in answer.predictions]

        answered = [answer for answer in part.answers if answer.status == 200]
        part.mixed = sum(threads.map(differs, answered))
        newest = list(threads.map(lambda number: client.task(_task(number)).version, range(tasks)))
    part.moved = sum(version > 1 for version in newest)
    part.stayed = tasks - part.moved


if __name__ == "__main__":
    main()
