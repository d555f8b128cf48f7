"""Queries of a request: their check, and the predictions made of class probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

from handful.wire import Prediction, PredictionFields, Query, TextPair
from handful.wire_tokens import TokenList
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import Adapter, TaskKind, TextInput
from service.settings import Settings
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.errors import Fault, InvalidContent
from service.tasks.kind_answers import prediction_of
from service.tasks.token_answers import tagged_prediction
from service.tasks.token_examples import check_token_list, tagged_query


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


def queries_of_kind(
    queries: CheckedQueries, request: PredictionFields, kind: TaskKind, settings: Settings
) -> CheckedQueries:
    """The queries as a task of a kind reads them: with words in a token classification, without in all others.

    Raises:
        InvalidContent: A query is a list of tokens, and the task tags none; or is a pair, and the task tags tokens.
    """
    if kind != "tokens":
        odd = [i for i, each in enumerate(queries.inputs) if each.words is not None]
        if odd:
            detail = "the task was adapted on whole texts, and tags no tokens: give the query as a text"
            raise InvalidContent("tokens_unexpected", [Fault(("queries", i), detail) for i in odd])
        return queries
    texts = [query.text if isinstance(query, TextPair) else query for query in request.queries]
    lengths = [len(text if isinstance(text, str) else " ".join(text.tokens)) for text in texts]
    cut = frozenset(i for i, length in enumerate(lengths) if length > settings.max_text_chars)
    return CheckedQueries([tagged_query(text, settings.max_text_chars) for text in texts], cut)


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
        if isinstance(query, TokenList):
            check_token_list(query, check, field, i)
            inputs.append(tagged_query(query, settings.max_text_chars))
        elif isinstance(query, str):
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
    asked: Sequence[Query] = (),
) -> list[Prediction]:
    """Wire predictions of rows of class probabilities.

    Args:
        adapter: The adapter that answered.
        probabilities: One row per query: of classes, or of a score.
        queries: The queries of the request.
        texts: The queries' texts, as the encoder reads them.
        top_k: The number of scores to show.
        abstention: The rule by which predictions abstain.
        asked: The queries as the request has them.
    """
    labels, predictions = adapter.labels, []
    for query, (row, text) in enumerate(zip(probabilities, texts, strict=True)):
        truncated = text.truncated or query in queries.shortened
        if text.words is not None:
            read, given = queries.inputs[query], asked[query]
            predictions.append(tagged_prediction(adapter, row, given, read, text, shortened=query in queries.shortened))
            continue
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
