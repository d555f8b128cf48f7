"""A checkpoint's manifest: what the checkpoint is, in words and numbers, under a fingerprint of its own."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from metalearn.encoder import EncoderSettings
from metalearn.halves import Halves
from metalearn.inner_loop import Order
from metalearn.learners.interface import LearnerOptions, RateKind
from metalearn.model_spec import ModelSpec
from metalearn.placement import PlacementName
from model_store.errors import CheckpointInvalid

MANIFEST, SLOW_WEIGHTS, CARD = "manifest.json", "slow_weights.safetensors", "README.md"
"""Files of a checkpoint. A folder without a manifest holds none."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Mix = list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class HalvesSection(_Frozen):
    """See ``metalearn.halves.Halves``; ``mix`` is of the stock half."""

    mix: _Mix
    share: float = Field(ge=0, le=1)
    # Left out where it is zero, as in manifests that were written before there was one: fingerprints stay
    token_similarity: float = Field(0.0, ge=0, allow_inf_nan=False, exclude_if=lambda counts: counts == 0)
    trained_mix: _Mix = Field([1.0], exclude_if=lambda mix: mix == [1.0])
    words_only: bool = Field(False, exclude_if=lambda words_only: not words_only)

    @field_validator("mix", "trained_mix")
    @classmethod
    def _counts(cls, mix: list[float]) -> list[float]:
        if not any(mix):
            raise ValueError("no state counts anything")
        return mix

    @classmethod
    def of(cls, halves: Halves) -> Self | None:
        """What is written of it: nothing of the defaults.

        Raises:
            CheckpointInvalid: Something in it is out of range.
        """
        if halves == Halves():
            return None
        try:
            return cls(
                mix=[*halves.stock_mix],
                share=halves.share,
                token_similarity=halves.token_similarity,
                trained_mix=[*halves.trained_mix],
                words_only=halves.words_only,
            )
        except ValidationError as error:
            raise CheckpointInvalid(f"no checkpoint can be made of {halves}: {error}") from error


class EncoderReference(_Frozen):
    """Where the encoder is, and what it must be.

    Attributes:
        source: See ``metalearn.encoder_source.locate_encoder``; a folder is relative to the checkpoint.
        files: SHA-256 of each file that decides a feature.
        dim: Width of the features.
        max_tokens: Longer texts are cut.
        normalize: Whether features have unit length.
        licence: Of the encoder's weights.
        stock: What its features count beside those of meta-trained layers; where it is missing, as ``Halves`` says.
    """

    source: str
    files: dict[str, str]
    dim: int = Field(gt=0)
    max_tokens: int = Field(ge=8)
    normalize: bool
    licence: str
    # Left out where there is none, as in manifests that were written before there was one: fingerprints stay
    stock: HalvesSection | None = Field(None, exclude_if=lambda stock: stock is None)

    @property
    def settings(self) -> EncoderSettings:
        """How the encoder reads a text."""
        halves, written = Halves(), self.stock
        if written is not None:
            halves = Halves(
                stock_mix=tuple(written.mix),
                share=written.share,
                token_similarity=written.token_similarity,
                trained_mix=tuple(written.trained_mix),
                words_only=written.words_only,
            )
        return EncoderSettings(self.max_tokens, self.normalize, halves)


class Hyperparameters(_Frozen):
    """What a checkpoint decides for every task that does not say otherwise.

    Attributes:
        steps: Inner steps.
        abstain_threshold: Confidence under which a prediction abstains when asked to.
    """

    steps: int = Field(ge=0)
    abstain_threshold: float = Field(ge=0, le=1)


UNTRAINED = Hyperparameters(steps=40, abstain_threshold=0.5)
"""For a stock encoder without meta-training; see docs/log.md for how they were chosen."""


class AdaptationSection(_Frozen):
    """All that ``ModelSpec`` holds beside the learner's name; see there, and ``LearnerOptions``."""

    placement: PlacementName
    fast_layers: int = Field(ge=0)
    rank: int = Field(ge=1)
    trained_layers: int = Field(ge=0)
    stock_view: bool
    rates: RateKind | None
    update_rule: str | None
    order: Order | None
    head_rate: float | None = Field(ge=0, allow_inf_nan=False)
    body_rate: float | None = Field(ge=0, allow_inf_nan=False)

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """What a spec says.

        Raises:
            CheckpointInvalid: Something in it is out of range.
        """
        try:
            return cls(
                placement=spec.placement,
                fast_layers=spec.fast_layers,
                rank=spec.rank,
                trained_layers=spec.trained_layers,
                stock_view=spec.stock_view,
                **asdict(spec.options),
            )
        except ValidationError as error:
            raise CheckpointInvalid(f"no checkpoint can be made of {spec}: {error}") from error

    def spec(self, learner: str) -> ModelSpec:
        """The spec that it was made of."""
        options = LearnerOptions(self.rates, self.update_rule, self.order, self.head_rate, self.body_rate)
        return ModelSpec(
            learner, self.placement, self.fast_layers, self.rank, self.trained_layers, self.stock_view, options
        )


class TrainingTask(_Frozen):
    """A labelled set that the slow weights were meta-trained on.

    Attributes:
        name: The set's name.
        licence: Its licence.
    """

    name: str
    licence: str


class Manifest(_Frozen):
    """What a checkpoint is. Its fingerprint covers every field and, by digest, every file that decides an answer.

    Attributes:
        format: Version of this layout.
        name: For people.
        learner: The learner's registered name.
        adaptation: Where fast weights live, and the learner's options.
        hyperparameters: The checkpoint's choices.
        encoder: The shared encoder.
        slow_weights: SHA-256 of ``slow_weights.safetensors``.
        trained_on: What it was meta-trained on; empty where it was not.
        fingerprint: SHA-256 over the rest of the manifest.
    """

    format: Literal[3] = 3
    name: str
    learner: str
    adaptation: AdaptationSection
    hyperparameters: Hyperparameters
    encoder: EncoderReference
    slow_weights: str
    trained_on: list[TrainingTask] = []
    fingerprint: str

    @property
    def spec(self) -> ModelSpec:
        """What its model is made of."""
        return self.adaptation.spec(self.learner)

    def computed_fingerprint(self) -> str:
        """What ``fingerprint`` has to be."""
        content = self.model_dump(mode="json", exclude={"fingerprint"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def sealed(self) -> Self:
        """The same manifest under its fingerprint."""
        return self.model_copy(update={"fingerprint": self.computed_fingerprint()})

    def to_json(self) -> bytes:
        """As written."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """The verified manifest of a checkpoint folder.

    Raises:
        CheckpointInvalid: It is missing, malformed, or its fingerprint is not its own.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise CheckpointInvalid(f"cannot read the manifest: {error}") from error
    except ValidationError as error:
        raise CheckpointInvalid(f"the manifest in {folder} is malformed: {error}") from error
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise CheckpointInvalid(f"the manifest in {folder} was altered: its fingerprint does not match its content")
    return manifest
