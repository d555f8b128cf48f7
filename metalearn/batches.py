"""Which texts a device reads together."""

from collections.abc import Sequence

import torch


def batch_tokens(device: torch.device) -> int:
    """Tokens of a padded batch that keep a device busy; a CPU gains nothing from more, and they keep others waiting."""
    return 512 if device.type == "cpu" else 16_384


_MOST_PADDING = 0.1
"""Share of padding beside the texts at which a batch of some size is closed."""

_BUSY = 16
"""A batch of this part of the tokens that it may have keeps a device about as busy as a full one, and a batch of its
own costs about as much as so many tokens; see docs/log.md."""


def plan_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Groups row indices by length, so that no batch is wider than needed.

    A batch is closed before its padding grows, once it keeps a device busy or the padding would cost more than a batch.

    Args:
        lengths: Tokens per row.
        max_batch_tokens: Bound on rows times width of a batch; a longer row gets a batch of its own.

    Returns:
        Every index once. The plan depends on ``lengths`` alone, so the same texts always meet the same batches.
    """
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        width = lengths[index]  # of the batch with it, since rows come shortest first
        padded = (len(batches[-1]) + 1) * width if batches else 0
        padding = padded - tokens - width
        wasteful = max(tokens, padding) >= max_batch_tokens // _BUSY and padding > _MOST_PADDING * (tokens + width)
        if not batches or padded > max_batch_tokens or wasteful:
            batches.append([])
            tokens = 0
        batches[-1].append(index)
        tokens += width
    return batches
