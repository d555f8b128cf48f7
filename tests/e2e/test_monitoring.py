"""A real Prometheus scrapes a real server: every panel of the dashboard has data, and an alert fires."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dashboard import FILE
from tests.e2e.mixed_load import MixedLoad
from tests.e2e.monitored import NO_PROMETHEUS, PROMETHEUS, Prometheus, now, prometheus
from tests.socket_server import SocketServer, socket_server
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROMETHEUS is None, reason=NO_PROMETHEUS)]

ROWS = [
    (f"{text} {i}", label)
    for label, text in (("card", "my card has not come"), ("fee", "why this fee"), ("rate", "the exchange rate"))
    for i in range(8)
]
WITHOUT_TROUBLE = {"Errors by route", "Store errors"}
"""Panels that have no series while all is well."""


@pytest.fixture
def server(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[SocketServer]:
    """A server on an embedded store."""
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path / 'handful.db'}") as running:
        yield running


@pytest.fixture
def watching(server: SocketServer, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that looks at it every second."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with prometheus(folder, [f"127.0.0.1:{server.port}"], scrape_s=1) as running:
        yield running


def test_every_panel_has_data_and_an_alert_fires(server: SocketServer, watching: Prometheus, tmp_path: Path) -> None:
    load = MixedLoad(server.url, ROWS, per_second=30, tasks=2)
    load.start()
    panels = [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]
    queries = {(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]}
    # A ratio of nothing is no number
    until(lambda: watching.at_once("handful_feedback_total > 0") and watching.at_once("handful_abstentions_total > 0"))
    until(lambda: {title for title, query in queries if not watching.at_once(query)} <= WITHOUT_TROUBLE)
    assert watching.over(panels[2]["targets"][0]["expr"], now() - 5, now(), 1)
    assert {rule["health"] for rule in watching.rules()} == {"ok"}
    assert watching.firing() == set()
    load.stop()
    assert {200, 422} == set(load.answered)
    for file in tmp_path.glob("handful.db*"):
        file.unlink()
    until(lambda: "HandfulStoreEmptied" in watching.firing())
