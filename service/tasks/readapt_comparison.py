"""The comparison of a version with the one that another checkpoint makes of its support set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metalearn.errors import MetalearnError
from metalearn.evidence.decisions import quality
from metalearn.types import SupportSet
from model_store.records import Version
from service.engine.adapt_slices import Adaptation
from service.engine.errors import SupportTooLarge, TextEmpty
from service.settings import PREFIX, Settings
from service.tasks.app_parts import Parts
from service.tasks.kept_support import KeptSupport
from service.tasks.support_set import CheckedSupport


@dataclass(frozen=True, slots=True)
class Comparison:
    """A version and an adaptation on its support set, by the examples without themselves.

    Attributes:
        former: The version.
        accuracy: Leave-one-out accuracy of the adaptation; None where no example was asked.
        n_asked: Number of examples that were asked.
        agreement: Share of these that both checkpoints answer alike; None where that is not known.
        figures: Figures of the adaptation's left-out answers where classes do not exclude each other, or are ordered.
    """

    former: Version
    accuracy: float | None
    n_asked: int
    agreement: float | None
    figures: Mapping[str, float] | None = None

    def fields(self) -> dict[str, Any]:
        """The fields of ``ReadaptComparison``."""
        return {
            "former_checkpoint": self.former.checkpoint,
            "former_leave_one_out_accuracy": self.former.leave_one_out_accuracy,
            "former_leave_one_out": self.former.figures,
            "agreement": self.agreement,
        }

    def worse(self, settings: Settings) -> str | None:
        """Why the adaptation is worse than the settings allow; None where it is not.

        One example alone is no reason, since of a few examples it is a large share.
        """
        before = _measured(self.former.leave_one_out_accuracy, self.former.figures)
        after = _measured(self.accuracy, self.figures)
        if before is not None and after is not None:
            name, drop = before[0], before[1] - after[1]
            if drop > settings.readapt_max_drop and round(drop * self.n_asked) > 1:
                return (
                    f"the leave-one-out {name} would fall from {before[1]:.3f} to {after[1]:.3f}, by more than "
                    f"{settings.readapt_max_drop:g} ({PREFIX}READAPT_MAX_DROP)"
                )
        if self.agreement is not None:
            disagreement = 1 - self.agreement
            if disagreement > settings.readapt_max_disagreement and round(disagreement * self.n_asked) > 1:
                return (
                    f"{disagreement:.3f} of the examples would be answered otherwise, more than "
                    f"{settings.readapt_max_disagreement:g} ({PREFIX}READAPT_MAX_DISAGREEMENT)"
                )
        return None

    def most_disagreement(self) -> float:
        """The largest share of the examples that may be classified otherwise, by what is known without asking.

        An example that both checkpoints classify correctly is classified alike.
        """
        before = self.former.leave_one_out_accuracy
        if before is None or self.accuracy is None:
            return 1.0
        return 2 - before - self.accuracy


async def compared(
    parts: Parts,
    tenant: str,
    kept: KeptSupport,
    checked: CheckedSupport,
    adaptation: Adaptation,
    *,
    only_to_decide: bool = False,
    background: bool = False,
) -> Comparison:
    """Compares an adaptation on a version's support set with the version.

    Where the version's checkpoint is loaded, it is adapted from once more, to know its answers to the examples.

    Args:
        parts: The app's parts.
        tenant: The tenant of the support set.
        kept: The version and its support set.
        checked: The support set to adapt on.
        adaptation: The adaptation.
        only_to_decide: Whether the agreement is wanted only where it can decide which of the two is worse.
        background: Whether no request waits for it.

    Raises:
        QueueFull: The queue has no room.
        ComputeStopped: The compute thread has ended.
    """
    former, checkpoints = kept.source, parts.engine.checkpoints
    own, figures = _answers(adaptation), adaptation.figures
    n_asked = len(checked.support.examples) if figures is not None else sum(found != _NOT_ASKED for found in own)
    without = Comparison(former, adaptation.leave_one_out_accuracy, n_asked, None, figures)
    if (
        not own
        or not n_asked
        or former.checkpoint not in checkpoints
        or former.checkpoint == adaptation.adapter.checkpoint
    ):
        return without
    if only_to_decide and _is_decided(without, checked.support, parts.settings):
        return without
    models = checkpoints.named(former.checkpoint)
    try:
        again = await parts.engine.adapt(tenant, models, checked.support, former.options, background=background)
    except (MetalearnError, SupportTooLarge, TextEmpty):  # it has made the version, under other limits
        return without
    return replace(without, agreement=_agreement(own, _answers(again)))


def _is_decided(without: Comparison, support: SupportSet, settings: Settings) -> bool:
    """Whether the agreement could not change the decision, whatever it is."""
    if without.worse(settings) is not None:
        return True
    # The accuracies count each example's weight, and the agreement does not
    all_count_alike = len({example.weight for example in support.examples}) == 1
    return all_count_alike and without.most_disagreement() <= settings.readapt_max_disagreement


_NOT_ASKED = (-1,)


def _answers(adaptation: Adaptation) -> Sequence[tuple[int, ...]]:
    """The left-out answers to the examples, as classes."""
    return adaptation.left_out_answers or [(found,) for found in adaptation.left_out or ()]


def _agreement(own: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]]) -> float | None:
    pairs = [pair for pair in zip(own, others, strict=False) if _NOT_ASKED not in pair]
    return sum(one == other for one, other in pairs) / len(pairs) if pairs else None


def _measured(accuracy: float | None, figures: Mapping[str, float] | None) -> tuple[str, float] | None:
    """The figure that is compared, with its name."""
    return quality(figures) if accuracy is None else ("accuracy", accuracy)
