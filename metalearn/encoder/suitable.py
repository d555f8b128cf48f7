"""Refusals of encoders whose features would not be a text's own. Checked when a checkpoint is made."""

import torch
from torch import Tensor

from metalearn.encoder.encoder import Encoder
from metalearn.errors import EncoderUnavailable
from metalearn.types import TextInput

_LARGEST_DIFFERENCE = 1e-4
"""Relative to a state's length. Rounding alone makes some 1e-6."""


def check_suitable(encoder: Encoder) -> None:
    """Tries an encoder on a text.

    Raises:
        EncoderUnavailable: An empty text would have no token, padding changes states, or the first token is pooled
            though it has seen no other.
    """
    named = f"the encoder ({encoder.transformer.architecture})"
    if not encoder.tokenizer.special_tokens:
        raise EncoderUnavailable(
            f"{named} cannot be used: its tokenizer adds no token to a text, so that an empty text has none to pool"
        )
    (text,) = encoder.tokenize([TextInput("the card that I was to get last week is lost")])
    ids = torch.tensor([text.ids], device=encoder.device)
    length = len(text.ids)
    alone, padded = (_states(encoder, each, length) for each in (ids, torch.cat([ids, torch.zeros_like(ids)], dim=1)))
    if _apart(padded[:, :length], alone) > _LARGEST_DIFFERENCE:
        raise EncoderUnavailable(f"{named} cannot be used: padding after a text changes the states of its tokens")
    ids[:, -1] = ids[:, length // 2]
    changed = _states(encoder, ids, length)
    if encoder.stages.pooling.mode == "first" and torch.equal(changed[:, 0], alone[:, 0]):
        raise EncoderUnavailable(
            f"{named} reads from left to right, so that its first token has seen no other: pool with --pooling last"
        )


@torch.no_grad()
def _states(encoder: Encoder, ids: Tensor, length: int) -> Tensor:
    """States after the last layer of texts of a length, padded to the ids' width."""
    attended = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape) < length
    transformer = encoder.transformer
    return transformer.run_layers(transformer.embed(ids, torch.zeros_like(ids), attended), attended)


def _apart(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
