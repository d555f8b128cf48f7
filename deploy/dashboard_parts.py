"""The parts of Grafana's dashboard: queries, and panels without their places."""

from collections.abc import Mapping, Sequence
from typing import Any

Tree = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "handful-prometheus"}
NO_PROBES = 'route!~"/(livez|readyz|metrics|docs|openapi.json|playground/.*)?"'
"""Probes, pages and /metrics are many and mostly succeed: they would hide the trouble."""
PREDICT, ADAPT = 'route="/v1/tasks/{task}/predict"', 'route="/v1/tasks/{task}/adapt"'
_SERVERS = 'job="handful", instance=~"$instance"'
_PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
GREEN, ORANGE, RED = "green", "orange", "red"


def of(name: str, *labels: str) -> str:
    """The series of a metric on the chosen servers."""
    return f"{name}{{{', '.join((_SERVERS, *labels))}}}"


def rate(name: str, *labels: str) -> str:
    """Increase a second of a counter."""
    return f"rate({of(name, *labels)}[$__rate_interval])"


def total(expression: str, *by: str) -> str:
    """Sum over the series, or over those that share labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def quantile(share: float, histogram: str, *labels: str, by: Sequence[str] = ()) -> str:
    """Quantile of a histogram."""
    return f"histogram_quantile({share}, {total(rate(f'{histogram}_bucket', *labels), *by, 'le')})"


def percentiles(histogram: str, *labels: str) -> Mapping[str, str]:
    """Median and two upper percentiles of a histogram, by their names."""
    return {name: quantile(share, histogram, *labels) for name, share in _PERCENTILES}


def mean_and_p99(histogram: str) -> Mapping[str, str]:
    """Mean and upper percentile of a histogram of numbers."""
    mean = f"{total(rate(f'{histogram}_sum'))} / {total(rate(f'{histogram}_count'))}"
    return {"mean": mean, "p99": quantile(0.99, histogram)}


def by_checkpoint(counter: str) -> str:
    """Rate of a counter that has a fingerprint alone, with the checkpoint's name beside it."""
    info = of("handful_checkpoint_info", 'name=~"$checkpoint"')
    joined = f"{rate(counter)} * on (instance, fingerprint) group_left (name) {info}"
    return shortened(total(joined, "name", "fingerprint"))


def shortened(expression: str) -> str:
    """The series with a fingerprint of twelve digits, as the command line shows it."""
    return f'label_replace({expression}, "fingerprint", "$1", "fingerprint", "(.{{12}}).*")'


ANSWERS = rate("handful_requests_total", NO_PROBES)
ERRORS = rate("handful_requests_total", NO_PROBES, 'status=~"5.."')
HITS = rate("handful_cache_events_total", 'event="hit"')
LOOKUPS = rate("handful_cache_events_total", 'event=~"hit|miss"')
FILL = f"{of('handful_queue_tokens')} / {of('handful_queue_max_tokens')}"


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> Tree:
    """Colours from values on."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}, *({"color": color, "value": value} for value, color in steps)],
    }


def targets(queries: Mapping[str, str], **more: Any) -> list[Tree]:
    """Queries by their legends."""
    return [
        {
            "refId": chr(ord("A") + i),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "instant": False,
            "range": True,
            **more,
        }
        for i, (legend, expression) in enumerate(queries.items())
    ]


def stat(
    title: str,
    description: str,
    query: str,
    unit: str = "short",
    *steps: tuple[float, str],
    base: str = GREEN,
    decimals: int | None = None,
) -> Tree:
    """A number with its recent course, four columns wide."""
    defaults: Tree = {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": thresholds(*steps, base=base)}
    if decimals is not None:
        defaults["decimals"] = decimals
    return {
        "type": "stat",
        "title": title,
        "description": description,
        "size": (4, 4),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
        },
        "targets": targets({"": query}),
    }


def course(
    title: str,
    description: str,
    queries: Mapping[str, str],
    unit: str = "short",
    *,
    width: int = 8,
    stacked: bool = False,
    limit: float | None = None,
    most: float | None = None,
) -> Tree:
    """Lines over time.

    Args:
        title: What is shown.
        description: What it means, and what to look for.
        queries: Expressions by their legends.
        unit: Grafana's name of the unit.
        width: Columns of 24.
        stacked: Whether the lines stand on each other.
        limit: Where an alert begins; drawn as a dashed line.
        most: The upper end of the axis.
    """
    stacking = {"mode": "normal" if stacked else "none", "group": "A"}
    line = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 20 if stacked else 8, "showPoints": "never"}
    defaults: Tree = {
        "unit": unit,
        "min": 0,
        "custom": {**line, "spanNulls": False, "stacking": stacking},
        "color": {"mode": "palette-classic"},
    }
    if most is not None:
        defaults["max"] = most
    if limit is not None:
        defaults["thresholds"] = thresholds((limit, RED))
        defaults["custom"]["thresholdsStyle"] = {"mode": "dashed"}
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "size": (width, 8),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets(queries),
    }


def checkpoint_table() -> Tree:
    """The loaded checkpoints of each server."""
    columns = ("instance", "name", "fingerprint", "learner", "device", "runtime")
    return {
        "type": "table",
        "title": "Checkpoints loaded",
        "description": "More than one fingerprint at a time: a roll-out is under way, or was not finished.",
        "size": (24, 5),
        "fieldConfig": {"defaults": {"custom": {"align": "auto"}}, "overrides": []},
        "options": {"showHeader": True},
        "targets": targets(
            {"": of("handful_checkpoint_info", 'name=~"$checkpoint"')}, instant=True, range=False, format="table"
        ),
        "transformations": [
            {
                "id": "organize",
                "options": {
                    "excludeByName": dict.fromkeys(("Time", "Value", "__name__", "job"), True),
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": {"instance": "server"},
                },
            }
        ],
    }
