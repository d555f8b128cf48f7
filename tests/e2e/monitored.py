"""A real Prometheus beside servers: its answers to the queries of the dashboard, and its alerts."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import LIMIT_S, until

Tree = dict[str, Any]
Points = list[tuple[float, float]]
PROMETHEUS = shutil.which("prometheus")
NO_PROMETHEUS = "no Prometheus: apt-get install prometheus"
_RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus.

    Attributes:
        url: Its address.
        scrape_s: Seconds between two looks at a server.
    """

    url: str
    scrape_s: float

    def at_once(self, query: str, at: float | None = None) -> list[tuple[Mapping[str, str], float]]:
        """The series of a query now, or at some time: labels and value."""
        found = self._get("query", query=self.resolved(query), time=str(at or now()))["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def over(self, query: str, start: float, end: float, step_s: float) -> list[tuple[Mapping[str, str], Points]]:
        """The series of a query over time, in seconds since the epoch."""
        wanted = {"query": self.resolved(query), "start": str(start), "end": str(end), "step": str(step_s)}
        found = self._get("query_range", **wanted)["result"]
        return [(series["metric"], [(float(at), float(value)) for at, value in series["values"]]) for series in found]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"}

    def rules(self) -> list[Tree]:
        """The rules, with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def resolved(self, query: str) -> str:
        """A query of the dashboard as Grafana sends it, with every choice at All."""
        for variable in ("$instance", "$checkpoint", "$route"):
            query = query.replace(variable, ".*")
        return query.replace("$__rate_interval", f"{4 * self.scrape_s:g}s")

    def _get(self, path: str, **params: str) -> Tree:
        answer = (
            httpx.post(f"{self.url}/api/v1/{path}", data=params) if params else httpx.get(f"{self.url}/api/v1/{path}")
        )
        content = answer.json()
        assert content["status"] == "success", (params, content)
        data: Tree = content["data"]
        return data


@contextmanager
def prometheus(folder: Path, servers: Sequence[str], *, scrape_s: float = 15) -> Iterator[Prometheus]:
    """Scrapes servers, and evaluates the rules of ``deploy/prometheus``.

    Args:
        folder: Its folder, empty at first; what it has recorded there can be asked again.
        servers: ``HOST:PORT`` of each server.
        scrape_s: Seconds between two looks at each, and between two evaluations.
    """
    assert PROMETHEUS, NO_PROMETHEUS
    every = f"{scrape_s:g}s"
    config = {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
            "external_labels": {"runbooks": "docs/runbooks.md"},
        },
        "rule_files": [str(_RULES)],
        "scrape_configs": [{"job_name": "handful", "static_configs": [{"targets": list(servers)}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / "prometheus.log"
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": address,
        "log.level": "warn",
    }
    with log.open("wb") as output:
        command = [PROMETHEUS, *(f"--{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{address}/-/ready").status_code == 200
        return False

    try:
        until(is_ready)
        yield Prometheus(f"http://{address}", scrape_s)
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def legend_of(template: str, labels: Mapping[str, str]) -> str:
    """The name of a series, as Grafana fills in ``{{label}}``."""
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template or ", ".join(labels.values())


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
