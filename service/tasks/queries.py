"""Queries of a request: their check, and the predictions made of class probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

from handful.wire import Prediction, PredictionFields, Query
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import Adapter, TextInput
from service.settings import Settings
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.errors import Fault, InvalidContent
from service.tasks.kind_answers import prediction_of


@dataclass(frozen=True, slots=True)
class CheckedQueries:
    """A request's queries.

    Attributes:
        inputs: The queries.
        shortened: Indices of the queries that had more characters than are kept.
    """

    inputs: list[TextInput]
    shortened: frozenset[int]

    def check_pairs(self, pairs: bool | None, field: str = "queries") -> None:
        """Compares the queries with the texts that the task was adapted on.

        Args:
            pairs: Whether the task's texts are pairs; None where that is unknown, which allows both.
            field: The list of the request that the queries are from.

        Raises:
            InvalidContent: The task has pairs and a query is a single text, or the other way round.
        """
        if pairs is None:
            return
        odd = [i for i, each in enumerate(self.inputs) if (each.text_pair is not None) != pairs]
        if not odd:
            return
        if pairs:
            code, detail = "text_pair_missing", 'the task was adapted on pairs: give {"text": …, "text_pair": …}'
        else:
            code, detail = "text_pair_unexpected", "the task was adapted on single texts: leave text_pair out"
        raise InvalidContent(code, [Fault((field, i), detail) for i in odd])


def to_queries(request: PredictionFields, settings: Settings) -> CheckedQueries:
    """The checked queries of a request.

    Raises:
        InvalidContent: There are no queries, or too many, or one is empty.
    """
    check = LimitChecker(settings)
    if not request.queries:
        check.fault("no_queries", "there is no query: give at least one text", "queries")
    check.raise_faults()
    return checked_texts(request.queries, settings, "queries")


def checked_texts(queries: Sequence[Query], settings: Settings, field: str) -> CheckedQueries:
    """The checked texts of a list of a request.

    Args:
        queries: The texts.
        settings: The limits.
        field: The name of the list.

    Raises:
        InvalidContent: There are too many, or one is empty.
    """
    check = LimitChecker(settings)
    check.limit("too_many_queries", len(queries), "max_queries", "texts" if field == "unlabelled" else field, field)
    check.raise_faults()
    inputs = []
    for i, query in enumerate(queries):
        if isinstance(query, str):
            check.text(query, field, i)
            inputs.append(TextInput(query))
        else:
            check.input(query.text, query.text_pair, field, i)
            inputs.append(TextInput(query.text, query.text_pair))
    check.raise_faults()
    return CheckedQueries(*shortened_inputs(inputs, settings.max_text_chars))


@dataclass(frozen=True, slots=True)
class Abstention:
    """The rule by which predictions abstain.

    Attributes:
        threshold: The confidence below which a prediction abstains; 0 for never.
        unreadable: Whether the prediction of a text that the encoder cannot read abstains.
    """

    threshold: float
    unreadable: bool = True

    @classmethod
    def asked(cls, abstain: bool | float | None, default: float) -> "Abstention":
        """The rule that a request asks for.

        Args:
            abstain: The request's field.
            default: The checkpoint's threshold.
        """
        if abstain is None or abstain is False:
            return cls(0.0, unreadable=abstain is None)
        return cls(default if abstain is True else abstain)


def to_predictions(
    adapter: Adapter,
    probabilities: Sequence[Sequence[float]],
    queries: CheckedQueries,
    texts: Sequence[TokenizedText],
    *,
    top_k: int | None,
    abstention: Abstention,
) -> list[Prediction]:
    """Wire predictions of rows of class probabilities.

    Args:
        adapter: The adapter that answered.
        probabilities: One row per query: of classes, or of a score.
        queries: The queries of the request.
        texts: The queries' texts, as the encoder reads them.
        top_k: The number of scores to show.
        abstention: The rule by which predictions abstain.
    """
    labels, predictions = adapter.labels, []
    for query, (row, text) in enumerate(zip(probabilities, texts, strict=True)):
        truncated = text.truncated or query in queries.shortened
        if adapter.objective != "classification":
            readable = not (text.unreadable and abstention.unreadable)
            found = prediction_of(
                adapter, row, top_k=top_k, readable=readable, truncated=truncated, unreadable=text.unreadable
            )
            predictions.append(found)
            continue
        order = sorted(range(len(labels)), key=lambda i: -row[i])
        confidence = row[order[0]]
        abstained = confidence < abstention.threshold or (text.unreadable and abstention.unreadable)
        predictions.append(
            Prediction.model_construct(
                label=None if abstained else labels[order[0]],
                confidence=confidence,
                scores={labels[i]: row[i] for i in order[:top_k]},
                abstained=abstained,
                truncated=truncated,
                unreadable=text.unreadable,
            )
        )
    return predictions
