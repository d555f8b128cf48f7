"""Which texts a device reads together."""

from collections.abc import Sequence

import torch


def batch_tokens(device: torch.device) -> int:
    """Tokens of a padded batch that keep a device busy; a CPU gains nothing from more, and they keep others waiting."""
    return 512 if device.type == "cpu" else 16_384


def batch_cost(max_batch_tokens: int) -> float:
    """What a batch costs beside its tokens, in tokens; chosen in docs/log.md."""
    return max_batch_tokens / 40


def plan_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Groups row indices by length, so that padding and the number of batches together cost least.

    Args:
        lengths: Tokens per row.
        max_batch_tokens: Bound on rows times width of a batch; a longer row gets a batch of its own.

    Returns:
        Every index once, shorter rows first. The plan depends on ``lengths`` alone, so the same texts always meet the
        same batches.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    ends = {lengths[index]: place for place, index in enumerate(order, 1)}  # width -> how many rows are no wider
    begins, costs = [0], [0.0]  # how many rows stand before a group of batches, and what those cost at least
    of_batch = batch_cost(max_batch_tokens)
    groups: list[tuple[int, int]] = []  # where its rows begin, as a place in begins, and most rows of a batch
    for width, end in ends.items():
        rows = max(1, max_batch_tokens // width)
        # All rows of a group as wide as its widest; a group's end is where rows grow wider
        options = [
            cost + (end - begin) * width - (begin - end) // rows * of_batch
            for begin, cost in zip(begins, costs, strict=True)
        ]
        best = min(range(len(options)), key=options.__getitem__)
        groups.append((best, rows))
        begins.append(end)
        costs.append(options[best])
    batches: list[list[int]] = []
    group = len(groups)
    while group:
        before, rows = groups[group - 1]
        begin, end = begins[before], begins[group]
        while end > begin:
            batches.append(order[max(begin, end - rows) : end])
            end -= rows
        group = before
    return batches[::-1]
