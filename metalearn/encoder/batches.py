"""Which texts a device reads together, and how wide they are padded."""

from collections.abc import Sequence

import torch


def batch_tokens(device: torch.device) -> int:
    """Tokens of a padded batch that keep a device busy; a CPU gains nothing from more, and they keep others waiting."""
    return 512 if device.type == "cpu" else 16_384


def padded_width(length: int) -> int:
    """The width that a text is padded to, by its own length alone.

    The last bits of a text's features depend on the width of its batch, and on nothing else of it. So a text has the
    same width in every batch, and so the same features: see docs/adr/0007-features-depend-on-the-text-alone.md.
    """
    step = 4 if length <= 64 else 8 if length <= 128 else 16
    return -(-length // step) * step


def plan_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Groups row indices by padded width.

    Args:
        lengths: Tokens per row.
        max_batch_tokens: Bound on rows times width of a batch; a wider row gets a batch of its own.

    Returns:
        Every index once, shorter rows first, rows of one width in a batch.
    """
    of_width: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        of_width.setdefault(padded_width(lengths[index]), []).append(index)
    batches = []
    for width, indices in of_width.items():
        rows = max(1, max_batch_tokens // width)
        batches += [indices[begin : begin + rows] for begin in range(0, len(indices), rows)]
    return batches
