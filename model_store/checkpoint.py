"""A checkpoint is a folder: ``manifest.json``, slow weights in safetensors, a card. Checked on load."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from metalearn.encoder import Encoder, EncoderSettings, locate_encoder
from metalearn.errors import EncoderUnavailable, UnknownLearner
from metalearn.learners import Learner, make_learner
from model_store.errors import CheckpointInvalid

SHIPPED = Path(__file__).parent / "checkpoints"
DEFAULT_CHECKPOINT = "minilm-l6-protomaml"

_ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EncoderReference(_Frozen):
    """Where the encoder is, and what it must be.

    Attributes:
        source: See ``metalearn.encoder.locate_encoder``; a folder is relative to the checkpoint.
        files: SHA-256 of each file that decides a feature.
        dim: Width of the features.
        max_tokens: Longer texts are cut.
        normalize: Whether features have unit length.
        licence: Of the encoder's weights.
    """

    source: str
    files: dict[str, str]
    dim: int = Field(gt=0)
    max_tokens: int = Field(ge=8)
    normalize: bool
    licence: str


class Hyperparameters(_Frozen):
    """What a checkpoint decides for every task that does not say otherwise.

    Attributes:
        steps: Inner steps.
        label_text_weight: What a label's text counts beside an example.
        abstain_threshold: Confidence under which a prediction abstains when asked to.
    """

    steps: int = Field(ge=0)
    label_text_weight: float = Field(ge=0)
    abstain_threshold: float = Field(ge=0, le=1)


UNTRAINED = Hyperparameters(steps=40, label_text_weight=2.0, abstain_threshold=0.5)
"""For a stock encoder without meta-training; see docs/log.md for how they were chosen."""


class TrainingTask(_Frozen):
    """A labelled set that the slow weights were meta-trained on.

    Attributes:
        name: The set's name.
        licence: Its licence.
    """

    name: str
    licence: str


class Manifest(_Frozen):
    """What a checkpoint is. Its fingerprint covers every field and, by their digests, every file.

    Attributes:
        format: Version of this layout.
        name: For people.
        learner: The learner's registered name.
        hyperparameters: The checkpoint's choices.
        encoder: The shared encoder.
        slow_weights: SHA-256 of ``slow_weights.safetensors``.
        trained_on: What it was meta-trained on; empty where it was not.
        fingerprint: SHA-256 over the rest of the manifest.
    """

    format: Literal[1] = 1
    name: str
    learner: str
    hyperparameters: Hyperparameters
    encoder: EncoderReference
    slow_weights: str
    trained_on: list[TrainingTask] = []
    fingerprint: str

    def computed_fingerprint(self) -> str:
        """What ``fingerprint`` has to be."""
        content = self.model_dump(mode="json", exclude={"fingerprint"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """A loaded and verified checkpoint; nothing of it changes afterwards.

    Attributes:
        manifest: What it is.
        folder: Where it came from.
        encoder: The shared encoder, on the compute device.
        learner: Its learner.
        slow_weights: The meta-learned start and rates, on the compute device.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Loads a checkpoint folder, encoder included.

        Raises:
            CheckpointInvalid: A file is missing, altered or unknown to this version.
        """
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.slow_weights = _load_slow_weights(folder, self.manifest, device)
        reference = self.manifest.encoder
        try:
            self.learner: Learner = make_learner(self.manifest.learner)
            encoder_folder = locate_encoder(reference.source, folder)
            for name, digest in reference.files.items():
                _check_digest(encoder_folder / name, digest)
            self.encoder = Encoder(encoder_folder, EncoderSettings(reference.max_tokens, reference.normalize), device)
        except (EncoderUnavailable, UnknownLearner) as error:
            raise CheckpointInvalid(f"the checkpoint in {folder} cannot be used: {error}") from error
        if self.encoder.dim != reference.dim:
            raise CheckpointInvalid(f"the manifest says width {reference.dim}, the encoder has {self.encoder.dim}")

    @property
    def fingerprint(self) -> str:
        """Identifies the checkpoint; adapters carry it."""
        return self.manifest.fingerprint


def resolve_checkpoint(reference: str) -> Path:
    """The folder of a checkpoint: a path, or the name of a shipped one.

    Raises:
        CheckpointInvalid: It is neither.
    """
    for folder in (Path(reference), SHIPPED / reference):
        if (folder / "manifest.json").is_file():
            return folder
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/manifest.json"))
    raise CheckpointInvalid(
        f"{reference!r} is neither a folder with a manifest.json nor a shipped checkpoint ({', '.join(shipped)})"
    )


def read_manifest(folder: Path) -> Manifest:
    """The verified manifest of a checkpoint folder.

    Raises:
        CheckpointInvalid: It is missing, malformed, or its fingerprint is not its own.
    """
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except OSError as error:
        raise CheckpointInvalid(f"cannot read the manifest: {error}") from error
    except ValidationError as error:
        raise CheckpointInvalid(f"the manifest in {folder} is malformed: {error}") from error
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise CheckpointInvalid(f"the manifest in {folder} was altered: its fingerprint does not match its content")
    return manifest


def write_checkpoint(
    folder: Path,
    *,
    name: str,
    learner: str,
    hyperparameters: Hyperparameters,
    encoder_source: str,
    encoder_licence: str,
    slow_weights: Mapping[str, Tensor],
    card: str,
    settings: EncoderSettings | None = None,
    trained_on: Sequence[TrainingTask] = (),
) -> Manifest:
    """Writes a checkpoint folder; after a crash it is there whole or not at all.

    Args:
        folder: Must not exist yet.
        name: For people.
        learner: Registered name of the learner.
        hyperparameters: The checkpoint's choices.
        encoder_source: See ``metalearn.encoder.locate_encoder``. The encoder is referred to by digest, not copied.
        encoder_licence: Licence of the encoder's weights.
        slow_weights: As the learner names them.
        card: Text of ``README.md``: what the checkpoint is for, its figures and limits.
        settings: How the encoder reads a text.
        trained_on: What the slow weights were meta-trained on.

    Raises:
        CheckpointInvalid: The folder exists.
        EncoderUnavailable: The encoder cannot be loaded.
    """
    if folder.exists():
        raise CheckpointInvalid(f"{folder} exists: a checkpoint is never overwritten")
    settings = settings or EncoderSettings()
    encoder_folder = locate_encoder(encoder_source, folder)
    dim = Encoder(encoder_folder, settings, torch.device("cpu")).dim
    data = safetensors.torch.save({key: weight.detach().cpu() for key, weight in slow_weights.items()})
    draft = Manifest(
        name=name,
        learner=learner,
        hyperparameters=hyperparameters,
        encoder=EncoderReference(
            source=encoder_source,
            files={file: _digest(encoder_folder / file) for file in _ENCODER_FILES},
            dim=dim,
            max_tokens=settings.max_tokens,
            normalize=settings.normalize,
            licence=encoder_licence,
        ),
        slow_weights=hashlib.sha256(data).hexdigest(),
        trained_on=list(trained_on),
        fingerprint="",
    )
    manifest = draft.model_copy(update={"fingerprint": draft.computed_fingerprint()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_durably(partial / "slow_weights.safetensors", data)
        _write_durably(partial / "README.md", card.encode())
        _write_durably(partial / "manifest.json", (manifest.model_dump_json(indent=2) + "\n").encode())
        partial.chmod(0o755)  # mkdtemp's folders are the owner's alone
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def untrained_card(name: str, encoder: str, licence: str) -> str:
    """The card of a checkpoint that was not meta-trained."""
    return f"""# {name}

The stock encoder `{encoder}` (licence of its weights: {licence}), frozen, under the learner `protomaml`: a linear head
that starts as nearest class mean and takes a few gradient steps. Nothing here was meta-trained; the learner's scale,
rate and number of steps were chosen on validation tasks (see `docs/log.md`).

The encoder is not copied: the manifest names its files and their SHA-256, and loading checks them.
"""


def _load_slow_weights(folder: Path, manifest: Manifest, device: torch.device) -> dict[str, Tensor]:
    path = folder / "slow_weights.safetensors"
    _check_digest(path, manifest.slow_weights)
    weights = safetensors.torch.load(path.read_bytes())
    return {name: weight.to(device) for name, weight in weights.items()}


def _check_digest(path: Path, expected: str) -> None:
    try:
        found = _digest(path)
    except OSError as error:
        raise CheckpointInvalid(f"cannot read {path}: {error}") from error
    if found != expected:
        raise CheckpointInvalid(f"{path} is not the file that the checkpoint was made with: its SHA-256 differs")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
