"""The comparison of a version with the one that another checkpoint makes of its support set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metalearn.errors import MetalearnError
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
        agreement: Share of these that both checkpoints classify alike; None where that is not known.
    """

    former: Version
    accuracy: float | None
    n_asked: int
    agreement: float | None

    def fields(self) -> dict[str, str | float | None]:
        """The fields of ``ReadaptComparison``."""
        return {
            "former_checkpoint": self.former.checkpoint,
            "former_leave_one_out_accuracy": self.former.leave_one_out_accuracy,
            "agreement": self.agreement,
        }

    def worse(self, settings: Settings) -> str | None:
        """Why the adaptation is worse than the settings allow; None where it is not.

        One example alone is no reason, since of a few examples it is a large share.
        """
        before = self.former.leave_one_out_accuracy
        if before is not None and self.accuracy is not None:
            drop = before - self.accuracy
            if drop > settings.readapt_max_drop and round(drop * self.n_asked) > 1:
                return (
                    f"the leave-one-out accuracy would fall from {before:.3f} to {self.accuracy:.3f}, by more than "
                    f"{settings.readapt_max_drop:g} ({PREFIX}READAPT_MAX_DROP)"
                )
        if self.agreement is not None:
            disagreement = 1 - self.agreement
            if disagreement > settings.readapt_max_disagreement and round(disagreement * self.n_asked) > 1:
                return (
                    f"{disagreement:.3f} of the examples would be classified otherwise, more than "
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
    own = adaptation.left_out or ()
    n_asked = sum(found >= 0 for found in own)
    without = Comparison(former, adaptation.leave_one_out_accuracy, n_asked, agreement=None)
    if not n_asked or former.checkpoint not in checkpoints or former.checkpoint == adaptation.adapter.checkpoint:
        return without
    if only_to_decide and _is_decided(without, checked.support, parts.settings):
        return without
    models = checkpoints.named(former.checkpoint)
    try:
        again = await parts.engine.adapt(tenant, models, checked.support, former.options, background=background)
    except (MetalearnError, SupportTooLarge, TextEmpty):  # it has made the version, under other limits
        return without
    return replace(without, agreement=_agreement(own, again.left_out or ()))


def _is_decided(without: Comparison, support: SupportSet, settings: Settings) -> bool:
    """Whether the agreement could not change the decision, whatever it is."""
    if without.worse(settings) is not None:
        return True
    # The accuracies count each example's weight, and the agreement does not
    all_count_alike = len({example.weight for example in support.examples}) == 1
    return all_count_alike and without.most_disagreement() <= settings.readapt_max_disagreement


def _agreement(own: Sequence[int], others: Sequence[int]) -> float | None:
    pairs = [pair for pair in zip(own, others, strict=False) if min(pair) >= 0]
    return sum(one == other for one, other in pairs) / len(pairs) if pairs else None
