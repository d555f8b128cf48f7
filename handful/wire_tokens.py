"""The examples, queries and answers of token classification: texts with labelled spans, or tokens with tags."""

from pydantic import BaseModel, ConfigDict, Field

_OFFSETS = "Characters are Unicode code points, counted from 0."


class _Tagged(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Span(_Tagged):
    """A labelled part of a text."""

    start: int = Field(ge=0, description=f"Its first character. {_OFFSETS}")
    end: int = Field(ge=0, description="The character after its last one.")
    label: str = Field(description="Its label.", examples=["city"])


class TokenList(_Tagged):
    """A query of a token classification that is a list of tokens."""

    tokens: list[str] = Field(description="The tokens, which are tagged as they are.")

    @classmethod
    def is_shape_of(cls, value: object) -> bool:
        """Whether a value has the form of such a query."""
        return isinstance(value, cls) or (isinstance(value, dict) and "tokens" in value)


class PredictedSpan(BaseModel):
    """A span that was found in a query."""

    start: int = Field(description=f"Its first character. {_OFFSETS} Of a list of tokens: in them joined by spaces.")
    end: int = Field(description="The character after its last one.")
    text: str = Field(description="Its characters.")
    label: str
    confidence: float = Field(description="Probability of the label, as a mean over the span's words.")


class StoredSpan(BaseModel):
    """A labelled span of a stored example."""

    start: int
    end: int
    label: str


class TokenAnswerFields(BaseModel):
    """The fields of a prediction that token classifications have; missing in other tasks."""

    spans: list[PredictedSpan] | None = Field(
        None,
        description="Of a token classification: the spans that were found, in their order. `label` is null then, "
        "`scores` is empty, and `confidence` is the probability of the least certain word's tag.",
        exclude_if=lambda spans: spans is None,
    )
    tags: list[str] | None = Field(
        None,
        description="Of a token classification whose query is a list of tokens: their tags, `B-`, `I-` or `O`.",
        exclude_if=lambda tags: tags is None,
    )
