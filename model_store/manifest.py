"""A checkpoint's manifest: what the checkpoint is, in words and numbers, under a fingerprint of its own."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from metalearn.encoder.stages import Stages, encoder_stages
from metalearn.learners.interface import LearnerOptions
from metalearn.model_spec import ModelSpec
from metalearn.options import Order, PlacementName, RateKind
from model_store.errors import CheckpointInvalid

MANIFEST, SLOW_WEIGHTS, CARD, GRAPH = "manifest.json", "slow_weights.safetensors", "README.md", "graph.onnx"
"""Files of a checkpoint. A folder without a manifest holds none."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, serialize_by_alias=True, validate_by_name=True)


class EncoderReference(_Frozen):
    """A reference to the encoder: its place and its digests.

    Attributes:
        source: See ``metalearn.encoder.source.locate_encoder``; a folder is relative to the checkpoint.
        files: SHA-256 of each file that decides a feature.
        dim: Width of the transformer's states.
        licence: Licence of the encoder's weights.
        stages: How texts are read and features made, in order.
        graph: SHA-256 of ``graph.onnx``; None where the checkpoint has none.
    """

    source: str
    files: dict[str, str]
    dim: int = Field(gt=0)
    licence: str
    stages: Stages
    graph: str | None = Field(None, exclude_if=lambda digest: digest is None)  # manifests without one keep their bytes

    @classmethod
    def of(cls, stages: Stages, **fields: Any) -> Self:
        """The reference with these stages and other fields.

        Raises:
            CheckpointInvalid: Something in the stages is out of range.
        """
        try:
            return cls(stages=stages, **fields)
        except ValidationError as error:
            raise CheckpointInvalid(f"no checkpoint can be made of {stages}: {error}") from error

    @field_serializer("stages")
    def _present(self, stages: Stages) -> list[Any]:
        return [stage for stage in stages if stage is not None]

    @property
    def max_tokens(self) -> int:
        """The longest text, special tokens included."""
        return self.stages.transformer.max_tokens


class Hyperparameters(_Frozen):
    """The defaults of a checkpoint for every task.

    Attributes:
        steps: Inner steps.
        abstain_threshold: Confidence under which a prediction abstains when asked to.
    """

    steps: int = Field(ge=0)
    abstain_threshold: float = Field(ge=0, le=1)


UNTRAINED = Hyperparameters(steps=40, abstain_threshold=0.5)
"""The defaults of a stock encoder without meta-training; see docs/log.md for how they were chosen."""


class AdaptationSection(_Frozen):
    """The fields of ``ModelSpec`` beside the learner's name; see there, and ``LearnerOptions``.

    Attributes:
        frozen_view: Always false. Release 0.2.0 had a second view, and fingerprints cover this field.
    """

    placement: PlacementName
    fast_layers: int = Field(ge=0)
    rank: int = Field(ge=1)
    tuned_layers: int = Field(ge=0)
    frozen_view: Literal[False] = False
    rates: RateKind | None
    update_rule: str | None
    order: Order | None
    head_rate: float | None = Field(ge=0, allow_inf_nan=False)
    body_rate: float | None = Field(ge=0, allow_inf_nan=False)

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """The section of a spec.

        Raises:
            CheckpointInvalid: Something in it is out of range.
        """
        try:
            fields = asdict(spec)
            del fields["learner"]
            return cls(**fields.pop("options"), **fields)
        except ValidationError as error:
            raise CheckpointInvalid(f"no checkpoint can be made of {spec}: {error}") from error

    def spec(self, learner: str) -> ModelSpec:
        """The spec that it was made of."""
        fields = self.model_dump(exclude={"frozen_view"})
        options = LearnerOptions(**{field.name: fields.pop(field.name) for field in dataclasses.fields(LearnerOptions)})
        return ModelSpec(learner, **fields, options=options)


class TrainingTask(_Frozen):
    """A labelled set that the slow weights were meta-trained on.

    Attributes:
        name: The set's name.
        licence: Its licence.
        language: Code of its texts' language, such as ``de``; empty where it is unknown or they have several.
    """

    name: str
    licence: str
    language: str = Field("", exclude_if=lambda code: not code)  # manifests without any keep their bytes


class Manifest(_Frozen):
    """A description of a checkpoint. Its fingerprint covers every field and, by digest, each file that decides answers.

    Attributes:
        format: Version of this layout.
        name: For people.
        learner: The learner's registered name.
        adaptation: Where fast weights live, and the learner's options.
        hyperparameters: The checkpoint's choices.
        encoder: The shared encoder.
        slow_weights: SHA-256 of ``slow_weights.safetensors``.
        trained_on: The tasks that it was meta-trained on; empty where it was not.
        fingerprint: SHA-256 over the rest of the manifest.
    """

    format: Literal[4] = 4
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
        """The specification of its model."""
        return self.adaptation.spec(self.learner)

    @property
    def languages(self) -> list[str]:
        """The languages of the tasks that it was meta-trained on, as far as they are known."""
        return sorted({task.language for task in self.trained_on if task.language})

    def computed_fingerprint(self) -> str:
        """The right value of ``fingerprint``."""
        return _fingerprint(self.model_dump(mode="json"))

    def sealed(self) -> Self:
        """The same manifest under its fingerprint."""
        return self.model_copy(update={"fingerprint": self.computed_fingerprint()})

    def to_json(self) -> bytes:
        """The manifest as it is written."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """The verified manifest of a checkpoint folder; one of format 3 is converted.

    Raises:
        CheckpointInvalid: It is missing, malformed, its fingerprint is not its own, or the checkpoint has two views.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointInvalid(f"cannot read the manifest: {error}") from error
    fields = _fields(content)
    if _has_two_views(fields):
        raise CheckpointInvalid(
            f"the checkpoint in {folder} was made by release 0.2.0 or before with two views, which this release does "
            "not have: make it anew by `handful metatrain` or serve a shipped one, and move its tasks by "
            "`handful tasks readapt`"
        )
    if fields.get("format") == 3:
        if fields.get("fingerprint") != _fingerprint(fields):
            raise CheckpointInvalid(f"the manifest in {folder} was altered: its fingerprint does not match its content")
        content = _upgraded(fields).to_json()
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise CheckpointInvalid(f"the manifest in {folder} is malformed: {error}") from error
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise CheckpointInvalid(f"the manifest in {folder} was altered: its fingerprint does not match its content")
    return manifest


def _has_two_views(fields: Mapping[str, Any]) -> bool:
    """Whether features of the stock encoder stood beside those of the meta-trained layers."""
    match fields:
        case {"adaptation": {"stock_view": True} | {"frozen_view": True}}:
            return True
        case {"encoder": {"stages": [*_, {"stage": "views"}]}}:
            return True
    return False


def _upgraded(fields: Mapping[str, Any]) -> Manifest:
    """The manifest of format 4, under its own fingerprint, of the fields of one of format 3."""
    encoder, adaptation = dict(fields["encoder"]), dict(fields["adaptation"])
    adaptation["tuned_layers"] = adaptation.pop("trained_layers")
    del adaptation["stock_view"]
    if adaptation["placement"] == "everything":
        adaptation["placement"] = "full"
    encoder.pop("stock", None)
    stages = encoder_stages(max_tokens=encoder.pop("max_tokens"), normalize=encoder.pop("normalize"))
    encoder["stages"] = [asdict(stage) for stage in stages]
    new = {**fields, "format": 4, "encoder": encoder, "adaptation": adaptation, "fingerprint": ""}
    return Manifest.model_validate_json(json.dumps(new)).sealed()


def _fields(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _fingerprint(fields: Mapping[str, Any]) -> str:
    content = {name: value for name, value in fields.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
