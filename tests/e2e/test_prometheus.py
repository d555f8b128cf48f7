"""A real Prometheus scrapes a real server."""

import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.server import running_server
from tests.conftest import SUPPORT
from tests.ports import free_port
from tests.waiting import LIMIT_S

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)


@pytest.mark.slow
def test_prometheus_scrapes_and_promtool_finds_nothing(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with running_server(tmp_path, "--checkpoint", str(tiny_checkpoint)) as server:
        httpx.post(f"{server.url}/v1/tasks/bank/adapt", json={"support": SUPPORT}).raise_for_status()
        predict = {"queries": ["where is my card"]}
        httpx.post(f"{server.url}/v1/tasks/bank/predict", json=predict).raise_for_status()

        text = httpx.get(f"{server.url}/metrics").text
        lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")

        target = server.url.removeprefix("http://")
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "scrape_configs:\n  - job_name: handful\n    scrape_interval: 1s\n"
            f"    static_configs:\n      - targets: ['{target}']\n"
        )
        port = free_port()
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert _scraped(port, 'handful_requests_total{route="/v1/tasks/{task}/predict",status="200"}') == "1"
            assert _scraped(port, 'up{job="handful"}') == "1"
            assert _scraped(port, "handful_predict_queries_total") == "1"
            assert _scraped(port, 'handful_checkpoint_info{learner="protomaml",device="cpu"}') == "1"
        finally:
            prometheus.terminate()
            prometheus.wait(LIMIT_S)


def _scraped(port: int, query: str) -> str | None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}).json()
            if answer["data"]["result"]:
                value: str = answer["data"]["result"][0]["value"][1]
                return value
        except (httpx.TransportError, KeyError, ValueError):  # still starting
            pass
        time.sleep(0.5)
    return None
