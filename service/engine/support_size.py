"""Bounds on the memory and the time that one support set may take."""

from collections.abc import Sequence

from metalearn.encoder.tokenizing import TokenizedText
from model_store.learner_models import LoadedModel
from service.engine.errors import SupportTooLarge
from service.settings import Settings


def check_size(loaded: LoadedModel, texts: Sequence[TokenizedText], settings: Settings) -> None:
    """Refuses a support set that would take too much memory.

    The memory of a step below the head grows with the tokens. The memory of a learner that compares all texts with each
    other grows with the square of their number.

    Args:
        loaded: The model that adapts.
        texts: The texts of the support set, label texts included.
        settings: The limits.

    Raises:
        SupportTooLarge: There are too many texts or tokens.
    """
    if loaded.is_deep:
        _check_tokens(texts, settings.max_deep_tokens, "where fast weights live below the head")
    most_texts = settings.max_kept_texts
    if loaded.shapes.grow_with_texts and len(texts) > most_texts:
        name = loaded.model.learner.name
        detail = (
            f"{len(texts)} texts, label texts included; the learner {name} takes at most {most_texts} "
            "(HANDFUL_MAX_KEPT_TEXTS on the server raises this limit)"
        )
        raise SupportTooLarge("too_many_examples", detail)


def check_words(texts: Sequence[TokenizedText], settings: Settings) -> None:
    """Refuses a support set of so many words that each step of tagging would take long.

    Raises:
        SupportTooLarge: There are too many tokens.
    """
    _check_tokens(texts, settings.max_deep_tokens, "where words are tagged")


def _check_tokens(texts: Sequence[TokenizedText], most: int, where: str) -> None:
    tokens = sum(len(text.ids) for text in texts)
    if tokens > most:
        detail = (
            f"{tokens} tokens; at most {most} are allowed {where}: give fewer or shorter texts "
            "(HANDFUL_MAX_DEEP_TOKENS on the server raises this limit)"
        )
        raise SupportTooLarge("too_many_tokens", detail)
