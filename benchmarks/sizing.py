"""What a server and its tasks take: memory, bytes in the store, time. One server with the embedded store.

``python -m benchmarks.sizing`` prints two tables in Markdown. Texts are made of the words of
``examples/banking.jsonl``, a dozen a text, so no data are needed. Times are of one request at a time.
"""

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.server import ServerProcess, running_server

_WORDS_A_TEXT = 12
_ROOT = Path(__file__).parents[1]


def texts(seed: int) -> Iterator[str]:
    """Texts without end, each a new one."""
    draw = random.Random(seed)
    rows = (_ROOT / "examples" / "banking.jsonl").read_text(encoding="utf-8").splitlines()
    words = sorted({word for row in rows for word in json.loads(row)["text"].split()})
    while True:
        yield " ".join(draw.choices(words, k=_WORDS_A_TEXT))


def resident_mib(server: ServerProcess) -> float:
    """The resident memory of the server's process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def stored_bytes(store: Path) -> int:
    """The bytes of the store's pages, of its log too."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
        pages, page_bytes = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages) * int(page_bytes)


def timed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Milliseconds of a request, and its answer."""
    began = time.perf_counter()
    answer = client.post(path, json=body)
    elapsed_ms = 1000 * (time.perf_counter() - began)
    answer.raise_for_status()
    return elapsed_ms, answer.json()


def measure_tasks(client: httpx.Client, store: Path, classes: int, examples: int, number: int) -> str:
    """The row of tasks of one shape."""
    drawn = texts(classes)
    before, first_ms, adapter_bytes = stored_bytes(store), [], 0
    for i in range(number):
        support = [{"text": next(drawn), "label": f"class {j}"} for j in range(classes) for _ in range(examples)]
        name = f"size-{classes}-{examples}-{i}"
        elapsed_ms, answer = timed(client, f"/v1/tasks/{name}/adapt", {"support": support})
        first_ms.append(elapsed_ms)
        adapter_bytes = answer["bytes"]
    task_bytes = (stored_bytes(store) - before) / number
    again_ms = [timed(client, f"/v1/tasks/{name}/adapt", {"support": support})[0] for _ in range(5)]
    cells = (classes, examples, f"{adapter_bytes:,}", f"{task_bytes:,.0f}", f"{statistics.median(first_ms):,.0f}",
             f"{statistics.median(again_ms):,.0f}")  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def measure_queries(client: httpx.Client, task: str, repeats: int) -> Sequence[str]:
    """The rows of one query at a time, and of 100 in a request."""
    drawn = texts(0)
    client.post(f"/v1/tasks/{task}/predict", json={"queries": [next(drawn)]})
    one = [timed(client, f"/v1/tasks/{task}/predict", {"queries": [next(drawn)]})[0] for _ in range(repeats)]
    many = [
        timed(client, f"/v1/tasks/{task}/predict", {"queries": [next(drawn) for _ in range(100)]})[0] for _ in range(5)
    ]
    return (
        f"| one query, one connection: median | {statistics.median(one):.1f} ms |",
        f"| 100 queries in a request | {100_000 / statistics.median(many):,.0f} texts a second |",
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="e5-small-handful")
    parser.add_argument("--shapes", nargs="+", default=["2x5", "10x5", "50x5"], help="CLASSESxEXAMPLES")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of each shape")
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sizing-") as folder:
        began = time.perf_counter()
        with running_server(Path(folder), "--checkpoint", options.checkpoint) as server:
            start_s = time.perf_counter() - began
            store = Path(folder) / "handful.db"
            with httpx.Client(base_url=server.url, timeout=1800) as client:
                ready_mib = resident_mib(server)
                print("| classes | examples of each | bytes of an adapter | bytes of a task | adapt, ms | again, ms |")
                print("|---|---|---|---|---|---|", flush=True)
                for shape in options.shapes:
                    classes, examples = map(int, shape.split("x"))
                    print(measure_tasks(client, store, classes, examples, options.tasks), flush=True)
                queries = measure_queries(client, f"size-{options.shapes[0].replace('x', '-')}-0", options.queries)
                after_mib = resident_mib(server)
    print("\n| | |\n|---|---|")
    print(f"| start until ready | {start_s:.1f} s |\n| resident memory when ready | {ready_mib:,.0f} MiB |")
    print(f"| after the tasks and queries above | {after_mib:,.0f} MiB |", *queries, sep="\n")


if __name__ == "__main__":
    main()
