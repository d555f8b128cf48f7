"""Dockerfile, compose file and monitoring: they parse, and the files, routes and metrics that they name exist."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import dashboard
from deploy.dashboard_parts import NO_PROBES
from handful import environment
from service.metrics import Metrics
from service.routes import adapt, examples, health, pages, predict, versions
from service.settings import PREFIX, Settings
from tests.waiting import LIMIT_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "handful.json"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
NAMES_SETTINGS = [
    *("Dockerfile", "docker-compose.yml", "deploy/prometheus/alerts.yml"),
    *("docs/deployment.md", "docs/operations.md", "docs/runbooks.md"),
]

Tree = dict[str, Any]


def load_yaml(path: str) -> Tree:
    """A YAML file of the repository, which is a mapping."""
    content = yaml.safe_load((ROOT / path).read_text())
    assert isinstance(content, dict)
    return content


def seconds(duration: str) -> float:
    """The seconds of a duration in Compose's form, ``45s`` or ``1m30s``."""
    units = {"h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)([hms])", duration)
    assert "".join(itertools.chain(*parts)) == duration
    return sum(int(number) * units[unit] for number, unit in parts)


def dockerfile_instructions(keyword: str) -> list[str]:
    """The arguments of each instruction with a keyword, with continuation lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    return re.findall(rf"^{keyword}\s+(.*)$", text, flags=re.MULTILINE)


def dockerfile_environment() -> dict[str, str]:
    """The variables that the image sets."""
    pairs = itertools.chain(*(shlex.split(line) for line in dockerfile_instructions("ENV")))
    return dict(pair.split("=", 1) for pair in pairs)


def exposed_series() -> set[str]:
    """Every handful_* name that a query can ask for."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        family.name + suffix
        for family in Metrics().registry.collect()
        for suffix in suffixes.get(family.type, [""])
        if family.name.startswith("handful_")
    }


def named_series(expressions: list[str]) -> set[str]:
    """Every handful_* name in PromQL."""
    return {name for expression in expressions for name in re.findall(r"\bhandful_\w+", expression)}


_ROUTES = (adapt, examples, health, pages, predict, versions)


def routes() -> set[str]:
    """The paths of the service, as metrics name them."""
    return {str(getattr(route, "path", "")) for module in _ROUTES for route in module.router.routes}


@pytest.fixture
def compose() -> Tree:
    """The compose file's services."""
    services = load_yaml("docker-compose.yml")["services"]
    assert isinstance(services, dict)
    return services


@pytest.fixture
def panels() -> list[Tree]:
    """The dashboard's panels, rows left out."""
    found = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert found
    return found


@pytest.fixture
def alerts() -> list[Tree]:
    """The alert rules."""
    return [rule for group in load_yaml("deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]]


# ---- Dockerfile ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NAMES_SETTINGS)
def test_every_setting_that_is_named_is_one(path: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | set(environment.VARIABLES)
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", (ROOT / path).read_text()))
    assert named <= known
    assert named


def test_the_settings_of_the_image_are_acceptable(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dockerfile_environment()
    for name, value in environment.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.port == int(dockerfile_instructions("EXPOSE")[0])
    volume = dockerfile_instructions("VOLUME")[0]
    assert settings.store.get_secret_value().startswith(f"sqlite:{volume}/")
    assert not settings.is_loopback
    assert not settings.allow_open


def test_what_the_image_is_made_of_is_there_and_reaches_the_builder() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set[str]()
    for arguments in dockerfile_instructions("COPY"):
        if not arguments.startswith("--from="):
            copied.update(arguments.split()[:-1])
    assert copied == let_in
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_does_not_run_as_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", dockerfile_instructions("USER")[-1])


@pytest.fixture(params=[200, 503])
def probed(request: pytest.FixtureRequest) -> Iterator[tuple[int, int, list[str]]]:
    """A stand-in for the service: its port, its answer, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, request.param, asked
        server.shutdown()


def test_the_health_check_distinguishes_ready_from_unready(probed: tuple[int, int, list[str]]) -> None:
    port, status, asked = probed
    (instruction,) = dockerfile_instructions("HEALTHCHECK")
    command = json.loads(instruction[instruction.index("CMD ") + 4 :])
    assert command[0] == "python"
    environment = {**os.environ, "HANDFUL_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, *command[1:]], env=environment, timeout=LIMIT_S, check=False)
    assert (done.returncode == 0) == (status == 200)
    assert len(asked) == 1
    assert set(asked) <= routes()


# ---- compose ---------------------------------------------------------------------------------------------------


def test_images_have_a_fixed_tag(compose: Tree) -> None:
    images = [service["image"] for service in compose.values() if "image" in service]
    images += [value.partition("=")[2] for value in dockerfile_instructions("ARG") if value.startswith("PYTHON_IMAGE")]
    assert [image for image in images if not re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", image)] == []


def test_nothing_is_published_beyond_loopback(compose: Tree) -> None:
    ports = [port for service in compose.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_containers_may_do_little(compose: Tree) -> None:
    for service in compose.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_there_is_time_to_drain(compose: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in compose["handful"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert seconds(compose["handful"]["stop_grace_period"]) > settings.drain_delay_s + settings.drain_timeout_s


def test_the_store_evicts_nothing_and_keeps_a_log(compose: Tree) -> None:
    _, *arguments = compose["valkey"]["command"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"


def test_what_is_mounted_exists(compose: Tree) -> None:
    volumes = [volume for service in compose.values() for volume in service.get("volumes", [])]
    mounted = [volume.split(":")[0] for volume in volumes if volume.startswith(".")]
    named = {volume.split(":")[0] for volume in volumes if not volume.startswith(".")}
    assert mounted
    assert [path for path in mounted if not (ROOT / path).is_dir()] == []
    assert named == set(load_yaml("docker-compose.yml")["volumes"])


# ---- Prometheus ------------------------------------------------------------------------------------------------


def test_prometheus_scrapes_the_service_and_loads_the_rules(compose: Tree) -> None:
    config = load_yaml("deploy/prometheus/prometheus.yml")
    targets = {
        job["job_name"]: target
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    host, port = targets["handful"].split(":")
    assert host in compose
    assert port == dockerfile_environment()["HANDFUL_PORT"]
    assert all((DEPLOY / "prometheus" / name).is_file() for name in config["rule_files"])


def test_alerts_name_metrics_and_routes_that_exist(alerts: list[Tree]) -> None:
    expressions = [alert["expr"] for alert in alerts]
    assert named_series(expressions) <= exposed_series()
    assert set(re.findall(r'route="([^"]+)"', " ".join(expressions))) <= routes()
    assert {found.strip() for found in re.findall(r'route!~"[^"]+"', " ".join(expressions))} == {NO_PROBES}
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_probes_and_pages_are_left_out_of_the_ratio_of_errors() -> None:
    pattern = NO_PROBES.partition('"')[2].rstrip('"')
    left_out = {path for path in {"/openapi.json"} | routes() if re.fullmatch(pattern, path)}
    assert left_out == {"/", "/docs", "/livez", "/metrics", "/openapi.json", "/playground/{name:path}", "/readyz"}


def test_each_alert_has_a_runbook_and_each_runbook_an_alert(alerts: list[Tree]) -> None:
    sections = re.split(r"^## ", RUNBOOKS.read_text(), flags=re.MULTILINE)[1:]
    by_name = {section.partition("\n")[0]: section for section in sections}
    assert list(by_name) == [alert["alert"] for alert in alerts]
    for name, section in by_name.items():
        assert [part for part in ("**Means.**", "**Check.**", "**Do.**") if part not in section] == [], name
    runbooks = [alert["annotations"]["runbook_url"] for alert in alerts]
    assert runbooks == [f"{{{{ $externalLabels.runbooks }}}}#{name.lower()}" for name in by_name]
    base = load_yaml("deploy/prometheus/prometheus.yml")["global"]["external_labels"]["runbooks"]
    assert (ROOT / base) == RUNBOOKS


def test_the_queries_of_the_runbooks_name_metrics_that_exist() -> None:
    exposed = exposed_series()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    assert named_series([RUNBOOKS.read_text()]) <= exposed | families


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus")


@needs_promtool
@pytest.mark.parametrize("arguments", [("config", "prometheus.yml"), ("rules", "alerts.yml")], ids=lambda a: a[0])
def test_promtool_accepts(arguments: tuple[str, str]) -> None:
    kind, name = arguments
    subprocess.run(["promtool", "check", kind, DEPLOY / "prometheus" / name], timeout=LIMIT_S, check=True)


@needs_promtool
def test_each_alert_fires_and_none_without_cause(alerts: list[Tree], tmp_path: Path) -> None:
    predict = 'job="handful", instance="a", route="/v1/tasks/{task}/predict"'
    adapt = 'job="handful", instance="a", route="/v1/tasks/{task}/adapt"'
    process = 'job="handful", instance="a"'
    events = f"handful_cache_events_total{{{process}, event="
    trouble: dict[str, list[tuple[str, str]]] = {
        "HandfulDown": [(f"up{{{process}}}", "0x70")],
        "HandfulRestarting": [(f"process_start_time_seconds{{{process}}}", "0+300x70")],
        "HandfulStaleTasks": [(f"handful_stale_tasks{{{process}}}", "3x70")],
        "HandfulErrorRatio": [
            (f'handful_requests_total{{{predict}, status="200"}}', "0+90x70"),
            (f'handful_requests_total{{{process}, route="unmatched", status="503"}}', "0+10x70"),
        ],
        "HandfulPredictSlow": [
            (f'handful_request_duration_seconds_bucket{{{predict}, le="1"}}', "0+90x70"),
            (f'handful_request_duration_seconds_bucket{{{predict}, le="2.5"}}', "0+100x70"),
            (f'handful_request_duration_seconds_bucket{{{predict}, le="+Inf"}}', "0+100x70"),
        ],
        "HandfulAdaptSlow": [
            (f'handful_request_duration_seconds_bucket{{{adapt}, le="30"}}', "0+90x70"),
            (f'handful_request_duration_seconds_bucket{{{adapt}, le="60"}}', "0+100x70"),
            (f'handful_request_duration_seconds_bucket{{{adapt}, le="+Inf"}}', "0+100x70"),
        ],
        "HandfulAbsent": [],
        "HandfulQueueFull": [
            (f"handful_queue_tokens{{{process}}}", "7000x70"),
            (f"handful_queue_max_tokens{{{process}}}", "8192x70"),
        ],
        "HandfulCacheTooSmall": [
            (f'{events}"hit"}}', "0+40x70"),
            (f'{events}"miss"}}', "0+60x70"),
            (f'{events}"evict"}}', "0+60x70"),
        ],
        # Once, half an hour ago
        "HandfulReadaptsNotDone": [
            (f'handful_readapts_total{{{process}, trigger="background", outcome="refused"}}', "0x34 1x36")
        ],
        "HandfulDrift": [(f"handful_drifting_tasks{{{process}}}", "2x70")],
        "HandfulFilesRunOut": [
            (f"process_open_fds{{{process}}}", "900x70"),
            (f"process_max_fds{{{process}}}", "1024x70"),
        ],
        "HandfulStoreErrors": [(f'handful_store_errors_total{{{process}, store="redis", op="commit"}}', "0+1x70")],
        "HandfulStoreEmptied": [(f"handful_store_emptied{{{process}}}", "1x70")],
        "HandfulDegradedAnswers": [(f"handful_degraded_answers_total{{{process}}}", "0+1x70")],
        "HandfulAbstentions": [
            (f"handful_abstentions_total{{{process}}}", "0+60x70"),
            (f"handful_predict_queries_total{{{process}}}", "0+100x70"),
        ],
    }
    well = [
        (f"up{{{process}}}", "1x70"),
        (f"process_start_time_seconds{{{process}}}", "1000x70"),
        # While a new release is rolled out
        (f"handful_stale_tasks{{{process}}}", "1200x10 0x60"),
        (f'handful_requests_total{{{predict}, status="200"}}', "0+99x70"),
        (f'handful_requests_total{{{predict}, status="503"}}', "0+1x70"),
        (f'handful_request_duration_seconds_bucket{{{predict}, le="1"}}', "0+100x70"),
        (f'handful_request_duration_seconds_bucket{{{predict}, le="+Inf"}}', "0+100x70"),
        (f'handful_request_duration_seconds_bucket{{{adapt}, le="30"}}', "0+100x70"),
        (f'handful_request_duration_seconds_bucket{{{adapt}, le="+Inf"}}', "0+100x70"),
        # Probes do not hide failures, and do not make any
        (f'handful_requests_total{{{process}, route="/readyz", status="503"}}', "0+50x70"),
        (f"handful_queue_tokens{{{process}}}", "3000x70"),
        (f"handful_queue_max_tokens{{{process}}}", "8192x70"),
        # Many new tenants: misses, and none evicted
        (f'{events}"hit"}}', "0+40x70"),
        (f'{events}"miss"}}', "0+60x70"),
        (f'{events}"evict"}}', "5x70"),
        (f'handful_readapts_total{{{process}, trigger="background", outcome="done"}}', "0+1x70"),
        (f'handful_readapts_total{{{process}, trigger="background", outcome="failed"}}', "1x70"),
        (f"handful_drifting_tasks{{{process}}}", "0x70"),
        (f"process_open_fds{{{process}}}", "100x70"),
        (f"process_max_fds{{{process}}}", "1024x70"),
        (f'handful_store_errors_total{{{process}, store="redis", op="commit"}}', "3x70"),
        (f"handful_store_emptied{{{process}}}", "0x70"),
        (f"handful_degraded_answers_total{{{process}}}", "3x70"),
        (f"handful_abstentions_total{{{process}}}", "0+10x70"),
        (f"handful_predict_queries_total{{{process}}}", "0+100x70"),
    ]
    names = [alert["alert"] for alert in alerts]
    assert set(trouble) == set(names)

    up = f"up{{{process}}}"

    def case(data: list[tuple[str, str]], firing: str | None) -> Tree:
        if firing != "HandfulAbsent" and up not in dict(data):
            data = [*data, (up, "1x70")]
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in data],
            # ALERTS, so that the test does not repeat the texts of the alerts
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "65m",
                    "exp_samples": [{"labels": f'{{alertname="{firing}"}}', "value": 1}] if firing else [],
                }
            ],
        }

    tests = [case(data, name) for name, data in trouble.items()] + [case(well, None)]
    rules = str(DEPLOY / "prometheus" / "alerts.yml")
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- Grafana ---------------------------------------------------------------------------------------------------


def test_the_dashboard_names_metrics_that_exist_and_shows_them_all(panels: list[Tree]) -> None:
    named = named_series([target["expr"] for panel in panels for target in panel["targets"]])
    exposed = exposed_series()
    assert named <= exposed
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed} == families


def test_the_dashboard_is_what_its_panels_make() -> None:
    assert DASHBOARD.read_text() == dashboard.as_text(), "run python -m deploy.dashboard"


def test_every_panel_explains_itself_and_has_a_unit(panels: list[Tree]) -> None:
    for panel in panels:
        assert panel["title"], panel
        assert panel["description"], panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    titles = [(panel["title"], panel["type"]) for panel in panels]
    assert len(set(titles)) == len(titles)


def test_every_alert_is_named_by_a_panel_with_its_threshold(panels: list[Tree], alerts: list[Tree]) -> None:
    limits = {
        alert["alert"]: float(limit[1])
        for alert in alerts
        if (limit := re.search(r"[<>] ([\d.]+)(?:\n +and |\s*$)", alert["expr"]))
    }
    named = {name: panel for panel in panels for name in re.findall(r"\bHandful[A-Z]\w+", panel["description"])}
    assert named.keys() == {alert["alert"] for alert in alerts}
    dashed = {
        name: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for panel in panels
        for name in re.findall(r"Alert (Handful[A-Z]\w+)", panel["description"])
        if "thresholdsStyle" in panel["fieldConfig"]["defaults"].get("custom", {})
    }
    assert len(dashed) > 4
    assert dashed == {name: limits.get(name, 1.0) for name in dashed}


def test_the_dashboard_asks_the_provisioned_data_source(panels: list[Tree], compose: Tree) -> None:
    (source,) = load_yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    assert [panel["title"] for panel in panels if panel["datasource"] != wanted] == []
    assert all(target["datasource"] == wanted for panel in panels for target in panel["targets"])
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert all(variable["datasource"] == wanted for variable in variables)
    assert [variable["name"] for variable in variables] == ["instance", "checkpoint", "route"]
    assert re.fullmatch(r"http://(\w+):9090", source["url"]).group(1) in compose  # type: ignore[union-attr]
    scraped_every = load_yaml("deploy/prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped_every


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken
        taken |= cells


def test_grafana_finds_the_dashboard(compose: Tree) -> None:
    (provider,) = load_yaml("deploy/grafana/provisioning/dashboards/handful.yml")["providers"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in compose["grafana"]["volumes"])
    assert (ROOT / mounts[provider["options"]["path"]]).resolve() == DASHBOARD.parent
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"
    assert (ROOT / mounts["/etc/grafana/provisioning"]).resolve() == DEPLOY / "grafana" / "provisioning"
