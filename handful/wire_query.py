"""The queries of the HTTP API, and the rule by which their predictions abstain."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from handful.wire_tokens import TokenList


class TextPair(BaseModel):
    """A query that is a pair of texts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    text: str = Field(description="The text.")
    text_pair: str | None = Field(None, description="Second text.")


def _query_branch(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if TokenList.is_shape_of(value):
        return "<tokens>"
    return "<pair>" if isinstance(value, dict | TextPair) else None


Query = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[TextPair, Tag("<pair>")] | Annotated[TokenList, Tag("<tokens>")],
    Discriminator(
        _query_branch,
        custom_error_type="query_type",
        custom_error_message='a query is a string, or an object {"text", "text_pair"} or {"tokens"}',
    ),
]


_Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _abstain_branch(value: Any) -> str | None:
    if isinstance(value, bool):
        return "<flag>"
    if isinstance(value, dict):
        return "<labels>"
    return "<threshold>" if isinstance(value, int | float) else None


Abstain = Annotated[
    Annotated[bool, Tag("<flag>")]
    | Annotated[_Threshold, Tag("<threshold>")]
    | Annotated[dict[str, _Threshold], Tag("<labels>")],
    Discriminator(
        _abstain_branch,
        custom_error_type="abstain_type",
        custom_error_message=(
            "abstain is true, false, a threshold between 0 and 1, or an object of labels with a threshold each"
        ),
    ),
]
"""True for the checkpoint's threshold, false for none, a threshold, or thresholds by label."""
