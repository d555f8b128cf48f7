"""A checkpoint is a folder: ``manifest.json``, slow weights in safetensors, a card, a graph. Checked on load."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.source import encoder_files, locate_encoder
from metalearn.encoder.stages import Stages, encoder_stages
from metalearn.encoder.suitable import check_suitable
from metalearn.errors import MetalearnError
from metalearn.learners.interface import Learner
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.types import SlowWeights
from model_store import DEFAULT_CHECKPOINT
from model_store.checkpoint_files import check_digest, check_free, digest_of, publish
from model_store.errors import CheckpointInvalid
from model_store.manifest import (
    CARD,
    GRAPH,
    MANIFEST,
    SLOW_WEIGHTS,
    UNTRAINED,
    AdaptationSection,
    EncoderReference,
    Hyperparameters,
    Manifest,
    TrainingTask,
    read_manifest,
)

__all__ = [
    "DEFAULT_CHECKPOINT",
    "SHIPPED",
    "UNTRAINED",
    "Checkpoint",
    "Encoders",
    "Hyperparameters",
    "Manifest",
    "TrainingTask",
    "checkpoint_with",
    "read_manifest",
    "read_slow_weights",
    "resolve_checkpoint",
    "starting_weights",
    "untrained_card",
    "write_checkpoint",
]

SHIPPED = Path(__file__).parent / "checkpoints"

_BODY = "body."
"""Prefix of the encoder's weights among the slow ones; see ``MetaModel``."""


Encoders = dict[tuple[str, ...], Encoder]
"""Encoders by the digests of their files, so that checkpoints of one encoder have it in memory once."""


class Checkpoint:
    """A loaded and verified checkpoint; nothing of it changes afterwards.

    Attributes:
        manifest: The manifest.
        folder: The folder that it came from.
        encoder: The shared encoder, on the compute device, with its meta-trained layers in place.
        model: The model that adapts: a function of the slow weights below, and of a task's fast ones.
        slow_weights: The meta-learned start and rates as ``model`` names them, on the compute device.
    """

    def __init__(self, folder: Path, device: torch.device, *, shared: Encoders | None = None) -> None:
        """Loads a checkpoint folder, encoder included.

        Args:
            folder: The checkpoint's.
            device: Where it is computed.
            shared: Encoders on the device, as they came. One of the same files is used, else this one's is added.

        Raises:
            CheckpointInvalid: A file is missing, altered or unknown to this version, or does not fit the others.
        """
        self.folder = folder
        self.manifest = read_manifest(folder)
        reference, spec = self.manifest.encoder, self.manifest.spec
        stored = read_slow_weights(folder)
        try:
            encoder_folder = locate_encoder(reference.source, folder)
            names = encoder_files(encoder_folder)
            if reference.files.keys() != set(names):
                raise CheckpointInvalid(
                    f"the manifest in {folder} gives digests of {', '.join(sorted(reference.files)) or 'no file'}; "
                    f"those of the encoder are {', '.join(names)}"
                )
            for name, digest in reference.files.items():
                check_digest(encoder_folder / name, digest)
            known, files = {} if shared is None else shared, tuple(reference.files.values())
            plain = build_encoder(encoder_folder, reference.stages, device, known.get(files))
            known.setdefault(files, plain)
            if reference.graph is not None:
                check_digest(folder / GRAPH, reference.graph)
                plain = replace(plain, graph=(folder / GRAPH).read_bytes())
            if plain.dim != reference.dim:
                raise CheckpointInvalid(f"the manifest has width {reference.dim}, the encoder has {plain.dim}")
            _check_fit(stored, _before_training(spec, plain, self.manifest.hyperparameters), spec)
            body = {name.removeprefix(_BODY): weight for name, weight in stored.items() if name.startswith(_BODY)}
            self.encoder: Encoder = plain.with_weights(body)
            self.model: MetaModel = make_text_model(spec.serving(), self.encoder)
        except MetalearnError as error:
            raise CheckpointInvalid(f"the checkpoint in {folder} cannot be used: {error}") from error
        own = self.model.body.initial_weights(torch.Generator())
        self.slow_weights: SlowWeights = {
            **{_BODY + name: weight for name, weight in own.items()},
            **{name: weight.to(device) for name, weight in stored.items() if not name.startswith(_BODY)},
        }

    @property
    def learner(self) -> Learner:
        """The checkpoint's learner."""
        return self.model.learner

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
        if (folder / MANIFEST).is_file():
            return folder
    shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}"))
    raise CheckpointInvalid(
        f"{reference!r} is neither a folder with a manifest.json nor a shipped checkpoint ({', '.join(shipped)})"
    )


def checkpoint_with(fingerprint: str, folders: Sequence[Path], *, shipped: bool) -> Path | None:
    """The folder of the checkpoint with a fingerprint; None where it is not among them.

    Args:
        fingerprint: The fingerprint.
        folders: The folders to look at.
        shipped: Whether to look at the shipped ones, too.

    Raises:
        CheckpointInvalid: A manifest cannot be read.
    """
    own = sorted(path.parent for path in SHIPPED.glob(f"*/{MANIFEST}")) if shipped else []
    return next((folder for folder in (*folders, *own) if read_manifest(folder).fingerprint == fingerprint), None)


def write_checkpoint(
    folder: Path,
    *,
    name: str,
    spec: ModelSpec,
    hyperparameters: Hyperparameters,
    encoder_source: str,
    encoder_licence: str,
    card: str,
    slow_weights: Mapping[str, Tensor] | None = None,
    stages: Stages | None = None,
    trained_on: Sequence[TrainingTask] = (),
    extra_files: Mapping[str, bytes] = MappingProxyType({}),
) -> Manifest:
    """Writes a checkpoint folder; after a crash there is the whole checkpoint or none.

    Args:
        folder: Holds no checkpoint yet. What else it holds (meta-training's own files) is left alone.
        name: For people.
        spec: The specification of the model.
        hyperparameters: The checkpoint's choices.
        encoder_source: See ``metalearn.encoder.source.locate_encoder``. The encoder is referred to by digest, not
            copied.
        encoder_licence: Licence of the encoder's weights.
        card: Text of ``README.md``: what the checkpoint is for, its figures and limits.
        slow_weights: The slow weights by the names of the spec's model, in any floating type; by default those before
            any meta-training.
        stages: How the encoder reads texts and makes features.
        trained_on: The tasks that the slow weights were meta-trained on.
        extra_files: Further files by name, such as curves; the fingerprint does not cover them.

    Raises:
        CheckpointInvalid: The folder holds a checkpoint or one of these files, or the slow weights are not the spec's.
        EncoderUnavailable: The encoder cannot be loaded.
        InvalidModel: The parts of the spec do not fit together, or not the encoder.
        UnknownLearner: There is no such learner.
        UnknownUpdateRule: There is no such update rule.
    """
    folder = folder.absolute()
    check_free(folder, [*extra_files])
    stages = stages or encoder_stages()
    encoder_folder = locate_encoder(encoder_source, folder)
    encoder = build_encoder(encoder_folder, stages, torch.device("cpu"))
    check_suitable(encoder)
    adaptation = AdaptationSection.of(spec)
    untrained = _before_training(spec, encoder, hyperparameters)
    if slow_weights is None:
        slow_weights = untrained
    _check_fit(slow_weights, untrained, spec)
    graph = _graph(encoder)
    data = safetensors.torch.save({key: weight.detach().cpu().contiguous() for key, weight in slow_weights.items()})
    manifest = Manifest(
        name=name,
        learner=spec.learner,
        adaptation=adaptation,
        hyperparameters=hyperparameters,
        encoder=EncoderReference.of(
            stages,
            source=encoder_source,
            files={file: digest_of(encoder_folder / file) for file in encoder_files(encoder_folder)},
            dim=encoder.dim,
            licence=encoder_licence,
            graph=None if graph is None else hashlib.sha256(graph).hexdigest(),
        ),
        slow_weights=hashlib.sha256(data).hexdigest(),
        trained_on=list(trained_on),
        fingerprint="",
    ).sealed()
    graphs = {} if graph is None else {GRAPH: graph}
    files = {**extra_files, **graphs, SLOW_WEIGHTS: data, CARD: card.encode(), MANIFEST: manifest.to_json()}
    publish(folder, files)
    return manifest


def untrained_card(name: str, spec: ModelSpec, encoder: str, licence: str) -> str:
    """The card of a checkpoint that was not meta-trained."""
    if spec.learner == "protomaml":
        learner = """a linear head that starts as nearest class mean and takes a few gradient steps. The learner's
scale, rate and number of steps were chosen on validation tasks (see `docs/log.md`)."""
    else:
        learner = "as it starts; nothing was chosen or measured for it."
    below = "" if spec.placement == "head" else f"; {spec.placement} in the top {spec.fast_layers} layers are fast, too"
    return f"""# {name}

The stock encoder `{encoder}` (licence of its weights: {licence}), frozen{below}, under the learner `{spec.learner}`:
{learner} Nothing here was meta-trained.

The encoder is not copied: the manifest names its files and their SHA-256, and loading checks them.
"""


def _graph(encoder: Encoder) -> bytes | None:
    """The exported graph of an encoder that ``transformers`` computes, where it can be used and exported."""
    from metalearn.encoder.huggingface import HuggingFaceTransformer

    if not isinstance(encoder.transformer, HuggingFaceTransformer):
        return None
    from model_store.transformer_graph import exported_graph  # imports the runtime

    return exported_graph(encoder)


def _before_training(spec: ModelSpec, encoder: Encoder, hyperparameters: Hyperparameters) -> Mapping[str, Tensor]:
    return make_text_model(spec, encoder).initial_slow_weights(steps=hyperparameters.steps)


def _check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], spec: ModelSpec) -> None:
    model = f"learner {spec.learner}, placement {spec.placement}"
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointInvalid(f"the slow weights lack {name} ({model})")
        if name not in expected:
            raise CheckpointInvalid(f"the slow weights have {name}, for which there is no use ({model})")
        shape, right = tuple(found[name].shape), tuple(expected[name].shape)
        if shape != right:
            raise CheckpointInvalid(f"the slow weight {name} has the shape {shape}, not {right} ({model})")
        if not found[name].is_floating_point() or not bool(found[name].isfinite().all()):
            raise CheckpointInvalid(f"the slow weight {name} is not made of finite floating-point numbers")


def read_slow_weights(folder: Path) -> dict[str, Tensor]:
    """The slow weights of a checkpoint folder, those of the encoder included, on the CPU.

    Raises:
        CheckpointInvalid: They are missing, altered, or the manifest is.
    """
    path = folder / SLOW_WEIGHTS
    check_digest(path, read_manifest(folder).slow_weights)
    try:
        stored = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointInvalid(f"cannot read {path}: {error}") from error
    # Stored in half precision where that was good enough; computed with in one type
    return {name: weight.float() if weight.is_floating_point() else weight for name, weight in stored.items()}


def starting_weights(
    folder: Path, expected: Mapping[str, Tensor], spec: ModelSpec, encoder_folder: Path
) -> dict[str, Tensor]:
    """The slow weights of a checkpoint, for further meta-training to start from.

    Args:
        folder: The checkpoint's.
        expected: Slow weights before any training, whose place they are to take.
        spec: The specification of their model.
        encoder_folder: Has the encoder's files.

    Raises:
        CheckpointInvalid: The checkpoint is damaged, of another make, or stands on another encoder.
    """
    stored = read_slow_weights(folder)
    try:
        _check_fit(stored, expected, spec)
        for name, digest in read_manifest(folder).encoder.files.items():
            check_digest(encoder_folder / name, digest)
    except CheckpointInvalid as error:
        raise CheckpointInvalid(f"training cannot start from {folder}: {error}") from error
    return stored
