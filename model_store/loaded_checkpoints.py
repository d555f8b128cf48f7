"""The checkpoints that a server has loaded: which one made an adapter, and which one a request names."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from metalearn.types import Adapter
from model_store.errors import UnknownCheckpoint
from model_store.learner_models import Models
from model_store.weight_shapes import ShapesOfLearner

_MIN_FINGERPRINT_CHARS = 12


class LoadedCheckpoints:
    """The models of one or several checkpoints on one device, in the order in which they were given.

    Attributes:
        default: The models of the first one, which adapts where a request names none.
        shapes: Fingerprint -> the shapes of that checkpoint's adapters; see ``decode_adapter``.
    """

    def __init__(self, models: Sequence[Models]) -> None:
        self.default = models[0]
        self._models = {each.checkpoint.fingerprint: each for each in models}
        self.shapes: Mapping[str, ShapesOfLearner] = {
            fingerprint: each.shapes for fingerprint, each in self._models.items()
        }

    def __iter__(self) -> Iterator[Models]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self._models

    @property
    def device(self) -> torch.device:
        """The device of all of them."""
        return self.default.checkpoint.encoder.device

    def weight_bytes(self) -> dict[str, int]:
        """The bytes of each checkpoint's weights in torch, by fingerprint; shared weights count for the first alone."""
        seen, sizes = set[int](), dict.fromkeys(self._models, 0)
        for fingerprint, models in self._models.items():
            checkpoint = models.checkpoint
            parts = (checkpoint.encoder.transformer.named_weights(), checkpoint.slow_weights)
            for storage in (weight.untyped_storage() for part in parts for weight in part.values()):
                if storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    sizes[fingerprint] += storage.nbytes()
        return sizes

    def of(self, adapter: Adapter) -> Models:
        """The models of the checkpoint that made an adapter."""
        return self._models[adapter.checkpoint]

    def named(self, reference: str | None) -> Models:
        """The models of the checkpoint with a name or a fingerprint; the default ones for None.

        Args:
            reference: The name, or the first 12 or more digits of the fingerprint.

        Raises:
            UnknownCheckpoint: No loaded checkpoint, or more than one, has that name or fingerprint.
        """
        if reference is None:
            return self.default
        is_long = len(reference) >= _MIN_FINGERPRINT_CHARS
        found = [
            models
            for fingerprint, models in self._models.items()
            if models.checkpoint.manifest.name == reference or (is_long and fingerprint.startswith(reference))
        ]
        if len(found) != 1:
            checkpoints = [each.checkpoint for each in self]
            loaded = ", ".join(f"{each.manifest.name!r} ({each.fingerprint[:12]})" for each in checkpoints)
            asked = repr(reference[:64])
            trouble = (
                f"several loaded checkpoints have the name {asked}"
                if found
                else f"the checkpoint {asked} is not loaded"
            )
            raise UnknownCheckpoint(
                f"{trouble}; loaded are {loaded}" if len(self) > 1 else f"{trouble}; loaded is {loaded}"
            )
        return found[0]
