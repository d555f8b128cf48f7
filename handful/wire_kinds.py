"""The kinds of tasks, and the parts of requests and answers in which they differ.

A kind has a name in ``TaskKind``, a form of examples in ``SHAPES``, and its fields of answers in ``KindAnswerFields``.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from handful.wire_tokens import Span, TokenAnswerFields

TaskKind = Literal["single_label", "multi_label", "regression", "ordinal", "tokens"]
"""The form of a task's answers: one class, any number of classes, a number, or one of ordered classes."""

SHAPES: Mapping[str, str] = {"labels": "<labels>", "score": "<score>", "tokens": "<tokens>", "spans": "<spans>"}
"""The key by which an example differs from a text with one label -> the tag of its model in unions."""

ExampleName = Annotated[
    str | None,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$",
        description="Your name for the example, unique in the support set; made from its content where it is missing.",
    ),
]
"""The id that a caller gives an example."""


_LEAST_WEIGHT = 1e-6


def _not_lost(weight: float) -> float:
    """Refuses a weight that 32-bit numbers would lose among others; 0 says so openly."""
    if 0 < weight < _LEAST_WEIGHT:
        raise ValueError(f"the weight is below {_LEAST_WEIGHT:g}: give 0 for an example without effect")
    return weight


ExampleWeight = Annotated[
    float,
    AfterValidator(_not_lost),
    Field(
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="How much the example counts beside others: 2 does what giving it twice does, and an example of "
        "weight 0 is kept without effect.",
        # Left out where it is 1, so that a request that is repeated after an update has the digest that it had
        exclude_if=lambda weight: weight == 1,
    ),
]
"""The weight that a caller gives an example."""

EXAMPLE_TAGS = frozenset({"<label>", *SHAPES.values()})
"""The tags of all models of examples; they stand in pydantic's paths and name no place in a body."""


def shape_of(value: Any) -> str:
    """The tag of an example's model: by the keys of an object, or by the fields of a model."""
    has = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, BaseModel) else ()
    return next((tag for key, tag in SHAPES.items() if key in has), "<label>")


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: ExampleName = None
    weight: ExampleWeight = 1.0


class _OtherExample(_Example):
    text: str = Field(description="The text.")
    text_pair: str | None = Field(None, description="Second text, where pairs are classified.")


class MultiLabelText(_OtherExample):
    """One example of a multi-label task."""

    labels: list[str] = Field(description="Its classes; may be empty.", examples=[["joy", "surprise"]])


class ScoredText(_OtherExample):
    """One example of a regression, or of an ordinal task whose classes are numbers."""

    score: float = Field(description="Its score.", allow_inf_nan=False, ge=-1e15, le=1e15, examples=[1.5])


class _TaggedExample(_Example):
    @property
    def text_pair(self) -> None:
        """No second text."""
        return


class SpannedText(_TaggedExample):
    """One example of a token classification: a text with its spans."""

    text: str = Field(description="The text.", examples=["Book a flight to Paris"])
    spans: list[Span] = Field(
        description="Its labelled parts; none overlaps another. May be empty.",
        examples=[[{"start": 17, "end": 22, "label": "city"}]],
    )


class TaggedTokens(_TaggedExample):
    """One example of a token classification: a sentence as a list of tokens, each with its tag."""

    tokens: list[str] = Field(description="The tokens.", examples=[["Book", "a", "flight", "to", "Paris"]])
    tags: list[str] = Field(
        description="A tag for each token: `O`, or `B-label` for the first of a span and `I-label` for its others. An "
        "`I-` may begin a span; `E-` and `L-` end one, `S-` and `U-` are one; bare labels are read as well.",
        examples=[["O", "O", "O", "O", "B-city"]],
    )

    @property
    def text(self) -> str:
        """The tokens with spaces between them."""
        return " ".join(self.tokens)


OtherExample = (
    Annotated[MultiLabelText, Tag("<labels>")]
    | Annotated[ScoredText, Tag("<score>")]
    | Annotated[TaggedTokens, Tag("<tokens>")]
    | Annotated[SpannedText, Tag("<spans>")]
)
"""The examples of all kinds but those with one label; a new form has its tag here and in ``SHAPES``."""

BY_SHAPE = Discriminator(shape_of)
"""The choice between the models of examples."""


class KindFields(BaseModel):
    """The fields of ``adapt`` and ``classify`` that say what a task answers."""

    # Both are left out where they are missing, so that a repeated request has the digest that it had before
    kind: TaskKind | None = Field(
        None,
        description="What the task answers: `single_label`, `multi_label`, `regression`, `ordinal` or `tokens`. "
        "Guessed from the examples where it is missing: `label`, `labels`, `score`, or one of `tokens` and `spans`; "
        "never `ordinal`.",
        exclude_if=lambda kind: kind is None,
    )
    order: list[str] | None = Field(
        None,
        description="The classes of an ordinal task, from the lowest to the highest. Needed unless all are numbers.",
        examples=[["bad", "ok", "good"]],
        exclude_if=lambda order: order is None,
    )


class KindAnswerFields(TokenAnswerFields):
    """The fields of a prediction that tasks of some kinds have; missing in the others."""

    labels: list[str] | None = Field(
        None,
        description="Of a multi-label task: the classes with a score of at least their threshold, the most probable "
        "first. `label` is the first of them, or null.",
        exclude_if=lambda labels: labels is None,
    )
    score: float | None = Field(
        None,
        description="Of a regression: the predicted score. Of an ordinal task: the expected place in the order, from "
        "0, or the expected number where its classes are numbers.",
        exclude_if=lambda score: score is None,
    )
    interval: tuple[float, float] | None = Field(
        None,
        description="Of a regression: the interval that holds the score of `confidence` of new texts, by "
        "leave-one-out; missing where there are too few examples.",
        exclude_if=lambda interval: interval is None,
    )


class KindVersionFields(BaseModel):
    """The fields of a version that say what its task answers."""

    kind: TaskKind = Field("single_label", description="What the task answers.")
    thresholds: dict[str, float] | None = Field(
        None,
        description="Of a multi-label task: the score from which on a class is answered.",
        exclude_if=lambda thresholds: thresholds is None,
    )
    thresholds_from: Literal["leave_one_out", "default"] | None = Field(
        None,
        description="Whether the thresholds were learned by leave-one-out, or are 0.5 since there is too little "
        "evidence, or since the learner leaves no example out.",
        exclude_if=lambda source: source is None,
    )
    leave_one_out: dict[str, float] | None = Field(
        None,
        description="Figures of the answers to examples without themselves: `micro_f1` and `macro_f1` of a multi-label "
        "task, and of entities where words are tagged; `spearman`, `mae` (mean absolute error) and `mae_of_mean` (of "
        "always answering the mean) of a regression.",
        exclude_if=lambda figures: figures is None,
    )
