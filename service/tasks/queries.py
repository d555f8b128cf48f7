"""Queries of a request: their check, and the predictions made of class probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from handful.wire import Prediction, PredictionFields
from handful.wire_query import Query, TextPair
from handful.wire_tokens import TokenList
from metalearn.decision import TaskKind
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import Adapter, TextInput
from service.settings import Settings
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.errors import Fault, InvalidContent
from service.tasks.kind_answers import prediction_of
from service.tasks.only_labels import shares, thresholds_of
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

    def refuse_tokens(self, field: str = "queries") -> None:
        """Refuses lists of tokens, for a task that was adapted on whole texts.

        Raises:
            InvalidContent: A query is a list of tokens.
        """
        odd = [i for i, each in enumerate(self.inputs) if each.words is not None]
        if odd:
            detail = "the task was adapted on whole texts, and tags no tokens: give the query as a text"
            raise InvalidContent("tokens_unexpected", [Fault((field, i), detail) for i in odd])


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
        queries.refuse_tokens()
        return queries
    if all(each.words is not None for each in queries.inputs):
        return queries
    texts = [query.text if isinstance(query, TextPair) else query for query in request.queries]
    return tagged_queries(texts, settings.max_text_chars)


def tagged_queries(queries: Sequence[str | TokenList], max_chars: int) -> CheckedQueries:
    """Queries with their words; a text of more characters than ``max_chars`` is cut at its end."""
    lengths = (len(each if isinstance(each, str) else " ".join(each.tokens)) for each in queries)
    cut = frozenset(i for i, length in enumerate(lengths) if length > max_chars)
    return CheckedQueries([tagged_query(each, max_chars) for each in queries], cut)


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
    inputs, lists = [], {i: query for i, query in enumerate(queries) if isinstance(query, TokenList)}
    for i, query in enumerate(queries):
        if isinstance(query, TokenList):
            check_token_list(query, check, field, i)
            inputs.append(TextInput(""))
        elif isinstance(query, str):
            check.text(query, field, i)
            inputs.append(TextInput(query))
        else:
            check.input(query.text, query.text_pair, field, i)
            inputs.append(TextInput(query.text, query.text_pair))
    check.raise_faults()
    kept, shortened = shortened_inputs(inputs, settings.max_text_chars)
    tagged = tagged_queries(list(lists.values()), settings.max_text_chars)
    for place, read in zip(lists, tagged.inputs, strict=True):
        kept[place] = read
    return CheckedQueries(kept, shortened | {list(lists)[i] for i in tagged.shortened})


@dataclass(frozen=True, slots=True)
class Abstention:
    """The rule by which predictions abstain.

    Attributes:
        threshold: The confidence below which a prediction abstains; 0 for never.
        unreadable: Whether the prediction of a text that the encoder cannot read abstains.
        out_of_scope: Whether a prediction abstains where out of scope is more probable than each label.
        of_labels: Thresholds of single labels.
    """

    threshold: float
    unreadable: bool = True
    out_of_scope: bool = True
    of_labels: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def asked(
        cls, abstain: bool | float | Mapping[str, float] | None, default: float, labels: Sequence[str] = ()
    ) -> "Abstention":
        """The rule that a request asks for.

        Args:
            abstain: The request's field.
            default: The checkpoint's threshold.
            labels: The task's labels.

        Raises:
            InvalidContent: The task does not have a label that the request names.
        """
        if abstain is None or abstain is False:
            return cls(0.0, unreadable=abstain is None, out_of_scope=False)
        if isinstance(abstain, Mapping):
            return cls(default, of_labels=thresholds_of(abstain, labels))
        return cls(default if abstain is True else abstain)

    def abstains(self, label: str, confidence: float, out_of_scope: float, *, unreadable: bool) -> bool:
        """Whether a prediction abstains.

        Args:
            label: The most probable class.
            confidence: Its probability.
            out_of_scope: The probability that the text is in no class.
            unreadable: Whether the encoder cannot read the text.
        """
        return (
            confidence < self.of_labels.get(label, self.threshold)
            or (unreadable and self.unreadable)
            or (out_of_scope > confidence and self.out_of_scope)
        )


def to_predictions(
    adapter: Adapter,
    probabilities: Sequence[Sequence[float]],
    queries: CheckedQueries,
    texts: Sequence[TokenizedText],
    *,
    classes: Sequence[int],
    top_k: int | None,
    abstention: Abstention,
    asked: Sequence[Query] = (),
) -> list[Prediction]:
    """Wire predictions of rows of class probabilities.

    Args:
        adapter: The adapter that answered.
        probabilities: One row per query: of a score, or of each class and, where there are out-of-scope examples, of
            out of scope.
        queries: The queries of the request.
        texts: The queries' texts, as the encoder reads them.
        classes: The indices of the classes that may be answered.
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
        scores, outside = shares(row, classes, len(labels))
        best, confidence = next(iter(scores.items()))
        abstained = abstention.abstains(labels[best], confidence, outside, unreadable=text.unreadable)
        predictions.append(
            Prediction.model_construct(
                label=None if abstained else labels[best],
                confidence=confidence,
                scores={labels[i]: scores[i] for i in list(scores)[:top_k]},
                abstained=abstained,
                truncated=truncated,
                unreadable=text.unreadable,
            )
        )
    return predictions
