"""Curves of a run: lines of JSON, and a picture of them."""

import io
import math
from collections.abc import Sequence
from typing import Any

from metalearn.meta_train import StepResult
from metalearn.tasks.transfer import Transfer
from metatrain.session import Event, Validation


def as_json(event: Event, at_step: int, elapsed_s: float) -> dict[str, Any]:
    """An event as a line of ``curves.jsonl``; numbers that are not finite are null."""
    if isinstance(event, StepResult):
        skipped = sorted(record.skipped for record in event.episodes if record.skipped)
        return {
            "event": "step",
            "step": event.step,
            "loss": _finite(event.loss),
            "accuracy": _finite(event.accuracy),
            "gradient_norm": _finite(event.gradient_norm),
            "rate_factor": event.rate_factor,
            "episodes": len(event.episodes),
            "skipped": skipped,
            "elapsed_s": round(elapsed_s, 3),
        }
    if isinstance(event, Validation):
        return {
            "event": "validation",
            "step": event.step,
            "accuracy": event.accuracy,
            "failed": event.failed,
            "is_best": event.is_best,
        }
    return {"event": "transfer", "step": at_step, "groups": [_transfer(transfer) for transfer in event]}


def plot(curves: Sequence[dict[str, Any]], title: str) -> bytes:
    """Loss, training accuracy and validation accuracy over the outer steps, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    steps = [event for event in curves if event["event"] == "step" and event["loss"] is not None]
    validations = [event for event in curves if event["event"] == "validation"]
    figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    at = [event["step"] for event in steps]
    window = max(1, len(steps) // 50)
    losses.plot(at, _smoothed([event["loss"] for event in steps], window), color="tab:blue")
    losses.set(xlabel="outer step", ylabel=f"query loss, mean of {window} steps")
    known = [event for event in steps if event["accuracy"] is not None]
    trained = _smoothed([event["accuracy"] for event in known], window)
    accuracies.plot([event["step"] for event in known], trained, color="tab:blue", label="training episodes")
    if validations:
        accuracies.plot(
            [event["step"] for event in validations],
            [event["accuracy"] for event in validations],
            color="tab:orange",
            marker="o",
            label="validation tasks",
        )
    accuracies.set(xlabel="outer step", ylabel="query accuracy")
    if known or validations:
        accuracies.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plt.close(figure)
    return buffer.getvalue()


def _smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and those before it, up to the window."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(window, i + 1) for i in range(len(values))]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _transfer(transfer: Transfer) -> dict[str, Any]:
    return {
        "group": transfer.group,
        "cosine": _finite(transfer.cosine),
        "interval": [_finite(transfer.low), _finite(transfer.high)],
        "conflicts": list(transfer.conflicts),
    }
