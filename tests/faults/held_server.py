"""``handful`` in which large work does not end while a file exists, so that a test has time to act meanwhile.

Small requests are answered as ever.
"""

import os
import time
from pathlib import Path

from handful.cli.main import main
from service.engine.compute import ComputeThread
from service.engine.support_batches import SupportBatches, SupportTexts

HELD = Path(os.environ["TEST_HOLD_FILE"])
LARGE = int(os.environ.get("TEST_HOLD_FROM", "100"))
"""Texts of one request from which on it is held."""

_encode_next, _predict_batch = SupportBatches.encode_next, ComputeThread._predict_batch


def encode_next(batches: SupportBatches, support: SupportTexts) -> None:
    """Encodes nothing of a large support set while the file exists; its next slice tries again."""
    if len(support.texts) >= LARGE and HELD.exists():
        time.sleep(0.005)
    else:
        _encode_next(batches, support)


def predict_batch(thread: ComputeThread) -> None:
    """Waits before large predictions while the file exists, unless they are cancelled."""
    large = [work for work in thread._predictions if len(work._texts) >= LARGE]
    if large and not any(work.cancelled for work in large) and HELD.exists():
        time.sleep(0.005)
    else:
        _predict_batch(thread)


SupportBatches.encode_next = encode_next  # type: ignore[method-assign]
ComputeThread._predict_batch = predict_batch  # type: ignore[method-assign]
main()
