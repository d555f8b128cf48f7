"""The loaded checkpoints: names and fingerprints, and what checkpoints on one encoder share."""

from pathlib import Path

import pytest
import torch

from metalearn.encoder import tokenizing
from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec
from metalearn.types import Adapter, TextInput
from model_store.checkpoint import UNTRAINED, Checkpoint, Encoders, write_checkpoint
from model_store.errors import UnknownCheckpoint
from model_store.learner_models import Models
from model_store.loaded_checkpoints import LoadedCheckpoints

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def namesake(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Another checkpoint that is called ``tiny``."""
    folder = tmp_path_factory.mktemp("namesake") / "tiny"
    write_checkpoint(
        folder,
        name="tiny",
        spec=ModelSpec(),
        hyperparameters=UNTRAINED,
        encoder_source=str(tiny_encoder),
        encoder_licence="none",
        card="# tiny\n",
        stages=encoder_stages(max_tokens=16),
    )
    return Models(Checkpoint(folder, CPU))


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> Models:
    return Models(Checkpoint(tiny_checkpoint, CPU))


@pytest.fixture(scope="module")
def other(other_checkpoint: Path) -> Models:
    return Models(Checkpoint(other_checkpoint, CPU))


def test_a_checkpoint_is_found_by_name_by_fingerprint_and_by_its_adapters(tiny: Models, other: Models) -> None:
    loaded = LoadedCheckpoints([other, tiny])
    assert list(loaded) == [other, tiny]
    assert loaded.default is loaded.named(None) is other
    for models in (other, tiny):
        fingerprint = models.checkpoint.fingerprint
        for reference in (models.checkpoint.manifest.name, fingerprint, fingerprint[:12]):
            assert loaded.named(reference) is models
        assert loaded.of(Adapter({}, ("a", "b"), fingerprint)) is models
        assert fingerprint in loaded
    assert "another" not in loaded
    with pytest.raises(
        UnknownCheckpoint, match=r"the checkpoint 'another' is not loaded; loaded are 'other' \(.*'tiny'"
    ):
        loaded.named("another")


def test_a_name_that_two_checkpoints_have_is_refused_and_their_fingerprints_are_not(
    tiny: Models, namesake: Models
) -> None:
    loaded = LoadedCheckpoints([tiny, namesake])
    with pytest.raises(UnknownCheckpoint, match="several loaded checkpoints have the name 'tiny'") as caught:
        loaded.named("tiny")
    for models in (tiny, namesake):
        assert models.checkpoint.fingerprint[:12] in str(caught.value)
        assert loaded.named(models.checkpoint.fingerprint) is models


def test_a_checkpoint_with_a_layer_more_is_slower(tiny: Models, other: Models, deeper_checkpoint: Path) -> None:
    deeper = Models(Checkpoint(deeper_checkpoint, CPU))
    assert tiny.weights_per_token == other.weights_per_token < deeper.weights_per_token < float("inf")


def test_checkpoints_on_the_same_files_share_the_encoders_weights_and_its_vocabulary(
    tiny_checkpoint: Path, other_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, vocabularies = tokenizing._read_tokenizer, list[Path]()
    monkeypatch.setattr(tokenizing, "_read_tokenizer", lambda path: (vocabularies.append(path), read(path))[1])
    shared: Encoders = {}
    first, second = (Checkpoint(folder, CPU, shared=shared) for folder in (tiny_checkpoint, other_checkpoint))
    assert len(vocabularies) == 1
    apart = Checkpoint(other_checkpoint, CPU)

    def addresses(checkpoint: Checkpoint) -> set[int]:
        return {weight.data_ptr() for weight in checkpoint.encoder.upper_weights(2).values()}

    assert addresses(first) == addresses(second)
    assert addresses(first).isdisjoint(addresses(apart))
    assert (first.encoder.max_tokens, second.encoder.max_tokens) == (64, 32), "how texts are read is each one's own"
    long = [TextInput("one two three " * 30)]
    assert second.encoder.tokenize(long) == apart.encoder.tokenize(long) != first.encoder.tokenize(long)

    sizes = LoadedCheckpoints([Models(first), Models(second)]).weight_bytes()
    slow_weights = sum(weight.nbytes for weight in second.slow_weights.values())
    assert sizes[second.fingerprint] == slow_weights
    (alone,) = LoadedCheckpoints([Models(apart)]).weight_bytes().values()
    assert sizes[first.fingerprint] == alone
    assert alone == slow_weights + sum(weight.nbytes for weight in apart.encoder.transformer.named_weights().values())
