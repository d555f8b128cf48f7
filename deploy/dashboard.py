"""Writes Grafana's dashboard from the panels below: ``python -m deploy.dashboard``.

A test holds ``grafana/dashboards/handful.json`` to what this makes, its queries to the metrics that a server exposes,
and its thresholds to those of ``prometheus/alerts.yml``.
"""

import json
from pathlib import Path

from deploy.dashboard_panels import ROWS
from deploy.dashboard_parts import RED, SOURCE, Tree

FILE = Path(__file__).parent / "grafana" / "dashboards" / "handful.json"


def variable(name: str, label: str, query: str) -> Tree:
    """A choice at the head of the dashboard, of all values at first."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "query": {"query": query, "refId": name},
        "definition": query,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
    }


VARIABLES = [
    variable("instance", "Server", 'label_values(up{job="handful"}, instance)'),
    variable("checkpoint", "Checkpoint", 'label_values(handful_checkpoint_info{job="handful"}, name)'),
    variable("route", "Route", 'label_values(handful_requests_total{job="handful"}, route)'),
]


def dashboard() -> Tree:
    """The dashboard as Grafana reads it."""
    placed: list[Tree] = []
    top = 0
    for title, shown in ROWS.items():
        at = {"x": 0, "y": top, "w": 24, "h": 1}
        placed.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": at})
        left, top, tallest = 0, top + 1, 0
        for panel in shown:
            width, height = panel["size"]
            if left + width > 24:
                left, top, tallest = 0, top + tallest, 0
            kept = {name: value for name, value in panel.items() if name != "size"}
            placed.append(kept | {"datasource": SOURCE, "gridPos": {"x": left, "y": top, "w": width, "h": height}})
            left, tallest = left + width, max(tallest, height)
        top += tallest
    return {
        "uid": "handful",
        "title": "Handful",
        "description": "What a Handful service does, and how well. docs/runbooks.md says what to do about an alert.",
        "tags": ["handful"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": RED,
                    "expr": 'ALERTS{alertname=~"Handful.*", alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{instance}}",
                    "step": "60s",
                }
            ]
        },
        "links": [],
        "templating": {"list": VARIABLES},
        "panels": [{"id": number, **panel} for number, panel in enumerate(placed, start=1)],
    }


def as_text() -> str:
    """The dashboard's file, with a line for each panel."""
    found = dashboard()
    shown = ",\n".join(json.dumps(panel) for panel in found.pop("panels"))
    return f'{json.dumps(found, indent=1)[:-2]},\n "panels": [\n{shown}\n ]\n}}\n'


if __name__ == "__main__":
    FILE.write_text(as_text(), encoding="utf-8")
