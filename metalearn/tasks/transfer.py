"""Whether groups of tasks help or hinder each other: a guard against negative transfer.

A small outer step along group i's gradient changes group j's meta-loss by -rate g_i . g_j: with a negative product,
what i learns costs j. Gradients are compared through a random sketch, so that hundreds of them fit into memory.

Source: Yu et al. 2020 (PCGrad), definition 1, for conflicting gradients; Fifty et al. 2021 (TAG), section 3, for tasks'
effect on each other as the change of loss after a step; Weinberger et al. 2009 (feature hashing), for the sketch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_SKETCH = 4096
_NEGLIGIBLE = 2 / math.sqrt(_SKETCH)
"""Cosines this near to zero may be the sketch's own doing."""
_T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom; above, the normal distribution's 1.96 is near enough."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Agreement of the other groups' gradients with one group's.

    Attributes:
        group: The group.
        cosine: Mean cosine of its episodes' gradients with the mean gradient of all other groups.
        low: Lower end of its 95 % interval over the group's episodes.
        high: Upper end.
        conflicts: Groups whose mean gradient points away from this group's.
    """

    group: str
    cosine: float
    low: float
    high: float
    conflicts: tuple[str, ...]

    @property
    def is_negative(self) -> bool:
        """Whether training on the group works against the others, beyond chance and what the sketch may add."""
        return self.high < -_NEGLIGIBLE


def sketch(gradients: Mapping[str, Tensor]) -> Float[Tensor, " sketch"]:
    """A random projection of all gradients that keeps inner products in the mean; the same for the same shapes."""
    total: Tensor | None = None
    for place, gradient in enumerate(gradients.values()):
        draw = torch.Generator().manual_seed(place)
        n = gradient.numel()
        buckets = torch.randint(_SKETCH, (n,), generator=draw).to(gradient.device)
        signs = (torch.randint(2, (n,), generator=draw) * 2 - 1).to(gradient)
        part = torch.zeros(_SKETCH, device=gradient.device, dtype=gradient.dtype)
        part.index_add_(0, buckets, signs * gradient.reshape(-1))
        total = part if total is None else total + part
    if total is None:
        raise ValueError("there is no gradient to sketch")
    return total


def measure_transfer(sketches: Mapping[str, Sequence[Float[Tensor, " sketch"]]]) -> list[Transfer]:
    """Compares the groups' meta-gradients.

    Args:
        sketches: Group -> ``sketch`` of the meta-gradient of some of its episodes. One that is not finite is left
            out, and so is a group with fewer than two that are.

    Returns:
        One entry per group, the one that works most against the others first.
    """
    finite = {group: [s for s in found if bool(torch.isfinite(s).all())] for group, found in sketches.items()}
    # Of unit length: a group with large gradients is not to speak for all
    rows = {
        group: torch.nn.functional.normalize(torch.stack(found), dim=1)
        for group, found in finite.items()
        if len(found) > 1
    }
    means = {group: row.mean(dim=0) for group, row in rows.items()}
    found = []
    for group, row in rows.items():
        others = [mean for other, mean in means.items() if other != group]
        if not others:
            continue
        direction = torch.nn.functional.normalize(torch.stack(others).mean(dim=0), dim=0)
        cosines = row @ direction
        mean, n = float(cosines.mean()), len(cosines)
        t = _T_95[n - 2] if n - 2 < len(_T_95) else 1.96
        half = t * float(cosines.std()) / math.sqrt(n)
        conflicts = tuple(o for o, other in means.items() if o != group and float(other @ means[group]) < 0)
        found.append(Transfer(group, mean, mean - half, mean + half, conflicts))
    return sorted(found, key=lambda transfer: transfer.cosine)


def held_back(factors: Mapping[str, float], measured: Sequence[Transfer], *, least: float = 0.125) -> dict[str, float]:
    """The sampling factor of each group: half as often when it works against the others, twice when it does not.

    Args:
        factors: Before; a group that is missing has 1.
        measured: The measurements of now.
        least: No group falls below this share.
    """
    updated = dict(factors)
    for transfer in measured:
        factor = updated.get(transfer.group, 1.0)
        updated[transfer.group] = max(least, factor / 2) if transfer.is_negative else min(1.0, factor * 2)
    return updated
