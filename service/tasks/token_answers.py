"""The predictions of token classifications."""

from collections.abc import Sequence

import numpy as np

from handful.wire import Prediction
from handful.wire_tokens import PredictedSpan, TokenList
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.tokens.decode import Transitions, best_tags, bio_tags, spans_of_words
from metalearn.tokens.features import is_read
from metalearn.tokens.words import OUTSIDE
from metalearn.types import Adapter, TextInput


def tagged_prediction(
    adapter: Adapter,
    probabilities: Sequence[float],
    query: object,
    read: TextInput,
    text: TokenizedText,
    *,
    shortened: bool,
) -> Prediction:
    """The prediction for a text whose words were tagged. Words that were cut have no label.

    Args:
        adapter: The adapter that answered.
        probabilities: Those of the classes for the first word, for the second, and so on.
        query: The query of the request; the answer to a list of tokens has tags.
        read: The text with its words.
        text: The text as the encoder reads it.
        shortened: Whether the text had more characters than are kept.
    """
    labels, n_classes = adapter.labels, len(adapter.labels)
    outside = labels.index(OUTSIDE)
    rows = np.asarray(probabilities, dtype=np.float64).reshape(-1, n_classes)
    rows[[not read for read in is_read(text)]] = np.arange(n_classes) == outside
    assert adapter.decision is not None  # noqa: S101 - by which the task is known as one that tags words
    tags = best_tags(rows, outside, Transitions(*adapter.decision.transitions))
    words = read.words or ()
    found = spans_of_words(words, tags, rows, labels)
    bio = None
    if isinstance(query, TokenList):
        bio = bio_tags(words, found)
        bio += [OUTSIDE] * (len(query.tokens) - len(bio))
    return Prediction.model_construct(
        label=None,
        confidence=min((float(row[tag]) for row, tag in zip(rows, tags, strict=True)), default=1.0),
        scores={},
        abstained=False,
        truncated=text.truncated or shortened,
        unreadable=text.unreadable,
        spans=[
            PredictedSpan(start=start, end=end, text=read.text[start:end], label=label, confidence=confidence)
            for start, end, label, confidence in found
        ],
        tags=bio,
    )
