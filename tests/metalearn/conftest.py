"""Fixtures of the learning core's tests: encoders on the CPU, and folders to spoil."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metalearn.body import TextBody
from metalearn.encoded_set import EncodedSet
from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.prepared import LabelTexts, PreparedSet
from metalearn.support_plan import SupportPlan, prepared_support
from metalearn.types import Example, SupportSet, TextInput
from tests.conftest import STOCK_ENCODER

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def encoder(tiny_encoder: Path) -> Encoder:
    """The tiny encoder, cutting texts at 64 tokens."""
    return build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU)


@pytest.fixture(scope="session")
def stock_folder() -> Path:
    """The folder of the stock encoder."""
    return locate_encoder(STOCK_ENCODER, Path())


@pytest.fixture
def spoiled(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder's folder, for tests that break it."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "spoiled"))


def support_set(*examples: tuple[str, str], **descriptions: str) -> SupportSet:
    """A support set of (text, label) pairs."""
    return SupportSet(tuple(Example(TextInput(text), label) for text, label in examples), descriptions)


def clusters(
    n_classes: int, per_class: int, *, dim: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32
) -> EncodedSet:
    """Unit features that lie around one direction per class, far enough apart to be separable."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(n_classes, dim, generator=draw, dtype=dtype), dim=1)
    targets = torch.arange(n_classes).repeat_interleave(per_class)
    noise = 0.1 * torch.randn(len(targets), dim, generator=draw, dtype=dtype)
    features = torch.nn.functional.normalize(centres[targets] + noise, dim=1)
    return EncodedSet(features, targets, torch.ones(len(targets), dtype=dtype), n_classes)


def as_prepared(plan: SupportPlan, body: TextBody) -> PreparedSet:
    """A planned support set, read by a body."""
    texts = body.encoder.tokenize(plan.inputs)
    examples, label_texts = texts[: plan.n_examples], texts[plan.n_examples :]
    return prepared_support(plan, body.prepare(examples), body.prepare(label_texts) if label_texts else None)


def with_last_as_label_texts(support: PreparedSet, n: int) -> PreparedSet:
    """The support set whose last ``n`` rows of numbers are label texts."""
    if n == 0:
        return support
    kept = len(support.targets) - n
    return replace(
        support,
        inputs=support.inputs[:kept],
        targets=support.targets[:kept],
        weights=support.weights[:kept],
        label_texts=LabelTexts(support.inputs[kept:], support.targets[kept:]),
    )
