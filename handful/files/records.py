"""Records of a file, before their keys are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a file, all of one shape.

    Attributes:
        items: The line and the value of each record.
        shape: The format's name for messages.
        notes: Messages on what was left out.
        descriptions: Descriptions of labels.
    """

    items: list[tuple[int, Any]]
    shape: str
    notes: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
