"""A load with every kind of request, so that every metric moves."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import httpx

Row = tuple[str, str]
"""Text and label."""


class MixedLoad:
    """Requests to a server from a thread, at a steady pace, until it is stopped; failures are counted.

    Attributes:
        answered: Number of answers by status; 0 where none came.
    """

    def __init__(self, url: str, rows: Sequence[Row], *, per_second: float, tasks: int = 6, seed: int = 0) -> None:
        """Prepares the load.

        Args:
            url: The server's address.
            rows: Texts with labels, to adapt on and to ask.
            per_second: Requests a second.
            tasks: Tasks that are asked.
            seed: Decides on the order of requests.
        """
        self.answered: Counter[int] = Counter()
        self.per_second = per_second
        self._rows = rows
        self._names = [f"task-{number}" for number in range(tasks)]
        self._draw = random.Random(seed)
        self._client = httpx.Client(base_url=url, timeout=30)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def adapt(self, task: str, checkpoint: str | None = None) -> int:
        """Adapts a task on six examples of each of three labels; returns the status."""
        labels = self._draw.sample(sorted({label for _, label in self._rows}), 3)
        support = [
            {"text": text, "label": label}
            for wanted in labels
            for text, label in self._draw.sample([row for row in self._rows if row[1] == wanted], 6)
        ]
        return self._post(f"/v1/tasks/{task}/adapt", {"support": support, "checkpoint": checkpoint})

    def predict(self, task: str, queries: int = 1, **options: object) -> int:
        """Asks a task; returns the status."""
        texts = [self._draw.choice(self._rows)[0] for _ in range(queries)]
        return self._post(f"/v1/tasks/{task}/predict", {"queries": texts, **options})

    def start(self) -> None:
        """Adapts every task, then begins."""
        for name in self._names:
            self.adapt(name)
        self._thread.start()

    def stop(self) -> None:
        """Ends the load."""
        self._ending.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        began = time.monotonic()
        for number in itertools.count():
            if self._ending.wait(max(0.0, began + number / self.per_second - time.monotonic())):
                return
            if time.monotonic() - began > (number + 20) / self.per_second:
                began = time.monotonic() - number / self.per_second  # behind after an outage: nothing is made up for
            self._one(number)

    def _one(self, number: int) -> None:
        task = self._draw.choice(self._names)
        if number % 23 == 1:
            self.adapt(task)
        elif number % 23 == 7:
            text, _ = self._draw.choice(self._rows)
            with suppress(httpx.HTTPError, LookupError):
                labels = self._client.get(f"/v1/tasks/{task}").json()["labels"]
                self._post(f"/v1/tasks/{task}/feedback", {"text": text, "label": self._draw.choice(labels)})
        elif number % 23 == 11:
            self._post(f"/v1/tasks/{task}/examples", {"examples": []})  # refused: 422
        elif number % 5 == 0:
            self.predict(task, queries=8, abstain=0.6)
        else:
            self.predict(task)

    def _post(self, path: str, body: dict[str, object]) -> int:
        status = 0
        with suppress(httpx.TransportError):
            status = self._client.post(path, json=body).status_code
        self.answered[status] += 1
        return status
